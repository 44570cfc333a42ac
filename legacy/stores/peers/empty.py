"""A store that is not there, as a dry run sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from legacy.stores.parcels import IGNORED, Item
from legacy.stores.peers.kinds import Found, Key, Unit, shown_key
from session_adapter.formats import PeerFormat


class EmptyStore:
    """See ``PeerStore``; nothing stands in it, and nothing is written to it."""

    version: str | None = None

    def __init__(self, format: PeerFormat) -> None:
        self.format = format

    async def units(self) -> AsyncIterator[list[Unit | Item]]:
        for nothing in list[list[Unit | Item]]():
            yield nothing

    def unit(self, key: Key) -> Unit:
        return Unit(key)

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        return [Item(None, shown_key(unit.key), IGNORED, ("not_there",)) for unit in units]

    async def write(self, found: Sequence[Found]) -> None:
        raise AssertionError("a dry run writes nothing")

    async def close(self) -> None:
        """Nothing is open."""
