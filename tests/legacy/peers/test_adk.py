"""Sessions of Google ADK: into our store, and back to where ADK itself goes on with them."""

from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from legacy.migration import CopyReport, copy_store, inspect_place, verify_stores
from legacy.stores import known_formats
from session_adapter import ScopedSessionService, SessionKey, SessionStorageAdapter, UserKey
from session_adapter.models import Event
from tests.cli.running import run
from tests.legacy.peers.adk_stores import (
    V0,
    V1,
    actions_of,
    add_event,
    add_session,
    add_v0_event,
    database,
    hash_of,
    read_by_adk,
    said,
)
from tests.legacy.peers.fixture_stores import FixtureStore
from tests.legacy.peers.test_pickled import HOSTILE
from unified_storage import StorageConfigurationError, StorageUnsupportedError, open_storage
from unified_storage.interface import IUnifiedStorage
from unified_storage.values import equal

ANN = SessionKey("shop", "ann", "s1")
SAME = [("adk_v1", "adk-v1"), ("adk_sqlite", "adk-sqlite")]
OTHER = [("adk_v1", "adk-sqlite"), ("adk_sqlite", "adk-v1"), ("adk_v0_1_3", "adk-v1"), ("adk_v0_1_21", "adk-sqlite")]
NEW_YORK = "America/New_York"


async def imported(source: Path, folder: Path, **told: Any) -> tuple[str, CopyReport]:
    """The URL of a store of ours with all of *source*, and what was said of it."""
    ours = f"sqlite:///{folder}/ours.db"
    return ours, await copy_store(f"adk+sqlite:///{source}", ours, **told)


def zone_of(store: FixtureStore) -> dict[str, str]:
    return {"source_timezone": store.manifest["timezone_of_writer"]} if "v0" in store.name else {}


def apps_of(store: FixtureStore) -> set[str]:
    return {one["app_name"] for one in store.conversations.values()}


def reasons(report: CopyReport) -> dict[str | None, tuple[str, ...]]:
    return {item.id: item.reasons for item in report.items if item.reasons}


async def shown(ours: str, key: SessionKey = ANN) -> list[dict[str, Any]]:
    async with open_storage(ours) as storage:
        return await SessionStorageAdapter(storage).events.read(key)


