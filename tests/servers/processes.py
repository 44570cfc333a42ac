"""Processes that outlive whoever started them: known by number and start time, ended with all they started."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Any, TypeVar

T = TypeVar("T")
_PROC = Path("/proc/self/stat").exists()
_NOBODY = 65534
# below the ports that systems give to outgoing connections: a stopped server finds its own free again
_PORTS = range(15000, 30000)


class ServerError(Exception):
    """A server that did not start, or does not do what it was told."""


class PortTakenError(ServerError):
    """Somebody else listens on the port by now."""


def unprivileged() -> dict[str, Any]:
    """Arguments of `subprocess.run` that give up root, since PostgreSQL and MariaDB refuse to run as root."""
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def give_away(folder: Path) -> None:
    """Make an empty folder that of the user whom servers run as."""
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)


@dataclass(frozen=True)
class Process:
    """A process, told apart by *began* from a later one that has its number."""

    pid: int
    began: str

    @classmethod
    def of(cls, pid: int) -> "Process":
        """The process that has this number now."""
        return cls(pid, _began(pid))

    @property
    def alive(self) -> bool:
        return self.began != "" and _began(self.pid) == self.began

    def kill(self) -> None:
        """SIGKILL for the process and all it started: none lives on with the data open."""
        if not self.alive:
            return
        _send(self.pid, signal.SIGSTOP)  # or it would see a child die and start another one
        family = self.family()
        for process in family:
            _send(process.pid, signal.SIGKILL)
        if not _gone(family, 15):
            raise ServerError(f"process {self.pid} survives SIGKILL")

    def family(self) -> list["Process"]:
        """The process and all it started."""
        return [self, *(Process.of(pid) for pid in _descendants(self.pid))]


def end(processes: Sequence[tuple[Process, int]], attempts: int = 5) -> None:
    """Send every process its signal, wait for all of them, and kill what is left after some *attempts* of 2 seconds.

    At once, since one may wait for what it hears from another: a master for its replicas.
    """
    living = [(process, number) for process, number in processes if process.alive]
    families = [member for process, _ in living for member in process.family()]
    for _ in range(attempts):  # Redis drops a signal that finds it writing its first file
        for process, number in living:
            if process.alive:
                _send(process.pid, number)
        if _gone(families, 2):
            return
    for process, _ in living:
        process.kill()


def launch(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
    """Start a server that is nobody's child, and hence never a zombie of ours; what it prints goes to *log*."""
    shell = 'log=$1; shift; exec "$@" >>"$log" 2>&1 </dev/null & echo $!'
    started = subprocess.run(
        ["/bin/sh", "-c", shell, "sh", str(log), *command],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
        cwd=log.parent,
        start_new_session=True,  # Ctrl-C in the terminal is for the tests
        **unprivileged(),
    )
    return Process.of(int(started.stdout))


def run(command: Sequence[str], log: Path, environment: Mapping[str, str], seconds: float = 120) -> None:
    """Run one of a server's own programs to its end, as the user the server runs as."""
    with log.open("ab") as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            cwd=log.parent,
            timeout=seconds,
            **unprivileged(),
        )
    if done.returncode:
        raise ServerError(f"{command[0]} failed with {done.returncode}\n{tail(log)}")


def when_ready(ask: Callable[[], T], process: Process, log: Path, seconds: float) -> T:
    """The answer of *ask* as soon as it raises no OSError; ServerError with the log's end when that is never."""
    limit = time.monotonic() + seconds
    while True:
        try:
            answer = ask()
            if process.alive:  # or somebody else answers on its port
                return answer
            raise ConnectionError("the server has ended")
        except OSError as error:
            if not process.alive:
                kind = PortTakenError if "address already in use" in tail(log).lower() else ServerError
                raise kind(f"the server ended while it started\n{tail(log)}") from error
            if time.monotonic() > limit:
                raise ServerError(f"no answer in {seconds:g} seconds: {error}\n{tail(log)}") from error
        time.sleep(0.02)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, with its name above them."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join([f"the end of {log}:", *(text[-lines:] or ["(nothing)"])])


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    while True:
        port = SystemRandom().choice(_PORTS)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Whether nothing listens there; what is left of old connections does not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _gone(processes: list[Process], seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while any(process.alive for process in processes):
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def _began(pid: int) -> str:
    """When the process began, in the system's own words; empty when there is none, or only its zombie."""
    if _PROC:
        state, _, began = _stat(pid)
    else:
        state, began = [*_ps("-o", "stat=,lstart=", "-p", str(pid)).split(maxsplit=1), "", ""][:2]
    return "" if state[:1] in ("", "Z", "X") else began.strip()


def _descendants(pid: int) -> list[int]:
    parents = dict(_parents())
    found = [pid]
    for parent in found:  # grows while it is read
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found[1:]


def _parents() -> Iterator[tuple[int, int]]:
    """Every process of the system with its parent."""
    if not _PROC:
        lines = [line.split() for line in _ps("-A", "-o", "pid=,ppid=").splitlines()]
        yield from ((int(pid), int(parent)) for pid, parent in lines)
        return
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name), int(_stat(int(entry.name))[1])


def _stat(pid: int) -> tuple[str, str, str]:
    """State, parent and start time out of Linux's `/proc`; a process that is gone has the state ""."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", "0", ""
    fields = text.rpartition(")")[2].split()  # the name before may hold blanks and parentheses
    # a zombie with threads left is still ending, and has its files and ports
    state = "ending" if fields[0] == "Z" and int(fields[17]) > 1 else fields[0]
    return state, fields[1], fields[19]


def _ps(*options: str) -> str:
    return subprocess.run(["ps", *options], capture_output=True, text=True, check=False).stdout
