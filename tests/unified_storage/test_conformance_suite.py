"""The suite itself: it finds naive storages, cannot be softened, and is quickly taken up by outsiders."""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.unified_storage import naive_storages as naive
from unified_storage import IUnifiedStorage, StorageConflictError, StorageError, StorageUnsupportedError, open_storage
from unified_storage.delegate import Delegate
from unified_storage.testing import (
    SKILLS,
    ManualClock,
    StorageConformance,
    assert_same_answers,
    generated_cases,
    run_state_machine,
)
from unified_storage.testing.differential import INDEXED
from unified_storage.testing.drafts import note
from unified_storage.testing.promises.batches import BatchPromises

# A naive storage, and a promise that it breaks.
BROKEN: list[tuple[type[Delegate], str, dict[str, Any]]] = [
    (naive.SwallowsErrors, "test_every_verb_works_while_open_and_is_refused_when_closed", {"verb": "load"}),
    (naive.ForgetsTheType, "test_what_is_not_there_loads_as_none", {}),
    (naive.ForgetsTheType, "test_delete_with_another_type_leaves_the_record", {}),
    (naive.ForgetsTheType, "test_updating_what_is_not_there_is_false_and_makes_nothing", {}),
    (naive.StampsTheCallersDict, "test_save_changes_nothing_of_the_callers", {}),
    (
        naive.MergesTheTopOnly,
        "test_update_merges_mappings_and_replaces_the_rest",
        {"updates": {"map": {"z": 3}}, "changed": {"map": {"x": 1, "deep": {"y": 2}, "z": 3}}},
    ),
    (naive.StartsTimeAnew, "test_created_at_is_the_clock_when_none_is_given", {}),
    (naive.StartsTimeAnew, "test_saving_the_owner_again_leaves_its_logs", {}),
    (naive.TakesZeroForAll, "test_limit_zero_is_an_empty_list", {}),
    (naive.SavesOneByOne, "test_one_wrong_record_refuses_the_batch_and_is_named", {"wrong": {"id": "bad"}}),
    (naive.SaysOnlyYes, "test_each_operation_has_its_result_in_order", {}),
    (naive.DumpsByText, "test_values_come_back_as_they_went_in", {"name": "times"}),
    (naive.DumpsByText, "test_values_come_back_as_they_went_in", {"name": "tuples"}),
    (naive.DumpsByText, "test_what_cannot_be_kept_is_refused_with_its_path", {"name": "an object"}),
    (naive.DropsNulCharacters, "test_values_come_back_as_they_went_in", {"name": "texts"}),
    (naive.CleansUpByCreation, "test_clean_up_goes_by_the_last_activity", {}),
    (naive.PagesByOffset, "test_a_walk_that_deletes_behind_itself_sees_every_record_once", {}),
    (naive.PagesByOffset, "test_records_that_come_and_go_disturb_no_page", {}),
    (naive.PagesByOffset, "test_a_cursor_is_refused_with_other_filters_or_another_order", {}),
    (naive.ReadsThenWrites, "test_a_hundred_updates_of_a_hundred_keys_at_once_all_survive", {}),
    (naive.LooksThenCreates, "test_of_many_that_create_one_record_exactly_one_wins", {}),
    (naive.HandsOutItsOwn, "test_what_is_handed_out_can_be_changed_without_effect", {}),
    (naive.AppendsOneByOne, "test_a_key_that_is_present_is_an_error_and_nothing_is_stored", {}),
    (naive.AppendsOneByOne, "test_a_cancelled_append_is_wholly_done_or_not_done", {}),
    (naive.ListsByInsertion, "test_records_are_listed_by_id_and_type_in_the_order_of_code_points", {}),
]


async def keeps(promise: str, kind: type[Delegate], arguments: dict[str, Any]) -> bool:
    """Whether a kind of storage over a memory keeps a promise."""
    clock = ManualClock()
    test = getattr(StorageConformance(), promise)
    wanted = test.__code__.co_varnames[: test.__code__.co_argcount]
    async with open_storage("memory://", clock=clock) as inner:
        fixtures = {
            "storage": kind(inner),
            "timed": kind(inner),
            "clock": clock,
            "open_store": lambda **options: kind(open_storage("memory://", **options)),
        }
        try:
            await test(**{name: value for name, value in fixtures.items() if name in wanted}, **arguments)
        except (AssertionError, StorageError, KeyError, TypeError, pytest.fail.Exception):
            return False
    return True


@pytest.mark.parametrize(("kind", "promise", "arguments"), BROKEN, ids=lambda given: getattr(given, "__name__", None))
async def test_the_suite_finds_a_naive_storage(kind: type[Delegate], promise: str, arguments: dict[str, Any]) -> None:
    assert await keeps(promise, Delegate, arguments), "an honest storage has to keep it"
    assert not await keeps(promise, kind, arguments)


# -- what a subclass may and may not do -----------------------------------------------------------------------------


def test_redefining_an_inherited_test_is_an_error() -> None:
    with pytest.raises(TypeError, match="test_limit_zero_is_an_empty_list"):

        class TestSofter(StorageConformance):
            async def test_limit_zero_is_an_empty_list(self, storage: IUnifiedStorage) -> None:
                pass

    with pytest.raises(TypeError, match="must not redefine"):

        class TestWithout(StorageConformance):
            test_limit_zero_is_an_empty_list = None  # type: ignore[assignment]


def test_redefining_it_two_classes_below_is_an_error_too() -> None:
    class Between(StorageConformance):
        async def test_of_its_own(self) -> None:
            pass

    with pytest.raises(TypeError, match="test_of_its_own"):

        class TestBelow(Between):
            async def test_of_its_own(self) -> None:
                pass


