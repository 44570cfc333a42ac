"""Stores of Google ADK that are large, or whose columns hold less: read in flat memory, refused by name."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from legacy.stores.parcels import Item
from legacy.stores.peers import adk_rows
from legacy.stores.peers.adk_places import EventPlaces
from legacy.stores.peers.adk_writing import Writing
from legacy.stores.peers.kinds import AppKey, PeerSession, PeerState, PeerStore, Unit
from legacy.stores.peers.pickled import read_pickle
from legacy.stores.peers.registry import open_to_read, opening_of
from legacy.stores.peers.rows import Rows, open_rows
from session_adapter.formats.adk import ADK_V1, by_value
from session_adapter.identity import SessionKey
from tests.legacy.peers.adk_stores import V0, V1, actions_of, add_event, add_session, add_v0_event, database, said
from tests.support import scaled
from unified_storage.errors import StorageValidationError

EVENTS = 4


def filled(path: Path, sessions: int, *, is_v0: bool = False) -> Path:
    """A store of that many sessions, each with a few events; ids of events are those of other sessions too."""
    actions = actions_of({"step": 1})
    with database(path, V0 if is_v0 else V1) as connection:
        for at in range(sessions):
            add_session(connection, f"s{at:06d}", json.dumps({"at": at}), user=f"u{at % 7}")
            for number in range(EVENTS):
                time = f"2024-05-15 20:00:00.00000{number}"
                if is_v0:
                    add_v0_event(connection, f"s{at:06d}", f"e{number}", "x" * 300, actions, time)
                else:
                    add_event(connection, f"s{at:06d}", f"e{number}", said("x" * 300), time, user=f"u{at % 7}")
        if is_v0:
            connection.execute("UPDATE sessions SET user_id = 'ann'")
    return path


async def opened(path: Path) -> PeerStore:
    return await open_to_read(opening_of(f"adk+sqlite:///{path}"), "UTC")


async def units_of(store: PeerStore) -> list[Unit]:
    return [unit async for units in store.units() for unit in units if isinstance(unit, Unit)]


@pytest.mark.parametrize("sessions", [scaled(1000), scaled(50_000)])
async def test_reading_takes_the_same_memory_for_any_number_of_sessions(tmp_path: Path, sessions: int) -> None:
    store = await opened(filled(tmp_path / "adk.db", sessions))
    found = events = 0
    tracemalloc.start()
    try:
        async for units in store.units():
            for at in range(0, len(units), 50):
                read = await store.read([unit for unit in units[at : at + 50] if isinstance(unit, Unit)])
                found += len(read)
                events += sum(len(one.document["events"]) for one in read if isinstance(one, PeerSession))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await store.close()
    assert (found, events) == (sessions, sessions * EVENTS)
    assert peak < 6 << 20


@pytest.mark.parametrize("is_v0", [True, False])
async def test_a_session_costs_the_same_among_many(tmp_path: Path, is_v0: bool) -> None:
    """Neither had an index by session, for years: the copy that is read is given one."""
    steps = [await _steps(filled(tmp_path / f"{count}.db", count, is_v0=is_v0)) for count in (50, 1000)]
    assert steps[1] < 2 * steps[0]


async def _steps(path: Path) -> int:
    """About how many steps SQLite takes to read ten sessions, in tens."""
    store: Any = await opened(path)
    units = (await units_of(store))[:10]
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    store._rows._connection.set_progress_handler(count, 10)
    found = await store.read(units)
    await store.close()
    assert [len(one.document["events"]) for one in found] == [EVENTS] * 10
    return steps


async def test_pickles_that_are_alike_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most events change nothing, and their pickles are the same to the byte."""
    read: list[bytes] = []

    def noted(content: bytes) -> Any:
        read.append(content)
        return read_pickle(content)

    monkeypatch.setattr(adk_rows, "read_pickle", noted)
    adk_rows._read_again.cache_clear()
    store = await opened(filled(tmp_path / "adk.db", 50, is_v0=True))
    found = await store.read(await units_of(store))
    await store.close()
    rows = [row for one in found if isinstance(one, PeerSession) for row in one.document["events"]]
    assert [row["actions"]["state_delta"] for row in rows] == [{"step": 1}] * 50 * EVENTS
    assert read == [actions_of({"step": 1})]


class Asked(Rows):
    """A database that counts what it is asked, and says that it is a server."""

    engine = "postgresql"

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.asked: list[str] = []

    def stream(self, sql: str, *parameters: Any) -> Any:
        self.asked.append(sql)
        return self._rows.stream(sql, *parameters)

    async def tables(self) -> Any:
        return await self._rows.tables()

    async def execute(self, sql: str, rows: Any = ((),)) -> None:
        await self._rows.execute(sql, rows)

    def written(self) -> Any:
        return self._rows.written()

    async def close(self) -> None:
        await self._rows.close()


