"""What the sessions of openai-agents agree on holds for ours: each promise is tried on theirs too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from agents.extensions.memory import AsyncSQLiteSession, EncryptedSession, RedisSession, SQLAlchemySession
from agents.memory import Session, SessionSettings, SQLiteSession

from session_adapter import SessionKey, SessionStorageAdapter
from session_bridges.openai_agents import UnifiedSession
from tests.engines import engine_url, fresh_namespace
from tests.places import Place, engines, place_on
from tests.session_bridges.conftest import ENGINES
from unified_storage.errors import StorageConfigurationError, StorageValidationError

Make = Callable[..., Any]

USER = {"role": "user", "content": "hello"}
CALLS = [
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at": 1}'},
    {"type": "function_call", "call_id": "c2", "name": "look", "arguments": '{"at": 2}'},
]
RESULTS = [{"type": "function_call_output", "call_id": call["call_id"], "output": "seen"} for call in CALLS]
ANSWER = {"role": "assistant", "content": "I will look"}
ODD = {
    "role": "user",
    "id": "msg_1",
    "content": [{"type": "input_text", "text": "ünïcode \U0001f600 \x00 \"'"}, {"n": [1, 2.5, None, True, {}]}],
    "$type": "bytes",
    "format": "x",
    "value": {"role": "user"},
}


def numbered(count: int, start: int = 0) -> list[Any]:
    return [{"role": "user", "content": f"message {number}"} for number in range(start, start + count)]


@pytest.fixture(
    params=[
        *(*engines("memory", "sqlite", "postgresql", "redis"), "SQLiteSession", "AsyncSQLiteSession"),
        *("SQLAlchemySession", pytest.param("RedisSession", marks=pytest.mark.servers)),
    ]
)
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes sessions that lie in one place: ours on each engine, and those that the framework brings."""
    if request.param in ENGINES:
        async with place_on(request.param, tmp_path) as place, place.open() as storage:
            yield lambda id="s1", **more: UnifiedSession(id, storage, **more)
        return
    made: list[Any] = []
    place_of_theirs = tmp_path if request.param != "RedisSession" else fresh_namespace("agents")

    def kept(id: str = "s1", **more: Any) -> Any:
        made.append(_theirs(request.param, place_of_theirs, id, **more))
        return made[-1]

    yield kept
    for session in made:
        await _closed(session)


def _theirs(kind: str, place: Any, id: str, **more: Any) -> Any:
    match kind:
        case "SQLiteSession":
            return SQLiteSession(id, place / "theirs.db", **more)
        case "AsyncSQLiteSession":
            return AsyncSQLiteSession(id, place / "theirs.db", **more)
        case "SQLAlchemySession":
            url = f"sqlite+aiosqlite:///{place}/theirs.db"
            return SQLAlchemySession.from_url(id, url=url, create_tables=True, **more)
        case _:
            return RedisSession.from_url(id, url=engine_url("redis"), key_prefix=place, **more)


async def _closed(session: Any) -> None:
    if isinstance(session, SQLAlchemySession):
        await session._engine.dispose()
    elif isinstance(session, SQLiteSession):
        session.close()
    else:
        await session.clear_session()  # which leaves nothing on a server
        await session.close()


@pytest.fixture
async def session(place: Place) -> AsyncIterator[UnifiedSession]:
    async with place.open() as storage:
        yield UnifiedSession("s1", storage)


# what all sessions of the framework agree on


async def test_a_session_is_one_of_the_protocol(make: Make):
    session = make()
    assert isinstance(session, Session)
    assert session.session_id == "s1"
    assert session.session_settings == SessionSettings()


async def test_a_session_begins_empty(make: Make):
    session = make()
    assert await session.get_items() == []
    assert await session.get_items(limit=3) == []
    assert await session.pop_item() is None
    await session.clear_session()


async def test_items_come_back_as_they_were_in_their_order(make: Make):
    given = [USER, ANSWER, *CALLS, *RESULTS, ODD, {"type": "reasoning", "id": "r1", "summary": []}]
    await make().add_items(given[:5])
    await make().add_items(given[5:])
    assert await make().get_items() == given


async def test_adding_nothing_changes_nothing(make: Make):
    await make().add_items([])
    assert await make().get_items() == []


async def test_equal_items_are_kept_each_time(make: Make):
    session = make()
    await session.add_items([ODD, ODD])
    await session.add_items([ODD])
    assert await session.get_items() == [ODD, ODD, ODD]


async def test_a_limit_gives_the_newest_oldest_first(make: Make):
    session = make()
    items = numbered(12)
    await session.add_items(items)
    assert await session.get_items(limit=3) == items[-3:]
    assert await session.get_items(limit=12) == items
    assert await session.get_items(limit=50) == items
    assert await session.get_items(limit=1) == items[-1:]
    assert await session.get_items(limit=0) == []


async def test_a_limit_counts_items_also_inside_an_answer_of_several(make: Make):
    session = make()
    items = [USER, ANSWER, *CALLS, *RESULTS]
    await session.add_items(items)
    for limit in range(1, 8):
        assert await session.get_items(limit=limit) == items[-limit:]


