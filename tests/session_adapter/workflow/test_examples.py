"""The example programs of workflows do what they say, in under forty lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import REPOSITORY


def run(name: str, *arguments: str) -> list[str]:
    program = REPOSITORY / "examples" / name
    assert len(program.read_text("utf-8").splitlines()) < 40
    command = [sys.executable, "-W", "error", str(program), *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_state_of_the_orders_stays_with_the_session(tmp_path: Path) -> None:
    """S3.11, S3.13, S3.24."""
    url = f"sqlite:///{tmp_path}/orders.db"
    assert run("workflow_orders.py", url) == ["Ann has placed 1 ['7-1']"]
    assert run("workflow_orders.py", url) == ["Ann has placed 2 ['7-1', '7-2']"]


def test_the_answers_of_the_shops_come_together() -> None:
    """S3.15, S3.17, S3.18."""
    assert run("workflow_parallel.py") == [
        "(39, 'price_bakery') 13 market",
        "last_answer ('mill', 'bakery', 'market') ('mill', 'bakery', 'market') last",
    ]
