"""What tests of the documentation find ready."""

from __future__ import annotations

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
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(folder)
    return folder
