"""What tests of the documentation find ready."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support import REPOSITORY

NEEDED = ("Makefile", "pyproject.toml", "requirements", "examples")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout as a reader has it: with what the pages use, and the environment that ``make`` made."""
    folder = tmp_path / "unified-storage"
    folder.mkdir()
    for name in NEEDED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy2(source, folder / name)
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    for file in (folder / "pyproject.toml", *(folder / "requirements").iterdir()):
        os.utime(
            file, (0, 0)
        )  # else `make` would install what is newer, and itself, into the environment that we run in
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(folder)
    return folder
