"""Generated sequences of operations: the library's times, and nothing shared between callers and the store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_adapter import Run, Session, SessionAlreadyExistsError, SessionNotFoundError, SessionRepository
from session_adapter import SessionStorageAdapter as Adapter
from tests.places import Place
from unified_storage import IUnifiedStorage, open_storage
from unified_storage.layers import Cache
from unified_storage.testing.clock import ManualClock

FORGED = [datetime(1999, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC), None]
IDS = ("a", "b")


class Story:
    """Does operations on two sessions, and after each looks whether the times are what they should be."""

    def __init__(self, storage: IUnifiedStorage, clock: ManualClock) -> None:
        self.storage, self.clock = storage, clock
        self.repository = SessionRepository(storage)
        self.held: dict[str, Session] = {}
        self.times: dict[str, tuple[datetime, datetime]] = {}

    async def do(self, name: str, session_id: str, number: int) -> None:
        forged = FORGED[number % len(FORGED)]
        act: Callable[[str, datetime | None], Awaitable[None]] = getattr(self, name)
        before = self.times.get(session_id)
        refusal = SessionAlreadyExistsError if before else SessionNotFoundError
        with suppress(refusal):
            await act(session_id, forged)
        await self.check(session_id, before, changes=name not in ("get", "create_strictly"))
        self.clock.advance(microseconds=(number - 3) * 400_000)

    async def check(self, session_id: str, before: tuple[datetime, datetime] | None, *, changes: bool) -> None:
        record = await self.storage.load(session_id, type="session")
        if record is None:
            self.times.pop(session_id, None)
            return
        now = (record["created_at"], record["updated_at"])
        assert now[0] <= now[1]
        if before is not None:
            assert now[0] == before[0]
            assert now[1] > before[1] if changes else now == before
        shown = await self.repository.get(session_id)
        assert (shown.created_at, shown.updated_at) == now
        self.times[session_id] = now

    def fresh(self, session_id: str, forged: datetime | None) -> Session:
        times = {} if forged is None else {"created_at": forged, "updated_at": forged}
        return Session.model_validate({"session_id": session_id, **times})

    async def keep(self, session: Session) -> None:
        self.held[session.session_id] = session

    # the operations

    async def create(self, session_id: str, forged: datetime | None) -> None:
        before = session_id in self.times
        stored = await self.repository.create(self.fresh(session_id, forged))
        early = forged is not None and forged <= self.clock.now
        assert before or stored.created_at == (forged if early else self.clock.now)
        await self.keep(stored)

    async def create_strictly(self, session_id: str, forged: datetime | None) -> None:
        await self.keep(await self.repository.create(self.fresh(session_id, forged), if_exists="error"))

    async def get(self, session_id: str, forged: datetime | None) -> None:
        await self.keep(await self.repository.get(session_id))

    async def update(self, session_id: str, forged: datetime | None) -> None:
        session = self.held.get(session_id) or self.fresh(session_id, forged)
        if forged is not None:
            session.created_at = session.updated_at = forged
        await self.keep(await self.repository.update(session))

    async def add_run(self, session_id: str, forged: datetime | None) -> None:
        session = await self.repository.get(session_id)
        session.add_run({"status": "completed"})
        await self.repository.update(session)

    async def append_event(self, session_id: str, forged: datetime | None) -> None:
        await Adapter(self.storage).events.append(session_id, {"role": "user", "content": "hi", "run_id": "r"})

    async def merge(self, session_id: str, forged: datetime | None) -> None:
        await Adapter(self.storage).update_session(session_id, {"state": {"a": 1}})

    async def delete(self, session_id: str, forged: datetime | None) -> None:
        await self.repository.delete(session_id)


OPERATIONS = ("create", "create_strictly", "get", "update", "update", "add_run", "append_event", "merge", "delete")
STEPS = st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(IDS), st.integers(0, 8))


async def tell(storage: IUnifiedStorage, clock: ManualClock, steps: list[tuple[str, str, int]]) -> None:
    story = Story(storage, clock)
    for name, session_id, number in steps:
        await story.do(name, session_id, number)


@given(st.lists(STEPS, max_size=25))
def test_times_move_forward_only_whatever_happens(steps: list[tuple[str, str, int]]) -> None:
    """S0.14, S0.25, T0.4: also where the clock goes back, and whatever times a caller writes into a session."""

    async def told() -> None:
        clock = ManualClock()
        async with open_storage("memory://", clock=clock) as storage:
            await tell(storage, clock, steps)

    asyncio.run(told())


async def test_times_move_forward_only_on_every_backend(place: Place) -> None:
    """S0.25."""
    dice, clock = random.Random(5), ManualClock()
    steps = [(dice.choice(OPERATIONS[:-1]), dice.choice(IDS), dice.randrange(9)) for _ in range(40)]
    async with place.open(clock=clock) as storage:
        await tell(storage, clock, [*steps, ("delete", "a", 0), ("create", "a", 4), ("add_run", "a", 1)])


# -- isolation -------------------------------------------------------------------------------------------------------

LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.binary(max_size=3)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
HOLDERS = st.dictionaries(st.text(min_size=1, max_size=3), TREES, max_size=3)


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    runs = [Run.model_validate({"run_id": str(at), "x": draw(HOLDERS)}) for at in range(draw(st.integers(0, 2)))]
    parts = {name: draw(HOLDERS) for name in ("metadata", "state", "agent_data", "further")}
    return Session.model_validate({"session_id": "s1", "runs": runs, **parts})


def spoil(value: Any) -> None:
    """Change every container in *value*."""
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            spoil(item)
        if isinstance(value, dict):
            value["spoilt"] = True
        else:
            value.append("spoilt")


def spoil_session(session: Session) -> None:
    for part in (session.metadata, session.state, session.agent_data, session.model_extra):
        spoil(part)
    for run in session.runs:
        spoil(run.model_extra)
        run.status = "spoilt"
    session.runs.append(Run(run_id="spoilt"))


async def check_isolation(storage: IUnifiedStorage, session: Session) -> None:
    repository = SessionRepository(storage)
    expected = session.model_copy(deep=True)
    for write in (repository.create, repository.update):
        stored = await write(session)
        found = await repository.get("s1")
        [listed] = await repository.list()
        assert stored == found == listed
        for handed in (stored, found, listed):
            spoil_session(handed)
        fresh = await repository.get("s1")
        for name in ("metadata", "state", "agent_data", "runs", "further"):
            assert getattr(fresh, name) == getattr(expected, name), name
    spoil_session(session)
    fresh = await repository.get("s1")
    assert (fresh.state, fresh.runs) == (expected.state, expected.runs)


@pytest.mark.parametrize("is_cached", [False, True])
@given(session=sessions())
def test_nothing_that_a_caller_holds_is_what_is_stored(session: Session, is_cached: bool) -> None:
    """S0.23, T0.1, T0.3: at every depth, in the memory backend and behind the cache."""

    async def checked() -> None:
        async with open_storage("memory://") as storage:
            await check_isolation(Cache(storage) if is_cached else storage, session)

    asyncio.run(checked())


async def test_nothing_that_a_caller_holds_is_what_is_stored_on_every_backend(storage: IUnifiedStorage) -> None:
    """S0.23."""
    deep: dict[str, Any] = {"a": [{"b": [[{"c": []}]]}]}
    session = Session.model_validate({"session_id": "s1", "state": deep, "metadata": deep, "further": deep})
    session.add_run({"run_id": "r", "x": {"y": [deep]}})
    await check_isolation(storage, session)


async def test_what_becomes_of_a_session_while_it_is_written_changes_nothing(storage: IUnifiedStorage) -> None:
    """S0.23: the copy is taken at the call."""
    repository = SessionRepository(storage)
    session = Session(session_id="s1", state={"a": []}, runs=[Run(run_id="r", messages=[{"role": "user"}])])
    for write in (repository.create, repository.update):
        writing = asyncio.ensure_future(write(session))
        await asyncio.sleep(0)
        session.state["a"].append(1)
        session.runs[0].messages.append({"role": "assistant"})
        await writing
        found = await repository.get("s1")
        assert (len(found.state["a"]), len(found.runs[0].messages)) == (
            len(session.state["a"]) - 1,
            len(session.runs[0].messages) - 1,
        )
