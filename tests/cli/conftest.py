"""What tests of the command line find ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import write_session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three sessions, a, b and c."""
    for id in "abc":
        write_session(tmp_path / "sessions", id)
    return tmp_path / "sessions"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A SQLite store that is not there yet."""
    return f"sqlite:///{tmp_path}/store.db"
