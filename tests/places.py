"""Where a test's store lies: the same for every engine, from this process and from others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engines import drop_namespace, engine_url, fresh_namespace
from unified_storage import IUnifiedStorage, open_storage

EMBEDDED = ("memory", "sqlite")
SERVERS = ("postgresql", "mysql", "redis", "redis-cluster")
SQL = ("sqlite", "postgresql", "mysql")
ON_DISK = ("sqlite", *SERVERS)


@dataclass(frozen=True)
class Place:
    """One empty store of an engine; opened as often as a test likes, also by other processes."""

    engine: str
    url: str
    namespace: str

    @property
    def address(self) -> str:
        """The one URL that names this very store, for commands and old programs."""
        return f"{self.url}{'&' if '?' in self.url else '?'}namespace={self.namespace}"

    def open(self, **options: Any) -> IUnifiedStorage:
        return open_storage(self.url, namespace=self.namespace, **options)


def engines(*names: str) -> list[Any]:
    """The names as parameters of a test; those that need a server are marked so."""
    return [pytest.param(name, marks=pytest.mark.servers if name in SERVERS else ()) for name in names]


@asynccontextmanager
async def place_on(engine: str, folder: Path) -> AsyncIterator[Place]:
    """A place of its own on an engine, gone with everything in it afterwards."""
    namespace = fresh_namespace("every")
    if engine == "memory":
        yield Place(engine, "memory://", namespace)
    elif engine == "sqlite":
        yield Place(engine, f"sqlite:///{folder}/store.db", namespace)
    else:
        url = engine_url(engine)
        try:
            yield Place(engine, url, namespace)
        finally:
            await drop_namespace(url, namespace)
