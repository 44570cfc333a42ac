"""A private server: its processes, its data in a temporary folder, and the record by which anybody can end it."""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.processes import PortTakenError, Process, end, give_away, is_free, launch, run, when_ready
from tests.servers.programs import Programs

START_SECONDS = 60


@dataclass
class Node:
    """One process of a server, always on the same port with the same data."""

    command: Sequence[str]
    port: int
    folder: Path
    version_of: Callable[[int], str]
    """Asks the port for the version; OSError while there is no answer."""
    environment: Mapping[str, str]
    stop_signal: signal.Signals
    changed: Callable[[], None]
    """Called whenever the process is another one."""
    process: Process = field(default=Process(0, ""))
    version: str = ""
    lock_file: Path | None = None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def launch(self) -> None:
        """Start the process, without waiting for it."""
        if not self.process.alive:
            if self.lock_file:  # the dead process it names looks alive as long as it is a zombie
                self.lock_file.unlink(missing_ok=True)
            if not is_free(self.port):
                raise PortTakenError(f"somebody else listens on port {self.port}")
            self.process = launch(self.command, self.log, self.environment)
            self.changed()

    def wait(self) -> None:
        """Return when it answers; ServerError with its log's end when it does not."""
        self.version = when_ready(lambda: self.version_of(self.port), self.process, self.log, START_SECONDS)

    def start(self) -> None:
        self.launch()
        self.wait()

    def stop(self) -> None:
        """End it as its owner would."""
        end([(self.process, self.stop_signal)])

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, for every process of it."""
        self.process.kill()


class Server:
    """A running server of one kind; leaving its `with` ends it and removes its data.

    `stop` and `kill` keep the data: `start` goes on with it, on the same port.
    """

    url: str = ""

    def __init__(self, programs: Programs, record: "RecordFile") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="unified-storage-server-"))
        give_away(self.folder)
        self.nodes: list[Node] = []
        self.record = record
        self.record.write(folder=str(self.folder))
        self.programs = programs.readable(self.folder)

    @property
    def version(self) -> str:
        return self.nodes[0].version

    def start(self) -> None:
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait()
        self.settle()

    def settle(self) -> None:
        """Wait for what the nodes do together."""

    def stop(self) -> None:
        end([(node.process, node.stop_signal) for node in self.nodes])

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def close(self) -> None:
        """End it and remove its data."""
        self.record.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def new_folder(self, name: str) -> Path:
        """A folder of the server's user."""
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        give_away(folder)
        return folder

    def run(self, program: str, *arguments: str | Path) -> None:
        """Run one of the engine's other programs to its end."""
        command = [self.programs.path(program), *map(str, arguments)]
        run(command, self.folder / f"{program}.log", self.programs.environment)

    def add_node(
        self,
        folder: Path,
        port: int,
        arguments: Sequence[str],
        version_of: Callable[[int], str],
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Node:
        """A further process, not yet started: the server's program with *arguments*."""
        command = [self.programs.main, *arguments]
        node = Node(command, port, folder, version_of, self.programs.environment, stop_signal, self._note_processes)
        self.nodes.append(node)
        return node

    def _note_processes(self) -> None:
        running = [[node.process.pid, node.process.began, int(node.stop_signal)] for node in self.nodes]
        self.record.write(processes=running)


class RecordFile:
    """What is known of a server outside of the process that started it: where it is and who uses it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> dict[str, Any]:
        """The facts; empty when there is no such server."""
        with suppress(FileNotFoundError):
            facts: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
            return facts
        return {}

    def write(self, **facts: Any) -> None:
        """Change some facts; a reader sees the old ones or the new ones."""
        whole = {**self.read(), **facts}
        draft = self.file.with_suffix(f".{os.getpid()}.draft")
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(whole, indent=1), encoding="utf-8")
        draft.replace(self.file)

    @property
    def alive(self) -> bool:
        """Whether it has been started and every process of it lives."""
        facts = self.read()
        return bool(facts.get("url")) and all(process.alive for process, _ in _processes(facts))

    def users(self) -> list[Process]:
        """The living processes that use it."""
        found = [Process(pid, began) for pid, began in self.read().get("users", [])]
        return [user for user in found if user.alive]

    def end(self) -> None:
        """End its processes, and remove its data and this file; nothing happens when that is done already."""
        facts = self.read()
        end(_processes(facts))
        if folder := facts.get("folder"):
            _remove(Path(folder))
        self.file.unlink(missing_ok=True)


def _processes(facts: dict[str, Any]) -> list[tuple[Process, int]]:
    return [(Process(pid, began), stop_signal) for pid, began, stop_signal in facts.get("processes", [])]


def _remove(folder: Path) -> None:
    """Remove a folder in which something that is just ending may still write."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
    shutil.rmtree(folder)
