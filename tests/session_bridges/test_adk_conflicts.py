"""Who adds an event to a session that others have changed since he loaded it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig
from google.adk.sessions.session import Session

from session_adapter import ScopedSessionService, SessionKey, SessionStorageAdapter
from session_bridges.adk import UnifiedSessionService
from tests.places import Place
from tests.session_bridges.adk_services import (
    APP,
    BRIDGES,
    CHECKING,
    ID,
    NAMED,
    USER,
    WHOSE,
    changed,
    said,
    service_of,
    stored,
    texts,
)
from unified_storage import open_storage
from unified_storage.errors import StorageConfigurationError
from unified_storage.layers.cache import Cache
from unified_storage.testing.faults import FaultyStorage

pytestmark = pytest.mark.filterwarnings("default")  # what the framework is warned of is its own

KEY = SessionKey(APP, USER, ID)
DELTAS: list[dict[str, Any]] = [
    {},
    {"a": 1},
    {"user:b": 1},
    {"app:c": 1},
    {"a": 2, "user:b": 2, "app:c": 2, "temp:d": 2},
    {"temp:d": 3},
]


@pytest.fixture(params=[*CHECKING, *BRIDGES])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BaseSessionService]:
    """The services that check, ADK's own among them."""
    async with service_of(request.param, tmp_path) as opened:
        yield opened


async def test_a_writer_that_has_not_seen_the_newest_event_is_told(service: BaseSessionService):
    await service.create_session(**NAMED)
    mine, other = await stored(service), await stored(service)
    await service.append_event(other, said("first"))
    with pytest.raises(StaleSessionError):
        await service.append_event(mine, said("second", a=1))
    assert (texts(mine), mine.state) == ([], {})
    assert (texts(await stored(service)), (await stored(service)).state) == (["first"], {})
    await service.append_event(await stored(service), said("second", a=1))
    assert (texts(await stored(service)), (await stored(service)).state) == (["first", "second"], {"a": 1})


async def test_the_writer_of_the_newest_event_goes_on_without_loading_again(service: BaseSessionService):
    session = await service.create_session(**NAMED)
    for at, delta in enumerate([*DELTAS, *DELTAS]):
        await service.append_event(session, said(f"m{at}", **delta))
    loaded = await stored(service)
    for at, delta in enumerate([*DELTAS, *DELTAS], 12):
        await service.append_event(loaded, said(f"m{at}", **delta))
    headless = await stored(service, config=GetSessionConfig(num_recent_events=0))
    for at, delta in enumerate(DELTAS, 24):
        await service.append_event(headless, said(f"m{at}", **delta))
    assert texts(await stored(service)) == [f"m{at}" for at in range(30)]
    assert (await stored(service)).state == {"a": 2, "user:b": 2, "app:c": 2}


async def test_the_states_of_user_and_app_make_nobody_stale(service: BaseSessionService):
    mine = await service.create_session(**NAMED)
    other = await service.create_session(**WHOSE, session_id="s2")
    await service.append_event(other, changed({"user:b": 1, "app:c": 1}))
    await service.append_event(mine, said("mine"))
    assert (await stored(service)).state == {"user:b": 1, "app:c": 1}


async def test_a_session_that_was_made_by_hand_is_checked_by_its_time_and_its_last_event(service: BaseSessionService):
    session = await service.create_session(**NAMED)
    await service.append_event(session, said("first", time=session.last_update_time + 1))
    by_hand = Session.model_validate_json(session.model_dump_json())
    await service.append_event(by_hand, said("second", time=session.last_update_time + 2))
    await service.append_event(by_hand, said("third", time=session.last_update_time + 3))
    behind = Session.model_validate_json(session.model_dump_json())
    with pytest.raises(StaleSessionError):
        await service.append_event(behind, said("fourth"))
    assert texts(await stored(service)) == ["first", "second", "third"]


# of the bridge alone


async def test_a_session_made_by_hand_is_up_to_date_where_it_ends_with_the_newest_event(place: Place):
    """As ``DatabaseSessionService`` has it: its time may be another clock's."""
    async with UnifiedSessionService(place.address) as service:
        empty = Session(id=ID, app_name=APP, user_id=USER)
        session = await service.create_session(**NAMED)
        await service.append_event(empty, said("first"))
        by_hand = Session(id=ID, app_name=APP, user_id=USER, events=[*empty.events])
        await service.append_event(by_hand, said("second"))
        for behind in (session, Session(id=ID, app_name=APP, user_id=USER, events=[*empty.events])):
            behind.events = by_hand.events[:1]
            with pytest.raises(StaleSessionError):
                await service.append_event(behind, said("third"))
        assert texts(await stored(service)) == ["first", "second"]


