"""What the bridge for ADK stores: the same as a copy of ADK's own databases; everything else of ours reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.session import Session
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from legacy.migration import copy_store
from session_adapter import ScopedSessionService, SessionKey, SessionRepository, SessionStorageAdapter, UserKey
from session_adapter.entries import history_of
from session_adapter.identity import record_id
from session_bridges.adk import UnifiedSessionService
from tests.legacy.peers.fixture_stores import FixtureStore
from tests.places import Place
from tests.session_api.clients import client_of, database
from tests.session_bridges.adk_services import (
    APP,
    ID,
    NAMED,
    USER,
    changed,
    near,
    said,
    stored,
    texts,
)
from tests.session_bridges.test_adk_agreed import everything
from unified_storage import IUnifiedStorage, open_storage

pytestmark = pytest.mark.filterwarnings("default")  # what the framework is warned of is its own

KEY = SessionKey(APP, USER, ID)
THEIRS = ["adk-v1", "adk-sqlite"]


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[IUnifiedStorage]:
    async with place.open() as opened:
        yield opened


@pytest.fixture
def service(storage: IUnifiedStorage) -> UnifiedSessionService:
    return UnifiedSessionService(storage)


async def conversed(service: BaseSessionService) -> Session:
    """A session in which this and that was said."""
    session = await service.create_session(**NAMED, state={"cart": ["tea"], "user:lang": "de", "app:open": True})
    for event in (
        said("Hello", time=1_760_000_000.5),
        said("Good morning", author="waiter", time=1_760_000_001.123456, greeted=True),
        everything().model_copy(update={"timestamp": 1_760_000_002.25}),
        changed({"user:seen": 1, "app:visits": 2, "cart": None}, timestamp=1_760_000_003.0),
    ):
        await service.append_event(session, event)
    return session


def own_service(format: str, file: Path) -> Any:
    """ADK's own service on a SQLite file."""
    if format == "adk-sqlite":
        return SqliteSessionService(str(file))
    return DatabaseSessionService(f"sqlite+aiosqlite:///{file}")


def shown(session: Session) -> dict[str, Any]:
    """What there is to see of a session, to the microsecond."""
    return session.model_dump() | {"last_update_time": near(session.last_update_time)}


# in a storage


async def test_an_event_is_stored_as_adk_stores_it_and_keyed_by_its_id(
    service: UnifiedSessionService, storage: IUnifiedStorage, tmp_path: Path
):
    """The entries of the bridge and those of a copy of ADK's database are the same."""
    session = await conversed(service)
    async with DatabaseSessionService(f"sqlite+aiosqlite:///{tmp_path}/adk.db") as theirs:
        same = await theirs.create_session(**NAMED)
        for event in session.events:
            await theirs.append_event(same, event)
    copied = f"sqlite:///{tmp_path}/copied.db"
    await copy_store(f"adk+sqlite:///{tmp_path}/adk.db", copied)
    log = history_of(record_id(KEY))
    async with open_storage(copied) as copy:
        entries = await copy.read(log)
    assert await storage.read(log) == entries
    assert [entry["key"] for entry in entries] == [event.id for event in session.events]
    assert {entry["body"]["format"] for entry in entries} == {"adk-v1"}


async def test_the_record_is_that_of_a_scoped_session(service: UnifiedSessionService, storage: IUnifiedStorage):
    await conversed(service)
    record = await storage.load(record_id(KEY), type="session")
    assert record is not None
    assert record["data"] == {
        "session_id": ID,
        "app_name": APP,
        "user_id": USER,
        "state": {"cart": None, "greeted": True, "a": {"b": [1, 2.5, None, True]}},
    }
    assert record["metadata"]["app_name"] == APP
    states = {one["type"]: one["data"]["state"] for one in await storage.list() if one["type"] != "session"}
    assert states == {"user_state": {"lang": "de", "seen": 1}, "app_state": {"open": True, "visits": 2}}


# other views of ours


