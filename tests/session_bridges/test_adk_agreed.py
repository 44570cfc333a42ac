"""What ADK documents and its own three services agree on: they pass the same tests as the bridge does here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions, EventCompaction
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig
from google.adk.tools.tool_confirmation import ToolConfirmation
from google.genai import types

from tests.session_bridges.adk_services import (
    APP,
    BRIDGES,
    ID,
    NAMED,
    OWN,
    USER,
    WHOSE,
    changed,
    near,
    said,
    service_of,
    stored,
    texts,
)

pytestmark = pytest.mark.filterwarnings("default")  # what the framework is warned of is its own

NOON = 1_760_000_000.25


@pytest.fixture(params=[*OWN, *BRIDGES])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BaseSessionService]:
    async with service_of(request.param, tmp_path) as opened:
        yield opened


# sessions


async def test_a_session_is_made_and_found(service: BaseSessionService):
    before = time.time()
    made = await service.create_session(**NAMED, state={"cart": ["tea"], "open": None})
    assert (made.app_name, made.user_id, made.id, made.events) == (APP, USER, ID, [])
    assert made.state == {"cart": ["tea"], "open": None}
    assert before - 1e-5 <= made.last_update_time <= time.time()
    found = await stored(service)
    assert found.model_dump() == made.model_dump() | {"last_update_time": near(made.last_update_time)}


async def test_ids_are_made_where_none_is_given(service: BaseSessionService):
    made = [await service.create_session(**WHOSE) for _ in range(3)]
    assert len({session.id for session in made}) == 3
    assert all(session.id for session in made)
    assert all([await service.get_session(**WHOSE, session_id=session.id) for session in made])


async def test_a_session_that_is_there_is_not_made_again(service: BaseSessionService):
    await service.append_event(await service.create_session(**NAMED, state={"a": 1}), said("Hello"))
    with pytest.raises(AlreadyExistsError):
        await service.create_session(**NAMED, state={"a": 2, "app:b": 1, "user:c": 1})
    assert (await stored(service)).state == {"a": 1}
    assert texts(await stored(service)) == ["Hello"]


async def test_the_same_id_is_another_session_for_another_user_or_app(service: BaseSessionService):
    others = [{"user_id": "bob"}, {"app_name": "bank"}, {"app_name": "bank", "user_id": "bob"}]
    for at, other in enumerate([{}, *others]):
        await service.create_session(**{**NAMED, **other}, state={"at": at})
    await service.append_event(await stored(service), said("Hello"))
    for at, other in enumerate([{}, *others]):
        found = await stored(service, **other)
        assert (found.state, texts(found)) == ({"at": at}, [] if at else ["Hello"])


async def test_what_is_not_there_is_none(service: BaseSessionService):
    assert await service.get_session(**NAMED) is None
    await service.create_session(**NAMED)
    for other in ({"session_id": "other"}, {"user_id": "bob"}, {"app_name": "bank"}):
        assert await service.get_session(**{**NAMED, **other}) is None


async def test_a_session_handed_out_is_a_copy(service: BaseSessionService):
    made = await service.create_session(**NAMED, state={"cart": ["tea"], "app:x": {"y": 1}})
    made.state["cart"].append("milk")
    made.state["app:x"]["y"] = 2
    made.events.append(said("never said"))
    found = await stored(service)
    found.state["cart"].append("milk")
    found.events.append(said("never said"))
    found = await stored(service)
    assert (found.state, found.events) == ({"cart": ["tea"], "app:x": {"y": 1}}, [])


async def test_a_deleted_session_is_gone_with_its_events(service: BaseSessionService):
    made = await service.create_session(**NAMED, state={"app:a": 1, "user:b": 2, "c": 3})
    await service.append_event(made, said("Hello"))
    await service.delete_session(**NAMED)
    assert await service.get_session(**NAMED) is None
    assert (await service.list_sessions(app_name=APP)).sessions == []
    await service.delete_session(**NAMED)  # not there: no error
    again = await service.create_session(**NAMED)
    assert (again.state, texts(await stored(service))) == ({"app:a": 1, "user:b": 2}, [])


# state


async def test_state_is_shared_by_level(service: BaseSessionService):
    mine = await service.create_session(**NAMED, state={"app:a": 1, "user:b": 2, "c": 3, "temp:d": 4})
    assert mine.state == {"app:a": 1, "user:b": 2, "c": 3}
    later = await service.create_session(**WHOSE, session_id="s2")
    assert later.state == {"app:a": 1, "user:b": 2}
    bobs = await service.create_session(app_name=APP, user_id="bob", session_id=ID)
    assert bobs.state == {"app:a": 1}
    await service.append_event(bobs, changed({"app:a": 5, "user:b": 6, "c": 7}))
    assert (await stored(service)).state == {"app:a": 5, "user:b": 2, "c": 3}
    assert (await stored(service, user_id="bob")).state == {"app:a": 5, "user:b": 6, "c": 7}
    assert (await service.create_session(app_name="bank", user_id=USER)).state == {}


async def test_a_delta_names_keys_and_replaces_their_values_whole(service: BaseSessionService):
    session = await service.create_session(**NAMED, state={"a": {"x": 1}, "b": 1, "user:u": {"x": 1}, "app:p": [1]})
    delta: dict[str, Any] = {
        "a": {"y": 2},
        "new": None,
        "user:u": {"y": 2},
        "app:p": {"q": []},
        "user:n": None,
        "": 0,
        "app:user:k": 1,
    }
    await service.append_event(session, changed(delta))
    assert session.state == {"b": 1, **delta}
    assert (await stored(service)).state == {"b": 1, **delta}


async def test_temporary_state_is_shown_by_the_session_object_alone(service: BaseSessionService):
    session = await service.create_session(**NAMED)
    event = await service.append_event(session, changed({"temp:a": 1, "b": 2}))
    assert session.state == {"temp:a": 1, "b": 2}
    assert event.actions.state_delta == {"b": 2}
    await service.append_event(session, changed({"temp:c": 3}))
    found = await stored(service)
    assert found.state == {"b": 2}
    assert [one.actions.state_delta for one in found.events] == [{"b": 2}, {}]
    assert session.state == {"temp:a": 1, "b": 2, "temp:c": 3}


async def test_the_state_of_a_user_is_told_without_a_session(service: BaseSessionService):
    assert await service.get_user_state(**WHOSE) == {}
    session = await service.create_session(**NAMED, state={"user:lang": "de", "app:a": 1, "b": 2})
    await service.append_event(session, changed({"user:seen": [1]}))
    assert await service.get_user_state(**WHOSE) == {"lang": "de", "seen": [1]}
    (await service.get_user_state(**WHOSE))["seen"].append(2)
    await service.delete_session(**NAMED)
    assert await service.get_user_state(**WHOSE) == {"lang": "de", "seen": [1]}
    assert await service.get_user_state(app_name=APP, user_id="bob") == {}


# events


async def test_an_event_is_added_to_what_is_stored_and_to_the_session_object(service: BaseSessionService):
    session = await service.create_session(**NAMED)
    for at, text in enumerate(("Hello", "Good morning", "Tea?")):
        event = said(text, author="user" if at != 1 else "waiter", time=NOON + at)
        assert await service.append_event(session, event) is event
        assert session.events[-1] is event
        assert session.last_update_time == event.timestamp
    found = await stored(service)
    assert found.events == session.events
    assert found.last_update_time == near(NOON + 2)


async def test_partial_events_are_handed_back_and_change_nothing(service: BaseSessionService):
    session = await service.create_session(**NAMED)
    before = session.model_dump()
    partial = said("Hel", time=NOON, a=1)
    partial.partial = True
    assert await service.append_event(session, partial) is partial
    assert session.model_dump() == before
    assert (await stored(service)).model_dump() == before | {"last_update_time": near(before["last_update_time"])}


async def test_no_event_is_added_where_no_session_is(service: BaseSessionService):
    session = await service.create_session(**NAMED)
    await service.delete_session(**NAMED)
    for event in (said("Hello"), changed({"a": 1, "user:b": 2, "app:c": 3})):
        with pytest.raises(SessionNotFoundError):
            await service.append_event(session, event)
    assert await service.get_session(**NAMED) is None
    assert await service.get_user_state(**WHOSE) == {}
    assert session.events == []


def everything() -> Event:
    """An event with something in every field that ADK's own code fills."""
    call = types.FunctionCall(id="c1", name="stock", args={"tea": "green", "tins": 2})
    response = types.FunctionResponse(id="c1", name="stock", response={"result": [1, None, {"a": "ä"}]})
    return Event(
        invocation_id="i9",
        author="waiter",
        timestamp=NOON,
        branch="root.waiter",
        content=types.Content(
            role="model",
            parts=[
                types.Part(text="thinking", thought=True, thought_signature=b"\x00\xff"),
                types.Part(function_call=call),
                types.Part(function_response=response),
                types.Part(inline_data=types.Blob(mime_type="image/png", data=b"\x89PNG\x00\xff")),
                types.Part(file_data=types.FileData(file_uri="gs://a/b", mime_type="text/plain")),
                types.Part(executable_code=types.ExecutableCode(code="1+1", language="PYTHON")),
            ],
        ),
        actions=EventActions(
            state_delta={"a": {"b": [1, 2.5, None, True]}},
            artifact_delta={"menu.pdf": 3},
            transfer_to_agent="cook",
            escalate=True,
            skip_summarization=True,
            requested_tool_confirmations={"c1": ToolConfirmation(hint="sure?", confirmed=False, payload={"x": 1})},
            compaction=EventCompaction(
                start_timestamp=1.5, end_timestamp=2.5, compacted_content=types.Content(role="model", parts=[])
            ),
            end_of_agent=True,
            agent_state={"step": 2},
            rewind_before_invocation_id="i3",
        ),
        long_running_tool_ids={"c1", "c2"},
        turn_complete=True,
        interrupted=False,
        error_code="OOPS",
        error_message="it went wrong",
        finish_reason=types.FinishReason.STOP,
        custom_metadata={"mine": {"deep": [1]}},
        usage_metadata=types.GenerateContentResponseUsageMetadata(prompt_token_count=3, total_token_count=9),
        grounding_metadata=types.GroundingMetadata(web_search_queries=["tea"]),
        output={"of": "a node"},
    )


