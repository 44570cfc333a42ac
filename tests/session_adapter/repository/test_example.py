"""The example program of typed sessions does what it says, in under forty lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import REPOSITORY


def test_two_workers_lose_no_run(tmp_path: Path) -> None:
    program = REPOSITORY / "examples" / "typed_sessions.py"
    assert len(program.read_text("utf-8").splitlines()) < 40
    command = [sys.executable, "-W", "error", str(program), f"sqlite:///{tmp_path}/sessions.db"]
    for said in ("2 runs, 50 tokens", "4 runs, 100 tokens"):
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
        assert (done.stdout, done.stderr) == (f"{said}: Ann asked for bread.\n", "")
