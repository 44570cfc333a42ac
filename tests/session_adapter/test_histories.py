"""Histories: random runs by two callers against the plain reference, and what a save costs."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from session_adapter import SessionStorageAdapter
from session_adapter.formats import BARE, CANONICAL, Format
from tests.session_adapter.plain_reference import LISTED, Element, Reference, document, element
from unified_storage import DELETE, IUnifiedStorage, StorageConflictError
from unified_storage.values import encode


def without_times(session: dict[str, Any]) -> dict[str, Any]:
    """A session as it was saved, without the two times that a view shows."""
    metadata = {key: value for key, value in session["metadata"].items() if key not in ("created_at", "updated_at")}
    bare = {key: value for key, value in session.items() if key != "metadata"}
    return bare | {"metadata": metadata} if metadata else bare


class Caller:
    """Somebody who holds a session as it was when read or saved last, and the version that it had."""

    def __init__(self) -> None:
        self.elements: list[Element] = []
        self.version = 0
        self.reference_version = 0


class Run:
    """One random run on one session: every step is done to it and to the reference, and then they are compared."""

    def __init__(self, sessions: SessionStorageAdapter, session_id: str, seed: int) -> None:
        self.sessions, self.id = sessions, session_id
        self.random = random.Random(seed)
        self.reference = Reference()
        self.callers = [Caller(), Caller()]
        self.format: Format = self.random.choice([*LISTED, CANONICAL, BARE])
        self.changes_format = self.random.random() < 0.2
        self.used = 0

    async def go(self, steps: int) -> None:
        for _ in range(steps):
            caller = self.random.choice(self.callers)
            step = self.random.choice(
                [self.save, self.save, self.save, self.update, self.append, self.append, self.pop]
            )
            if self.reference.format is None:
                step = self.save
            elif self.random.random() < 0.4:
                await self.look(caller)
            await step(caller)
            await self.compare()

    def fresh(self) -> str:
        self.used += 1
        # Equal messages occur: short answers, the same question again.
        return f"{self.used}" if self.random.random() < 0.8 else "ok"

    async def look(self, caller: Caller) -> None:
        found = await self.sessions.get_session(self.id, with_version=True)
        assert found is not None
        caller.version = found[1]
        caller.reference_version = self.reference.version
        caller.elements = self.reference.elements()  # compared with what was found, after every step

    def edited(self, elements: list[Element], format: Format) -> list[Element]:
        listed = list(elements)
        new = [element(format, self.fresh()) for _ in range(self.random.randint(1, 3))]
        match self.random.choice(
            ["equal", "longer", "longer", "shorter", "edited", "last", "inserted", "cut", "other"]
        ):
            case "longer":
                return listed + new
            case "shorter":
                return listed[: max(0, len(listed) - self.random.randint(1, 3))]
            case "edited" if listed:
                listed[self.random.randrange(len(listed))] = new[0]
            case "last" if listed:
                return [*listed[:-1], *new]
            case "inserted":
                place = self.random.randint(0, len(listed))
                listed[place:place] = new
            case "cut" if listed:
                del listed[self.random.randrange(len(listed))]
            case "other":
                return new
        return listed

    async def save(self, caller: Caller) -> None:
        if self.changes_format and self.random.random() < 0.3:
            self.format = self.random.choice([*LISTED, CANONICAL, BARE])
        note = self.fresh()
        listed = self.edited(caller.elements, self.format) if self.format in LISTED else []
        expected = (caller.version, caller.reference_version) if self.random.random() < 0.3 else (None, None)
        saved = document(self.format, listed, note)
        text = encode(saved)
        done = await self.both(
            lambda: self.sessions.save_session(self.id, saved, expected_version=expected[0]),
            lambda: self.reference.save(self.format, listed, note, expected[1]),
        )
        assert encode(saved) == text
        if done:
            caller.elements = listed  # as a caller does who does not look again

    async def update(self, caller: Caller) -> None:
        format = self.reference.format
        assert format is not None
        note = self.fresh()
        listed = self.reference.elements()
        updates = document(format, listed, note)
        if format in LISTED and self.random.random() < 0.6:
            listed = self.edited(caller.elements, format)
            updates = document(format, listed, note)
            await self.sessions.update_session(self.id, updates)
            self.reference.save(format, listed, note)
            return
        if format in LISTED:
            path = format.history_path
            assert path is not None
            holder = updates if len(path) == 1 else updates[path[0]]
            del holder[path[-1]]
        await self.sessions.update_session(self.id, updates | {"passing": DELETE})
        self.reference.note = note
        self.reference.version += 1

    async def append(self, caller: Caller) -> None:
        self.used += 1
        event = {"role": "assistant", "content": f"event {self.used}"}
        if self.random.random() < 0.5:
            event["id"] = f"e{self.used}"
        expected = (caller.version, caller.reference_version) if self.random.random() < 0.2 else (None, None)
        await self.both(
            lambda: self.sessions.events.append(self.id, event, expected_version=expected[0]),
            lambda: self.reference.append(event, expected[1]),
        )

    async def pop(self, caller: Caller) -> None:
        withdrawn = await self.sessions.events.pop(self.id)
        assert (withdrawn and withdrawn["content"]) == self.reference.pop()

    async def both(self, real: Callable[[], Awaitable[object]], planned: Callable[[], None]) -> bool:
        """Do it on both sides: both refuse it, or none."""
        try:
            planned()
        except StorageConflictError:
            with pytest.raises(StorageConflictError):
                await real()
            return False
        await real()
        return True

    async def compare(self) -> None:
        found = await self.sessions.get_session(self.id)
        assert found is not None
        assert without_times(found) == self.reference.shown()
        shown = [event["content"] for event in await self.sessions.events.read(self.id)]
        assert shown == self.reference.contents()


async def test_random_histories_of_two_callers_are_those_of_the_plain_reference(
    storage: IUnifiedStorage, scaled: Callable[..., int]
) -> None:
    sessions = SessionStorageAdapter(storage)
    for seed in range(scaled(6000, minimum=60)):
        run = Run(sessions, f"s{seed}", seed)
        try:
            await run.go(12)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
