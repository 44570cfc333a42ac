"""The session stores of agent frameworks do as the benchmarks say: they need the environment of ``make bench``."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks import data, places
from benchmarks.system import NotOffered, System
from benchmarks.systems import MissingSystem, system_of
from tests.benchmarks.stored_rows import masked, stored_rows
from tests.engines import engine_url

SQLITE = (
    "agno",
    "agno (sync)",
    "adk",
    "adk (sqlite)",
    "adk on ours",
    "openai-agents",
    "openai-agents (sqlalchemy)",
    "openai-agents on ours",
    "langgraph",
)
SERVERS = (
    ("agno", ("postgresql", "mysql", "redis")),
    ("agno (sync)", ("postgresql", "mysql")),
    ("adk", ("postgresql", "mysql")),
    ("adk on ours", ("postgresql", "mysql", "redis")),
    ("openai-agents", ("postgresql", "mysql", "redis")),
    ("openai-agents on ours", ("postgresql", "mysql", "redis")),
    ("langgraph", ("postgresql",)),
)
EVERYWHERE = [
    *(pytest.param(name, "sqlite", id=f"{name}-sqlite") for name in SQLITE),
    *(
        pytest.param(name, engine, id=f"{name}-{engine}", marks=pytest.mark.servers)
        for name, engines in SERVERS
        for engine in engines
    ),
]
FULL = 2
"""A value of SQLite's `synchronous`."""
WAL = {"agno", "agno (sync)", "openai-agents", "openai-agents (sqlalchemy)", "langgraph"}

pytestmark = pytest.mark.filterwarnings("default")  # what the frameworks are warned of is theirs
everywhere = pytest.mark.parametrize(("name", "engine"), EVERYWHERE)
on_stores_of_theirs = pytest.mark.parametrize(
    ("name", "engine"), [each for each in EVERYWHERE if " on ours" not in str(each.id)]
)


@asynccontextmanager
async def opened(name: str, engine: str) -> AsyncIterator[System]:
    """A peer in a place of its own; without its package the test is skipped."""
    try:
        made = system_of(name, engine)
    except MissingSystem as reason:
        pytest.skip(str(reason))
    async with AsyncExitStack() as stack:
        url = "" if engine == "sqlite" else engine_url(engine)
        system = made(engine, await stack.enter_async_context(places.place_on(engine, url)))
        await system.open()
        stack.push_async_callback(system.close)
        yield system


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "FOLDER", tmp_path)


@everywhere
async def test_events_are_read_back_in_the_order_they_were_added(name, engine):
    async with opened(name, engine) as system:
        one, other = data.sessions(2)
        await system.create(one)
        await system.create(other)
        for event in data.events(one.id, 12):
            await system.append(one.id, event)
        await system.append(other.id, data.event(other.id, 0))
        await system.load(one.id)
        assert await system.keys(one.id) == [event.key for event in data.events(one.id, 12)]
        assert await system.keys(other.id) == [data.event(other.id, 0).key]
        texts = [text_of(message) for message in await system.last(one.id, 3)]
        assert texts == [event.body["content"] for event in data.events(one.id, 3, start=9)]


@everywhere
async def test_a_session_that_is_not_there_cannot_be_loaded(name, engine):
    async with opened(name, engine) as system:
        if not system.stores_empty:
            assert await system.load("nobody") == []
        else:
            with pytest.raises(KeyError):
                await system.load("nobody")


@everywhere
async def test_one_key_of_the_state_is_changed_and_the_others_stay(name, engine):
    async with opened(name, engine) as system:
        session = data.session(1)
        await system.create(session)
        try:
            await system.set_state(session.id, "step", "next")
        except NotOffered:
            assert name.startswith("openai-agents")
            return
        assert await system.state(session.id) == {**session.state, "step": "next"}


@everywhere
async def test_a_page_holds_the_newest_sessions_of_a_user_and_of_a_topic(name, engine):
    async with opened(name, engine) as system:
        sessions = data.sessions(3 * data.USERS)
        await system.grow(sessions)
        try:
            by_user = await system.page_by_user("user-7", 2)
            by_topic = await system.page_by_topic("topic-1", 2)
        except NotOffered:
            assert name.startswith("openai-agents")
            return
        mine = [session.id for session in sessions if session.user == "user-7"]
        about = [session.id for session in sessions if session.topic == "topic-1"]
        assert sorted(id_of(session) for session in by_user) == sorted(mine[-2:])
        assert sorted(id_of(session) for session in by_topic) == sorted(about[-2:])
        again = type(system)(engine, system.place)  # as a process does that only walks over them
        await again.open()
        assert len([session async for session in again.stream()]) == len(sessions)
        await again.close()


@everywhere
async def test_imported_sessions_are_there_until_they_are_deleted(name, engine):
    async with opened(name, engine) as system:
        sessions = [(session, data.events(session.id, 4)) for session in data.sessions(3)]
        await system.import_all(sessions)
        for session, events in sessions:
            assert await system.keys(session.id) == [event.key for event in events]
        (gone, _), (also_gone, _), (kept, events) = sessions
        await system.delete_all([gone.id, also_gone.id])
        assert await system.keys(kept.id) == [event.key for event in events]
        if system.stores_empty:
            with pytest.raises(KeyError):
                await system.load(gone.id)
        else:
            assert await system.load(gone.id) == []


