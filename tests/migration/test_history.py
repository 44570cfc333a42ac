"""The history checker finds each planted fault, and finds none where there is none."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migration.history import Content, Fault, HistoryLog, Interval, Violation, check, lines_of, operations
from tests.support import REPOSITORY
from unified_storage import StorageTimeoutError

A, B, C = Content("a"), Content("b"), Content("c")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[HistoryLog]:
    with HistoryLog(tmp_path / "one.jsonl", "one") as log:
        yield log


def save(log: HistoryLog, content: Content, id: str = "x") -> None:
    with log.operation("save", id, content):
        pass


def delete(log: HistoryLog, id: str = "x") -> None:
    with log.operation("delete", id):
        pass


def get(log: HistoryLog, found: Content | None, id: str = "x") -> None:
    with log.operation("get", id) as call:
        call.found = found


def faults(
    folder: Path,
    found: Content | None,
    *,
    other: Content | str | None = "the same",
    phase: int = 2,
    initial: Content | None = None,
    quiet: tuple[Interval, ...] = (),
    complete: bool = True,
    unsettled: tuple[str, ...] = (),
) -> list[Fault]:
    """What the check says of the id x when the store that is read holds *found*."""
    primary = {} if found is None else {"x": found}
    second = primary if isinstance(other, str) else {} if other is None else {"x": other}
    legacy, unified = (primary, second) if phase <= 2 else (second, primary)
    violations = check(
        sorted(folder.glob("*.jsonl")),
        legacy,
        unified,
        phase,
        initial={"x": initial} if initial else {},
        quiet=quiet,
        complete=complete,
        unsettled=unsettled,
    )
    assert all(violation.id == "x" for violation in violations)
    return [violation.fault for violation in violations]


# --- the stores at the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [0, 1, 2, 3, 4])
def test_newest_acknowledged_write_is_what_the_store_of_the_phase_holds(
    log: HistoryLog, tmp_path: Path, phase: int
) -> None:
    save(log, A)
    save(log, B)
    assert faults(tmp_path, B, phase=phase) == []
    assert faults(tmp_path, A, phase=phase) == ["lost"]
    assert faults(tmp_path, None, phase=phase) == ["lost"]


def test_deleted_session_that_is_back_is_resurrected(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    delete(log)
    assert faults(tmp_path, None) == []
    assert faults(tmp_path, A) == ["resurrected"]


def test_older_value_after_a_delete_and_a_newer_save_is_lost(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    delete(log)
    save(log, B)
    assert faults(tmp_path, B) == []
    assert faults(tmp_path, A) == ["lost"]
    assert faults(tmp_path, None) == ["lost"]


def test_content_of_before_the_run_counts_as_acknowledged(log: HistoryLog, tmp_path: Path) -> None:
    assert faults(tmp_path, A, initial=A) == []
    assert faults(tmp_path, None, initial=A) == ["lost"]
    assert faults(tmp_path, A) == ["invented"]
    save(log, B)
    assert faults(tmp_path, A, initial=A) == ["lost"]


def test_write_that_failed_may_be_there_or_not(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    with pytest.raises(OSError, match="full"), log.operation("save", "x", B):
        raise OSError("full")
    assert faults(tmp_path, A) == []
    assert faults(tmp_path, B) == []
    save(log, C)
    assert faults(tmp_path, B) == ["lost"]


def test_delete_that_failed_may_be_done_or_not(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    log.error(log.invoke("delete", "x"))
    assert faults(tmp_path, A) == []
    assert faults(tmp_path, None) == []


def test_write_of_a_dead_process_does_not_come_back_after_a_later_one(log: HistoryLog, tmp_path: Path) -> None:
    with HistoryLog(tmp_path / "two.jsonl", "two") as two:
        two.invoke("save", "x", A)
    log.died("two")
    assert faults(tmp_path, A) == []
    assert faults(tmp_path, None) == []
    save(log, B)
    assert faults(tmp_path, B) == []
    assert faults(tmp_path, A) == ["lost"]


def test_write_of_a_stopped_process_may_land_at_any_time_until_that_is_dead(log: HistoryLog, tmp_path: Path) -> None:
    with HistoryLog(tmp_path / "two.jsonl", "two") as two:
        two.invoke("save", "x", A)
    save(log, B)
    log.died("two")
    assert faults(tmp_path, A) == []
    save(log, C)
    assert faults(tmp_path, A) == ["lost"]


@pytest.mark.parametrize("raised", [TimeoutError, StorageTimeoutError, asyncio.CancelledError])
def test_write_that_timed_out_may_land_later(log: HistoryLog, tmp_path: Path, raised: type[BaseException]) -> None:
    with pytest.raises(raised), log.operation("save", "x", A):
        raise raised("too late")
    save(log, B)
    assert faults(tmp_path, A) == []
    assert faults(tmp_path, B) == []


def test_value_that_nobody_wrote_is_invented(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    assert faults(tmp_path, B) == ["invented"]


# --- both stores -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_stores_that_differ_when_all_is_quiet_are_found(log: HistoryLog, tmp_path: Path, phase: int) -> None:
    save(log, A)
    save(log, B)
    assert faults(tmp_path, B, other=A, phase=phase) == ["different"]
    assert faults(tmp_path, B, other=None, phase=phase) == ["different"]
    assert faults(tmp_path, B, other=A, phase=phase, unsettled=("x",)) == []
    assert faults(tmp_path, B, other=A, phase=phase, complete=False) == []


@pytest.mark.parametrize("phase", [0, 4])
def test_store_that_is_left_behind_may_hold_anything(log: HistoryLog, tmp_path: Path, phase: int) -> None:
    save(log, B)
    assert faults(tmp_path, B, other=C, phase=phase) == []


def test_session_which_only_the_other_store_has_is_found(log: HistoryLog, tmp_path: Path) -> None:
    assert faults(tmp_path, None, other=A, initial=None, phase=2) == ["different"]


# --- events ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (("1", "2", "3"), []),
        (("1", "2", "2", "3"), ["doubled"]),
        (("1", "3"), ["lost"]),
        (("1", "3", "2"), ["disordered"]),
        (("1", "2", "3", "4"), ["invented"]),
    ],
)
def test_each_event_is_there_once_and_in_order(
    log: HistoryLog, tmp_path: Path, events: tuple[str, ...], expected: list[Fault]
) -> None:
    save(log, Content("a", ("1", "2", "3")))
    assert faults(tmp_path, Content("a", events)) == expected


# --- reads -----------------------------------------------------------------------------------------------------


def test_read_older_than_an_acknowledged_write_is_found(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    save(log, B)
    get(log, B)
    assert faults(tmp_path, B) == []
    get(log, A)
    assert faults(tmp_path, B) == ["lost"]


def test_read_of_a_session_after_its_delete_is_found(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    delete(log)
    get(log, A)
    assert faults(tmp_path, None) == ["resurrected"]


def test_read_that_misses_an_acknowledged_session_is_found(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    get(log, None)
    assert faults(tmp_path, A) == ["lost"]


def test_read_during_a_write_may_find_either(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    with HistoryLog(tmp_path / "two.jsonl", "two") as two, two.operation("save", "x", B):
        get(log, B)
        get(log, A)
        get(log, B)
    assert faults(tmp_path, B) == []


def test_read_of_what_is_written_only_later_is_found(log: HistoryLog, tmp_path: Path) -> None:
    get(log, A)
    save(log, A)
    assert faults(tmp_path, A) == ["invented"]


def test_read_that_failed_says_nothing(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    log.error(log.invoke("get", "x"))
    assert faults(tmp_path, A) == []


def undecided(log: HistoryLog, *found: Content | None) -> tuple[Interval, ...]:
    """A save is acknowledged, another fails; then reads in a quiet time: the history of what may be un-seen."""
    save(log, A)
    log.error(log.invoke("save", "x", B))
    start = time.monotonic_ns()
    for content in found:
        get(log, content)
    return ((start, time.monotonic_ns()),)


def test_value_seen_in_a_quiet_moment_stays_seen(log: HistoryLog, tmp_path: Path) -> None:
    quiet = undecided(log, B, A)
    assert faults(tmp_path, B, quiet=quiet) == ["unseen"]
    assert faults(tmp_path, B) == []


def test_store_that_un_sees_at_the_end_is_found(log: HistoryLog, tmp_path: Path) -> None:
    quiet = undecided(log, B)
    assert faults(tmp_path, A, quiet=quiet) == ["unseen"]
    assert faults(tmp_path, B, quiet=quiet) == []


def test_failed_write_may_show_after_a_quiet_read_that_did_not_see_it(log: HistoryLog, tmp_path: Path) -> None:
    quiet = undecided(log, A, B)
    assert faults(tmp_path, B, quiet=quiet) == []


def test_read_beside_a_write_fixes_nothing(log: HistoryLog, tmp_path: Path) -> None:
    start = time.monotonic_ns()
    save(log, A)
    with HistoryLog(tmp_path / "two.jsonl", "two") as two:
        number = two.invoke("save", "x", B)
        get(log, B)
        two.error(number)
    get(log, A)
    assert faults(tmp_path, A, quiet=((start, time.monotonic_ns()),)) == []


def test_failed_write_that_gave_way_to_another_does_not_come_back(log: HistoryLog, tmp_path: Path) -> None:
    log.error(log.invoke("save", "x", B))
    log.error(log.invoke("save", "x", C))
    start = time.monotonic_ns()
    get(log, B)
    get(log, C)
    quiet = ((start, time.monotonic_ns()),)
    assert faults(tmp_path, C, quiet=quiet) == []
    assert faults(tmp_path, B, quiet=quiet) == ["unseen"]


def test_absence_may_be_seen_again_and_again(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    delete(log)
    start = time.monotonic_ns()
    get(log, None)
    get(log, None)
    assert faults(tmp_path, None, quiet=((start, time.monotonic_ns()),)) == []


def test_absence_that_was_seen_stays_seen(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    log.error(log.invoke("delete", "x"))
    start = time.monotonic_ns()
    get(log, None)
    assert faults(tmp_path, A, quiet=((start, time.monotonic_ns()),)) == ["unseen"]


# --- the files -------------------------------------------------------------------------------------------------


def test_ids_and_clients_do_not_touch_each_other(log: HistoryLog, tmp_path: Path) -> None:
    with HistoryLog(tmp_path / "two.jsonl", "two") as two:
        save(log, A, "x")
        save(two, A, "y")
        save(two, B, "x")
        delete(log, "y")
    files = sorted(tmp_path.glob("*.jsonl"))
    assert check(files, {"x": B}, {"x": B}, 2) == []
    wrong = check(files, {"x": A, "y": A}, {"x": A, "y": A}, 2)
    assert [(violation.id, violation.fault) for violation in wrong] == [("x", "lost"), ("y", "resurrected")]
    assert wrong[0] == Violation("lost", "x", "'a' of save one#1 is too old")


def test_line_that_was_not_written_whole_was_not_called(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    path = tmp_path / "one.jsonl"
    with path.open("ab") as file:
        file.write(b'{"client": "one", "at": 1, "t": "inv')
    assert [line["t"] for line in lines_of(path)] == ["invoke", "ok"]
    assert faults(tmp_path, A) == []


def test_line_that_is_no_json_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_bytes(b"{torn\n{}\n")
    with pytest.raises(json.JSONDecodeError):
        lines_of(path)


def test_value_written_twice_is_refused(log: HistoryLog, tmp_path: Path) -> None:
    save(log, A)
    save(log, A)
    with pytest.raises(ValueError, match="the same value"):
        faults(tmp_path, A)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.migration.history import Content, HistoryLog
log = HistoryLog(Path(sys.argv[1]), "killed")
log.ok(log.invoke("save", "x", Content("a", ("1",))))
log.invoke("save", "x", Content("b"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_lines_of_a_killed_process_are_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "killed.jsonl"
    run = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=REPOSITORY, check=False)
    assert run.returncode == -9
    first, second = operations([path])
    assert (first.acknowledged, first.content) == (True, Content("a", ("1",)))
    assert (second.acknowledged, second.ended) == (False, float("inf"))


def test_each_line_is_forced_to_the_disk(log: HistoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", forced.append)
    save(log, A)
    assert len(forced) == 2
