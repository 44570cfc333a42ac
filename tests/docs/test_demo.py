"""``make demo`` shows the main job, and what it says at the end is counted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run_demo(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "examples/demo.py"]
    settings = os.environ | environment
    return subprocess.run(program, cwd=checkout, env=settings, capture_output=True, encoding="utf-8", timeout=60)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_demo_ends_with_a_true_summary_on_every_terminal(checkout: Path, encoding: str):
    files = len(list((checkout / "examples" / "sessions").glob("*.json")))
    done = run_demo(checkout, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert f"{files} session files read, {files} copied, {files} verified" in done.stdout
    assert f"copied again: {files} equal, 0 written" in done.stdout
    assert (checkout / "build" / "demo" / "sessions.db").exists()


def test_the_demo_fails_when_its_claims_are_not_true(checkout: Path):
    (checkout / "examples" / "sessions" / "broken.json").write_text("{")
    done = run_demo(checkout)
    assert done.returncode == 1
    assert "demo: not so: unified-storage copy succeeds" in done.stderr
