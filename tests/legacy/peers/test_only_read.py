"""A store whose form is only read is refused as a target, before anything is built for it."""

from __future__ import annotations

import pytest

from legacy.stores.peers import registry
from legacy.stores.peers.empty import EmptyStore
from session_adapter.formats import PeerFormat
from unified_storage.errors import StorageUnsupportedError

ONLY_READ = [format for format in registry.peer_formats() if not format.writes]


class Family:
    """Finds a store of the format that it was told."""

    def __init__(self, format: PeerFormat) -> None:
        self.format = format

    async def open_store(self, _: object) -> EmptyStore:
        return EmptyStore(self.format)


@pytest.mark.parametrize("format", ONLY_READ, ids=lambda format: str(format.name))
async def test_what_is_only_read_is_refused_by_name(format: PeerFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_family_of", lambda _: Family(format))
    opening = registry.opening_of("langchain+sqlite:///x.db")
    with pytest.raises(StorageUnsupportedError, match=format.name):
        await registry.open_to_write(opening)
    with pytest.raises(StorageUnsupportedError, match=format.name):
        await registry.open_as_it_is(opening, is_there=True)
