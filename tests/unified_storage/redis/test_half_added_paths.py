"""A program that is killed while it indexes a path may have told some partitions of it and not the others."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.places import Place, place_on
from unified_storage import StorageConnectionError
from unified_storage.backends.redis import paths
from unified_storage.testing.drafts import ids, note, save_all

pytestmark = pytest.mark.servers
INDEXED = {"note": ["data.tag"]}
NOTES = [note(f"n{number:02}", data={"tag": number}) for number in range(40)]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with place_on("redis-cluster", tmp_path) as found:
        yield found


async def half_added(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Index a path and fail in the middle."""

    async def killed(works: Any) -> None:
        for number, work in enumerate(works):
            if number < 32:
                await work
            else:
                work.close()
        raise StorageConnectionError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(paths, "together", killed)
        with pytest.raises(StorageConnectionError, match="killed"):
            await place.open(indexed=INDEXED).count()


@pytest.mark.parametrize("written", ["before", "after", "both"])
async def test_a_half_added_path_hides_nothing_and_is_added_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    async with place.open() as storage:
        await storage.save(note("z"))
        await storage.delete("z")
        if written != "after":
            await save_all(storage, NOTES[:20])
    await half_added(place, monkeypatch)
    expected = [made["id"] for made in (NOTES[:20] if written == "before" else NOTES)]
    async with place.open(create=False) as storage:
        if written != "before":
            await save_all(storage, NOTES)
        assert ids(await storage.list({"type": "note", "data.tag": {"$gte": 0}})) == expected
    for options in ({"indexed": INDEXED}, {}, {"create": False}):
        async with place.open(**options) as storage:
            assert ids(await storage.list({"type": "note", "data.tag": {"$gte": 0}})) == expected
            assert await storage.count({"type": "note", "data.tag": 7}) == 1
            found = await paths.read_paths(storage._store.client, storage._store.layout, 10)  # type: ignore[attr-defined]
            assert found.is_made
            assert set(found.of("note").values()) == {True}
