"""Whether a process that left its name behind has ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import REPOSITORY
from unified_storage import processes
from unified_storage.processes import has_ended, this_process

TELLS = "import json; from unified_storage.processes import this_process; print(json.dumps(this_process()), flush=True)"
WAITS = f"{TELLS}; input()"


def started() -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """A process that ends with its input, and what it calls itself."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", WAITS], cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return process, told


def test_a_process_has_ended_when_it_has() -> None:
    process, told = started()
    with process:
        assert told["pid"] == process.pid
        assert not has_ended(told)
        assert not has_ended(this_process())
    assert has_ended(told)


def test_a_number_that_is_used_again_is_not_the_same_process() -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this machine does not say when a process began")
    assert has_ended(this_process() | {"started": "1"})
    assert this_process()["pid"] == os.getpid()


@pytest.mark.parametrize("elsewhere", [{"host": "elsewhere"}, {"boot": "another one"}, {"boot": None}])
def test_of_another_machine_nothing_is_known(elsewhere: dict[str, Any]) -> None:
    """Virtual machines may have the same name, and the same number of processes: not the same start."""
    if this_process()["boot"] is None:
        pytest.skip("this machine does not say when it was started")
    assert not has_ended(this_process() | {"started": "1"} | elsewhere)
    assert this_process() != this_process() | elsewhere


def test_what_was_noted_without_a_start_of_the_machine_is_of_another_one() -> None:
    noted = this_process() | {"started": "1"}
    del noted["boot"]
    assert has_ended(noted) == (this_process()["boot"] is None)


def test_a_machine_that_does_not_say_when_it_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_boot", lambda: None)
    assert has_ended(this_process() | {"started": "1"})
    assert not has_ended(this_process())