async def test_an_event_comes_back_with_all_its_fields(service: BaseSessionService):
    session = await service.create_session(**NAMED)
    event = everything()
    await service.append_event(session, event)
    (found,) = (await stored(service)).events
    assert found == everything().model_copy(update={"id": event.id})


# parts of histories


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, range(6)),
        ({"num_recent_events": 2}, range(4, 6)),
        ({"num_recent_events": 6}, range(6)),
        ({"num_recent_events": 99}, range(6)),
        ({"num_recent_events": 0}, range(0)),
        ({"after_timestamp": NOON + 3}, range(3, 6)),
        ({"after_timestamp": NOON + 2.5}, range(3, 6)),
        ({"after_timestamp": NOON + 9}, range(0)),
        ({"after_timestamp": 0.0}, range(6)),
        ({"after_timestamp": NOON + 3, "num_recent_events": 2}, range(4, 6)),
        ({"after_timestamp": NOON + 3, "num_recent_events": 5}, range(3, 6)),
        ({"after_timestamp": NOON + 3, "num_recent_events": 0}, range(0)),
    ],
    ids=str,
)
async def test_a_part_of_the_history_is_handed_out(service: BaseSessionService, config: Any, expected: range):
    session = await service.create_session(**NAMED, state={"a": 1})
    for at in range(6):
        await service.append_event(session, said(f"m{at}", time=NOON + at))
    found = await stored(service, config=GetSessionConfig(**config))
    assert texts(found) == [f"m{at}" for at in expected]
    assert (found.state, found.last_update_time) == ({"a": 1}, near(NOON + 5))