async def test_our_own_services_read_what_the_bridge_wrote(service: UnifiedSessionService, storage: IUnifiedStorage):
    session = await conversed(service)
    flat = await SessionStorageAdapter(storage).events.read(KEY)
    assert [(event["seq"], event["role"], event["run_id"]) for event in flat] == [
        (1, "user", "i1"),
        (2, "assistant", "i1"),
        (3, "assistant", "i9"),
        (3, "tool", "i9"),
        (4, "assistant", "i1"),
    ]
    assert [flat[0]["content"], flat[1]["content"]] == ["Hello", "Good morning"]
    assert flat[2]["tool_calls"][0]["function"]["name"] == "stock"
    assert flat[2]["usage"]["total_token_count"] == 9
    runs = await SessionStorageAdapter(storage).runs.read(KEY)
    assert [run["run_id"] for run in runs] == ["i1", "i9"]
    typed = await SessionRepository(storage).get(KEY)
    assert (typed.app_name, typed.user_id, typed.session_id, len(typed.runs)) == (APP, USER, ID, 2)
    scoped = await ScopedSessionService(storage).get_session(KEY, event_num=2)
    assert scoped is not None
    assert scoped.state == (await stored(service)).state
    assert scoped.events[-1].state_delta == {"user:seen": 1, "app:visits": 2, "cart": None}
    page = await ScopedSessionService(storage).list_sessions(UserKey(APP, USER))
    assert [one.key for one in page.items] == [KEY]
    assert session.state == scoped.state


async def test_the_rest_service_shows_what_the_bridge_wrote(service: UnifiedSessionService, storage: IUnifiedStorage):
    await conversed(service)
    async with client_of(database(storage)) as client:
        listed = (await client.get("/sessions", params={"user_id": USER})).json()
        assert [one["session_id"] for one in listed["data"]] == [ID]
        found = (await client.get(f"/sessions/{ID}")).json()
        assert (found["session_id"], found["user_id"]) == (ID, USER)
        assert found["session_state"]["greeted"] is True
        assert [one["content"] for one in found["chat_history"][:2]] == ["Hello", "Good morning"]


async def test_adk_reads_what_our_own_services_wrote(service: UnifiedSessionService, storage: IUnifiedStorage):
    scoped, plain = ScopedSessionService(storage), SessionStorageAdapter(storage)
    call = {"id": "c1", "type": "function", "function": {"name": "stock", "arguments": '{"tea": "green"}'}}
    await scoped.create_session(KEY, state={"a": 1, "user:b": 2})
    await scoped.append_event(KEY, {"role": "user", "content": "Is there tea?", "id": "e1", "run_id": "r1"})
    await scoped.append_event(KEY, {"role": "assistant", "tool_calls": [call], "author": "waiter"})
    await scoped.append_event(KEY, {"role": "tool", "tool_call_id": "c1", "name": "stock", "content": "3 tins"})
    await plain.runs.append(KEY, {"run_id": "r2", "messages": [{"role": "user", "content": "x"}] * 2})
    found = await stored(service)
    assert found.state == {"a": 1, "user:b": 2}
    assert [event.author for event in found.events] == ["user", "waiter", "agent", "user", "user"]
    assert found.events[0].id == "e1"
    assert found.events[0].invocation_id == "r1"
    assert found.events[1].get_function_calls()[0].args == {"tea": "green"}
    assert found.events[2].get_function_responses()[0].response == {"result": "3 tins"}
    assert [event.invocation_id for event in found.events[3:]] == ["r2", "r2"]
    assert found.events == (await stored(service)).events  # ids too
    for number in range(7):
        part = await stored(service, config=GetSessionConfig(num_recent_events=number))
        assert part.events == found.events[max(0, 5 - number) :]
    await service.append_event(found, said("and now by ADK"))
    assert texts(await stored(service))[-1] == "and now by ADK"
    assert [run["run_id"] for run in await plain.runs.read(KEY)] == ["r1", "r2", "i1"]


async def test_entries_that_show_no_event_do_not_count(service: UnifiedSessionService, storage: IUnifiedStorage):
    session = await service.create_session(**NAMED)
    for at in range(4):
        await service.append_event(session, said(f"m{at}"))
        nothing: list[dict[str, Any]] = [
            {"body": {"format": "adk-v1", "value": {"id": "x", "event_data": "damaged"}}},
            {"body": 5},
        ]
        await storage.append(history_of(record_id(KEY)), nothing)
        session = await stored(service)
    for number in range(1, 6):
        found = await stored(service, config=GetSessionConfig(num_recent_events=number))
        assert texts(found) == [f"m{at}" for at in range(4)][-number:]