@on_stores_of_theirs
async def test_what_goes_past_the_framework_has_the_form_it_writes_itself(name, engine):
    session = data.session(1)
    event = data.event(session.id, 0)
    async with opened(name, engine) as system:
        await system.create(session)
        await system.append(session.id, event)
        written = [masked(row) for row in await stored_rows(engine, system.place)]
    async with opened(name, engine) as system:
        await system.grow([session])
        await system.lengthen(session.id, [event])
        seeded = [masked(row) for row in await stored_rows(engine, system.place)]
    assert written
    assert sorted(seeded) == sorted(written)


@everywhere
async def test_a_long_session_goes_on_where_it_was_made_longer(name, engine):
    async with opened(name, engine) as system:
        session = data.session(1)
        await system.create(session)
        await system.append(session.id, data.event(session.id, 0))
        await system.lengthen(session.id, data.events(session.id, 40, start=1))
        await system.append(session.id, data.event(session.id, 41))
        assert await system.keys(session.id) == [event.key for event in data.events(session.id, 42)]


@everywhere
async def test_events_of_many_tasks_on_one_session_are_lost_where_the_framework_loses_them(name, engine):
    async with opened(name, engine) as system:
        session = data.session(1)
        await system.create(session)
        events = data.events(session.id, 8)
        appends = [system.append(session.id, event) for event in events]
        told = await asyncio.gather(*appends, return_exceptions=True)  # openai-agents has deadlocks on MySQL
        acknowledged = {event.key for event, error in zip(events, told, strict=True) if error is None}
        assert acknowledged if (name, engine) == ("openai-agents", "mysql") else len(acknowledged) == len(events)
        keys = await system.keys(session.id)
        assert len(keys) == len(set(keys))
        assert set(keys) < acknowledged if name == "langgraph" else set(keys) == acknowledged


@pytest.mark.parametrize(("name", "engine"), [each for each in EVERYWHERE if "openai" not in str(each.id)])
async def test_state_of_many_tasks_is_lost_where_the_framework_loses_it(name, engine):
    async with opened(name, engine) as system:
        session = data.session(1)
        await system.create(session)
        await asyncio.gather(*(system.set_state(session.id, f"key_{number}", number) for number in range(8)))
        there = {key for key in await system.state(session.id) if key.startswith("key_")}
        assert (len(there) == 8) == name.startswith("adk")


@pytest.mark.parametrize("name", [name for name in SQLITE if " on ours" not in name])
async def test_sqlite_files_are_as_durable_as_the_page_says(name, monkeypatch):
    said: list[str] = []
    connect = sqlite3.connect

    def listening(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(said.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", listening)
    monkeypatch.setattr(sqlite3.dbapi2, "connect", listening)
    async with opened(name, "sqlite") as system:
        session = data.session(1)
        await system.create(session)
        await system.append(session.id, data.event(session.id, 0))
        changed = [statement for statement in said if "synchronous" in statement.lower()]
        journal, synchronous = settings_of(Path(system.place))
    assert any(statement.lstrip().upper().startswith("INSERT") for statement in said)
    assert (changed, synchronous) == ([], FULL)
    assert journal == ("wal" if name in WAL else "delete")


async def test_langgraph_says_why_it_has_no_redis(tmp_path):
    try:
        made = system_of("langgraph", "redis")
    except MissingSystem as reason:
        pytest.skip(str(reason))
    with pytest.raises(NotOffered, match="database 0"):
        await made("redis", "redis://nowhere/1").open()


async def test_adk_migrates_every_event_of_the_old_database_that_it_is_given(tmp_path):
    pytest.importorskip("google.adk", reason="google-adk is in .venv-bench alone")
    from benchmarks.systems import adk_migration

    sessions = [(session, data.events(session.id, 3)) for session in data.sessions(4)]
    adk_migration.write_old_database(tmp_path / "old.db", sessions)

    adk_migration.migrate(tmp_path / "old.db", tmp_path / "new.db")

    async with opened_adk(tmp_path / "new.db") as service:
        for session, events in sessions:
            found = await service.get_session(app_name="benchmark", user_id=session.user, session_id=session.id)
            assert found.state == session.state
            assert [event.id for event in found.events] == [event.key for event in events]
            assert [text_of(event) for event in found.events] == [event.body["content"] for event in events]


@asynccontextmanager
async def opened_adk(path: Path) -> AsyncIterator[Any]:
    from google.adk.sessions.database_session_service import DatabaseSessionService

    service = DatabaseSessionService(f"sqlite+aiosqlite:///{path}")
    try:
        yield service
    finally:
        await service.close()


def text_of(message: Any) -> str:
    """The text of a message as any of the frameworks shows it."""
    content = message["content"] if isinstance(message, dict) else message.content
    return content if isinstance(content, str) else content.parts[0].text


def id_of(session: Any) -> str:
    """The id of a session as any of the frameworks lists it."""
    if hasattr(session, "config"):
        return session.config["configurable"]["thread_id"]
    return session.session_id if hasattr(session, "session_id") else session.id


def settings_of(folder: Path) -> tuple[str, int]:
    """The journal mode of the one file, and the `synchronous` of a connection to it that changes nothing."""
    (file,) = folder.glob("*.db")
    with closing(sqlite3.connect(file)) as connection:
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    return journal, synchronous
