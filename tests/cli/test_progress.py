"""Progress: a bar with rate and time left on a terminal, plain lines otherwise, and nothing where it is not wanted."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from legacy.migration import Progress
from tests.cli.running import PROGRAM, run, write_session
from unified_storage_cli.progress import PlainLines, duration

COLOUR = re.compile(r"\x1b\[[0-9;]*3\d[0-9;]*m")


def on_a_terminal(*arguments: object, **environment: str) -> str:
    """What a command shows on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    settings = {"TERM": "xterm-256color", "COLUMNS": "100"}
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    command = subprocess.Popen(
        [PROGRAM, *map(str, arguments)], stdout=theirs, stderr=theirs, env=inherited | settings | environment
    )
    os.close(theirs)
    shown = b""
    while piece := _piece(ours):
        shown += piece
    os.close(ours)
    assert command.wait(timeout=30) == 0
    return shown.decode()


def _piece(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other side is closed
        return b""


def test_a_terminal_shows_a_bar_with_count_rate_and_time(folder, url):
    shown = on_a_terminal("copy", folder, url)
    assert "copying" in shown
    assert "3/3" in shown
    assert re.search(r"[\d.]+/s", shown)
    assert re.search(r"\d:\d\d:\d\d", shown)
    assert COLOUR.search(shown)


def test_no_color_is_heeded(folder, url):
    shown = on_a_terminal("copy", folder, url, NO_COLOR="1")
    assert "3/3" in shown
    assert not COLOUR.search(shown)


def test_a_dumb_terminal_gets_plain_lines(folder, url):
    shown = on_a_terminal("copy", folder, url, TERM="dumb")
    assert "copying 3 of 3" in shown
    assert "\x1b" not in shown


def test_without_a_terminal_there_are_plain_lines_on_stderr(capsys, folder, url):
    done = run(capsys, "copy", folder, url)
    assert re.fullmatch(r"copying 3 of 3(, [\d. ]+/s)?\n", done.err)


@pytest.mark.parametrize("switch", ["--json", "--quiet"])
def test_who_wants_no_progress_gets_none(capsys, folder, url, switch):
    assert run(capsys, "copy", folder, url, switch).err == ""
    assert run(capsys, "verify", folder, url, switch).err == ""


def test_plain_lines_come_every_few_seconds_with_rate_and_time_left(capsys):
    moments = (0.0, 1.0, 5.0, 7.0, 10.0, 19.0, 20.0)
    lines = PlainLines(iter(moments).__next__)
    for moment in moments:
        lines(Progress("copy", round(moment * 100), 2000))
    assert capsys.readouterr().err.splitlines() == [
        "copying 500 of 2 000, 100/s, 15 s left",
        "copying 1 000 of 2 000, 100/s, 10 s left",
        "copying 1 900 of 2 000, 100/s, 1.0 s left",
        "copying 2 000 of 2 000, 100/s",
    ]


def test_a_long_look_around_shows_signs_of_life(capsys):
    lines = PlainLines(iter((0.0, 3.0, 6.0)).__next__)
    for _ in range(3):
        lines(Progress("survey", 0, 0))
    assert capsys.readouterr().err == "looking\n"


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_read_well(seconds, told):
    assert duration(seconds) == told


def test_a_large_result_is_shown_whole_without_a_terminal(capsys, tmp_path: Path, url):
    name = "x" * 200
    write_session(tmp_path / "long", "a")
    (tmp_path / "long" / f"{name}.json").write_text("")
    done = run(capsys, "copy", tmp_path / "long", url)
    assert any(name in line and "empty_file" in line for line in done.out.splitlines())
