"""Conversations as they really go: parallel calls, interrupts, lost results, ids used again, pieces of messages.

And what a model API says to a history, told without a line of the code under test.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]

FORMS = ("openai", "nameless", "anthropic", "adk", "adk-no-ids", "agno-gemini", "two-ids")
_TOOLS = ("look", "book", "pay")


# making


@dataclass
class Transcript:
    """A conversation in one form, made of chance.

    Attributes:
        again: how many of the ids have been used before.
        events: flat and numbered, as a session's history is read.
    """

    chance: random.Random
    form: str
    again: float = 0.3
    events: list[Event] = field(default_factory=list)
    texts: int = 0
    calls: int = 0

    def say(self, role: str, content: Any = None, **more: Any) -> None:
        self.events.append({"role": role, "content": content, "tool_calls": None, "tool_call_id": None} | more)

    def text(self) -> str:
        self.texts += 1
        return f"text {self.texts}"

    def turn(self) -> None:
        if self.chance.random() < 0.93:
            self.say("user", self.text())
        for _ in range(self.chance.choice((0, 1, 1, 2, 5))):
            self.step()
        if self.chance.random() < 0.8:
            self.say("assistant", self.text())

    def step(self) -> None:
        """Some calls at once, and what came back: all, some, none, late, twice, or of a call that was never made."""
        made = [self.call() for _ in range(self.chance.choice((1, 1, 2, 3)))]
        self.say_calls(made, self.text() if self.chance.random() < 0.4 else None)
        results = [call for call in made if self.chance.random() < 0.85]
        if self.chance.random() < 0.4:
            self.chance.shuffle(results)
        if results and self.chance.random() < 0.05:
            results.append(results[0])
        if self.chance.random() < 0.05:
            results.append((f"never-{self.calls}", self.chance.choice(_TOOLS)))
        at_once = len(results) if self.form in ("anthropic", "adk", "adk-no-ids", "agno-gemini") else 1
        while results:
            self.disturb()
            self.say_results(results[:at_once])
            results = results[at_once:]

    def disturb(self) -> None:
        what = self.chance.random()
        if what < 0.07:
            self.say("user", self.text())
        elif what < 0.1:
            self.say("system", self.text())
        elif what < 0.14:
            self.say("assistant", "te", partial=True)

    def call(self) -> tuple[str, str]:
        """(id, tool)."""
        again = self.calls > 3 and self.chance.random() < self.again
        self.calls += 1
        return f"c{self.chance.randrange(self.calls) if again else self.calls}", self.chance.choice(_TOOLS)

    def say_calls(self, made: Sequence[tuple[str, str]], text: str | None) -> None:
        made = list(dict(made).items())  # no API takes one id twice in one message
        if self.form in ("openai", "agno-gemini"):
            calls = [{"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}} for id, name in made]
            return self.say("assistant", text, tool_calls=calls)
        if self.form == "two-ids":
            calls = [{"id": f"fc_{id}", "call_id": id, "type": "function", "name": name} for id, name in made]
            return self.say("assistant", text, tool_calls=calls)
        if self.form == "nameless":
            calls = [{"name": name, "arguments": {}} for _, name in made]
            return self.say("assistant", text or "", tool_calls=calls)
        parts: list[Event] = [{"type": "text", "text": text}] if text else []
        if self.form == "anthropic":
            parts += [{"type": "tool_use", "id": id, "name": name, "input": {}} for id, name in made]
        else:
            parts += [{"function_call": self.named(id, name) | {"args": {}}} for id, name in made]
        return self.say("assistant", parts)

    def say_results(self, results: Sequence[tuple[str, str]]) -> None:
        answer = self.text()
        if self.form in ("openai", "two-ids"):
            return self.say("tool", answer, tool_call_id=results[0][0], name=results[0][1])
        if self.form == "nameless":
            return self.say("tool", answer, name=results[0][1])
        if self.form == "agno-gemini":
            return self.say("tool", [answer], tool_calls=[{"tool_call_id": id, "tool_name": n} for id, n in results])
        if self.form == "anthropic":
            parts: list[Event] = [{"type": "tool_result", "tool_use_id": id, "content": answer} for id, _ in results]
            if self.chance.random() < 0.1:
                parts.append({"type": "text", "text": self.text()})
            return self.say("user", parts)
        answers = [self.named(id, name) | {"response": {"r": answer}} for id, name in results]
        return self.say("tool", [{"function_response": one} for one in answers])

    def named(self, id: str, name: str) -> Event:
        return {"name": name} if self.form == "adk-no-ids" else {"id": id, "name": name}


def transcript(seed: int, form: str | None = None, *, again: float = 0.3) -> list[Event]:
    """The events of one conversation, the same for the same seed."""
    chance = random.Random(seed)
    made = Transcript(chance, form or chance.choice(FORMS), again)
    if chance.random() < 0.15:
        made.say(chance.choice(("assistant", "system", "tool")), made.text())
    for _ in range(chance.choice((0, 1, 2, 3, 5))):
        made.turn()
    numbers = ({"seq": seq, "index": 0, "id": None, "run_id": None} for seq in range(1, len(made.events) + 1))
    return [event | number for event, number in zip(made.events, numbers, strict=True)]


# judging


def fault(window: Sequence[Event]) -> str | None:
    """What a model API would have against *window*; None when it takes it."""
    if window and (window[0]["role"] != "user" or not speaks(window[0])):
        return "it begins with no word of the user"
    waiting: Counter[str] = Counter()
    for at, event in enumerate(window):
        if event.get("partial"):
            return f"{at} is a piece of a message"
        if event["role"] == "user" and (
            event["tool_calls"] or any(part.get("type") == "tool_use" for part in parts_of(event))
        ):
            return f"{at} has a call of the user"
        brought = Counter(results_of(event))
        if brought - waiting:
            return f"{at} has a result that nothing right before it asks for"
        waiting -= brought
        if waiting and not brought:
            return f"{at} stands where results of {dict(waiting)} have to be"
        if waiting and speaks(event):
            return f"{at} speaks before the results are there"
        waiting += Counter(calls_of(event))
        if event["role"] == "assistant" and not speaks(event) and not calls_of(event):
            return f"{at} says nothing"
    return f"no results of {dict(waiting)}" if waiting else None


def speaks(event: Event) -> bool:
    """Whether *event* has text of its own, beside calls and results."""
    if event["role"] == "tool":
        return False
    content = event["content"]
    if isinstance(content, list):
        return any(part.get("type") == "text" for part in content)
    return bool(content)


def calls_of(event: Event) -> list[str]:
    if event["role"] != "assistant":
        return []
    told = [call.get("call_id") or call.get("id") or call.get("name") for call in event["tool_calls"] or []]
    for part in parts_of(event):
        inner = part if part.get("type") == "tool_use" else part.get("function_call")
        told += [inner.get("id") or inner["name"]] if inner else []
    return [f"{name}" for name in told]


def results_of(event: Event) -> list[str]:
    told = [part["tool_use_id"] for part in parts_of(event) if part.get("type") == "tool_result"]
    answers = [part["function_response"] for part in parts_of(event) if "function_response" in part]
    told += [answer.get("id") or answer["name"] for answer in answers]
    if event["role"] == "tool" and not told:
        listed = [one["tool_call_id"] for one in event["tool_calls"] or []]
        told = listed or [event["tool_call_id"] or event.get("name")]
    return [f"{name}" for name in told]


def parts_of(event: Event) -> list[Event]:
    content = event["content"] if isinstance(event["content"], list) else []
    return [part for part in content if isinstance(part, dict)]


def begins_turn(event: Event) -> bool:
    return event["role"] == "user" and speaks(event) and not event.get("partial")


def turn_at(events: Sequence[Event], cut: int) -> range:
    """Where the turn that *cut* lies in begins and ends; before the first turn, from *cut* to there."""
    begins = [at for at, event in enumerate(events) if begins_turn(event)]
    start = max((at for at in begins if at <= cut), default=cut)
    return range(start, min((at for at in begins if at > cut), default=len(events)))


def texts_in(events: Iterable[Event]) -> list[str]:
    """What users and assistants said, in its order; results and pieces left out."""
    said: list[str] = []
    for event in events:
        if event["role"] in ("user", "assistant") and not event.get("partial"):
            content = event["content"]
            parts = [part.get("text") for part in parts_of(event)] if isinstance(content, list) else [content]
            said += [text for text in parts if text]
    return said
