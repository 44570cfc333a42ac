"""Promises about adding to a log: numbers, keys, owners, what a retry does."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from unified_storage.errors import (
    StorageAlreadyExistsError,
    StorageConflictError,
    StorageNotFoundError,
    StorageValidationError,
)
from unified_storage.interface import IUnifiedStorage
from unified_storage.logs import log_id
from unified_storage.testing.clock import NOON, ManualClock
from unified_storage.testing.drafts import bodies, body, gathered, note, save_all, session, stored, together
from unified_storage.testing.harness import Harness

LOG = "events/s"
WRONG_LOGS: list[Any] = [
    "",
    "events",
    "/s",
    "events/",
    "events/a\nb",
    "events@a b/s",
    "events@/s",
    5,
    None,
    "ev\nents/s",
]
WRONG_ENTRIES: list[Any] = [
    *({}, {"key": "k"}, {"body": 1, "seq": 3}, {"body": 1, "colour": 2}, "text", None, 5, [1]),
    *({"body": 1, "key": 5}, {"body": 1, "key": "k" * 256}, {"body": 1, "key": "é" * 128}, {"body": object()}),
    {"body": 1, "created_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))},
    *({"body": 1, "created_at": "now"}, {"body": 1, "created_at": datetime(2024, 1, 1)}),  # noqa: DTZ001  # naive
]


class AppendPromises(Harness):
    """``append`` without keys."""

    async def test_entries_are_numbered_from_one_in_their_order(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        assert await storage.append(LOG, [body("a"), body("b")]) == [1, 2]
        assert await storage.append(LOG, [body("c")]) == [3]
        assert await bodies(storage, LOG) == ["a", "b", "c"]
        assert await storage.log_info(LOG) == {"first_seq": 1, "last_seq": 3, "count": 3}

    async def test_an_entry_reads_back_with_number_key_time_and_body(
        self, timed: IUnifiedStorage, clock: ManualClock
    ) -> None:
        await timed.save(session("s"))
        clock.advance(hours=1)
        india = datetime(2020, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
        await timed.append(LOG, [body({"role": "user"}), body([1], "k", created_at=india)])
        first, second = await timed.read(LOG)
        assert first == {"seq": 1, "key": None, "created_at": NOON + timedelta(hours=1), "body": {"role": "user"}}
        assert second == {"seq": 2, "key": "k", "created_at": india, "body": [1]}
        assert all(entry["created_at"].utcoffset() == timedelta(0) for entry in (first, second))

    async def test_any_json_value_can_be_a_body(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        values: list[Any] = [None, True, 0, "", [], {}, {"body": {"key": 1}}, "text", 1.5]
        await storage.append(LOG, [body(value) for value in values])
        assert await bodies(storage, LOG) == values

    async def test_entries_may_come_from_any_iterable(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        assert await storage.append(LOG, (body(n) for n in range(3))) == [1, 2, 3]
        assert await storage.append(LOG, (body("x"),)) == [4]

    async def test_one_append_is_one_change_of_its_owner(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await timed.save(session("s", {"x": 1}))
        clock.advance(hours=1)
        await timed.append(LOG, [body(n) for n in range(5)])
        owner = await stored(timed, "s")
        assert (owner["version"], owner["updated_at"]) == (2, NOON + timedelta(hours=1))
        assert (owner["created_at"], owner["data"]) == (NOON, {"x": 1})

    async def test_appending_nothing_changes_nothing(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        assert await storage.append(LOG, []) == []
        assert (await stored(storage, "s"))["version"] == 1
        assert await bodies(storage, LOG) == []
        assert await storage.append(LOG, [], keep_last=0) == []
        assert await storage.log_info(LOG) is None

    async def test_without_an_owner_nothing_is_appended(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note("s"), session("other")])
        for call in (
            storage.append(LOG, [body(1)]),
            storage.rewrite(LOG, [body(1)]),
            storage.append("x@a/s", [body(1)]),
        ):
            with pytest.raises(StorageNotFoundError):
                await call
        assert await storage.pop(LOG) is None
        assert await storage.read(LOG) == []
        assert await storage.log_info(LOG) is None

    async def test_a_log_id_names_its_owner_and_type(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session("a/b@c"), note("a/b@c"), session("b@c")])
        for name in ("events/a/b@c", "events@note/a/b@c", "events/b@c", log_id("x/y@z", "a/b@c", "note")):
            assert await storage.append(name, [body(name)]) == [1]
            assert await bodies(storage, name) == [name]
        assert (await stored(storage, "a/b@c", "note"))["version"] == 3
        assert (await stored(storage, "a/b@c", "session"))["version"] == 2
        assert log_id("x/y@z", "a/b@c", "note") == "x%2Fy%40z@note/a/b@c"

    async def test_logs_of_one_owner_count_apart(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        names = ["events/s", "Events/s", "events /s", "événements/s", "event/s", "events2/s", "%/s", "_/s"]
        for name in names:
            assert await storage.append(name, [body(name)]) == [1]
        assert [(await bodies(storage, name)) for name in names] == [[name] for name in names]

    @pytest.mark.parametrize("name", WRONG_LOGS, ids=ascii)
    async def test_what_is_no_log_id_is_refused_by_every_verb(self, storage: IUnifiedStorage, name: Any) -> None:
        await storage.save(session("s"))
        for call in (
            storage.append(name, [body(1)]),
            storage.read(name),
            storage.pop(name),
            storage.rewrite(name, []),
            storage.log_info(name),
        ):
            with pytest.raises(StorageValidationError):
                await call

    @pytest.mark.parametrize("entry", WRONG_ENTRIES, ids=lambda entry: ascii(entry)[:30])
    async def test_what_is_no_entry_is_refused_and_none_is_stored(self, storage: IUnifiedStorage, entry: Any) -> None:
        await storage.save(session("s"))
        for write in (storage.append, storage.rewrite):
            with pytest.raises(StorageValidationError):
                await write(LOG, [body("good"), entry])
        assert await bodies(storage, LOG) == []
        assert (await stored(storage, "s"))["version"] == 1

    @pytest.mark.parametrize("entries", [None, "text", {"body": 1}, 5], ids=repr)
    async def test_entries_have_to_be_a_list(self, storage: IUnifiedStorage, entries: Any) -> None:
        await storage.save(session("s"))
        with pytest.raises(StorageValidationError):
            await storage.append(LOG, entries)

    async def test_keep_last_leaves_only_the_newest(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(n) for n in range(1, 6)])
        assert await storage.append(LOG, [body(6)], keep_last=3) == [6]
        assert await bodies(storage, LOG) == [4, 5, 6]
        assert await storage.log_info(LOG) == {"first_seq": 4, "last_seq": 6, "count": 3}
        assert (await stored(storage, "s"))["version"] == 3
        assert await storage.append(LOG, [body(7)], keep_last=10) == [7]
        assert await storage.append(LOG, [body(n) for n in (8, 9)], keep_last=1) == [8, 9]
        assert await bodies(storage, LOG) == [9]
        assert await storage.append(LOG, [], keep_last=0) == []
        assert await storage.log_info(LOG) == {"first_seq": None, "last_seq": 9, "count": 0}
        assert await storage.append(LOG, [body(10)]) == [10]

    @pytest.mark.parametrize("switches", [{"keep_last": -1}, {"keep_last": "1"}, {"on_duplicate": "ignore"}], ids=repr)
    async def test_a_switch_that_is_none_is_refused(self, storage: IUnifiedStorage, switches: dict[str, Any]) -> None:
        await storage.save(session("s"))
        with pytest.raises(StorageValidationError):
            await storage.append(LOG, [body(1)], **switches)
        assert await bodies(storage, LOG) == []

    async def test_an_expected_version_guards_the_log(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(1)], expected_version=1)
        for call in (
            storage.append(LOG, [body(2)], expected_version=1),
            storage.rewrite(LOG, [], expected_version=1),
            storage.append(LOG, [body(2)], expected_version=0),
        ):
            with pytest.raises(StorageConflictError) as conflict:
                await call
            assert (conflict.value.found, conflict.value.retryable) == (2, False)
        assert await bodies(storage, LOG) == [1]
        await storage.rewrite(LOG, [body(3)], expected_version=2)
        assert (await stored(storage, "s"))["version"] == 3

    async def test_sixty_four_appends_at_once_give_one_to_sixty_four(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        numbers = await together(*(storage.append(LOG, [body(n)]) for n in range(64)))
        assert sorted(number for (number,) in numbers) == list(range(1, 65))
        entries = await storage.read(LOG)
        assert [entry["seq"] for entry in entries] == list(range(1, 65))
        assert {(entry["seq"], entry["body"]) for entry in entries} == {(seq, n) for n, (seq,) in enumerate(numbers)}
        assert (await stored(storage, "s"))["version"] == 65


class KeyPromises(Harness):
    """Keys make retries safe and entries replaceable."""

    async def test_a_key_given_twice_is_told_before_a_version_that_is_not_there(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        twice = [{"body": 1, "key": "k"}, {"body": 2, "key": "k"}]
        with pytest.raises(StorageAlreadyExistsError):
            await storage.append(LOG, twice, expected_version=99)
        assert await storage.log_info(LOG) is None

    async def test_a_key_that_is_present_is_an_error_and_nothing_is_stored(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(1, "a")])
        with pytest.raises(StorageAlreadyExistsError):
            await storage.append(LOG, [body(2, "b"), body(3, "a"), body(4, "c")])
        assert await bodies(storage, LOG) == [1]
        assert (await stored(storage, "s"))["version"] == 2
        assert await storage.append(LOG, [body(2, "b")]) == [2]

    async def test_skip_gives_the_number_of_what_is_there(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(1, "a"), body(2, "b")])
        entries = [body("new", "c"), body("again", "a"), body("free"), body("again", "b")]
        assert await storage.append(LOG, entries, on_duplicate="skip") == [3, 1, 4, 2]
        assert await bodies(storage, LOG) == [1, 2, "new", "free"]

    async def test_an_honest_retry_changes_nothing_and_never_conflicts(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        entries = [body(1, "a"), body(2, "b")]
        assert await storage.append(LOG, entries, on_duplicate="skip", expected_version=1) == [1, 2]
        before = await stored(storage, "s")
        assert await storage.append(LOG, entries, on_duplicate="skip", expected_version=1) == [1, 2]
        assert await stored(storage, "s") == before
        assert await storage.append(LOG, entries, on_duplicate="replace", expected_version=1) == [1, 2]
        assert await bodies(storage, LOG) == [1, 2]

    @pytest.mark.parametrize("mode", ["skip", "replace"])
    async def test_a_retry_with_something_new_is_checked(self, storage: IUnifiedStorage, mode: Any) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(1, "a")])
        for entries in ([body(1, "a"), body(2, "b")], [body(1, "a"), body(2)], [body(2)]):
            with pytest.raises(StorageConflictError):
                await storage.append(LOG, entries, on_duplicate=mode, expected_version=1)
        assert await bodies(storage, LOG) == [1]

    async def test_replace_puts_the_entry_in_its_place(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await timed.save(session("s"))
        await timed.append(LOG, [body(1, "a"), body(2, "b"), body(3)])
        clock.advance(hours=1)
        assert await timed.append(LOG, [body("two", "b"), body(4, "d")], on_duplicate="replace") == [2, 4]
        entries = await timed.read(LOG)
        assert [entry["body"] for entry in entries] == [1, "two", 3, 4]
        assert [entry["seq"] for entry in entries] == [1, 2, 3, 4]
        assert entries[1]["created_at"] == NOON
        owner = await stored(timed, "s")
        assert (owner["version"], owner["updated_at"]) == (3, NOON + timedelta(hours=1))

    async def test_replacing_changes_the_owner_too(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(1, "a")])
        await storage.append(LOG, [body(2, "a")], on_duplicate="replace")
        assert (await stored(storage, "s"))["version"] == 3

    async def test_replace_takes_a_time_that_is_given(self, timed: IUnifiedStorage) -> None:
        await timed.save(session("s"))
        await timed.append(LOG, [body(1, "a")])
        earlier = NOON - timedelta(days=1)
        await timed.append(LOG, [body(2, "a", created_at=earlier)], on_duplicate="replace")
        assert [(entry["body"], entry["created_at"]) for entry in await timed.read(LOG)] == [(2, earlier)]

    async def test_a_key_twice_in_one_call_is_decided_like_any_other(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        twice = [body("first", "k"), body("between"), body("second", "k")]
        with pytest.raises(StorageAlreadyExistsError):
            await storage.append("one/s", twice)
        assert await bodies(storage, "one/s") == []
        assert await storage.append("two/s", twice, on_duplicate="skip") == [1, 2, 1]
        assert await bodies(storage, "two/s") == ["first", "between"]
        assert await storage.append("three/s", twice, on_duplicate="replace") == [1, 2, 1]
        assert await bodies(storage, "three/s") == ["second", "between"]
        with pytest.raises(StorageAlreadyExistsError):
            await storage.rewrite("two/s", twice)
        assert await bodies(storage, "two/s") == ["first", "between"]

    async def test_keys_are_compared_to_the_letter(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        names = ["a", "A", "a ", " a", "ä", "a\u0308", "k" * 255, "é" * 127, "1", "01", "%", "🙂", "a\nb"]
        await storage.append(LOG, [body(name, name) for name in names])
        assert [entry["key"] for entry in await storage.read(LOG)] == names
        assert await storage.append(LOG, [body("x", name) for name in names], on_duplicate="skip") == [
            *range(1, len(names) + 1)
        ]

    async def test_the_same_key_may_stand_in_every_log(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [session("s"), session("s2")])
        for name in ("events/s", "runs/s", "events/s2"):
            assert await storage.append(name, [body(name, "k")]) == [1]

    async def test_a_key_that_is_gone_is_free(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        await storage.append(LOG, [body(1, "popped")])
        await storage.pop(LOG)
        assert await storage.append(LOG, [body(2, "popped")]) == [2]
        await storage.append(LOG, [body(3)], keep_last=1)
        assert await storage.append(LOG, [body(4, "popped")]) == [4]
        await storage.rewrite(LOG, [])
        assert await storage.append(LOG, [body(5, "popped")]) == [5]
        assert await bodies(storage, LOG) == [5]

    async def test_many_who_append_one_key_make_one_entry(self, storage: IUnifiedStorage) -> None:
        await storage.save(session("s"))
        numbers = await together(*(storage.append(LOG, [body("x", "k")], on_duplicate="skip") for _ in range(20)))
        assert numbers == [[1]] * 20
        assert await bodies(storage, LOG) == ["x"]
        assert await gathered(storage.logs()) == [LOG]
