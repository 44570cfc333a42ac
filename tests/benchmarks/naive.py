"""A system in memory for the tests of what measures: faultless, or with one fault."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from benchmarks.system import Event, Session, System


class Naive(System):
    name = "naive"
    engines = frozenset({"sqlite"})

    def __init__(self, *, loses: bool = False, refuses_every: int = 0, numbers_from: int = 1) -> None:
        super().__init__("sqlite", "")
        self._loses = loses
        self._refuses_every = refuses_every
        self._numbers_from = numbers_from
        self._writes = 0
        self._events: dict[str, list[Event]] = {}
        self._state: dict[str, dict[str, Any]] = {}

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def create(self, session: Session) -> None:
        self._events[session.id], self._state[session.id] = [], dict(session.state)

    async def load(self, id: str) -> dict[str, Any]:
        return self._state[id]

    async def append(self, id: str, event: Event) -> None:
        self._refuse()
        before = list(self._events[id])
        if self._loses:
            await asyncio.sleep(0)  # others write meanwhile
            self._events[id] = [*before, event]
        else:
            self._events[id].append(event)

    async def last(self, id: str, count: int) -> Sequence[Event]:
        return self._events[id][-count:]

    async def set_state(self, id: str, key: str, value: Any) -> None:
        self._refuse()
        before = dict(self._state[id])
        if self._loses:
            await asyncio.sleep(0)
            self._state[id] = {**before, key: value}
        else:
            self._state[id][key] = value

    async def state(self, id: str) -> dict[str, Any]:
        return self._state[id]

    async def keys(self, id: str) -> list[str]:
        return [event.key for event in self._events[id]]

    async def numbers(self, id: str) -> list[int]:
        return [*range(self._numbers_from, self._numbers_from + len(self._events[id]))]

    def _refuse(self) -> None:
        self._writes += 1
        if self._refuses_every and self._writes % self._refuses_every == 0:
            raise RuntimeError("busy")