async def test_the_settings_say_a_limit_where_the_call_does_not(make: Make):
    items = numbered(6)
    await make().add_items(items)
    for settings in (SessionSettings(limit=2), {"limit": 2}):
        session = make(session_settings=settings)
        assert session.session_settings == SessionSettings(limit=2)
        assert await session.get_items() == items[-2:]
        assert await session.get_items(limit=4) == items[-4:]
    assert await make(session_settings=SessionSettings()).get_items() == items


async def test_popping_takes_the_newest_item_one_after_the_other(make: Make):
    session = make()
    items = [USER, ANSWER, *CALLS, *RESULTS, ANSWER, CALLS[0]]
    await session.add_items(items)
    popped = [await session.pop_item() for _ in items]
    assert popped == items[::-1]
    assert await session.pop_item() is None
    assert await session.get_items() == []


async def test_what_is_left_after_a_pop_is_what_was_there_before(make: Make):
    session = make()
    items = [USER, ANSWER, *CALLS]
    await session.add_items(items)
    for left in (3, 2, 1):
        await session.pop_item()
        assert await session.get_items() == items[:left]
        assert await session.get_items(limit=1) == items[left - 1 : left]


async def test_items_may_be_added_behind_a_pop(make: Make):
    session = make()
    await session.add_items([USER, ANSWER, CALLS[0]])
    await session.pop_item()
    await session.add_items([CALLS[1], RESULTS[1]])
    assert await session.get_items() == [USER, ANSWER, CALLS[1], RESULTS[1]]


async def test_a_cleared_session_is_empty_and_goes_on(make: Make):
    session = make()
    await session.add_items([USER, *CALLS])
    await session.clear_session()
    assert await session.get_items() == []
    assert await session.pop_item() is None
    await session.add_items([ANSWER])
    assert await make().get_items() == [ANSWER]


async def test_sessions_do_not_see_each_other(make: Make):
    one, other = make("one"), make("other")
    await one.add_items([USER])
    await other.add_items([ANSWER])
    await one.clear_session()
    assert await one.get_items() == []
    assert await other.get_items() == [ANSWER]


async def test_two_objects_of_one_id_are_one_session(make: Make):
    one, other = make(), make()
    await one.add_items([USER])
    await other.add_items([ANSWER])
    assert await one.get_items() == await other.get_items() == [USER, ANSWER]
    assert await one.pop_item() == ANSWER
    assert await other.get_items() == [USER]


async def test_what_is_handed_out_and_in_is_a_copy(make: Make):
    session = make()
    mine: Any = {"role": "user", "content": [{"text": "a"}]}
    await session.add_items([mine])
    mine["content"][0]["text"] = "b"
    [handed] = await session.get_items()
    handed["content"][0]["text"] = "c"
    assert await session.get_items() == [{"role": "user", "content": [{"text": "a"}]}]


async def test_encrypted_sessions_lie_on_it(make: Make):
    session = EncryptedSession("s1", make(), encryption_key="a key of ours")
    await session.add_items([USER, *CALLS])
    assert await session.get_items() == [USER, *CALLS]
    assert await session.get_items(limit=1) == CALLS[-1:]
    assert "hello" not in str(await make().get_items())
    assert await session.pop_item() == CALLS[-1]


# where they disagree, and what is ours alone


async def test_a_negative_limit_gives_nothing_as_on_redis(session: UnifiedSession):
    await session.add_items(numbered(3))
    assert await session.get_items(limit=-1) == []


async def test_clearing_leaves_what_else_the_session_has(session: UnifiedSession):
    sessions = SessionStorageAdapter(session._storage)
    await sessions.save_session("s1", {"session_id": "s1", "state": {"lang": "de"}})
    await session.add_items([USER])
    await session.clear_session()
    stored = await sessions.get_session("s1")
    assert stored is not None
    assert stored["state"] == {"lang": "de"}


async def test_the_first_items_make_the_session_and_none_before(session: UnifiedSession):
    sessions = SessionStorageAdapter(session._storage)
    assert await session.get_items() == []
    await session.add_items([])
    await session.pop_item()
    await session.clear_session()
    assert not await sessions.session_exists("s1")
    await session.add_items([USER])
    stored = await sessions.get_session("s1")
    assert stored is not None
    assert stored["session_id"] == "s1"


async def test_an_app_and_a_user_make_a_scoped_session(place: Place):
    async with place.open() as storage:
        anns = UnifiedSession("s1", storage, "ann", "shop")
        bobs = UnifiedSession("s1", storage, user_id="bob", app_name="shop")
        plain = UnifiedSession("s1", storage)
        for session, item in ((anns, USER), (bobs, ANSWER), (plain, CALLS[0])):
            await session.add_items([item])
        assert [await session.get_items() for session in (anns, bobs, plain)] == [[USER], [ANSWER], [CALLS[0]]]
        found = await SessionStorageAdapter(storage).session_keys("s1")
        assert found == ["s1", *sorted([SessionKey("shop", "ann", "s1"), SessionKey("shop", "bob", "s1")], key=_id)]