async def test_a_session_of_another_service_goes_on_here(place: Place, tmp_path: Path):
    async with service_of("adk-database", tmp_path) as theirs, UnifiedSessionService(place.address) as ours:
        session = await theirs.create_session(**NAMED)
        await ours.create_session(**NAMED)
        session.last_update_time += 60
        await ours.append_event(session, said("Hello"))
        assert texts(await stored(ours)) == ["Hello"]


async def test_with_merge_events_go_behind_those_that_were_not_seen(place: Place):
    async with UnifiedSessionService(place.address, conflict="merge") as service:
        mine = await service.create_session(**NAMED, state={"n": 0})
        others = [await stored(service) for _ in range(3)]
        for at, session in enumerate([*others, mine, *others]):
            await service.append_event(session, changed({f"k{at}": at, "n": at, "user:u": at}, id=f"m{at}"))
        found = await stored(service)
        assert [event.id for event in found.events] == [f"m{at}" for at in range(7)]
        assert found.state == {f"k{at}": at for at in range(7)} | {"n": 6, "user:u": 6}
        assert [event.id for event in mine.events] == ["m3"]
        by_hand = Session(id=ID, app_name=APP, user_id=USER)
        await service.append_event(by_hand, said("m7", k7=7))
        assert texts(await stored(service))[-1] == "m7"


async def test_changes_by_our_other_services_are_seen_too(place: Place):
    async with place.open() as storage:
        service = UnifiedSessionService(storage)
        changes = [
            ScopedSessionService(storage).append_event(KEY, {"role": "user", "content": "x"}),
            ScopedSessionService(storage).update_session_state(KEY, {"a": 1}),
            SessionStorageAdapter(storage).update_session(KEY, {"metadata": {"x": 1}}),
        ]
        await service.create_session(**NAMED)
        for change in changes:
            mine = await stored(service)
            await change
            with pytest.raises(StaleSessionError):
                await service.append_event(mine, said("unseen"))
        await service.append_event(await stored(service), said("seen"))
        assert texts(await stored(service)) == ["x", "seen"]


async def test_agents_that_share_a_session_object_take_turns(place: Place):
    """Parallel agents of one invocation add their events through one object."""
    async with UnifiedSessionService(place.address) as service:
        session = await service.create_session(**NAMED)
        events = [changed({f"k{at % 4}": at}) for at in range(24)]
        await asyncio.gather(*(service.append_event(session, event) for event in events))
        found = await stored(service)
        assert found.events == session.events
        assert {event.id for event in found.events} == {event.id for event in events}
        assert {key: value % 4 for key, value in found.state.items()} == {f"k{at}": at for at in range(4)}


@pytest.mark.parametrize("conflict", ["error", "merge"])
@pytest.mark.parametrize("delta", [{}, {"n": 1, "user:u": 1}], ids=["plain", "with-a-delta"])
async def test_an_event_of_which_nobody_knows_whether_it_was_stored_is_tried_again(
    place: Place, conflict: Any, delta: dict[str, Any]
):
    async with place.open() as storage:
        faulty = FaultyStorage(storage)
        service = UnifiedSessionService(faulty, conflict=conflict)
        session = await service.create_session(**NAMED)
        await service.append_event(session, said("first"))
        event = said("second", **delta)
        faulty.fail("append", ConnectionError("lost"), call=None, after=True)
        with pytest.raises(Exception, match="lost"):
            await service.append_event(session, event)
        faulty.heal()
        for _ in range(3):
            assert await service.append_event(session, event) is event
        await service.append_event(session, said("third"))
        assert texts(await stored(service)) == texts(session) == ["first", "second", "third"]
        assert (await stored(service)).state == delta


async def test_a_session_that_was_made_again_is_another_one(place: Place):
    async with UnifiedSessionService(place.address) as service:
        mine = await service.create_session(**NAMED)
        await service.append_event(mine, said("old"))
        await service.delete_session(**NAMED)
        await service.create_session(**NAMED)
        with pytest.raises(StaleSessionError):
            await service.append_event(mine, said("new"))
        assert texts(await stored(service)) == []


async def test_layers_may_stand_in_front_of_the_storage():
    async with Cache(open_storage("memory://")) as cached:
        service = UnifiedSessionService(cached)
        session = await service.create_session(**NAMED)
        for at in range(5):
            await service.append_event(session, said(f"m{at}", n=at))
            assert (await stored(service)).state == {"n": at}
        with pytest.raises(StaleSessionError):
            other = await stored(service)
            await service.append_event(session, said("x"))
            await service.append_event(other, said("y"))


def test_there_are_two_ways_to_meet_a_conflict():
    with pytest.raises(StorageConfigurationError, match="error or merge"):
        UnifiedSessionService("memory://", conflict="ignore")  # type: ignore[arg-type]  # what a caller may do
