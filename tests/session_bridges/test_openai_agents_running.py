"""Agents of openai-agents hold on our sessions the talks that they hold on the SDK's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agents.memory import SQLiteSession

from session_adapter import SessionStorageAdapter
from session_bridges.openai_agents import UnifiedSession
from tests.places import Place
from tests.session_bridges.openai_talks import TALKS, tool_calls


@pytest.mark.parametrize("talk", TALKS, ids=[talk.__name__ for talk in TALKS])
async def test_a_talk_is_the_same_as_on_a_session_of_the_sdk(talk: Any, place: Place, tmp_path: Path):
    theirs = SQLiteSession("s1", tmp_path / "theirs.db")
    told = await talk(lambda: theirs)
    async with place.open() as storage:
        assert await talk(lambda: UnifiedSession("s1", storage)) == told
        assert await UnifiedSession("s1", storage).get_items() == await theirs.get_items()
    theirs.close()


async def test_an_answer_with_calls_is_one_event_for_everybody_else(place: Place):
    async with place.open() as storage:
        await tool_calls(lambda: UnifiedSession("s1", storage))
        events = await SessionStorageAdapter(storage).events.read("s1")
        assert [(event["role"], event["content"]) for event in events] == [
            ("user", "Tea or milk?"),
            ("assistant", "I look it up"),
            ("tool", "tea: 3 euros"),
            ("tool", "milk: 4 euros"),
            ("assistant", "Tea is cheaper"),
            ("user", "Sure?"),
            ("assistant", "As I said"),
        ]
        assert [call["id"] for call in events[1]["tool_calls"]] == ["c0", "c1"]
        assert [event["tool_call_id"] for event in events[2:4]] == ["c0", "c1"]
        window = await SessionStorageAdapter(storage).events.read("s1", last=2, turn_safe=True)
        assert [event["content"] for event in window] == ["Sure?", "As I said"]
