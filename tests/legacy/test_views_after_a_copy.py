"""Sessions of every form show the same through every view before and after a copy to another store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from session_adapter import (
    Event,
    ScopedSessionService,
    SessionKey,
    SessionRepository,
    SessionStorageAdapter,
    Summaries,
    UserKey,
)
from session_adapter.identity import SessionId
from tests.legacy.test_copy import copied, counts
from tests.places import ON_DISK, Place, engines, place_on
from tests.session_adapter.documents import SAMPLE_FORMATS, sample
from tests.session_adapter.summary_models import Told
from unified_storage import IUnifiedStorage, open_storage

KEY = SessionKey("shop", "ann", "s1")
ALL: tuple[SessionId, ...] = (*SAMPLE_FORMATS, KEY)
RUN = {"run_id": "r1", "messages": [{"id": "m1", "role": "user", "content": "Tea?"}], "metrics": {"total_tokens": 5}}


@pytest.fixture(params=engines(*ON_DISK))
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_on(request.param, tmp_path) as found:
        yield found


async def fill(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    service = ScopedSessionService(storage)
    for name in SAMPLE_FORMATS:
        await sessions.save_session(name, sample(name))
    await service.create_session(KEY, state={"cart": [], "logo": b"\x00\xff", "user:lang": "de", "app:currency": "EUR"})
    for session in ALL:
        await sessions.events.append(session, {"id": "e1", "role": "user", "content": "Hello", "run_id": "r0"})
        await sessions.runs.append(session, RUN)
        await Summaries(storage).update(session, Told())
    await service.append_event(KEY, Event(role="assistant", content="Here", state_delta={"cart": ["tea"]}))


async def shown(storage: IUnifiedStorage) -> dict[SessionId, Any]:
    """What every view says of every session, but for when it changed last, which is of each store."""
    sessions, typed = SessionStorageAdapter(storage), SessionRepository(storage)
    found: dict[SessionId, Any] = {}
    for session in ALL:
        document = await sessions.get_session(session)
        assert document is not None
        document["metadata"].pop("updated_at", None)
        read = (await typed.get(session)).model_dump(exclude={"updated_at"})
        read.get("metadata", {}).pop("updated_at", None)
        events, runs = await sessions.events.read(session), await sessions.runs.read(session)
        window = await Summaries(storage).window(session)
        found[session] = (document, read, events, runs, window, await Summaries(storage).get(session))
    service = ScopedSessionService(storage)
    scoped = await service.get_session(KEY, event_num=2, turn_safe=True)
    assert scoped is not None
    listed = await service.list_sessions(UserKey("shop", "ann"))
    found["scoped"] = (scoped.state, scoped.events, [each.session_id for each in listed.items])
    return found


@pytest.mark.parametrize("by_archive", [False, True])
async def test_every_view_shows_the_same_after_a_copy(place: Place, tmp_path: Path, by_archive: bool) -> None:
    async with place.open() as storage:
        await fill(storage)
        before = await shown(storage)
    source, target = place.address, f"sqlite:///{tmp_path}/copy.db"
    if by_archive:
        await copied(source, f"jsonl://{tmp_path}/all.jsonl")
        source = f"jsonl://{tmp_path}/all.jsonl"
    facts = await copied(source, target)
    assert counts(facts, "read", "copied") == (len(ALL), len(ALL))
    async with open_storage(target) as storage:
        assert await shown(storage) == before
        model = Told()
        for session in ALL:
            await SessionStorageAdapter(storage).events.append(session, {"role": "user", "content": "Later"})
            await Summaries(storage).update(session, model)
    assert all("Said since then:\n" in text and "Tea?" not in text for text in model.texts), "no more than is new"
    assert len(model.texts) == len(ALL)


async def test_runs_of_a_copy_are_replaced_and_not_repeated(place: Place, tmp_path: Path) -> None:
    async with place.open() as storage:
        await fill(storage)
    target = f"sqlite:///{tmp_path}/copy.db"
    await copied(place.address, target)
    grown = {**RUN, "messages": [*RUN["messages"], {"id": "m2", "role": "assistant", "content": "Here"}]}
    async with open_storage(target) as storage:
        typed = SessionRepository(storage)
        for session in ALL:
            held = await typed.get(session)
            held.add_run(grown)
            await typed.update(held)
            assert [run.run_id for run in (await typed.get(session)).runs].count("r1") == 1
            said = [event["content"] for event in await SessionStorageAdapter(storage).events.read(session)]
            assert said.count("Tea?") == said.count("Here") - (1 if session == KEY else 0) == 1
