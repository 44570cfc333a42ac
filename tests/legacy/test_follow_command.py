"""`copy --follow` as a command: a line a pass, how it ends, and what it says then."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from legacy.migration import Pass
from tests.cli.running import PROGRAM, Ran, run, run_program, write_session
from unified_storage_cli.follow import PlainLines, line_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for id in "abc":
        write_session(tmp_path / "sessions", id)
    return tmp_path / "sessions"


@pytest.fixture
def target(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A follower, told to end on leaving if it has not ended."""
    command = [str(PROGRAM), "copy", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> Ran:
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return Ran(process.returncode, out, err)


def next_pass(process: subprocess.Popen[str], *, quiet: bool) -> dict[str, Any]:
    assert process.stdout is not None
    while True:
        done: dict[str, Any] = json.loads(process.stdout.readline())["pass"]
        if done["is_quiet"] is quiet:
            return done


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_when_the_last_pass_was_quiet(folder: Path, target: str, number: int) -> None:
    with started(folder, target, "--follow", "0.1", "--json") as process:
        assert next_pass(process, quiet=False)["copied"] == 3
        write_session(folder, "d")
        assert next_pass(process, quiet=False)["copied"] == 1
        next_pass(process, quiet=True)
        done = ended(process, number)
    assert done.code == 0
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [[*line] for line in lines[:-1]] == [["pass"]] * (len(lines) - 1)
    summary = lines[-1]["summary"]
    assert summary["promise"] == "equal at the last quiet pass"
    assert summary["ledger"]["read"] == summary["ledger"]["copied"] == summary["ledger"]["verified"] == 4
    assert summary["last_quiet"] is not None


def test_it_is_interrupted_when_something_was_left(tmp_path: Path, target: str) -> None:
    for at in range(60):
        write_session(tmp_path / "sessions", f"s{at:02}")
    with started(tmp_path / "sessions", target, "--follow", "0.1", "--max-rate", "2/s") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("read ")
        done = ended(process)
    assert done.code == 130
    assert "run the same command again" in done.err
    assert "There was no quiet pass" in done.out
    again = run_program("copy", tmp_path / "sessions", target, "--follow", "0", "--json")
    ledger = json.loads(again.out.splitlines()[-1])["summary"]["ledger"]
    assert again.code == 0
    assert ledger["equal"] > 0
    assert ledger["equal"] + ledger["copied"] == 60


def test_lines_and_summary_say_what_they_promise(folder: Path, target: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    (folder / "broken.json").write_text("{")
    done = run_program("copy", folder, target, "--follow", "0", "--report", report)
    assert done.code == 3
    assert "pass 1: 3 copied; 3 records in " in done.err
    assert "broken.json" in done.out
    assert "There was no quiet pass: run it again" in done.out
    again = run_program("copy", folder, target, "--follow", "0", "--quiet")
    assert "Promise: equal at the last quiet pass, 20" in again.out
    assert again.err == ""
    outcomes = {item["file"]: item["outcome"] for item in json.loads(report.read_text())["items"]}
    assert outcomes == {"a.json": "copied", "b.json": "copied", "c.json": "copied", "broken.json": "quarantined"}


def test_a_mass_change_stops_it_and_says_how_to_go_on(folder: Path, target: str) -> None:
    run_program("copy", folder, target, "--follow", "0")
    for id in "ab":
        (folder / f"{id}.json").unlink()
    stopped = run_program("copy", folder, target, "--follow", "0", "--delete")
    assert stopped.code == 6
    assert "say --delete --max-delete 2" in stopped.err
    told = run_program("copy", folder, target, "--follow=0", "--delete", "--json")
    assert json.loads(told.out.splitlines()[-1])["error"]["details"] == {"vanished": 2, "known": 3, "allowed": 1}
    kept = run_program("copy", folder, target, "--follow", "0")
    assert "The source has 2 records no more that the target has; --delete deletes them." in kept.out
    meant = run_program("copy", folder, target, "--follow", "0", "--delete", "--max-delete", "2")
    assert meant.code == 0
    assert "2 deleted in the target" in meant.out


@pytest.mark.parametrize(
    "switches",
    [
        ["--delete"],
        ["--max-delete", "5"],
        ["--follow", "1", "--dry-run"],
        ["--follow", "1", "--map", "app=x"],
        ["--follow", "1", "--max-delete", "5"],
        ["--follow", "-1"],
        ["--follow", "often"],
    ],
    ids=lambda switches: " ".join(switches),
)
def test_switches_that_make_no_sense_are_refused(
    capsys: pytest.CaptureFixture[str], folder: Path, target: str, switches: list[str]
) -> None:
    done = run(capsys, "copy", folder, target, *switches)
    assert done.code == 1
    assert not Path(target.removeprefix("sqlite:///")).exists()


def test_a_second_follower_into_the_same_target_is_refused(folder: Path, target: str) -> None:
    with started(folder, target, "--follow", "0.1", "--json") as process:
        next_pass(process, quiet=True)
        second = run_program("copy", folder, target)
        assert second.code == 5
        assert ended(process).code == 0


def test_quiet_passes_are_told_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = PlainLines(lambda: now)
    for number in range(130):
        now += 1.0
        lines.on_pass(Pass(number, records=5, copied=number == 3, seconds=0.1, is_whole=True))
    told = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["pass 0", "pass 3", "pass 4", "pass 64", "pass 124"]


def test_a_line_tells_rate_and_lag() -> None:
    done = Pass(12, 1000, copied=3, deleted=1, conflict=2, vanished=4, seconds=0.5, behind=1.5, is_whole=True)
    assert line_of(done) == (
        "pass 12: 3 copied, 1 deleted, 2 in conflict, 4 vanished; 1 000 records in 0.5 s (2 000/s),"
        " at most 1.5 s behind"
    )
    failed = Pass(2, error="it cannot be reached")
    assert line_of(failed) == "pass 2: it cannot be reached; tried again in the next pass"
