"""``make contract-test`` fails where the recordings are missing; it does not pass by having nothing to compare."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import REPOSITORY


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the target needs, with the environment that is installed already."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    shutil.copytree(REPOSITORY / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".venv").symlink_to(REPOSITORY / ".venv")
    return tmp_path


@pytest.mark.servers  # it starts pytest in pytest, which is too long for `make test`
@pytest.mark.parametrize("recording", ["golden.json", "scenarios.json"])
def test_the_target_fails_without_its_recordings(recording: str, checkout: Path):
    (checkout / "tests" / "contract" / recording).unlink()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTEST", "COV"))}
    installed = "--old-file=.venv/.dev-installed"  # else it would install the copy into the environment that we run in
    command = ["make", installed, "contract-test", "ARGS=-k 'answer_is_given[sqlite'"]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert recording in done.stdout
    assert "1 failed" in done.stdout