def rows(path: Path, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3").fetchall()


# there and back


@pytest.mark.parametrize(("store", "format"), [*SAME, *OTHER])
async def test_what_goes_back_is_what_adk_wrote(store: str, format: str, tmp_path: Path) -> None:
    """Content, state and times, as ADK itself reads them; from v0 the times that its writer's zone makes them."""
    fixture = FixtureStore(store)
    ours, _ = await imported(fixture.copied_to(tmp_path), tmp_path, **zone_of(fixture))
    report = await copy_store(ours, f"{format}+sqlite:///{tmp_path}/back.db")
    assert report.ledger.copied == report.ledger.verified == 20
    assert report.others.copied == report.others.verified == 22
    assert report.lossy == {}
    found = read_by_adk(format, tmp_path / "back.db", apps_of(fixture))
    assert {id: hash_of(session["events"]) for id, session in found.items()} == {
        id: one["sha256"] for id, one in fixture.conversations.items()
    }
    for id, one in fixture.conversations.items():
        assert found[id]["state"] == one["state"]
        times = [event["timestamp"] for event in found[id]["events"]]
        assert (times[0], times[-1], len(times)) == (one["first_timestamp"], one["last_timestamp"], one["events"])
    again = await copy_store(ours, f"{format}+sqlite:///{tmp_path}/back.db")
    assert (again.ledger.equal, again.others.equal) == (20, 22)


@pytest.mark.parametrize(("store", "format"), SAME)
async def test_rows_that_nobody_changed_go_back_untouched(store: str, format: str, tmp_path: Path) -> None:
    source = FixtureStore(store).copied_to(tmp_path)
    ours, _ = await imported(source, tmp_path)
    back = tmp_path / "back.db"
    await copy_store(ours, f"{format}+sqlite:///{back}")
    columns = "app_name, user_id, session_id, id, invocation_id, timestamp, event_data"
    assert rows(back, "events", columns) == rows(source, "events", columns)
    columns = "app_name, user_id, id, create_time, update_time"
    assert rows(back, "sessions", columns) == rows(source, "sessions", columns)
    for table in ("sessions", "app_states", "user_states"):
        states = [
            [json.loads(text) for (text,) in connection.execute(f"SELECT state FROM {table} ORDER BY app_name, rowid")]
            for connection in (sqlite3.connect(back), sqlite3.connect(source))
        ]
        assert sorted(map(json.dumps, states[0])) == sorted(map(json.dumps, states[1]))
    assert rows(back, "user_states", "app_name, user_id, update_time") == rows(
        source, "user_states", "app_name, user_id, update_time"
    )


@pytest.mark.parametrize(("store", "format"), [*SAME, *OTHER])
async def test_a_conversation_that_went_on_here_goes_back(store: str, format: str, tmp_path: Path) -> None:
    """Two turns by ``.events`` and ``.runs``, a state by the scoped service; then ADK itself goes on."""
    fixture = FixtureStore(store)
    ours, _ = await imported(fixture.copied_to(tmp_path), tmp_path, **zone_of(fixture))
    one = next(iter(fixture.conversations.values()))
    key = SessionKey(one["app_name"], one["user_id"], one["session_id"])
    async with open_storage(ours) as storage:
        await _two_turns(storage, key)
    await copy_store(ours, f"{format}+sqlite:///{tmp_path}/back.db")
    found = read_by_adk(format, tmp_path / "back.db", apps_of(fixture))
    session = found.pop(one["session_id"])
    assert hash_of(session["events"][: one["events"]]) == one["sha256"]
    assert hash_of(session["events"][one["events"] :]) == hash_of(_TURNS)
    assert session["state"] == {**one["state"], "cart": ["tea"], "user:tier": "new", "app:sale": True}
    assert all(hash_of(each["events"]) == fixture.conversations[id]["sha256"] for id, each in found.items())
    went_on = read_by_adk(format, tmp_path / "back.db", apps_of(fixture), appends=True)[one["session_id"]]
    assert [event["id"] for event in went_on["events"]][-2:] == [session["events"][-1]["id"], "appended-by-adk"]
    assert went_on["state"]["appended"] is True
    assert len(went_on["events"]) == len(session["events"]) + 1


async def _two_turns(storage: IUnifiedStorage, key: SessionKey) -> None:
    sessions = SessionStorageAdapter(storage)
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q": "tea"}'}}
    await sessions.events.append(key, {"id": "n1", "role": "user", "content": "Tea?", "run_id": "r1"})
    await sessions.events.append(key, {"role": "assistant", "content": "Let me see", "tool_calls": [call]})
    await sessions.events.append(key, {"role": "tool", "tool_call_id": "c1", "name": "find", "content": '{"n": 1}'})
    await sessions.events.append(key, {"role": "assistant", "content": "Yes", "author": "shop-agent"})
    run = [{"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "Welcome"}]
    await sessions.runs.append(key, {"run_id": "r2", "messages": run})
    service = ScopedSessionService(storage)
    await service.update_session_state(key, {"cart": ["tea"]})
    await service.update_user_state(key.user, {"tier": "new"})
    await service.update_app_state(key.app_name, {"sale": True})


def _turn(author: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"author": author, "content": {"parts": list(parts)}}


_TURNS = [
    _turn("user", {"text": "Tea?"}),
    _turn("a", {"text": "Let me see"}, {"function_call": {"id": "c1", "name": "find", "args": {"q": "tea"}}}),
    _turn("a", {"function_response": {"id": "c1", "name": "find", "response": {"n": 1}}}),
    _turn("a", {"text": "Yes"}),
    _turn("user", {"text": "Thanks"}),
    _turn("a", {"text": "Welcome"}),
]


async def test_sessions_without_app_and_user_are_told_theirs(tmp_path: Path) -> None:
    """``--map``; without it the copy says what is missing."""
    ours = f"sqlite:///{tmp_path}/ours.db"
    async with open_storage(ours) as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.save_session("s1", {"session_id": "s1", "state": {"step": 1}, "name": "Tea"})
        await sessions.events.append(
            "s1", {"role": "system", "content": "Be kind", "mood": [1, {"b": b"x", "c": b"\xff"}]}
        )
        await sessions.events.append("s1", {"role": "user", "content": "Hello"})
    target = f"adk+sqlite:///{tmp_path}/adk.db"
    with pytest.raises(StorageConfigurationError, match="--map"):
        await copy_store(ours, target)
    report = await copy_store(ours, target, mapping={"app": "shop", "user": "ann"})
    assert report.ledger.verified == 1
    assert {"name", "bytes"} >= {*report.lossy} >= {"name"}
    session = read_by_adk("adk-v1", tmp_path / "adk.db", ["shop"])["s1"]
    assert session["state"] == {"step": 1}
    assert [event["content"]["parts"] for event in session["events"]] == [[{"text": "Be kind"}], [{"text": "Hello"}]]
    back, _ = await imported(tmp_path / "adk.db", tmp_path / "..")
    events = await shown(back)
    assert [(event["role"], event["content"]) for event in events] == [("system", "Be kind"), ("user", "Hello")]
    assert events[0]["mood"] == [1, {"b": "x", "c": "/w=="}]


# what an event shows


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An empty store of v1 with one session, ``s1``."""
    with database(tmp_path / "adk.db", V1) as connection:
        add_session(connection, "s1")
    return tmp_path / "adk.db"


async def test_an_event_with_several_results_shows_each(store: Path, tmp_path: Path) -> None:
    calls = [{"function_call": {"id": f"c{at}", "name": "find", "args": {"at": at}}} for at in range(3)]
    results = [
        {"function_response": {"id": "c0", "name": "find", "response": {"result": "plain text"}}},
        {"function_response": {"id": "c1", "name": "find", "response": {"n": 1, "ö": None}}},
        {"function_response": {"id": "c2", "name": "find", "response": {"result": {"a": 1}}}},
    ]
    dumped = {"content": {"role": "model", "parts": [{"text": "One moment"}, *calls]}, "author": "agent"}
    with database(store) as connection:
        add_event(connection, "s1", "e0", said("Find them"))
        add_event(connection, "s1", "e1", dumped | {"usage_metadata": {"total_token_count": 7}, "timestamp": 1.5})
        add_event(connection, "s1", "e2", {"content": {"role": "user", "parts": results}, "author": "agent"})
    ours, _ = await imported(store, tmp_path)
    _, *events = await shown(ours)
    assert [(event["seq"], event["index"], event["id"], event["role"]) for event in events] == [
        (2, 0, "e1", "assistant"),
        (3, 0, "e2", "tool"),
        (3, 1, None, "tool"),
        (3, 2, None, "tool"),
    ]
    assert events[0]["content"] == "One moment"
    assert [call["function"]["arguments"] for call in events[0]["tool_calls"]] == [
        '{"at": 0}',
        '{"at": 1}',
        '{"at": 2}',
    ]
    assert events[0]["usage"] == {"total_token_count": 7}
    assert events[0]["timestamp"] == "1970-01-01T00:00:01.500000+00:00"
    told = [(event["tool_call_id"], event["name"], event["content"]) for event in events[1:]]
    assert told == [
        ("c0", "find", "plain text"),
        ("c1", "find", json.dumps({"n": 1, "ö": None})),
        ("c2", "find", '{"result": {"a": 1}}'),
    ]
    async with open_storage(ours) as storage:
        session = await ScopedSessionService(storage).get_session(ANN, event_num=2, turn_safe=True)
    assert session is not None
    assert [event.role for event in session.events] == ["user", "assistant", "tool", "tool", "tool"]


async def test_results_of_one_event_are_withdrawn_one_by_one(store: Path, tmp_path: Path) -> None:
    results = [
        {"function_response": {"id": f"c{at}", "name": "find", "response": {"result": str(at)}}} for at in range(2)
    ]
    with database(store) as connection:
        add_event(connection, "s1", "e1", said("Find"))
        add_event(connection, "s1", "e2", {"content": {"parts": [*results, {"text": "So"}]}, "author": "agent"})
    ours, _ = await imported(store, tmp_path)
    async with open_storage(ours) as storage:
        events = SessionStorageAdapter(storage).events
        popped = [await events.pop(ANN) for _ in range(5)]
        assert [event and event["content"] for event in popped] == ["1", "0", "So", "Find", None]
        assert await events.read(ANN) == []


async def test_parts_that_are_no_text_stay_parts(store: Path, tmp_path: Path) -> None:
    blob = {"inline_data": {"mime_type": "image/png", "data": "AAAA"}}
    parts = {"two texts": [{"text": "a"}, {"text": "b"}], "a picture": [{"text": "a"}, blob], "none": []}
    with database(store) as connection:
        for at, listed in enumerate(parts.values()):
            add_event(connection, "s1", f"e{at}", {"content": {"parts": listed}, "author": "user", "timestamp": at})
        add_event(connection, "s1", "e3", {"author": "agent", "actions": {"state_delta": {"a": 1}}, "timestamp": 9})
        add_event(connection, "s1", "e4", said("frag", "agent", partial=True, timestamp=10))
        add_event(connection, "s1", "e5", said("cut", "agent", interrupted=True, branch="a.b", timestamp=11))
    ours, _ = await imported(store, tmp_path)
    events = await shown(ours)
    assert [event["content"] for event in events] == ["ab", [{"text": "a"}, blob], None, None, "cut"]
    assert events[3]["state_delta"] == {"a": 1}
    assert (events[4]["status"], events[4]["branch"]) == ("interrupted", "a.b")
    async with open_storage(ours) as storage:
        (record,) = await storage.list({"type": "session"})
        assert len(await storage.read(f"history/{record['id']}")) == 6, "a fragment is kept, and not shown"


# state and times


async def test_state_is_that_of_the_tables_and_not_that_of_the_events(store: Path, tmp_path: Path) -> None:
    with database(store) as connection:
        connection.execute("""UPDATE sessions SET state = '{"step": 2, "list": [1.5, null]}'""")
        connection.execute("INSERT INTO app_states VALUES ('shop', '{\"sale\": true}', '2024-05-15 20:00:00.5')")
        connection.execute("INSERT INTO user_states VALUES ('shop', 'bob', '{\"tier\": 1}', '2024-05-15 20:00:00')")
        delta = {"step": 1, "gone": True, "app:sale": False, "user:tier": 9}
        add_event(connection, "s1", "e1", said("Hi", actions={"state_delta": delta}))
    ours, report = await imported(store, tmp_path)
    assert report.others.copied == 2
    async with open_storage(ours) as storage:
        service = ScopedSessionService(storage)
        session = await service.get_session(ANN)
        assert session is not None
        assert session.state == {"step": 2, "list": [1.5, None], "app:sale": True}
        assert await service.list_user_states(UserKey("shop", "bob")) == {"tier": 1}
        assert session.events[0].state_delta == delta
        (record,) = await storage.list({"type": "app_state"})
        assert record["updated_at"] == datetime(2024, 5, 15, 20, 0, 0, 500000, tzinfo=UTC)


async def test_an_events_own_time_counts_and_not_its_column(store: Path, tmp_path: Path) -> None:
    """The column was local time once, and orders the events nevertheless."""
    with database(store) as connection:
        add_event(connection, "s1", "e1", said("first", timestamp=1715803201.341213), "2024-05-15 16:00:01.341213")
        add_event(connection, "s1", "e2", said("second", timestamp=1715803200.000001), "2024-05-15 16:00:02.000000")
        add_event(connection, "s1", "e3", said("third"), "2024-05-15 20:00:00.000003")
    ours, _ = await imported(store, tmp_path)
    assert [(event["content"], event["timestamp"]) for event in await shown(ours)] == [
        ("first", "2024-05-15T20:00:01.341213+00:00"),
        ("second", "2024-05-15T20:00:00.000001+00:00"),
        ("third", "2024-05-15T20:00:00.000003+00:00"),
    ]


async def test_a_session_that_changed_before_it_was_made_keeps_both_times(store: Path, tmp_path: Path) -> None:
    """``update_time`` is the time of an event, and ``create_time`` that of the database."""
    with database(store) as connection:
        connection.execute(
            "UPDATE sessions SET create_time = '2026-01-01 00:00:00', update_time = '2024-05-15 20:00:00.000001'"
        )
    ours, report = await imported(store, tmp_path)
    assert report.ledger.verified == 1
    async with open_storage(ours) as storage:
        (record,) = await storage.list({"type": "session"})
    assert record["created_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert record["updated_at"] == datetime(2024, 5, 15, 20, 0, 0, 1, tzinfo=UTC)
    await copy_store(ours, f"adk+sqlite:///{tmp_path}/back.db")
    times = "create_time, update_time, id"
    assert rows(tmp_path / "back.db", "sessions", times) == rows(store, "sessions", times)


@pytest.mark.parametrize(("order", "expected"), [("shown", "abmz"), ("appended", "zamb")])
async def test_events_of_one_moment_come_as_adk_shows_them_or_as_they_were_appended(
    store: Path, tmp_path: Path, order: str, expected: str
) -> None:
    with database(store) as connection:
        for id in "zamb":
            add_event(connection, "s1", id, said(id, timestamp=5))
    ours = f"sqlite:///{tmp_path}/ours.db"
    await copy_store(f"adk+sqlite:///{store}?order={order}", ours)
    assert "".join(event["content"] for event in await shown(ours)) == expected
    back = tmp_path / "back.db"
    await copy_store(ours, f"adk+sqlite:///{back}")
    assert "".join(event["id"] for event in read_by_adk("adk-v1", back, ["shop"])["s1"]["events"]) == "abmz"


async def test_the_sqlite_service_shows_events_of_one_moment_as_they_were_appended(store: Path, tmp_path: Path) -> None:
    with database(store) as connection:
        for id in "zamb":
            add_event(connection, "s1", id, said(id, timestamp=5))
    ours = f"sqlite:///{tmp_path}/ours.db"
    await copy_store(f"adk+sqlite:///{store}?order=appended", ours)
    await copy_store(ours, f"adk-sqlite+sqlite:///{tmp_path}/back.db")
    found = read_by_adk("adk-sqlite", tmp_path / "back.db", ["shop"])["s1"]["events"]
    assert [(event["id"], event["timestamp"]) for event in found] == [(id, 5) for id in "zamb"]


@pytest.mark.parametrize("order", ["", "time"])
async def test_another_order_is_refused(store: Path, tmp_path: Path, order: str) -> None:
    with pytest.raises(StorageConfigurationError, match="order"):
        await copy_store(f"adk+sqlite:///{store}?order={order}", f"sqlite:///{tmp_path}/ours.db")
    with pytest.raises(StorageConfigurationError, match="order"):
        await copy_store(f"adk+sqlite:///{store}", f"adk+sqlite:///{tmp_path}/other.db?order=appended")


async def test_new_events_stand_behind_those_there_whatever_their_times(tmp_path: Path) -> None:
    """Their own times stay; the column alone, by which ADK orders, is moved."""
    ours = f"sqlite:///{tmp_path}/ours.db"
    moments = [100.0, 50.0, 50.0, 100.0, None, 7.0]
    async with open_storage(ours) as storage:
        service = ScopedSessionService(storage)
        await service.create_session(ANN)
        for at, time in enumerate(moments):
            moment = None if time is None else datetime.fromtimestamp(time, UTC)
            await service.append_event(ANN, Event(role="user", content=str(at), timestamp=moment))
    for format in ("adk-v1", "adk-sqlite"):
        await copy_store(ours, f"{format}+sqlite:///{tmp_path}/{format}.db")
        events = read_by_adk(format, tmp_path / f"{format}.db", ["shop"])["s1"]["events"]
        assert [event["content"]["parts"][0]["text"] for event in events] == [*"012345"]
        told = [event["timestamp"] for event in events]
        assert told[:4] == moments[:4]
        assert told[5] == 7.0
        assert len({event["id"] for event in events}) == 6
        again = await copy_store(ours, f"{format}+sqlite:///{tmp_path}/{format}.db")
        assert again.ledger.equal == 1


# v0


@pytest.fixture
def v0(tmp_path: Path) -> Path:
    """A store of v0, written in New York: one session with two events."""
    path = tmp_path / "v0.db"
    with database(path, V0) as connection:
        add_session(connection, "s1", '{"step": 1}')
        add_v0_event(connection, "s1", "e1", "Hello", actions_of({"step": 1, "temp:secret": "hush"}))
        add_v0_event(connection, "s1", "e2", "Bye", actions_of({}), "2024-05-15 16:00:01.000002")
    return path


async def test_v0_is_read_in_the_zone_of_its_writer(v0: Path, tmp_path: Path) -> None:
    """Events were written in local time, and a SQLite file's sessions by the database, in UTC."""
    ours, _ = await imported(v0, tmp_path, source_timezone=NEW_YORK)
    assert [event["timestamp"] for event in await shown(ours)] == [
        "2024-05-15T20:00:00.000000+00:00",
        "2024-05-15T20:00:01.000002+00:00",
    ]
    async with open_storage(ours) as storage:
        (record,) = await storage.list({"type": "session"})
        assert record["created_at"] == datetime(2024, 5, 15, 20, 0, 0, 1, tzinfo=UTC)
        (raw,) = await storage.read(f"raw/{record['id']}")
    assert raw["body"]["value"]["source_timezone"] == NEW_YORK
    assert raw["body"]["format_version"] == "0"
    verified = await verify_stores(f"adk+sqlite:///{v0}", ours)
    assert (verified.equal, verified.compared) == (1, 1), "it remembers the zone"


async def test_v0_is_not_read_without_its_zone(v0: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageConfigurationError, match="source-timezone"):
        await imported(v0, tmp_path)
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        await storage.health_check()
    with pytest.raises(StorageConfigurationError, match="source-timezone"):
        await verify_stores(f"adk+sqlite:///{v0}", f"sqlite:///{tmp_path}/ours.db")
    facts = await inspect_place(v0)
    assert (facts.kind, facts.version, facts.sessions) == ("adk-v0", "0", 1)


def test_a_command_without_the_zone_is_a_usage_error(
    v0: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "copy", str(v0), f"sqlite:///{tmp_path}/ours.db").code == 1
    ran = run(capsys, "copy", str(v0), f"sqlite:///{tmp_path}/ours.db", "--source-timezone", NEW_YORK, "--json")
    assert (ran.code, ran.facts["ledger"]["copied"]) == (0, 1)


async def test_state_that_was_never_to_be_stored_is_dropped_and_told(v0: Path, tmp_path: Path) -> None:
    ours, report = await imported(v0, tmp_path, source_timezone=NEW_YORK)
    assert reasons(report) == {"s1": ("temp_state_dropped",)}
    assert [event["state_delta"] for event in await shown(ours)] == [{"step": 1}, None]
    async with open_storage(ours) as storage:
        (record,) = await storage.list({"type": "session"})
        entries = await storage.read(f"history/{record['id']}")
    assert "hush" not in repr(entries)
    kept = [entry["body"]["value"].get("actions_pickle") for entry in entries]
    assert kept == [None, b64encode(actions_of({})).decode()], "a pickle without secrets stays beside what it says"


async def test_events_whose_session_is_gone_are_told(v0: Path, tmp_path: Path) -> None:
    """Foreign keys are off in SQLite unless somebody turns them on."""
    with database(v0) as connection:
        add_v0_event(connection, "gone", "e9", "Lost", actions_of({}))
        add_v0_event(connection, "gone", "e8", "Lost", actions_of({}))
    _, report = await imported(v0, tmp_path, source_timezone=NEW_YORK)
    assert (report.ledger.copied, report.ledger.quarantined, report.exit_code) == (1, 1, 3)
    assert reasons(report)["gone"] == ("events_without_session",)


@pytest.mark.parametrize("case", ["os.system by REDUCE", "eval nested in the state", "truncated", "a bare function"])
async def test_a_pickle_that_is_no_data_is_quarantined_and_the_rest_copied(v0: Path, tmp_path: Path, case: str) -> None:
    with database(v0) as connection:
        add_session(connection, "s2")
        add_v0_event(connection, "s2", "e8", "Hello", actions_of({}))
        add_v0_event(connection, "s2", "e9", "Boo", HOSTILE[case])
    ours, report = await imported(v0, tmp_path, source_timezone=NEW_YORK)
    assert (report.ledger.copied, report.ledger.quarantined, report.exit_code) == (1, 1, 3)
    assert reasons(report)["s2"] == ("refused_pickle",), "a conversation with a gap would pass for a whole one"
    async with open_storage(ours) as storage:
        assert await storage.count({"type": "session"}) == 1


async def test_v0_is_never_written(v0: Path, tmp_path: Path) -> None:
    ours, _ = await imported(v0, tmp_path, source_timezone=NEW_YORK)
    with pytest.raises(StorageUnsupportedError, match="only read"):
        await copy_store(ours, f"adk-v0+sqlite:///{tmp_path}/new.db")
    with pytest.raises(StorageUnsupportedError, match="only read"):
        await copy_store(ours, f"adk+sqlite:///{v0}")
    listed = {each.name: (each.reads, each.writes) for each in known_formats() if each.name.startswith("adk")}
    assert listed == {"adk-v1": (True, True), "adk-sqlite": (True, True), "adk-v0": (True, False)}


# damage


async def test_damage_is_kept_or_quarantined_with_a_reason(store: Path, tmp_path: Path) -> None:
    deep = "[" * 100_000
    with database(store) as connection:
        add_event(connection, "s1", "e1", '{"content": {"par', "2024-05-15 20:00:00.000001")
        add_event(connection, "s1", "e2", "[1]", "2024-05-15 20:00:00.000002")
        add_event(connection, "s1", "e3", f'{{"content": {deep}', "2024-05-15 20:00:00.000003")
        add_event(connection, "s1", "e4", said("Still here"), "2024-05-15 20:00:00.000004")
        add_event(connection, "s1", "e5", None, "2024-05-15 20:00:00.000005")
        bad = b'{"a": "\xff"}'
        insert = "INSERT INTO events VALUES ('e6', 'shop', 'ann', 's1', 'i1', 'no time', CAST(? AS TEXT))"
        connection.execute(insert, (bad,))
        for id, state in {"torn": '{"a"', "list": "[1]", "deep": '{"a":' + deep, "latin": bad}.items():
            insert = "INSERT INTO sessions VALUES ('shop', 'ann', ?, CAST(? AS TEXT), '2024-05-15', '2024-05-15')"
            connection.execute(insert, (id, state))
        add_session(connection, "null", "null")
        add_session(connection, "large", json.dumps({"a": "x" * (16 << 20)}))
        connection.execute("INSERT INTO app_states VALUES ('shop', '{', '2024-05-15 20:00:00')")
    ours, report = await imported(store, tmp_path)
    assert (report.ledger.copied, report.ledger.quarantined, report.exit_code) == (2, 5, 3)
    told = reasons(report)
    assert {id: told[id] for id in ("torn", "list", "deep", "latin", "large", "shop")} == {
        "torn": ("invalid_json",),
        "list": ("invalid_shape",),
        "deep": ("nesting_too_deep",),
        "latin": ("encoding",),
        "large": ("too_large",),
        "shop": ("invalid_json",),
    }
    assert {*told["s1"]} == {"event_invalid_json", "event_invalid_shape", "event_nesting_too_deep", "event_encoding"}
    assert [event["content"] for event in await shown(ours)] == ["Still here"]
    back = tmp_path / "back.db"
    await copy_store(ours, f"adk+sqlite:///{back}")
    columns = "id, timestamp, CAST(event_data AS BLOB), typeof(event_data)"
    assert rows(back, "events", columns) == rows(store, "events", columns), "what is torn goes back torn"


async def test_a_blob_that_is_no_json_goes_back_to_the_octet(store: Path, tmp_path: Path) -> None:
    torn = b'{"a": "\xff"}'
    with database(store) as connection:
        add_event(connection, "s1", "e1", said("Hello"), "2024-05-15 20:00:00.000001")
        add_event(connection, "s1", "e2", None, "2024-05-15 20:00:00.000002")
        connection.execute("UPDATE events SET event_data = ? WHERE id = 'e2'", (torn,))
    ours, report = await imported(store, tmp_path)
    assert reasons(report)["s1"] == ("event_encoding",)
    assert [event["content"] for event in await shown(ours)] == ["Hello"]
    await copy_store(ours, f"adk+sqlite:///{tmp_path}/back.db")
    columns = "id, invocation_id, CAST(event_data AS BLOB)"
    assert ("e2", "i1", torn) in rows(tmp_path / "back.db", "events", columns)


@pytest.mark.parametrize("id", ["a:b/c", "{x}", "\U0001f600", "x" * 255, " padded ", "~tilde", "a'b\"c", "%s?"])
async def test_odd_names_survive(store: Path, tmp_path: Path, id: str) -> None:
    with database(store) as connection:
        add_session(connection, id, app=id, user=id)
        add_event(connection, id, id, said("Hello"), app=id, user=id)
    ours, _ = await imported(store, tmp_path)
    key = SessionKey(id, id, id)
    assert [(event["id"], event["content"]) for event in await shown(ours, key)] == [(id, "Hello")]
    for format in ("adk-v1", "adk-sqlite"):
        await copy_store(ours, f"{format}+sqlite:///{tmp_path}/{format}.db")
        found = read_by_adk(format, tmp_path / f"{format}.db", [id])
        assert [(session["user_id"], session["events"][0]["id"]) for session in found.values()] == [(id, id)]


@pytest.mark.parametrize("id", ["", "a\0b", " ", "x" * 1001])
async def test_names_that_name_nothing_are_quarantined(store: Path, tmp_path: Path, id: str) -> None:
    with database(store) as connection:
        add_session(connection, id)
    _, report = await imported(store, tmp_path)
    assert (report.ledger.copied, report.ledger.quarantined) == (1, 1)
    assert reasons(report)[id] == ("invalid_session_id",)


# which store it is


async def test_a_later_schema_is_refused(store: Path, tmp_path: Path) -> None:
    with database(store) as connection:
        connection.execute("UPDATE adk_internal_metadata SET value = '2'")
    with pytest.raises(StorageConfigurationError, match="'2'"):
        await imported(store, tmp_path)


async def test_tables_of_another_program_are_left_alone(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with database(other, "CREATE TABLE sessions (session_id TEXT PRIMARY KEY)"):
        pass
    ours, _ = await imported(store, tmp_path)
    with pytest.raises(StorageConfigurationError, match="sessions"):
        await copy_store(ours, f"adk+sqlite:///{other}")
    with pytest.raises(StorageConfigurationError, match="adk-v1"):
        await copy_store(ours, f"adk-sqlite+sqlite:///{store}")
    with pytest.raises(StorageConfigurationError, match="no tables"):
        await copy_store(f"adk+sqlite:///{other}", ours)


async def test_what_others_wrote_is_a_conflict(store: Path, tmp_path: Path) -> None:
    ours, _ = await imported(store, tmp_path)
    back = tmp_path / "back.db"
    await copy_store(ours, f"adk+sqlite:///{back}")
    with database(back) as connection:
        connection.execute("""UPDATE sessions SET state = '{"other": 1}'""")
    report = await copy_store(ours, f"adk+sqlite:///{back}")
    assert (report.ledger.conflict, report.exit_code) == (1, 3)
    assert rows(back, "sessions", "state, id, user_id") == [('{"other": 1}', "s1", "ann")]
    await copy_store(ours, f"adk+sqlite:///{back}", overwrite_conflicts=True)
    assert rows(back, "sessions", "state, id, user_id") == [("{}", "s1", "ann")]


# whatever others wrote


ODD_EVENTS: dict[str, dict[str, Any]] = {
    "no role": {"role": "", "content": "x"},
    "parts of its own": {"role": "user", "content": [{"text": "a"}, {"text": "b", "thought": True}]},
    "a picture": {"role": "user", "content": [{"inline_data": {"mime_type": "image/png", "data": "AAAA"}}]},
    "a file": {"role": "user", "content": [{"file_data": {"file_uri": "gs://x", "mime_type": "text/plain"}}]},
    "parts that are none": {"role": "user", "content": [{"text": 5}, {"inline_data": "x"}, {}, 7, None]},
    "a picture that is none": {"role": "user", "content": [{"inline_data": {"data": "not base64!"}}]},
    "parts of others": {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url"}]},
    "content as an object": {"role": "assistant", "content": {"a": [1, 2.5, None]}},
    "content as a number": {"role": "assistant", "content": 7},
    "a result as an object": {"role": "tool", "tool_call_id": "c1", "name": "f", "content": {"a": 1}},
    "a result as a list": {"role": "tool", "tool_call_id": "c1", "content": [1]},
    "a result that looks wrapped": {"role": "tool", "tool_call_id": "c1", "content": '{"result": "x"}'},
    "a result spelled otherwise": {"role": "tool", "tool_call_id": "c1", "content": '{"b":1,"a":2}'},
    "no result": {"role": "tool", "tool_call_id": "c1", "content": None},
    "arguments that are none": {"role": "assistant", "tool_calls": [{"id": "c", "function": {"arguments": "{x"}}]},
    "arguments as a list": {"role": "assistant", "tool_calls": [{"id": "c", "name": "f", "args": [1]}]},
    "arguments spelled otherwise": {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
    },
    "calls that are none": {"role": "assistant", "content": "x", "tool_calls": [None, {"id": "c", "name": "f"}]},
    "counts of others": {"role": "assistant", "content": "x", "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    "counts that are none": {"role": "assistant", "content": "x", "usage": {"prompt_token_count": "many"}},
    "fields of ADK's in other types": {"role": "user", "content": "x", "branch": 5, "error_code": [], "partial": True},
    "fields of their own": {"role": "user", "content": "x", "mood": {"a": [True]}, "node_info": 5, "actions": "none"},
    "a delta": {"role": "assistant", "content": None, "state_delta": {"a": {"b": None}, "user:x": 1}},
    "NUL and others": {"role": "user", "content": "a\0b\u2028\U0001f600", "name": "\x01"},
    "a status": {"role": "assistant", "content": "x", "status": "interrupted"},
    "another status": {"role": "assistant", "content": "x", "status": "error", "error_code": "SAFETY"},
    "no number": {"role": "user", "content": "x", "weight": [float("nan"), float("inf")]},
    "a large number": {"role": "user", "content": "x", "count": 2**200},
}


async def test_whatever_an_event_holds_adk_reads_its_session_and_we_read_all_of_it(tmp_path: Path) -> None:
    ours = f"sqlite:///{tmp_path}/ours.db"
    async with open_storage(ours) as storage:
        service, events = ScopedSessionService(storage), SessionStorageAdapter(storage).events
        for name, event in ODD_EVENTS.items():
            key = SessionKey("shop", "ann", name)
            await service.create_session(key)
            await events.append(key, {**event, "role": event["role"] or "unknown"})
    for format in ("adk-v1", "adk-sqlite"):
        back = tmp_path / f"{format}.db"
        report = await copy_store(ours, f"{format}+sqlite:///{back}")
        assert report.ledger.verified == len(ODD_EVENTS), [*report.items]
        found = read_by_adk(format, back, ["shop"])
        assert {id: len(session["events"]) for id, session in found.items()} == dict.fromkeys(ODD_EVENTS, 1)
        again = f"sqlite:///{tmp_path}/{format}-again.db"
        await copy_store(f"adk+sqlite:///{back}", again)
        for name, event in ODD_EVENTS.items():
            (read,) = await shown(again, SessionKey("shop", "ann", name))
            kept = {key: read[key] for key in event if key != "role"}
            assert equal(kept, {key: value for key, value in event.items() if key != "role"}), name


async def test_what_adk_could_not_read_again_is_quarantined(tmp_path: Path) -> None:
    """One such value, and it shows nothing of the session, or can add nothing to its state."""
    ours = f"sqlite:///{tmp_path}/ours.db"
    async with open_storage(ours) as storage:
        service = ScopedSessionService(storage)
        await service.create_session(SessionKey("shop", "ann", "surrogate"))
        await service.append_event(SessionKey("shop", "ann", "surrogate"), Event(role="user", content="\ud800"))
        await service.create_session(SessionKey("shop", "ann", "infinite"), {"weight": float("inf")})
        await service.create_session(SessionKey("shop", "ann", "good"), {"text": "NaN \\u0000 \0"})
    report = await copy_store(ours, f"adk-sqlite+sqlite:///{tmp_path}/sqlite.db")
    assert {item.id for item in report.items if item.outcome == "quarantined"} == {"surrogate", "infinite"}
    report = await copy_store(ours, f"adk-v1+sqlite:///{tmp_path}/v1.db")
    assert {item.id for item in report.items if item.outcome == "quarantined"} == {"surrogate"}
    for format, file in (("adk-sqlite", "sqlite.db"), ("adk-v1", "v1.db")):
        assert read_by_adk(format, tmp_path / file, ["shop"], appends=True)["good"]["state"]["appended"] is True


async def test_one_store_becomes_another_at_once(v0: Path, tmp_path: Path) -> None:
    """Without a store of ours between them."""
    report = await copy_store(f"adk+sqlite:///{v0}", f"adk+sqlite:///{tmp_path}/v1.db", source_timezone=NEW_YORK)
    assert (report.ledger.verified, report.exit_code) == (1, 0)
    (session,) = read_by_adk("adk-v1", tmp_path / "v1.db", ["shop"]).values()
    assert [event["timestamp"] for event in session["events"]] == [1715803200.0, 1715803201.000002]
    assert session["events"][0]["actions"]["state_delta"] == {"step": 1}
