"""`copy` between all engines, back and forth: everything, exactly; conflicts; and others who write at the same time."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from legacy.migration.into_storage import IntoStorage
from legacy.stores.parcels import Parcel
from session_adapter import SessionStorageAdapter
from tests.engines import redis_client
from tests.legacy.folders import document, write
from tests.legacy.test_copy import copied, counts
from tests.legacy.test_copy_between_stores import everything, fill
from tests.legacy.test_verify import verified
from tests.places import ON_DISK, SERVERS, Place, engines, place_on
from tests.unified_storage.planting import planter_at
from unified_storage import StorageConfigurationError
from unified_storage.backends.redis.partitions import Layout, key_prefix
from unified_storage.interface import IUnifiedStorage

PAIRS = [
    ("sqlite", "postgresql"),
    ("postgresql", "mysql"),
    ("mysql", "redis"),
    ("redis", "redis-cluster"),
    ("redis-cluster", "postgresql"),
    ("mysql", "redis-cluster"),
    ("redis", "postgresql"),
    ("postgresql", "sqlite"),
]
"""Every engine is written and read, and each server at least once by each kind of copying."""


@pytest.fixture
async def places(tmp_path: Path) -> AsyncIterator[Any]:
    """`await places(engine)`: one more empty store, gone afterwards."""
    async with AsyncExitStack() as stack:

        async def place(engine: str) -> Place:
            folder = tmp_path / f"place{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return await stack.enter_async_context(place_on(engine, folder))

        yield place


async def filled(place: Place) -> dict[str, Any]:
    async with place.open() as storage:
        await fill(storage)
    return await everything(place.address)


@pytest.mark.servers
@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_everything_is_copied_there_and_back(places: Any, one: str, other: str) -> None:
    source, target, back = await places(one), await places(other), await places(one)
    wanted = await filled(source)
    facts = await copied(source.address, target.address)
    assert counts(facts, "read", "copied", "verified", "mismatched") == (2, 2, 2, 0)
    assert (facts["others"]["copied"], facts["others"]["verified"], facts["exit_code"]) == (3, 3, 0)
    assert await everything(target.address) == wanted
    compared = await verified(source.address, target.address)
    assert (compared["equal"], compared["compared"], compared["only_in_target"]) == (5, 5, 0)
    again = await copied(source.address, target.address)
    assert (counts(again, "equal"), again["others"]["equal"]) == ((2,), 3)
    await copied(target.address, back.address)
    assert await everything(back.address) == wanted


ALIASES = {"postgresql://": "postgres://", "mysql://": "mariadb://"}


@pytest.mark.parametrize("engine", engines(*SERVERS))
async def test_a_place_is_not_copied_onto_itself_however_it_is_written(places: Any, engine: str) -> None:
    place = await places(engine)
    async with place.open() as storage:
        await fill(storage)
    scheme = place.url.partition("//")[0] + "//"
    other = f"{place.address.replace(scheme, ALIASES.get(scheme, scheme))}&pool_size=3"
    for work in (copied, verified):
        with pytest.raises(StorageConfigurationError, match="the same place"):
            await work(place.address, other)


@pytest.mark.parametrize("engine", engines(*SERVERS))
async def test_an_archive_gives_everything_back(places: Any, engine: str, tmp_path: Path) -> None:
    source, target, archive = await places(engine), await places(engine), f"jsonl://{tmp_path}/archive.jsonl"
    wanted = await filled(source)
    assert counts(await copied(source.address, archive), "copied", "mismatched") == (2, 0)
    assert (await verified(source.address, archive))["exit_code"] == 0
    assert counts(await copied(archive, target.address), "copied", "mismatched") == (2, 0)
    assert await everything(target.address) == wanted
    assert (await verified(archive, target.address))["exit_code"] == 0
    assert counts(await copied(target.address, archive), "equal", "copied") == (2, 0)


@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_session_files_are_copied_there_and_back(places: Any, engine: str, tmp_path: Path) -> None:
    target, folder = await places(engine), tmp_path / "source"
    for number in range(450):  # several steps
        write(folder, document(f"s{number:03}", messages=number % 4, user_id=f"u{number % 7}"))
    facts = await copied(folder, target.address)
    assert counts(facts, "read", "copied", "verified", "mismatched") == (450, 450, 450, 0)
    assert counts(await copied(folder, target.address), "equal") == (450,)
    assert (await verified(folder, target.address))["equal"] == 450
    back = f"legacy+file://{tmp_path}/back"
    assert counts(await copied(target.address, back), "copied", "mismatched") == (450, 0)
    assert {file.name: file.read_bytes() for file in folder.iterdir()}.keys() == {
        file.name for file in (tmp_path / "back").glob("*.json")
    }
    assert counts(await copied(folder, back), "equal") == (450,)
    async with target.open() as storage:
        assert await storage.count({"type": "_copy"}) == 450
        assert not await storage.exists("copy", type="_copy_run")


@pytest.mark.parametrize("engine", engines(*SERVERS))
async def test_why_source_and_target_differ_decides(places: Any, engine: str, tmp_path: Path) -> None:
    target, folder = await places(engine), tmp_path / "source"
    for name in ("same", "moved", "edited", "longer", "deleted", "both"):
        write(folder, document(name))
    async with target.open() as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.save_session("theirs", document("theirs", text="theirs"))
        await copied(folder, target.address)
        for name in ("edited", "both"):
            await sessions.update_session(name, {"settings": {"n": 2}})
        await sessions.events.append("longer", {"role": "user", "content": "more"})
        await sessions.delete_session("deleted")
    for name in ("moved", "both", "theirs", "new"):
        write(folder, document(name, text="moved"))
    wanted = {
        "same": ("equal", []),
        "moved": ("copied", []),
        "new": ("copied", []),
        "edited": ("conflict", ["changed_in_target"]),
        "longer": ("conflict", ["changed_in_target"]),
        "both": ("conflict", ["changed_in_target"]),
        "deleted": ("conflict", ["deleted_in_target"]),
        "theirs": ("conflict", ["not_written_by_this_source"]),
    }
    for dry_run in (True, False):
        facts = await copied(folder, target.address, dry_run=dry_run)
        assert {item["id"]: (item["outcome"], item["reasons"]) for item in facts["items"]} == wanted
    assert (await verified(folder, target.address))["equal"] == 3
    facts = await copied(folder, target.address, overwrite_conflicts=True)
    assert counts(facts, "copied", "equal", "conflict", "mismatched") == (5, 3, 0, 0)
    assert counts(await copied(folder, target.address), "equal") == (8,)


@pytest.mark.parametrize(
    ("engine", "moment"),
    [
        *((name, "made") for name in SERVERS),
        # elsewhere what is there is locked, and nobody can change it meanwhile
        *((name, "changed") for name in ("redis", "redis-cluster")),
    ],
)
@pytest.mark.servers
async def test_what_others_write_between_the_decision_and_the_write_is_a_conflict(
    places: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, moment: str
) -> None:
    target, folder = await places(engine), tmp_path / "source"
    for name in "abc":
        write(folder, document(name))
    if moment == "changed":
        await copied(folder, target.address)
        write(folder, document("b", text="moved"))
    decided, meddled = IntoStorage._decided, list[str]()

    async def meddle(self: IntoStorage, reader: IUnifiedStorage, parcels: Iterable[Parcel]) -> Any:
        found = await decided(self, reader, [*parcels])
        is_the_step = reader is not self._storage and (engine != "redis-cluster" or len([*parcels]) == 1)
        if is_the_step and not meddled and any(parcel.key[0] == "b" for parcel in parcels):
            meddled.append("b")
            async with target.open() as storage:
                await SessionStorageAdapter(storage).save_session("b", document("b", text="theirs"))
        return found

    monkeypatch.setattr(IntoStorage, "_decided", meddle)
    facts = await copied(folder, target.address)
    assert meddled
    assert {item["id"]: item["outcome"] for item in facts["items"]} == {
        "a": "copied" if moment == "made" else "equal",
        "b": "conflict",
        "c": "copied" if moment == "made" else "equal",
    }
    async with target.open() as storage:
        found = await SessionStorageAdapter(storage).get_session("b")
    assert found is not None
    assert found["workflow_state"]["messages"][0]["content"] == "theirs 0"


@pytest.mark.parametrize("engine", engines(*SERVERS))
async def test_what_cannot_be_kept_or_read_back_there_costs_itself_and_not_the_others(
    places: Any, engine: str, tmp_path: Path
) -> None:
    target, folder = await places(engine), tmp_path / "source"
    for name in "abc":
        write(folder, document(name))
    await copied(folder, target.address)
    await spoil(target, "b")
    write(folder, document("large", notes="x" * (8 << 20)))  # twice that, as it is stored
    write(folder, document("long", messages=20, text="y" * (1 << 20)))
    write(folder, document("new"))
    facts = await copied(folder, target.address)
    assert {item["id"]: (item["outcome"], item["reasons"]) for item in facts["items"]} == {
        "a": ("equal", []),
        "b": ("quarantined", ["unreadable_target"]),
        "c": ("equal", []),
        "large": ("quarantined", ["too_large"]),
        "long": ("copied", []),
        "new": ("copied", []),
    }
    assert counts(facts, "copied", "verified", "mismatched") == (2, 4, 0)
    assert (await verified(folder, target.address))["equal"] == 4


async def spoil(place: Place, id: str) -> None:
    """Damage the stored document of a session."""
    if place.engine.startswith("redis"):
        partitions = 64 if place.engine == "redis-cluster" else 1
        async with redis_client(place.url) as client:
            record = Layout(key_prefix(place.namespace), partitions).record(id, "session")
            assert await client.hset(record, "d", "{") == 0, "it was there"
    else:
        async with planter_at(place) as planter:
            await planter.run("UPDATE {documents} SET data = ? WHERE n = ?", "{", await planter.row_of(id))