def test_tests_and_fixtures_may_be_added() -> None:
    class TestMore(StorageConformance):
        async def test_of_its_own(self) -> None:
            pass

    assert hasattr(TestMore, "test_limit_zero_is_an_empty_list")


def test_an_unknown_skill_cannot_be_declared_missing() -> None:
    with pytest.raises(TypeError, match="flying"):

        class TestFlightless(StorageConformance):
            missing = frozenset({"flying"})


def test_no_promise_hides_another() -> None:
    """Two classes of promises that share a name would lose one of them without a word."""
    names = Counter(
        name
        for kind in StorageConformance.__mro__[1:-2]
        for name in vars(kind)
        if not name.startswith("__") and name != "pytestmark"
    )
    assert [name for name, times in names.items() if times > 1] == []
    assert len([name for name in names if name.startswith("test_")]) > 250


async def test_a_missing_skill_has_to_be_refused_out_loud() -> None:
    class Unable(Delegate):
        async def batch_save(self, data_list):
            raise StorageUnsupportedError("batches over partitions are missing here")

    class Silent(BatchPromises):
        missing = frozenset({"batches over partitions"})

    assert "batches over partitions" in SKILLS
    async with open_storage("memory://") as inner:
        await Silent().test_a_batch_is_saved_and_its_ids_come_in_order(Unable(inner))
        with pytest.raises(pytest.fail.Exception):  # it can do it after all: then it must not be declared missing
            await Silent().test_a_batch_is_saved_and_its_ids_come_in_order(inner)
        with pytest.raises(StorageUnsupportedError):  # it cannot, and has not said so
            await BatchPromises().test_a_batch_is_saved_and_its_ids_come_in_order(Unable(inner))


OUTSIDER = """
import pytest
import pytest_asyncio
from unified_storage import open_storage
from unified_storage.testing import StorageConformance

class TestMine(StorageConformance):
    @pytest_asyncio.fixture
    async def storage(self):
        async with open_storage("memory://") as storage:
            yield storage
"""
CHOSEN = "limit_zero or updated_at_always or times_are_aware or honest_retry or cleanup or clean_up"


def test_an_outsider_with_a_storage_fixture_alone_runs_the_suite_anywhere(tmp_path: Path) -> None:
    """In a folder of its own, in pytest-asyncio's strict mode, warnings as errors."""
    (tmp_path / "test_mine.py").write_text(OUTSIDER)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-k", CHOSEN, str(tmp_path)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    assert "passed" in run.stdout
    assert "TestMine has no fixture `open_store`, so time and reopening are not tested" in run.stdout


# -- the other tools find differences too ---------------------------------------------------------------------------


class ForgetsCounters(Delegate):
    """Numbers of a log that begin again when it is emptied."""

    async def rewrite(self, log_id, entries, *, expected_version=None):
        numbers = await super().rewrite(log_id, entries, expected_version=expected_version)
        return [number - numbers[0] + 1 for number in numbers]


def test_the_state_machine_finds_a_storage_that_differs() -> None:
    with pytest.raises(AssertionError, match="the model"):
        run_state_machine(lambda **options: ForgetsCounters(open_storage("memory://", **options)), shrink=False)


def test_the_state_machine_finds_an_error_that_is_none() -> None:
    class Quarrelsome(Delegate):
        async def pop(self, log_id):
            raise StorageConflictError("not today")

    with pytest.raises(AssertionError, match="the model gave"):
        run_state_machine(lambda **options: Quarrelsome(open_storage("memory://", **options)), shrink=False)


class ComparesLikeText(Delegate):
    """A filter that takes ``True`` for 1, as JSON in SQL does."""

    async def list(self, filters=None, limit=None, *, with_data=True):
        return await super().list(_as_number(filters), limit, with_data=with_data)


def _as_number(filters: Any) -> Any:
    if isinstance(filters, dict):
        return {name: _as_number(value) for name, value in filters.items()}
    if isinstance(filters, list):
        return [_as_number(value) for value in filters]
    return int(filters) if isinstance(filters, bool) else filters


async def test_generated_questions_find_a_storage_that_answers_otherwise() -> None:
    options: dict[str, Any] = {"indexed": INDEXED, "clock": ManualClock()}
    async with open_storage("memory://", **options) as reference, open_storage("memory://", **options) as inner:
        with pytest.raises(AssertionError, match=r"seed \d+: list"):
            await assert_same_answers(reference, ComparesLikeText(inner), generated_cases(400))


async def test_generated_cases_are_the_same_for_the_same_seed() -> None:
    once, again = list(generated_cases(30, 10, seed=5)), list(generated_cases(30, 10, seed=5))
    assert [[question.written for question in case.questions] for case in once] == [
        [question.written for question in case.questions] for case in again
    ]
    assert repr([case.records for case in once]) == repr([case.records for case in again])
    assert repr(once[0].records) != repr(next(generated_cases(30, seed=6)).records)
    assert sum(question.written.startswith("list") for case in once for question in case.questions) == 30
    assert sum(question.written.startswith("query") for case in once for question in case.questions) == 10


def test_a_manual_clock_stands_until_it_is_moved() -> None:
    clock = ManualClock()
    assert clock() == clock()
    before = clock()
    assert (clock.advance(hours=1) - before).total_seconds() == 3600
    assert clock() > before


async def test_a_suite_leaves_nothing_running() -> None:
    async with open_storage("memory://") as storage:
        await StorageConformance().test_two_hundred_tasks_of_every_kind_end_without_an_error(storage)
        await storage.save(note("after"))
    assert asyncio.all_tasks() == {asyncio.current_task()}
