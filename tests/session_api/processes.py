"""Services in processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

SERVE = (sys.executable, "-m", "unified_storage_cli", "serve")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def running(url: str, folder: Path, **settings: str) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """The service on *url*: its address, its process, and where its log goes. It is ended, if it still runs."""
    port, log = free_port(), folder / "service.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [*SERVE, "--url", url, "--port", str(port)], env=os.environ | settings, stderr=written, cwd=folder
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", process, log)
        yield f"http://127.0.0.1:{port}", process, log
    finally:
        process.kill()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until *process* answers; fails with its *log* where it ends instead."""
    for _ in range(1200):
        assert process.poll() is None, log.read_text()
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        return
    raise AssertionError(log.read_text())
