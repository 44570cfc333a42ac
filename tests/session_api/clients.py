"""Clients of services in this very process, and what tests put behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx

from session_api.app import create_app
from session_api.databases import Database, Databases
from session_api.our_tables import OurTables
from unified_storage import IUnifiedStorage
from unified_storage.delegate import Delegate

T = TypeVar("T")


def database(storage: IUnifiedStorage, name: str = "primary") -> Databases:
    """One database on *storage*."""
    return Databases([Database(name, OurTables(storage))])


@asynccontextmanager
async def client_of(databases: Databases, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service on *databases*, which are closed with it."""
    transport = httpx.ASGITransport(create_app(databases, **options), raise_app_exceptions=False)
    await databases.open()
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            yield client
    finally:
        await databases.close()


class Watched(Delegate):
    """A storage that notes every verb called on it, and how many entries it read, those inside transactions aside."""

    def __init__(self, inner: IUnifiedStorage) -> None:
        super().__init__(inner)
        self.verbs: list[str] = []
        self.entries = 0

    async def _call(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        self.verbs.append(verb)
        found = await call()
        if verb in ("read", "read_many"):
            self.entries += sum(map(len, found.values())) if isinstance(found, dict) else len(found)  # type: ignore[arg-type]  # a list of entries
        return found