async def test_invocations_added_to_any_session_are_runs_of_it(
    service: UnifiedSessionService, storage: IUnifiedStorage
):
    """Whoever made the session: a run that is added whole takes the place of its single messages."""
    plain = SessionStorageAdapter(storage)
    await plain.save_session(KEY, {"session_id": ID, "state": {"a": 1}})
    session = await stored(service)
    assert session.state == {"a": 1}
    for at in range(3):
        await service.append_event(session, said(f"m{at}", n=at))
    assert [len(run["messages"]) for run in await plain.runs.read(KEY)] == [3]
    await plain.runs.append(KEY, {"run_id": "i1", "messages": [{"role": "user", "content": "all of it"}]})
    assert texts(await stored(service)) == ["all of it"]


async def test_plain_sessions_are_not_seen_by_adk(service: UnifiedSessionService, storage: IUnifiedStorage):
    """They have no app and no user, whatever their documents say."""
    await SessionStorageAdapter(storage).save_session(ID, {"app_name": APP, "user_id": USER, "state": {}})
    assert await service.get_session(**NAMED) is None
    assert (await service.list_sessions(app_name=APP)).sessions == []
    assert (await service.list_sessions(app_name=APP, user_id=USER)).sessions == []
    await service.create_session(**NAMED)
    assert len((await service.list_sessions(app_name=APP)).sessions) == 1


# from ADK's databases, and back


@pytest.mark.parametrize("format", THEIRS)
async def test_a_copied_session_goes_on_through_the_bridge(format: str, place: Place, tmp_path: Path):
    theirs = own_service(format, tmp_path / "adk.db")
    await conversed(theirs)
    before = await stored(theirs)
    await theirs.close()
    if place.engine == "memory":
        pytest.skip("a copy has to lie somewhere")
    await copy_store(f"adk+sqlite:///{tmp_path}/adk.db", place.address)
    async with UnifiedSessionService(place.address) as ours:
        found = await stored(ours)
        assert shown(found) == shown(before)
        assert [shown(one) for one in (await ours.list_sessions(app_name=APP)).sessions] == [
            shown(before) | {"events": []}
        ]
        for number in (1, 2, 9):
            part = await stored(ours, config=GetSessionConfig(num_recent_events=number))
            assert part.events == before.events[-number:]
        after = GetSessionConfig(after_timestamp=before.events[1].timestamp)
        assert (await stored(ours, config=after)).events == before.events[1:]
        await ours.append_event(found, said("I am back", cart=["milk"]))
        assert (await stored(ours)).events == [*before.events, found.events[-1]]
        assert (await stored(ours)).state == {**before.state, "cart": ["milk"]}


@pytest.mark.parametrize("format", THEIRS)
async def test_a_session_of_the_bridge_goes_back_to_adk(format: str, tmp_path: Path):
    ours = f"sqlite:///{tmp_path}/ours.db"
    async with UnifiedSessionService(ours) as service:
        written = await conversed(service)
    await copy_store(ours, f"{format}+sqlite:///{tmp_path}/adk.db")
    theirs = own_service(format, tmp_path / "adk.db")
    found = await stored(theirs)
    assert (found.events, found.state) == (written.events, written.state)
    await theirs.append_event(found, said("and on it goes"))
    await theirs.close()


@pytest.mark.parametrize("name", ["adk_v1", "adk_sqlite", "adk_v0_1_3", "adk_v0_1_21"])
async def test_stores_that_adk_itself_wrote_are_shown_whole(name: str, tmp_path: Path, fixtures_dir: Path):
    """Also those of versions that ADK itself does not read any more."""
    store = FixtureStore(name)
    zone = {"source_timezone": store.manifest["timezone_of_writer"]} if "v0" in name else {}
    url = f"sqlite:///{tmp_path}/ours.db"
    await copy_store(f"adk+sqlite:///{store.copied_to(tmp_path)}", url, **zone)
    async with UnifiedSessionService(url) as service:
        apps = sorted({one["app_name"] for one in store.conversations.values()})
        listed = [session for app in apps for session in (await service.list_sessions(app_name=app)).sessions]
        assert {session.id for session in listed} == {*store.conversations}
        count = 0
        for session in listed:
            found = await service.get_session(app_name=session.app_name, user_id=session.user_id, session_id=session.id)
            assert found is not None
            assert found.last_update_time == session.last_update_time
            count += len(found.events)
        assert count == 504
