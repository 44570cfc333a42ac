"""Reading from a place makes, upgrades and changes nothing there; a dry run makes no target."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from legacy.migration import examine, inspect_place, inspect_session
from tests.legacy.folders import document, write
from tests.legacy.test_copy import copied, counts
from tests.legacy.test_verify import verified
from tests.places import ON_DISK, SQL, Place, engines, place_on
from tests.traces import state_of
from tests.unified_storage.planting import planter_at
from unified_storage import IUnifiedStorage, StorageConfigurationError, open_storage, opening
from unified_storage.clock import Clock
from unified_storage.interface import Indexed
from unified_storage.opening import StorageURL

ON_EVERY_ENGINE = pytest.mark.parametrize("engine", engines(*ON_DISK))
READERS = {
    "copy from": lambda url, folder: copied(url, "memory://"),
    "dry run from": lambda url, folder: copied(url, "memory://", dry_run=True),
    "verify from": lambda url, folder: verified(url, folder),
    "verify with": lambda url, folder: verified(folder, url),
    "inspect": lambda url, folder: inspect_place(url),
    "inspect a session": lambda url, folder: inspect_session(url, "a"),
    "doctor": lambda url, folder: examine(url),
    "repair": lambda url, folder: examine(url, mend=True),
}


@pytest.fixture
async def place(engine: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_on(engine, tmp_path) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "source", document("a"))
    return tmp_path / "source"


@ON_EVERY_ENGINE
@pytest.mark.parametrize("read", READERS)
async def test_nothing_is_made_where_there_is_no_store(place: Place, folder: Path, read: str) -> None:
    missing = "does not exist" if place.engine == "sqlite" else "no store of ours in "
    with pytest.raises(StorageConfigurationError, match=missing):
        await READERS[read](place.address, folder)
    assert await state_of(place) == {}


@ON_EVERY_ENGINE
@pytest.mark.parametrize("read", READERS)
async def test_another_namespace_is_another_store_and_none_is_made(place: Place, folder: Path, read: str) -> None:
    await copied(folder, place.address)
    before = await state_of(place)
    with pytest.raises(StorageConfigurationError, match="no store of ours in ") as refusal:
        await READERS[read](f"{place.address}x", folder)
    assert place.address in str(refusal.value)
    assert await state_of(place) == before


async def test_other_peoples_backends_are_not_told_of_options_that_they_may_not_have(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    told: list[dict[str, object]] = []

    def shelf(url: StorageURL, *, indexed: Indexed, clock: Clock, **options: object) -> IUnifiedStorage:
        told.append(options)
        return open_storage("memory://")

    monkeypatch.setitem(opening._registered, "shelf", shelf)
    await inspect_place("shelf://x")
    await copied(folder, "shelf://x", dry_run=True)
    await examine("shelf://x")
    assert told == [{}] * len(told)
    assert told


@ON_EVERY_ENGINE
async def test_a_dry_run_makes_no_target_and_changes_none(place: Place, folder: Path) -> None:
    assert counts(await copied(folder, place.address, dry_run=True), "copied") == (1,)
    assert await state_of(place) == {}
    await copied(folder, place.address)
    write(folder, document("b"))
    before = await state_of(place)
    assert counts(await copied(folder, place.address, dry_run=True), "copied", "equal") == (1, 1)
    assert await state_of(place) == before


@ON_EVERY_ENGINE
async def test_reading_changes_nothing(place: Place, folder: Path) -> None:
    await copied(folder, place.address)
    before = await state_of(place)
    for read, start in READERS.items():
        if read != "repair":
            await start(place.address, folder)
    assert await state_of(place) == before


@pytest.mark.parametrize("engine", engines(*SQL))
async def test_an_older_schema_is_read_as_it_is_and_doctor_upgrades_it(place: Place, folder: Path) -> None:
    await copied(folder, place.address)
    async with planter_at(place) as planter:
        await planter.drop_index("by_slot", "paths")
        await planter.run("UPDATE {schema} SET version = 1")
    before = await state_of(place)
    assert counts(await copied(place.address, "memory://"), "copied") == (1,)
    assert (await inspect_place(place.address)).health["schema"] == 1
    assert await state_of(place) == before
    report = await examine(place.address)
    assert (report.exit_code, report.health["schema"]) == (0, 2)
    assert (await inspect_place(place.address)).health["schema"] == 2
