"""Promises about ``save`` and ``load``: identity, fields, versions, times."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from unified_storage.errors import StorageConflictError, StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.clock import NOON, ManualClock
from unified_storage.testing.drafts import body, failures, ids, note, save_all, session, stored
from unified_storage.testing.harness import Harness, OpenStore

BEYOND_TIME = datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))
INDIA = timezone(timedelta(hours=5, minutes=30))
ODD_IDS = [
    *("a", "A", "a ", " a", "ä", "a\u0308", "1", "01", "1.0", "null", "None", "%", "_", "a%", "a/b", "a\\b", "a'b"),
    *('a"b', "a:b", "a;b", "{a}", "[a]", "a.b", "a@b", "~", "../a", "🙂", "漢字", "\u200b", "a--", "$type", "é" * 512),
]
WRONG_IDS: list[Any] = ["a\nb", "a\x00", "\x7f", "\x85", "a\ud800", "x" * 1025, "é" * 513, 5, b"a", True, ["a"], 0]
TYPES = ["a", "session", "Checkpoint-2.0_x", "t" * 64, "9", ".", "-"]
WRONG_TYPES: list[Any] = ["", "t" * 65, "a b", "é", "a/b", "a@b", "a\n", None, 5]


class SavePromises(Harness):
    """Saving and loading one record."""

    async def test_a_saved_record_loads_with_all_its_fields(self, timed: IUnifiedStorage) -> None:
        later = NOON + timedelta(days=1)
        draft = note("a", {"x": 1}, metadata={"m": 2}, session_id="s", thread_id="t", expires_at=later)
        assert await timed.save(draft) == "a"
        times = {"created_at": NOON, "updated_at": NOON}
        assert await timed.load("a") == draft | times | {"version": 1}

    async def test_fields_that_are_not_given_are_none(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a"))
        record = await stored(storage, "a")
        assert [record[name] for name in ("metadata", "session_id", "thread_id", "expires_at")] == [None] * 4
        assert len(record) == 10

    async def test_what_is_not_there_loads_as_none(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a"))
        assert await storage.load("b") is None
        assert await storage.load("a", type="session") is None
        assert await storage.exists("a") is True
        assert await storage.exists("a", type="note") is True
        assert await storage.exists("a", type="session") is False
        assert await storage.exists("b") is False

    @pytest.mark.parametrize("draft", [{}, {"id": None}, {"id": ""}], ids=["missing", "none", "empty"])
    async def test_an_id_is_made_when_none_is_given(self, storage: IUnifiedStorage, draft: dict[str, Any]) -> None:
        first = await storage.save({"type": "note", "data": {}, **draft})
        second = await storage.save({"type": "note", "data": {}, **draft})
        assert first != second
        assert UUID(first).version == 7
        assert (await stored(storage, first))["id"] == first

    async def test_ids_are_kept_to_the_letter_and_never_confused(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note(id, {"mine": id}) for id in ODD_IDS])
        assert [(await stored(storage, id))["data"]["mine"] for id in ODD_IDS] == ODD_IDS
        assert ids(await storage.list()) == sorted(ODD_IDS)

    @pytest.mark.parametrize("id", WRONG_IDS, ids=lambda id: ascii(id)[:12])
    async def test_an_id_that_cannot_be_one_is_refused_everywhere(self, storage: IUnifiedStorage, id: Any) -> None:
        for call in (
            storage.save(note(id)),
            storage.load(id),
            storage.update(id, {}),
            storage.delete(id),
            storage.exists(id),
            storage.save(note("a", session_id=id)),
            storage.save(note("a", thread_id=id)),
            storage.batch_delete([id]),
        ):
            with pytest.raises(StorageValidationError):
                await call
        assert await storage.count() == 0

    async def test_an_empty_id_names_nothing(self, storage: IUnifiedStorage) -> None:
        for call in (storage.load(""), storage.update("", {}), storage.delete(""), storage.exists("")):
            with pytest.raises(StorageValidationError):
                await call

    async def test_every_type_that_may_be_is_taken(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [{"id": "a", "type": type, "data": {"mine": type}} for type in TYPES])
        assert [(await stored(storage, "a", type))["data"]["mine"] for type in TYPES] == TYPES

    @pytest.mark.parametrize("type", WRONG_TYPES, ids=lambda type: ascii(type)[:8])
    async def test_a_type_that_cannot_be_one_is_refused(self, storage: IUnifiedStorage, type: Any) -> None:
        with pytest.raises(StorageValidationError):
            await storage.save({"id": "a", "type": type, "data": {}})
        assert await storage.count() == 0

    @pytest.mark.parametrize(
        ("wrong", "place"),
        [
            ({"data": None}, "data"),
            ({"data": [1]}, "data"),
            ({"data": "text"}, "data"),
            ({"metadata": []}, "metadata"),
            ({"metadata": "text"}, "metadata"),
            ({"created_at": datetime(2024, 1, 1)}, "created_at"),  # noqa: DTZ001  # naive is the point
            ({"created_at": "2024-01-01T00:00:00Z"}, "created_at"),
            ({"expires_at": datetime(2024, 1, 1)}, "expires_at"),  # noqa: DTZ001
            ({"expires_at": 1700000000}, "expires_at"),
            ({"expires_at": BEYOND_TIME}, "expires_at"),
            ({"created_at": BEYOND_TIME}, "created_at"),
            ({"colour": "red"}, "colour"),
            ({"Data": {}}, "Data"),
        ],
        ids=repr,
    )
    async def test_a_field_that_is_wrong_is_refused_by_name(
        self, storage: IUnifiedStorage, wrong: dict[str, Any], place: str
    ) -> None:
        """S2.19."""
        with pytest.raises(StorageValidationError) as refusal:
            await storage.save(note("a") | wrong)
        assert place in str(refusal.value.path)
        assert await storage.load("a") is None

    @pytest.mark.parametrize(
        "draft", [None, [], "text", {"id": "a", "type": "note"}, {"id": "a", "data": {}}], ids=repr
    )
    async def test_what_is_no_record_is_refused(self, storage: IUnifiedStorage, draft: Any) -> None:
        with pytest.raises(StorageValidationError):
            await storage.save(draft)
        assert await storage.count() == 0

    async def test_one_id_may_stand_for_a_record_of_each_type(self, storage: IUnifiedStorage) -> None:
        await save_all(storage, [note("a", {"n": 1}), session("a", {"n": 2})])
        await storage.save(note("a", {"n": 3}))
        assert (await stored(storage, "a", "session"))["data"] == {"n": 2}
        assert (await stored(storage, "a", "note"))["data"] == {"n": 3}
        assert (await stored(storage, "a", "session"))["version"] == 1

    async def test_saving_again_replaces_every_field(self, storage: IUnifiedStorage) -> None:
        far = NOON.replace(year=9000)
        await storage.save(note("a", {"x": {"y": 1}}, metadata={"m": 1}, session_id="s", thread_id="t", expires_at=far))
        await storage.save(note("a", {"x": {"z": 1}}))
        record = await stored(storage, "a")
        assert record["data"] == {"x": {"z": 1}}
        assert [record[name] for name in ("metadata", "session_id", "thread_id", "expires_at")] == [None] * 4


class VersionPromises(Harness):
    """``version``, ``created_at``, ``updated_at`` and ``expected_version``."""

    async def test_the_version_counts_every_change_of_the_record_and_of_its_logs(
        self, storage: IUnifiedStorage
    ) -> None:
        versions = []
        for change in (
            lambda: storage.save(session("s")),
            lambda: storage.save(session("s")),
            lambda: storage.update("s", {"data": {"x": 1}}),
            lambda: storage.append("events/s", [body(1), body(2)]),
            lambda: storage.pop("events/s"),
            lambda: storage.rewrite("events/s", [body(3)]),
        ):
            await change()
            versions.append((await stored(storage, "s"))["version"])
        assert versions == [1, 2, 3, 4, 5, 6]

    async def test_version_and_updated_at_of_the_caller_are_ignored(self, timed: IUnifiedStorage) -> None:
        await timed.save(note("a") | {"version": 70, "updated_at": NOON + timedelta(days=9)})
        record = await stored(timed, "a")
        assert (record["version"], record["updated_at"]) == (1, NOON)
        await timed.save(record | {"version": 700})
        assert (await stored(timed, "a"))["version"] == 2

    async def test_a_loaded_record_can_be_saved_as_it_is(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a", {"x": 1}, metadata={"m": 1}, session_id="s"))
        before = await stored(storage, "a")
        await storage.save(before)
        after = await stored(storage, "a")
        assert after == before | {"version": 2, "updated_at": after["updated_at"]}

    async def test_the_creation_time_given_first_is_kept_and_never_changes(self, timed: IUnifiedStorage) -> None:
        """S2.21."""
        first = datetime(2020, 2, 3, 4, 5, 6, 789012, tzinfo=INDIA)
        await timed.save(note("a", created_at=first))
        await timed.save(note("a", created_at=NOON))
        await timed.save(note("a"))
        await timed.update("a", {"data": {"x": 1}})
        created = (await stored(timed, "a"))["created_at"]
        assert created == first
        assert created.tzinfo is UTC

    async def test_one_look_at_the_clock_serves_a_whole_save(self, open_store: OpenStore) -> None:
        clock = ManualClock()
        async with open_store(clock=lambda: clock.advance(seconds=1)) as storage:
            await storage.save(note("a"))
            record = await stored(storage, "a")
        assert record["created_at"] == record["updated_at"]

    async def test_created_at_is_the_clock_when_none_is_given(self, timed: IUnifiedStorage, clock: ManualClock) -> None:
        await timed.save(note("a"))
        clock.advance(hours=1)
        await timed.save(note("a"))
        record = await stored(timed, "a")
        assert (record["created_at"], record["updated_at"]) == (NOON, NOON + timedelta(hours=1))

    @pytest.mark.parametrize("moves", [0, -3600, 1e-6], ids=["stands", "goes back", "creeps"])
    async def test_updated_at_always_moves_forward(
        self, timed: IUnifiedStorage, clock: ManualClock, moves: float
    ) -> None:
        await timed.save(session("s"))
        seen = [(await stored(timed, "s"))["updated_at"]]
        for change in (
            lambda: timed.save(session("s")),
            lambda: timed.update("s", {}),
            lambda: timed.append("events/s", [body(1)]),
            lambda: timed.pop("events/s"),
        ):
            clock.advance(seconds=moves)
            await change()
            seen.append((await stored(timed, "s"))["updated_at"])
        assert [later - earlier for earlier, later in itertools.pairwise(seen)] == [timedelta(microseconds=1)] * 4

    async def test_times_are_aware_utc_to_the_microsecond(self, storage: IUnifiedStorage) -> None:
        expires = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
        await storage.save(note("a", created_at=datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC), expires_at=expires))
        record = await stored(storage, "a")
        assert (record["created_at"].year, record["created_at"].microsecond) == (1, 1)
        assert record["expires_at"] == expires
        assert all(record[name].tzinfo is UTC for name in ("created_at", "updated_at", "expires_at"))
        assert abs(datetime.now(UTC) - record["updated_at"]) < timedelta(minutes=1)

    async def test_an_expected_version_that_is_found_lets_the_write_through(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a"), expected_version=0)
        await storage.save(note("a"), expected_version=1)
        assert await storage.update("a", {"data": {"x": 1}}, expected_version=2) is True
        assert await storage.delete("a", expected_version=3) is True

    async def test_another_version_than_expected_is_a_conflict_with_both_numbers(
        self, storage: IUnifiedStorage
    ) -> None:
        await storage.save(note("a", {"x": 1}))
        for call in (
            storage.save(note("a"), expected_version=0),
            storage.save(note("a"), expected_version=7),
            storage.update("a", {"data": {"x": 2}}, expected_version=7),
            storage.delete("a", expected_version=7),
        ):
            with pytest.raises(StorageConflictError) as conflict:
                await call
            assert conflict.value.expected in (0, 7)
            assert conflict.value.found == 1
            assert conflict.value.retryable is False
        record = await stored(storage, "a")
        assert (record["data"], record["version"]) == ({"x": 1}, 1)

    async def test_a_version_expected_of_what_is_not_there_is_a_conflict(self, storage: IUnifiedStorage) -> None:
        for call in (
            storage.save(note("a"), expected_version=1),
            storage.update("a", {}, expected_version=1),
            storage.delete("a", expected_version=1),
        ):
            with pytest.raises(StorageConflictError) as conflict:
                await call
            assert (conflict.value.expected, conflict.value.found) == (1, 0)
        assert await storage.count() == 0

    async def test_version_zero_means_not_there(self, storage: IUnifiedStorage) -> None:
        assert await storage.update("a", {}, expected_version=0) is False
        assert await storage.delete("a", expected_version=0) is False
        await storage.save(note("a"), expected_version=0)
        for call in (storage.update("a", {}, expected_version=0), storage.delete("a", expected_version=0)):
            with pytest.raises(StorageConflictError):
                await call

    @pytest.mark.parametrize("expected", [-1, "1", 1.0, True], ids=repr)
    async def test_what_cannot_be_a_version_is_refused(self, storage: IUnifiedStorage, expected: Any) -> None:
        await storage.save(session("s"))
        for call in (
            storage.save(session("s"), expected_version=expected),
            storage.update("s", {}, expected_version=expected),
            storage.delete("s", expected_version=expected),
            storage.append("events/s", [body(1)], expected_version=expected),
            storage.rewrite("events/s", [], expected_version=expected),
        ):
            with pytest.raises(StorageValidationError):
                await call
        assert (await stored(storage, "s"))["version"] == 1

    async def test_of_many_that_create_one_record_exactly_one_wins(self, storage: IUnifiedStorage) -> None:
        errors = await failures(*(storage.save(note("a", {"n": n}), expected_version=0) for n in range(50)))
        assert len(errors) == 49
        assert all(isinstance(error, StorageConflictError) and not error.retryable for error in errors)
        assert (await stored(storage, "a"))["version"] == 1
