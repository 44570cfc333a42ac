"""`copy --follow` beside the real libraries, which write all the time, while the follower is killed again and again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from legacy.migration import copy_store
from tests.cli.running import PROGRAM, run_program
from tests.legacy.following import differing
from tests.legacy.peers.adk_stores import read_by_adk
from tests.legacy.peers.libraries import PYTHON, found_by, need
from tests.places import engines, place_on
from tests.support import REPOSITORY

WRITERS = REPOSITORY / "tests" / "legacy" / "writers"
SECONDS_A_LIFE = 3.0
"""A follower is killed within so many seconds after its first pass."""


def read_by_agno(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = found_by("agno_sessions.py", "agno.db", f"sqlite:///{file}")
    return found


SOURCES: dict[str, tuple[str, Callable[[Path], list[str]], Callable[[Path], Any]]] = {
    "adk-v1": (
        "google.adk.sessions",
        lambda file: ["adk_writer.py", "database", f"sqlite+aiosqlite:///{file}"],
        lambda file: read_by_adk("adk-v1", file, ["shop"]),
    ),
    "adk-sqlite": (
        "google.adk.sessions",
        lambda file: ["adk_writer.py", "sqlite", str(file)],
        lambda file: read_by_adk("adk-sqlite", file, ["shop"]),
    ),
    "agno": ("agno.db", lambda file: ["agno_writer.py", f"sqlite:///{file}"], read_by_agno),
}
"""Format -> the module that writes it, the program that does, and what the library reads in a file."""


@contextmanager
def writing(program: list[str], module: str, seed: int) -> Iterator[dict[str, int]]:
    """While inside the library writes; afterwards: how often it did what."""
    need(module)
    command = [str(PYTHON), str(WRITERS / program[0]), *program[1:], str(seed)]
    done: dict[str, int] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield done
        finally:
            process.stdin.close()
            done.update(json.loads(process.stdout.read()))
    assert process.returncode == 0


def started(source: str, target: str) -> subprocess.Popen[str]:
    switches = ["--follow", "0.2", "--delete", "--max-delete", "1000", "--json"]
    command = [str(PROGRAM), "copy", source, target, *switches]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def killed(process: subprocess.Popen[str], seconds: float) -> list[dict[str, Any]]:
    """The passes of a follower that is killed so long after its first one."""
    assert process.stdout is not None
    with process:
        passes = [json.loads(process.stdout.readline())["pass"]]
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines()
    return passes + [json.loads(line)["pass"] for line in rest if line.endswith("}}")]


def ended(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and lines of a follower that is told to end."""
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    return process.returncode, [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("engine", engines("sqlite", "postgresql", "redis"))
@pytest.mark.parametrize("format", SOURCES)
async def test_a_copy_is_in_step_with_what_its_library_writes_however_often_it_is_killed(
    format: str, engine: str, tmp_path: Path, scaled: Callable[..., int]
) -> None:
    """100 kills in full."""
    module, program, read = SOURCES[format]
    file = tmp_path / "source.db"
    source = f"{format}+sqlite:///{file}"
    seed = random.randrange(1 << 30)
    async with place_on(engine, tmp_path) as place:
        target = place.address
        with writing(program(file), module, seed) as written:
            time.sleep(1.0)
            lives = [
                killed(started(source, target), random.uniform(0.0, SECONDS_A_LIFE))
                for _ in range(scaled(100, minimum=2))
            ]
            last = started(source, target)
            time.sleep(SECONDS_A_LIFE)
        changed = [done for life in lives for done in life if done["copied"]]
        assert changed, (seed, lives)
        assert not [done for life in lives for done in life if done["conflict"] or done["quarantined"]], seed
        assert written["delete"] > 0
        code, _ = ended(last)
        assert code in (0, 130)
        final = run_program("copy", source, target, "--follow", "0", "--delete", "--max-delete", "1000", "--json")
        assert final.code == 0, final.out
        assert await differing(source, target) == {}, seed
        assert await differing(target, source) == {}, seed
        again = f"{format}+sqlite:///{tmp_path}/again.db"
        (await copy_store(target, again)).close()
    assert read(tmp_path / "again.db") == read(file), seed
