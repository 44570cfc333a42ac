"""The service running in this process, on a port of its own, as people meet it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn


@contextmanager
def served(app: Any, **options: Any) -> Iterator[str]:
    """*app* behind uvicorn in a thread; the URL that it answers under."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", **options))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        try:
            yield _answering(f"http://127.0.0.1:{listening.getsockname()[1]}", thread)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def _answering(url: str, thread: threading.Thread) -> str:
    for _ in range(600):
        assert thread.is_alive(), "the service did not start"
        try:
            httpx.get(f"{url}/health", timeout=30)
        except httpx.TransportError:
            threading.Event().wait(0.05)
            continue
        return url
    raise AssertionError("the service does not answer")
