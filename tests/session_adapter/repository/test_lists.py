"""Lists of typed sessions: order, filters, pages, and what they cost."""

from __future__ import annotations

import random
from typing import Any

import pytest

from session_adapter import InvalidSessionIdError, Run, Session, SessionKey, SessionRepository, UserIdRequiredError
from tests.places import Place
from tests.session_adapter.delegates import Spy
from unified_storage import IUnifiedStorage, StorageValidationError
from unified_storage.testing.clock import ManualClock

TOO_LONG = "x" * 1001
BAD_IDS = ["", " ", "\t\n", "a\x00b", "a\x1fb", "a\x7fb", "\ud800", TOO_LONG, "ä" * 501, None, 5, b"s1", ["s1"], True]


async def test_one_hundred_sessions_are_listed_last_changed_first(place: Place) -> None:
    """S0.16: the same on every backend, also of many of one moment."""
    clock = ManualClock()
    async with place.open(clock=clock) as storage:
        repository = SessionRepository(storage)
        numbers = [*range(100)]
        random.Random(7).shuffle(numbers)
        for at, number in enumerate(numbers):
            if at % 10 == 0:
                clock.advance(seconds=1)
            await repository.create(Session(session_id=f"s{number:02}", created_at=clock.now))
        expected = [f"s{n:02}" for start in range(90, -1, -10) for n in sorted(numbers[start : start + 10])]
        for _ in range(2):
            assert [session.session_id for session in await repository.list()] == expected
        assert [session.session_id for session in await repository.list(limit=25)] == expected[:25]
        assert await repository.list(limit=0) == []
        found: list[str] = []
        cursor = None
        while len(found) < 100:
            page = await repository.page(limit=30, cursor=cursor)
            items: list[Any] = page.items
            found += [session.session_id for session in items]
            cursor = page.next_cursor
        assert (found, cursor) == (expected, None)


@pytest.mark.parametrize(
    "filters",
    [
        {"agnt_id": "x"},
        {"name": "x"},
        {"status": "active"},
        {"metadata.user_id": "ann"},
        {"$or": [{"user_id": "ann"}]},
        {5: "x"},
        *({name: value} for name in ("agent_id", "user_id") for value in (5, None, True, b"x", ["x"], {"$ne": "x"})),
        {"user_id": "ann", "team_id": 1},
        [("user_id", "ann")],
        "user_id",
    ],
)
async def test_a_filter_that_means_nothing_is_refused(repository: SessionRepository, filters: Any) -> None:
    """S0.17, T0.5, T0.6: a mistyped filter never lists what it should have left out."""
    await repository.create(Session(session_id="s1", user_id="ann"))
    with pytest.raises(StorageValidationError):
        await repository.list(filters)
    with pytest.raises(StorageValidationError):
        await repository.page(filters)


@pytest.mark.parametrize("limit", [-1, 1.5, True, "2"])
async def test_a_limit_that_is_no_count_is_refused(repository: SessionRepository, limit: Any) -> None:
    with pytest.raises(StorageValidationError):
        await repository.list(limit=limit)


async def test_filters_are_combined(repository: SessionRepository) -> None:
    """S0.11, S0.17."""
    owners = ("agent_id", "user_id", "team_id", "workflow_id")
    for number in range(16):
        mine = {name: "me" for at, name in enumerate(owners) if number >> at & 1}
        await repository.create(Session.model_validate({"session_id": f"s{number:02}", **mine}))
    for number in range(16):
        filters = {name: "me" for at, name in enumerate(owners) if number >> at & 1}
        listed = {session.session_id for session in await repository.list(filters)}
        assert listed == {f"s{other:02}" for other in range(16) if other & number == number}


async def test_the_text_of_a_filter_means_itself_alone(repository: SessionRepository) -> None:
    for number, user in enumerate(["ann", "Ann", "ann ", "a%", "$ne", "5", ""]):
        await repository.create(Session(session_id=f"s{number}", user_id=user))
        assert [session.session_id for session in await repository.list_by_user(user)] == [f"s{number}"]


async def test_a_list_asks_no_question_a_session(storage: IUnifiedStorage) -> None:
    spy = Spy(storage)
    repository = SessionRepository(spy)
    for total in (5, 50):
        for number in range(total):
            await repository.create(Session(session_id=f"s{number}", agent_id="a", runs=[Run(run_id="r")]))
        spy.forget()
        assert len(await repository.list()) == total
        assert len(await repository.list({"agent_id": "a"}, limit=total - 1)) == total - 1
        assert len((await repository.page(limit=total - 1)).items) == total - 1
        assert spy.verbs == ["list", "read_many", "list", *["page", "read_many", "list"] * 2]


async def test_sessions_that_no_typed_view_wrote_are_listed_too(
    storage: IUnifiedStorage, repository: SessionRepository
) -> None:
    await storage.save({"id": "bare", "type": "session", "data": {"x": 1}})
    await storage.save({"id": "other", "type": "note", "data": {"session_id": "other"}})
    assert [(session.session_id, session.model_extra) for session in await repository.list()] == [("bare", {"x": 1})]


@pytest.mark.parametrize("bad", BAD_IDS, ids=repr)
async def test_what_cannot_name_a_session_is_refused_by_every_method(repository: SessionRepository, bad: Any) -> None:
    """S0.22."""
    session = Session(session_id="s1")
    session.session_id = bad
    calls = [repository.get(bad), repository.delete(bad), repository.create(session), repository.update(session)]
    for call in calls:
        with pytest.raises(InvalidSessionIdError):
            await call
    assert await repository.list() == []


async def test_a_key_without_its_user_is_refused(repository: SessionRepository) -> None:
    with pytest.raises(UserIdRequiredError):
        await repository.get(SessionKey("shop", "", "s1"))