def _id(key: SessionKey) -> str:
    from session_adapter import record_id

    return record_id(key)


@pytest.mark.parametrize("alone", ["user_id", "app_name"])
def test_an_app_without_a_user_is_refused_and_the_other_way_round(alone: str):
    with pytest.raises(StorageValidationError, match="together"):
        UnifiedSession("s1", "memory://", **{alone: "x"})


@pytest.mark.parametrize("id", ["", " ", "a\x00b"])
def test_a_name_that_cannot_be_stored_is_refused_at_once(id: str):
    with pytest.raises(StorageValidationError):
        UnifiedSession(id, "memory://")


@pytest.mark.parametrize("place", [None, 5, "app.db", "nowhere://x"], ids=repr)
def test_what_is_no_storage_and_no_url_is_refused_at_once(place: Any):
    with pytest.raises(StorageConfigurationError):
        UnifiedSession("s1", place)


async def test_values_that_json_has_not_come_back_as_they_were(session: UnifiedSession):
    item: Any = {"role": "user", "content": b"bytes", "at": datetime(2030, 1, 1, tzinfo=UTC), "pair": (1, 2)}
    await session.add_items([item])
    assert await session.get_items() == [item]


async def test_an_item_that_is_no_mapping_is_refused_with_its_place(session: UnifiedSession):
    with pytest.raises(StorageValidationError, match="mapping") as refused:
        await session.add_items([USER, "hello"])
    assert refused.value.details["path"] == "items[1]"
    assert await session.get_items() == []


async def test_items_added_together_are_there_all_or_not_at_all(session: UnifiedSession):
    await session.add_items([USER])
    with pytest.raises(StorageValidationError):
        await session.add_items([ANSWER, {"role": "user", "content": object()}])
    assert await session.get_items() == [USER]


async def cancelled(call: Coroutine[Any, Any, Any], after: int) -> None:
    """Begin *call* and cancel it when the loop has gone round *after* times, or from 10 on after so long a time."""
    task = asyncio.create_task(call)
    for _ in range(min(after, 10)):
        await asyncio.sleep(0)
    await asyncio.sleep(max(after - 10, 0) / 5_000)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_cancelled_caller_leaves_all_items_or_none(session: UnifiedSession, scaled: Callable[..., int]):
    there = 0
    for turn in range(scaled(400, minimum=40)):
        await cancelled(session.add_items([USER, ANSWER, CALLS[0]]), turn % 20)
        now = len(await session.get_items())
        assert now - there in (0, 3)
        there = now
    for turn in range(min(there, 40)):
        await cancelled(session.pop_item(), turn % 20)
        now = len(await session.get_items())
        assert there - now in (0, 1)
        there = now


async def test_a_cancelled_first_writer_leaves_a_session_that_can_be_used(place: Place, scaled: Callable[..., int]):
    async with place.open() as storage:
        for turn in range(scaled(400, minimum=30)):
            session = UnifiedSession(f"s{turn}", storage)
            await cancelled(session.add_items([USER, ANSWER]), turn % 30)
            there = await session.get_items()
            assert there in ([], [USER, ANSWER])
            assert await SessionStorageAdapter(storage).session_exists(f"s{turn}") == bool(there)
            await session.add_items([CALLS[0]])
            assert await session.get_items() == [*there, CALLS[0]]


async def test_it_is_used_from_several_event_loops(place: Place):
    async with place.open() as storage:
        session = UnifiedSession("s1", storage)
        failures: list[BaseException] = []

        def in_its_own_loop(number: int) -> None:
            async def turn() -> None:
                for at in range(5):
                    await session.add_items([{"role": "user", "content": f"{number} {at}"}])
                    await session.get_items(limit=2)

            try:
                asyncio.run(turn())
            except BaseException as error:  # noqa: BLE001  # shown by the assertion below
                failures.append(error)

        threads = [threading.Thread(target=in_its_own_loop, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert failures == []
        contents = [item["content"] for item in await session.get_items()]
        assert sorted(contents) == sorted(f"{number} {at}" for number in range(4) for at in range(5))


async def _together(*calls: Awaitable[Any]) -> None:
    await asyncio.gather(*calls)


async def test_many_first_writers_make_one_session(session: UnifiedSession):
    others = [UnifiedSession("s1", session._storage) for _ in range(16)]
    await _together(*(other.add_items(numbered(1, at)) for at, other in enumerate(others)))
    assert sorted(item["content"] for item in await session.get_items()) == sorted(
        item["content"] for item in numbered(16)
    )


async def test_each_item_is_popped_by_one_alone(session: UnifiedSession):
    await session.add_items(numbered(8))
    popped = await asyncio.gather(*(session.pop_item() for _ in range(12)))
    found = [item["content"] for item in popped if item is not None]
    assert sorted(found) == sorted(item["content"] for item in numbered(8))
