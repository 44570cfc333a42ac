"""Sessions and events are shown without checking stored types again: they are what checking them would have made."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_adapter import (
    Event,
    ScopedSessionService,
    Session,
    SessionKey,
    SessionRepository,
    SessionStorageAdapter,
    UserKey,
)
from session_adapter.documents import Snapshot, record_of
from session_adapter.entries import FLAT, flat_events
from session_adapter.event_models import shown_event, shown_events
from session_adapter.typed import shown_session
from tests.session_adapter.documents import DOCUMENTS, LEAVES, SAMPLE_FORMATS, VALUES, sample
from unified_storage import IUnifiedStorage, StorageValidationError

NOW = datetime(2024, 5, 15, 20, 37, tzinfo=UTC)
PARTICIPANTS = ("app_name", "user_id", "agent_id", "team_id", "workflow_id", "kind", "name", "agent_data", "session_id")
MORE = st.dictionaries(st.sampled_from((*PARTICIPANTS, "events", "runs", "key", "copy", "model_config")), VALUES)


def record(document: dict[str, Any], key: str | SessionKey = "s1") -> dict[str, Any]:
    """As a storage hands it out."""
    stored = record_of(key, Snapshot.of(document).split(), {})
    return copy.deepcopy(stored) | {"version": 3, "created_at": NOW, "updated_at": NOW, "expires_at": None}


def checked(session: Session) -> Session:
    """What was given to *session*, as a model of it checks it."""
    further = session.model_extra or {}
    own = session.model_fields_set - further.keys()
    return Session.model_validate({**{name: getattr(session, name) for name in own}, **further})


def assert_is_as_checked(session: Session) -> None:
    expected = checked(session)
    assert session == expected
    assert session.model_fields_set == expected.model_fields_set
    assert session.model_extra == expected.model_extra
    assert {name: type(value) for name, value in session.__dict__.items()} == {
        name: type(value) for name, value in expected.__dict__.items()
    }
    assert list(session.__dict__) == list(Session.model_fields)
    assert session.model_dump_json() == expected.model_dump_json()
    for again in (copy.deepcopy(session), session.model_copy(deep=True), pickle.loads(pickle.dumps(session))):
        assert again == session
        assert again.key == session.key


@given(DOCUMENTS, MORE, st.sampled_from(["s1", SessionKey("shop", "ann", "s1")]))
def test_a_session_of_any_document_is_as_if_it_had_been_checked(
    document: dict[str, Any], more: dict[str, Any], key: str | SessionKey
) -> None:
    assert_is_as_checked(shown_session(record(document | more, key)))


@pytest.mark.parametrize("form", SAMPLE_FORMATS)
def test_a_session_of_every_form_is_as_if_it_had_been_checked(form: str) -> None:
    summary = {"content": "short", "run_count": 2, "created_at": "2024-05-15T20:37:00Z", "own": [1]}
    for document in (sample(form), sample(form) | {"summary": summary}, sample(form) | {"summary": {"text": 5}}):
        event = Event(seq=1, role="user", content="Hi")
        found = record(document)
        runs: list[dict[str, Any]] = [{"run_id": "a", "messages": [{"role": "user"}], "own": {}}, {"messages": 5}]
        session = shown_session(found, runs=runs, events=[event], levels={"app:fee": [5]})
        assert_is_as_checked(session)
        assert session.state["app:fee"] == [5]


FLAT_EVENTS = st.dictionaries(st.sampled_from((*FLAT, "own", "key")), VALUES | LEAVES | st.lists(VALUES, max_size=2))


@given(st.lists(FLAT_EVENTS | FLAT_EVENTS.map(lambda flat: {"role": "user", "content": flat}), max_size=4))
def test_events_together_are_as_each_for_itself(bodies: list[dict[str, Any]]) -> None:
    entries = [{"seq": seq, "key": None, "created_at": NOW, "body": body} for seq, body in enumerate(bodies, 1)]
    flats = [flat for entry in entries for flat in flat_events(entry, None)]
    before = copy.deepcopy(flats)
    found, expected = shown_events(flats), [shown_event(flat) for flat in flats]
    assert found == expected
    assert [event.model_fields_set for event in found] == [event.model_fields_set for event in expected]
    assert flats == before


async def test_a_key_that_no_text_can_have_is_not_shown_and_stays(storage: IUnifiedStorage) -> None:
    odd = {"session_id": "s1", "\ud800": 1, "grüße": 2}
    await SessionStorageAdapter(storage).save_session("s1", odd)
    repository = SessionRepository(storage)
    session = await repository.get("s1")
    assert session.model_extra == {"grüße": 2}
    session.name = "odd"
    await repository.update(session)
    stored = await storage.load("s1", type="session")
    assert stored is not None
    assert stored["data"] == odd | {"name": "odd"}


async def test_what_json_has_no_types_for_is_shown_and_compared_exactly(storage: IUnifiedStorage) -> None:
    repository = SessionRepository(storage)
    state = {
        "at": NOW,
        "day": date(2024, 5, 15),
        "cost": Decimal("1.10"),
        "raw": b"\x00",
        "pair": (1, -0.0),
        "few": {1},
    }
    await repository.create(Session(session_id="s1", state=state))
    mine, theirs = await repository.get("s1"), await repository.get("s1")
    assert mine.state == state
    theirs.state |= {"cost": Decimal("1.1"), "at": NOW.replace(hour=1), "few": {1, 2}}
    await repository.update(theirs)
    mine.state["pair"] = (1, 0.0)
    await repository.update(mine)
    found = (await repository.get("s1")).state
    assert found == theirs.state | {"pair": (1, 0.0)}
    assert (str(found["cost"]), str(found["pair"])) == ("1.1", "(1, 0.0)")


async def test_sessions_of_one_page_share_nothing_of_the_levels_above(storage: IUnifiedStorage) -> None:
    """S0.23."""
    service, user = ScopedSessionService(storage), UserKey("shop", "ann")
    for name in ("s1", "s2"):
        await service.create_session(SessionKey("shop", "ann", name), {"user:list": [1], "app:deep": {"a": [NOW]}})
    first, second = (await service.list_sessions(user)).items
    first.state["user:list"].append(2)
    first.state["app:deep"]["a"].clear()
    assert second.state == {"user:list": [1], "app:deep": {"a": [NOW]}}
    with pytest.raises(StorageValidationError) as raised:
        await SessionRepository(storage).update(first)
    assert raised.value.path in ("state.user:list", "state.app:deep")
    second.state["own"] = 1
    await SessionRepository(storage).update(second)
    assert (await service.list_user_states(user), await service.list_app_states("shop")) == (
        {"list": [1]},
        {"deep": {"a": [NOW]}},
    )
