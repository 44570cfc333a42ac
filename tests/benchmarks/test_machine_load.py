"""What else a machine has to do is told apart by priority."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.machine_load import load_now

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems tell a load average alone")
SPIN = "while True: pass"


@pytest.mark.parametrize(("command", "kind"), [(["nice", "-n", "19"], "low"), ([], "normal")])
def test_work_is_counted_by_its_priority(command: list[str], kind: str) -> None:
    spinning = [subprocess.Popen([*command, sys.executable, "-c", SPIN]) for _ in range(3)]
    try:
        assert getattr(load_now(), kind) >= len(spinning)
    finally:
        for process in spinning:
            process.kill()
            process.wait()