async def test_a_part_of_no_history_is_none(service: BaseSessionService):
    made = await service.create_session(**NAMED)
    for config in ({"num_recent_events": 3}, {"after_timestamp": 1.0}, {"num_recent_events": 0}):
        found = await stored(service, config=GetSessionConfig(**config))
        assert (found.events, found.last_update_time) == ([], near(made.last_update_time))


# lists


async def test_the_session_updated_last_is_the_last_in_a_list(service: BaseSessionService):
    times = {"s1": 30, "s2": 10, "s3": 20}
    for id, at in times.items():
        session = await service.create_session(**WHOSE, session_id=id, state={"of": id, "user:u": 1, "app:p": 2})
        await service.append_event(session, said("x", time=NOON))
        await service.append_event(session, said("y", time=NOON + at))
    listed = (await service.list_sessions(**WHOSE)).sessions
    assert [session.id for session in listed] == ["s2", "s3", "s1"]
    assert [session.last_update_time for session in listed] == [near(NOON + at) for at in (10, 20, 30)]
    assert [session.state for session in listed] == [{"of": id, "user:u": 1, "app:p": 2} for id in ("s2", "s3", "s1")]
    assert all(session.events == [] for session in listed)
    assert all((session.app_name, session.user_id) == (APP, USER) for session in listed)


async def test_sessions_updated_at_the_same_time_stand_by_user_and_id(service: BaseSessionService):
    names = [("bob", "s1"), ("ann", "s2"), ("ann", "S3"), ("ann", "s1")]
    for user, id in names:
        session = await service.create_session(app_name=APP, user_id=user, session_id=id)
        await service.append_event(session, said("x", time=NOON))
    listed = (await service.list_sessions(app_name=APP)).sessions
    assert [(session.user_id, session.id) for session in listed] == sorted(names)


async def test_a_list_is_of_one_user_or_of_all_users_of_an_app(service: BaseSessionService):
    names = [(APP, "ann", "s1"), (APP, "bob", "s1"), (APP, "ann", "s2"), ("bank", "ann", "s1")]
    for app, user, id in names:
        await service.create_session(app_name=app, user_id=user, session_id=id, state={"user:who": user})

    async def listed(**whose: str) -> set[tuple[str, str, Any]]:
        sessions = (await service.list_sessions(**whose)).sessions
        return {(session.user_id, session.id, session.state.get("user:who")) for session in sessions}

    assert await listed(**WHOSE) == {("ann", "s1", "ann"), ("ann", "s2", "ann")}
    assert await listed(app_name=APP) == {("ann", "s1", "ann"), ("ann", "s2", "ann"), ("bob", "s1", "bob")}
    assert await listed(app_name="bank") == {("ann", "s1", "ann")}
    assert await listed(app_name=APP, user_id="eve") == set()
    assert await listed(app_name="nobody's") == set()


async def test_flushing_is_allowed_at_any_time(service: BaseSessionService):
    await service.flush()
    await service.append_event(await service.create_session(**NAMED), said("Hello"))
    await service.flush()
    assert texts(await stored(service)) == ["Hello"]
