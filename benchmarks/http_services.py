"""The two services that stand beside each other: each one process, one worker, and a store of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.http_data import Stock, long_session, new_session, session_id
from benchmarks.http_load import HOST, loaded, request

OURS, AGENTOS = "ours", "AgentOS"
SERVICES = (OURS, AGENTOS)
CONNECTIONS = 16
_STARTING = 600.0
"""Seconds until a service has to answer: AgentOS stores its long sessions before it does."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that answers.

    Attributes:
        process: its number.
    """

    name: str
    port: int
    process: int

    def memory(self) -> float:
        """What its process has in memory, in MiB."""
        told = subprocess.run(["ps", "-o", "rss=", "-p", str(self.process)], capture_output=True, check=True, text=True)
        return int(told.stdout) / 1024

    def worked(self) -> float:
        """Seconds that its process has had a processor, in hundredths."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def started(name: str, engine: str, place: str, folder: Path, stock: Stock) -> Iterator[Service]:
    """A service on the empty store *place*, filled with *stock*'s long sessions if it is AgentOS.

    Args:
        folder: where its log goes.
    """
    port = _free_port()
    module, settings = (_ours if name == OURS else _agentos)(engine, place, port, stock)
    with (folder / f"{name}.log").open("wb") as log:
        program = [sys.executable, "-m", module]
        process = subprocess.Popen(program, env=os.environ | settings, stdout=log, stderr=log)
    try:
        _wait_for(port, process, log.name)
        yield Service(name, port, process.pid)
    finally:
        process.terminate()
        process.wait(30)


async def fill(service: Service, stock: Stock) -> None:
    """Make what is missing of *stock*; the long sessions first, so that they are the oldest."""
    if service.name == OURS:
        await _post(service, [request("POST", "/sessions", long_session(n, stock.runs)) for n in range(stock.long)])
    made = (new_session(session_id(number), number) for number in range(stock.sessions))
    await _post(service, [request("POST", "/sessions", body) for body in made])


async def _post(service: Service, requests: list[bytes]) -> None:
    measured = await loaded(service.port, requests, CONNECTIONS)
    if measured.failures:
        raise RuntimeError(f"{service.name} did not make {measured.failures} of {len(requests)} sessions")


def _ours(engine: str, place: str, port: int, stock: Stock) -> tuple[str, Mapping[str, str]]:
    url = f"sqlite:///{Path(place).absolute()}/ours.db" if engine == "sqlite" else place
    settings = {"AGNO_PG_DSN": url, "SESSION_HOST": HOST, "SESSION_ACCEPT_HISTORY": "1"}
    return "session_api", settings | {"AGNO_SERVICE_PORT": str(port)}


def _agentos(engine: str, place: str, port: int, stock: Stock) -> tuple[str, Mapping[str, str]]:
    settings = {"BENCH_ENGINE": engine, "BENCH_PLACE": place, "BENCH_PORT": str(port)}
    return "benchmarks.http_agentos", settings | {"BENCH_LONG": str(stock.long), "BENCH_RUNS": str(stock.runs)}


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes], log: str) -> None:
    end = time.monotonic() + _STARTING
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(Path(log).read_text(encoding="utf-8")[-2000:])
        try:
            urlopen(f"http://{HOST}:{port}/health", timeout=10).close()
        except (URLError, OSError):
            time.sleep(0.1)
            continue
        return
    raise RuntimeError(f"no answer on port {port}")
