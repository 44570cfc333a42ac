"""One conversation, held by agents of openai-agents and of ADK by turns, on one storage."""

from __future__ import annotations

from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.events.event import Event
from google.adk.sessions.session import Session
from google.genai import types

from session_adapter import SessionKey, SessionStorageAdapter
from session_bridges.adk import UnifiedSessionService
from session_bridges.openai_agents import UnifiedSession
from tests.places import Place
from tests.session_bridges.adk_services import APP, ID, NAMED, USER, WHOSE
from tests.session_bridges.openai_talks import tool_calls, two_agents

CALL = {"type": "function_call", "call_id": "c1", "name": "price", "arguments": '{"of": "tea"}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "3 euros"}
TALK: list[Any] = [
    {"role": "user", "content": "How much is tea?"},
    {"role": "assistant", "content": "I look it up"},
    CALL,
    RESULT,
    {"role": "assistant", "content": "3 euros"},
]


def adk_event(author: str, *parts: types.Part) -> Event:
    role = "user" if author == "user" else "model"
    return Event(author=author, invocation_id="i1", content=types.Content(role=role, parts=[*parts]))


def adk_talk() -> list[Event]:
    call = types.FunctionCall(id="c1", name="price", args={"of": "tea"})
    response = types.FunctionResponse(id="c1", name="price", response={"result": "3 euros"})
    return [
        adk_event("user", types.Part(text="How much is tea?")),
        adk_event("clerk", types.Part(text="I look it up"), types.Part(function_call=call)),
        adk_event("clerk", types.Part(function_response=response)),
        adk_event("clerk", types.Part(text="3 euros")),
    ]


def texts(session: Session | None) -> list[str]:
    assert session is not None
    parts = [part for event in session.events if event.content for part in event.content.parts or []]
    return [part.text for part in parts if part.text]


async def loaded(service: UnifiedSessionService) -> Session:
    session = await service.get_session(**NAMED)
    assert session is not None
    return session


async def test_what_agents_of_adk_said_is_told_to_those_of_openai(place: Place):
    async with place.open() as storage:
        service = UnifiedSessionService(storage)
        session = await service.create_session(**NAMED, state={"lang": "de", "user:age": 30})
        for event in adk_talk():
            await service.append_event(session, event)
        items = await UnifiedSession(ID, storage, USER, APP).get_items()
        assert [item for item in items if item != items[3]] == [item for item in TALK if item != RESULT]
        assert items[3] == RESULT | {"output": items[3]["output"]}
        assert "3 euros" in items[3]["output"]


async def test_what_agents_of_openai_said_is_told_to_those_of_adk(place: Place):
    async with place.open() as storage:
        await UnifiedSession(ID, storage, USER, APP).add_items(TALK)
        session = await loaded(UnifiedSessionService(storage))
        assert texts(session) == ["How much is tea?", "I look it up", "3 euros"]
        [call] = session.events[1].get_function_calls()
        [response] = session.events[2].get_function_responses()
        assert (call.id, call.name, call.args) == ("c1", "price", {"of": "tea"})
        assert response.id == "c1"
        assert "3 euros" in str(response.response)
        assert session.events[0].author == "user"
        listed = await UnifiedSessionService(storage).list_sessions(**WHOSE)
        assert [one.id for one in listed.sessions] == [ID]


async def test_a_conversation_goes_on_by_turns(place: Place):
    async with place.open() as storage:
        service, items = UnifiedSessionService(storage), UnifiedSession(ID, storage, USER, APP)
        await service.create_session(**NAMED)
        said: list[str] = []
        for turn in range(3):
            await items.add_items(
                [{"role": "user", "content": f"q{turn}"}, {"role": "assistant", "content": f"a{turn}"}]
            )
            await service.append_event(await loaded(service), adk_event("user", types.Part(text=f"Q{turn}")))
            await service.append_event(await loaded(service), adk_event("clerk", types.Part(text=f"A{turn}")))
            said += [f"q{turn}", f"a{turn}", f"Q{turn}", f"A{turn}"]
        assert texts(await loaded(service)) == said
        assert [item["content"] for item in await items.get_items()] == said
        assert [item["content"] for item in await items.get_items(limit=3)] == said[-3:]
        recent = await SessionStorageAdapter(storage).events.read(SessionKey(APP, USER, ID), last=5)
        assert len(recent) == 5


async def test_what_came_from_the_other_stays_as_its_writer_had_it(place: Place):
    async with place.open() as storage:
        service, items = UnifiedSessionService(storage), UnifiedSession(ID, storage, USER, APP)
        session = await service.create_session(**NAMED, state={"lang": "de"})
        for event in adk_talk():
            await service.append_event(session, event)
        before = (await loaded(service)).events
        reasoning: Any = {"type": "reasoning", "id": "r1", "summary": [], "encrypted_content": "xyz"}
        await items.add_items([*TALK[:1], reasoning])
        assert (await items.get_items())[-2:] == [TALK[0], reasoning]
        assert await items.pop_item() == reasoning
        assert await items.pop_item() == TALK[0]
        after = await loaded(service)
        assert after.events == before
        assert after.state == {"lang": "de"}


async def test_real_agents_of_openai_go_on_with_a_talk_of_adk(place: Place):
    async with place.open() as storage:
        service = UnifiedSessionService(storage)
        session = await service.create_session(**NAMED)
        for event in adk_talk():
            await service.append_event(session, event)
        told = await tool_calls(lambda: UnifiedSession(ID, storage, USER, APP))
        assert [item.get("content") for item in told[0] if "role" in item] == [
            *("How much is tea?", "I look it up", "3 euros", "Tea or milk?")
        ]
        await two_agents(lambda: UnifiedSession(ID, storage, USER, APP))
        assert texts(await loaded(service))[-1] == "See?"


async def test_an_outdated_session_of_adk_is_told_what_openai_added(place: Place):

    async with place.open() as storage:
        service = UnifiedSessionService(storage)
        session = await service.create_session(**NAMED)
        await UnifiedSession(ID, storage, USER, APP).add_items(TALK)
        with pytest.raises(StaleSessionError):
            await service.append_event(session, adk_event("user", types.Part(text="Hi")))
        merging = UnifiedSessionService(storage, conflict="merge")
        await merging.append_event(session, adk_event("user", types.Part(text="Hi")))
        assert texts(await loaded(service))[-1] == "Hi"


async def test_a_plain_session_has_no_app_and_no_user_for_adk(place: Place):
    async with place.open() as storage:
        await UnifiedSession(ID, storage).add_items(TALK)
        assert await UnifiedSessionService(storage).get_session(**NAMED) is None