async def test_without_an_index_the_events_of_a_server_are_read_through_once(tmp_path: Path) -> None:
    """After that they are found by their ids, and those of others with such ids are none of a session's."""
    url = opening_of(f"adk+sqlite:///{filled(tmp_path / 'adk.db', 60)}")
    rows = Asked(await open_rows(url))
    places = EventPlaces(rows)
    wanted = [("shop", f"u{at % 7}", f"s{at:06d}") for at in range(10)]
    for _ in range(3):
        found = await places.events(wanted)
        mine = [row for row in found if (row["app_name"], row["user_id"], row["session_id"]) in wanted]
        assert len(mine) == 10 * EVENTS
        assert [row["timestamp"] for row in found] == sorted(row["timestamp"] for row in found)
    assert [sql for sql in rows.asked if "WHERE" not in sql] == ["SELECT app_name, user_id, session_id, id FROM events"]
    places.close()
    await rows.close()


# what the columns of servers hold


def session(**event: Any) -> PeerSession:
    row = {"id": "e1", "invocation_id": "i1", "timestamp": "2024-05-15 20:00:00", "event_data": {}} | event
    document: dict[str, Any] = {"state": {}, "create_time": None, "update_time": None, "events": [row]}
    return PeerSession(SessionKey("shop", "ann", "s1"), document)


@pytest.fixture
async def server(tmp_path: Path) -> Any:
    rows = Asked(await open_rows(opening_of(f"adk+sqlite:///{filled(tmp_path / 'adk.db', 1)}")))
    yield Writing(rows, ADK_V1)
    await rows.close()


@pytest.mark.parametrize(
    "event",
    [
        {"id": "x" * 129},
        {"id": "a\0b"},
        {"invocation_id": "x" * 257},
        {"event_data": "{torn"},
        {"event_data": b"\xff"},
        {"event_data": {"a": "a\0b"}},
        {"event_data": {"a": "\ud800"}},
        {"event_data": {"a": [float("nan")]}},
        {"event_data": {"a": float("-inf")}},
    ],
    ids=repr,
)
def test_what_a_servers_columns_do_not_hold_is_refused_by_name(server: Writing, event: dict[str, Any]) -> None:
    with pytest.raises(StorageValidationError) as raised:
        server.check(session(**event))
    assert raised.value.details["path"] == "events.0"


@pytest.mark.parametrize(
    "event",
    [
        {"id": "\U0001f600" * 128},
        {"invocation_id": "x" * 256},
        {"event_data": None},
        {"event_data": {"a": "\\u0000 NaN Infinity \\ud800 \U0001f600", "NaN": "\\\\u0000"}},
    ],
    ids=repr,
)
def test_what_a_servers_columns_hold_is_taken(server: Writing, event: dict[str, Any]) -> None:
    server.check(session(**event))


@pytest.mark.parametrize(
    ("value", "spelled"),
    [(1.0, "1.0"), (1e22, "10000000000000000000000"), (1e300, "1" + "0" * 300), (-0.0, "0"), (1.5e-7, "0.00000015")],
)
def test_numbers_are_compared_by_value_where_jsonb_spells_them(value: float, spelled: str) -> None:
    assert by_value({"a": [value, True, "1.0", 2**70 + 1]}) == by_value(
        {"a": [json.loads(spelled), True, "1.0", 2**70 + 1]}
    )
    assert by_value(value) != by_value(json.loads(spelled) + 1)
    assert by_value({"a": True})["a"] is True


def test_keys_that_are_too_long_for_a_server_are_refused(server: Writing) -> None:
    server.check_key(("a" * 128, "b" * 128))
    with pytest.raises(StorageValidationError):
        server.check_key(("a", "b" * 129))


async def test_a_state_that_has_no_place_is_told_by_its_number(server: Writing) -> None:
    states = [PeerState(AppKey(name), {"a": value}) for name, value in (("a", 1), ("b", float("nan")))]
    with pytest.raises(StorageValidationError) as raised:
        server.check_states(states)
    assert raised.value.details == {"path": "state", "index": 1}


async def test_a_store_with_items_alone_is_read(tmp_path: Path) -> None:
    with database(tmp_path / "adk.db", V1) as connection:
        add_event(connection, "gone", "e1", said("Lost"))
    store = await opened(tmp_path / "adk.db")
    found = [one async for units in store.units() for one in units]
    await store.close()
    assert [(one.reasons, one.detail) for one in found if isinstance(one, Item)] == [
        (("events_without_session",), "1 events")
    ]
