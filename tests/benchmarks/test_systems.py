"""What is measured does what it says: every operation of the drivers alone and of ours, on every engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from benchmarks import data, places
from benchmarks.system import System
from benchmarks.systems import ENGINES, OURS, MissingSystem, names_of, system_of
from tests.engines import engine_url, redis_client
from tests.places import engines


@pytest.fixture(params=engines(*ENGINES))
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(places, "FOLDER", tmp_path)
    return str(request.param)


@pytest.fixture(params=OURS)
async def system(request: pytest.FixtureRequest, engine: str) -> AsyncIterator[System]:
    url = "" if engine == "sqlite" else engine_url(engine)
    async with places.place_on(engine, url) as place:
        opened = system_of(request.param, engine)(engine, place)
        await opened.open()
        yield opened
        await opened.close()


def body_of(shown: Any) -> Mapping[str, Any]:
    return plain(shown).get("body", plain(shown))


def state_of(shown: Any) -> Any:
    return plain(shown).get("data", plain(shown))["state"]


def id_of(shown: Any) -> Any:
    return plain(shown).get("session_id") or shown["id"]


def plain(shown: Any) -> Mapping[str, Any]:
    """What a system hands out, as a mapping: scoped sessions are models."""
    return dict(shown) if isinstance(shown, BaseModel) else shown


def if_offered(system: System, name: str) -> None:
    if getattr(type(system), name) is getattr(System, name):
        pytest.skip(f"{system.name} has no {name}")


async def test_a_session_is_loaded_with_its_state(system: System) -> None:
    session = data.session(3)
    await system.create(session)
    assert state_of(await system.load(session.id)) == session.state


async def test_what_is_not_there_raises(system: System) -> None:
    with pytest.raises(Exception, match="nobody"):
        await system.load("nobody")
    with pytest.raises(Exception, match="nobody"):
        await system.append("nobody", data.event("nobody", 0))


async def test_events_come_in_order_with_numbers_without_gaps(system: System) -> None:
    await system.create(data.session(1))
    id = data.session(1).id
    added = data.events(id, 5)
    await system.lengthen(id, added[:3])
    for event in added[3:]:
        await system.append(id, event)

    last = await system.last(id, 2)

    assert await system.keys(id) == [event.key for event in added]
    assert await system.numbers(id) == [1, 2, 3, 4, 5]
    assert [body_of(event)["content"] for event in last] == [event.body["content"] for event in added[3:]]


async def test_an_append_moves_its_session_to_the_front(system: System) -> None:
    await system.grow(data.sessions(2 * data.USERS))
    older, newer = data.session(7), data.session(7 + data.USERS)
    assert older.user == newer.user
    await system.append(newer.id, data.event(newer.id, 0))
    await system.append(older.id, data.event(older.id, 0))

    found = await system.page_by_user(older.user, 20)

    assert [id_of(one) for one in found] == [older.id, newer.id]


async def test_a_page_by_topic_is_of_that_topic(system: System) -> None:
    if_offered(system, "page_by_topic")
    sessions = data.sessions(2 * data.USERS)
    await system.grow(sessions)
    found = await system.page_by_topic("topic-9", 20)
    assert {id_of(one) for one in found} == {session.id for session in sessions if session.topic == "topic-9"}


async def test_what_is_imported_is_there_and_what_is_deleted_is_not(system: System) -> None:
    batch = [(session, data.events(session.id, 3)) for session in data.sessions(4)]
    await system.import_all(batch)
    for session, events in batch:
        assert await system.keys(session.id) == [event.key for event in events]
    gone = batch[0][0].id
    await system.append(gone, data.event(gone, 3))  # behind those that were imported
    assert await system.numbers(gone) == [1, 2, 3, 4]

    await system.delete_all([gone])

    with pytest.raises(Exception, match=gone):
        await system.load(gone)
    assert state_of(await system.load(batch[1][0].id)) == batch[1][0].state


async def test_a_key_of_a_state_is_set_beside_the_others(system: System) -> None:
    session = data.session(1)
    await system.create(session)
    await system.set_state(session.id, "color", {"shade": "green"})
    await system.set_state(session.id, "step", 7)
    assert await system.state(session.id) == {**session.state, "color": {"shade": "green"}, "step": 7}


async def test_a_walk_meets_every_session_once(system: System) -> None:
    if_offered(system, "stream")
    sessions = data.sessions(7)
    await system.grow(sessions)
    assert sorted([id_of(one) async for one in system.stream()]) == sorted(session.id for session in sessions)


async def test_it_can_be_opened_again_on_what_is_there(system: System) -> None:
    """As a walk in another process does."""
    await system.create(data.session(1))
    other = type(system)(system.engine, system.place)
    await other.open()
    try:
        assert state_of(await other.load(data.session(1).id)) == data.session(1).state
    finally:
        await other.close()


async def test_a_place_is_empty_at_first_and_gone_afterwards(engine: str, tmp_path: Path) -> None:
    url = "" if engine == "sqlite" else engine_url(engine)
    async with places.place_on(engine, url) as place:
        system = system_of("raw", engine)(engine, place)
        await system.open()
        assert [one async for one in system.stream()] == []
        await system.create(data.session(1))
        await system.close()
    assert not Path(place).exists()
    if engine != "sqlite":
        assert not await _is_there(engine, url, place)


async def _is_there(engine: str, url: str, place: str) -> bool:
    if engine == "redis":
        async with redis_client(place) as client:
            return bool(await client.exists(f"s:{data.session(1).id}"))
    return place.rpartition("/")[2] in await places._databases(engine, url)


def test_what_a_dead_process_left_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "FOLDER", tmp_path)
    dead, alive, foreign = f"{places.PREFIX}999999999_1", f"{places.PREFIX}1_1", "bench_ffffff_999999999_1"
    for name in (dead, alive, foreign):
        (tmp_path / name).mkdir()
    places._drop_orphaned_folders()
    assert {folder.name for folder in tmp_path.iterdir()} == {alive, foreign}


def test_systems_are_named_as_the_tables_name_them() -> None:
    names, missing = names_of("raw,ours (sessions)", "redis")
    assert names == ["raw", "ours (sessions)"]
    assert missing == []


def test_a_system_that_there_is_not_is_told() -> None:
    names, missing = names_of("raw,ladybird", "sqlite")
    assert names == ["raw"]
    assert "ladybird" in missing[0]
    with pytest.raises(MissingSystem, match="ladybird"):
        system_of("ladybird", "sqlite")
