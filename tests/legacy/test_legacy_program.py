"""The same legacy program, unchanged, on every store and in every situation (S2.45, S2.46, S2.47)."""

import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import support
from tests.legacy.situations import SITUATIONS
from tests.places import SERVERS, engines, place_on

PLACES = ["file", "memory", "memory://", "sqlite", *engines(*SERVERS)]
HUMAN = "HumanMessage: I have to cancel flight HAT 042 to Zürich."
SAID = [HUMAN, "AIMessage: It can be refunded. Shall I cancel it?", "HumanMessage: Yes, please. 谢谢"]


def report(name: str) -> list[str]:
    return [*SAID, f"{name}-airline completed flows/airline.yaml"]


EXPECTED = {
    "in_sixteen_threads": report("t0"),
    "after_fork": [*report("parent"), *report("child"), *report("parent")],
}
BLOCKS = "a synchronous call blocks the event loop of its thread; use the asynchronous interface there\n"


def python(*arguments: str) -> tuple[list[str], str, float]:
    """Output lines, error text, and when it was over; the process has 15 seconds and must succeed."""
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "error", *arguments],
        cwd=support.REPOSITORY,
        capture_output=True,
        encoding="utf-8",
        timeout=15,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr, time.time()


@pytest.fixture
async def place(where: str, tmp_path: Path) -> AsyncIterator[str]:
    """What the program is told of the place *where* its sessions are."""
    if where in (*SERVERS, "sqlite"):
        async with place_on(where, tmp_path) as found:
            yield found.address
    else:
        yield f"file:{tmp_path}/sessions" if where == "file" else where


@pytest.mark.timeout(60)
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("where", PLACES)
def test_the_legacy_program_runs_unchanged_and_ends(where: str, place: str, situation: str) -> None:
    lines, errors, over = python("-m", "tests.legacy.situations", situation, place)
    (last,) = [line for line in lines if line.startswith("nothing left")]
    lines.remove(last)
    assert lines == EXPECTED.get(situation, report("demo"))
    blocks = situation == "inside_a_running_loop" and where not in ("file", "memory")
    assert errors == (BLOCKS if blocks else "")
    assert over - float(last.split()[-1]) < 2


@pytest.mark.parametrize("where", PLACES)
def test_the_example_runs_from_the_command_line(where: str, place: str) -> None:
    lines, errors, _ = python("examples/legacy_program.py", place)
    assert (lines, errors) == (report("demo"), "")


@pytest.mark.parametrize("where", ["sqlite", *engines(*SERVERS)])
def test_what_one_run_leaves_the_next_one_finds(where: str, place: str) -> None:
    program = ["examples/legacy_program.py", place]
    assert python(*program)[0] == python(*program)[0] == report("demo")
