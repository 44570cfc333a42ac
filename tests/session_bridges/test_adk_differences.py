"""Where ADK's own services disagree, and what the bridge does: the table of its page, line by line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig
from google.adk.sessions.session import Session

from session_bridges.adk import UnifiedSessionService
from session_bridges.adk_revisions import Revision
from tests.places import Place, place_on
from tests.session_adapter.delegates import Spy
from tests.session_bridges.adk_services import APP, BRIDGES, NAMED, OWN, USER, WHOSE, changed, said, service_of, stored
from tests.unified_storage.postgresql.statements import noted
from unified_storage import open_storage
from unified_storage.errors import StorageCapacityError, StorageClosedError, StorageValidationError

pytestmark = pytest.mark.filterwarnings("default")  # what the framework is warned of is its own

NOON = 1_760_000_000.0
HERE = "here"


@pytest.fixture(params=[*OWN, *BRIDGES])
def which(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def service(which: str, tmp_path: Path) -> AsyncIterator[BaseSessionService]:
    async with service_of(which, tmp_path) as opened:
        yield opened


def expected(which: str, **answers: Any) -> Any:
    """The answer of ADK's service in memory, on SQLite or in a database; ``here`` is the bridge's."""
    return answers[which.removeprefix("adk-") if which in OWN else HERE]


async def test_events_of_one_time_or_of_an_earlier_one(service: BaseSessionService, which: str):
    session = await service.create_session(**NAMED)
    for id, time in (("z", NOON + 1), ("a", NOON + 1), ("m", NOON)):
        await service.append_event(session, said(id, id=id, time=time))
        session = await stored(service)
        session.last_update_time = NOON + 2  # the SQLite service goes by time alone
    found = [event.id for event in (await stored(service)).events]
    added, by_time, by_id = ["z", "a", "m"], ["m", "z", "a"], ["m", "a", "z"]
    assert found == expected(which, memory=added, sqlite=by_time, database=by_id, here=added)


async def test_blanks_around_an_id(service: BaseSessionService, which: str):
    padded = {**NAMED, "session_id": " s1 "}
    made = await service.create_session(**padded)
    assert made.id == expected(which, memory="s1", sqlite="s1", database=" s1 ", here=" s1 ")
    assert await service.get_session(**padded) is not None
    await service.delete_session(**padded)
    assert await service.get_session(**padded) is None


@pytest.mark.parametrize("blank", ["", "  "], ids=["empty", "blank"])
async def test_a_blank_id(service: BaseSessionService, which: str, blank: str):
    made = await service.create_session(**{**NAMED, "session_id": blank})
    is_made = bool(made.id.strip())
    assert is_made is expected(which, memory=True, sqlite=True, database=False, here=True)
    assert await service.get_session(**{**NAMED, "session_id": made.id}) is not None


async def test_a_stale_writer(service: BaseSessionService, which: str):
    mine = await service.create_session(**NAMED)
    await service.append_event(await stored(service), said("first"))
    assert await is_told(service, mine) is expected(which, memory=False, sqlite=True, database=True, here=True)


async def test_a_session_that_was_made_again(service: BaseSessionService, which: str):
    mine = await service.create_session(**NAMED)
    await service.append_event(mine, said("old"))
    await service.delete_session(**NAMED)
    await service.create_session(**NAMED)
    assert await is_told(service, mine) is expected(which, memory=False, sqlite=True, database=True, here=True)


async def is_told(service: BaseSessionService, session: Any) -> bool:
    try:
        await service.append_event(session, said("new"))
    except StaleSessionError:
        return True
    return False


async def test_an_event_that_is_stored_already(service: BaseSessionService, which: str):
    session = await service.create_session(**NAMED)
    event = changed({"a": 1, "user:b": 1})
    await service.append_event(session, event)
    await service.append_event(session, changed({"a": 2, "user:b": 2}, id="later"))
    again = service.append_event(await stored(service), event.model_copy(deep=True))
    if expected(which, memory=True, sqlite=False, database=False, here=True):
        await again
    else:
        with pytest.raises(Exception, match="UNIQUE"):
            await again
    found = await stored(service)
    assert [one.id for one in found.events] == [event.id, "later"]
    assert found.state == {"a": 2, "user:b": 2}


class Odd:
    """Something that has no form in JSON."""

    def __repr__(self) -> str:
        return "an odd thing"


async def test_a_value_without_a_form_in_json(service: BaseSessionService, which: str):
    session = await service.create_session(**NAMED, state={"odd": (odd := Odd())})
    told = expected(which, memory=odd, sqlite="an odd thing", database="an odd thing", here="an odd thing")
    kept = (await stored(service)).state["odd"]
    assert type(kept) is type(told)
    await service.append_event(session, changed({"user:odd": Odd(), "b": 1}))
    found = await stored(service)
    assert found.state["b"] == 1
    assert repr(found.state["user:odd"]).strip("'") == "an odd thing"


# of the bridge alone


@pytest.mark.parametrize("wrong", ["a\nb", "x" * 1_001], ids=["control", "long"])
async def test_names_that_cannot_be_stored(place: Place, wrong: str):
    async with UnifiedSessionService(place.address) as bridge:
        for name in NAMED:
            named = {**NAMED, name: wrong}
            with pytest.raises(StorageValidationError):
                await bridge.create_session(**named)
            assert await bridge.get_session(**named) is None
            await bridge.delete_session(**named)
        assert (await bridge.list_sessions(app_name=wrong, user_id=USER)).sessions == []
        assert (await bridge.list_sessions(app_name=wrong)).sessions == []
        assert (await bridge.list_sessions(app_name=APP, user_id=wrong)).sessions == []
        assert await bridge.get_user_state(app_name=APP, user_id=wrong) == {}


async def test_exact_values_come_back_exactly(place: Place):
    state = {"big": 2**200, "tiny": 5e-324, "sum": 0.1 + 0.2, "zero": -0.0, "text": "\0 ä \U0001f375", "": [[], {}]}
    async with UnifiedSessionService(place.address) as bridge:
        session = await bridge.create_session(**NAMED, state=state)
        await bridge.append_event(session, changed({f"user:{key}": value for key, value in state.items()}))
        found = await stored(bridge)
        assert found.state == state | {f"user:{key}": value for key, value in state.items()}
        assert str(found.state["zero"]) == "-0.0"


async def test_what_is_too_large_is_refused_and_changes_nothing(place: Place):
    async with UnifiedSessionService(place.address) as bridge:
        session = await bridge.create_session(**NAMED)
        with pytest.raises(StorageCapacityError):
            await bridge.append_event(session, said("x" * (16 << 20), a=1))
        await bridge.append_event(session, said("small"))
        assert len((await stored(bridge)).events) == len(session.events) == 1


async def test_a_service_closes_the_storage_that_it_opened_and_no_other(place: Place):
    async with place.open() as storage:
        async with UnifiedSessionService(storage) as bridge:
            await bridge.create_session(**NAMED)
        assert await storage.count({"type": "session"}) == 1
    bridge = UnifiedSessionService(place.address)
    await bridge.create_session(**WHOSE)
    await bridge.close()
    with pytest.raises(StorageClosedError):
        await bridge.create_session(**WHOSE)


async def test_sessions_may_expire_and_what_is_added_lets_them_live_on(place: Place):
    async with UnifiedSessionService(place.address, session_ttl=3600) as bridge:
        session = await bridge.create_session(**NAMED)
        for at in range(4):
            await bridge.append_event(session, said(f"m{at}") if at % 2 else changed({"a": at}))
        assert len((await stored(bridge)).events) == 4


class Reader(Spy):
    """Counts the entries of several logs too."""

    async def read_many(
        self, log_ids: Iterable[str], *, last: int | None = None, limit: int | None = None
    ) -> dict[str, list[dict[str, Any]]]:
        found = await super().read_many(log_ids, last=last, limit=limit)
        self._add("read", sum(map(len, found.values())))
        return found


async def test_what_is_read_and_written_does_not_grow_with_the_history():
    """An event alone is one append; a list reads one entry of each session; a part of a history reads that part."""
    spy = Reader(open_storage("memory://"))
    bridge = UnifiedSessionService(spy)
    session = await bridge.create_session(**NAMED)
    for at in range(300):
        spy.forget()
        await bridge.append_event(session, said(f"m{at}"))
        assert spy.verbs == ["append"]
    for number, read in ((0, 1), (5, 5), (20, 20)):
        spy.forget()
        await stored(bridge, config=GetSessionConfig(num_recent_events=number))
        assert (spy.verbs, spy.numbers["read"]) == (["list", "read"], read)
    for at in range(2, 12):
        await bridge.create_session(**WHOSE, session_id=f"s{at}")
    spy.forget()
    assert len((await bridge.list_sessions(**WHOSE)).sessions) == 11
    assert (spy.verbs, spy.numbers["read"]) == (["page", "list", "read_many"], 1)
    await bridge.delete_session(**NAMED)
    spy.forget()
    assert len((await bridge.list_sessions(**WHOSE)).sessions) == 10
    assert spy.verbs == ["page", "list"]  # none of them was ever changed


@pytest.mark.servers
@pytest.mark.parametrize("conflict", ["error", "merge"])
async def test_an_event_alone_is_one_statement_on_postgresql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conflict: Any
):
    async with place_on("postgresql", tmp_path) as place, place.open() as storage:
        bridge = UnifiedSessionService(storage, conflict=conflict)
        session = await bridge.create_session(**NAMED)
        sent = noted(monkeypatch)
        for at in range(5):
            await bridge.append_event(session, said(f"m{at}"))
        assert sent == ["owner"] * 5


def test_what_a_session_object_has_seen_is_written_on_it_as_text():
    session = Session(id="s", app_name="a", user_id="u")
    assert Revision.seen_by(session) is None
    for revision in (Revision(3, 7, True), Revision(1, 0, False), Revision(9, None, True)):
        revision.mark(session)
        assert Revision.seen_by(session) == revision
        assert Revision.seen_by(session.model_copy(deep=True)) == revision
    for foreign in ("2026-01-01T00:00:00.000000", "unified:1", ""):
        session._storage_update_marker = foreign
        assert Revision.seen_by(session) is None
