"""What connections to PostgreSQL are asked, to count round trips."""

from __future__ import annotations

from typing import Any

import pytest

from unified_storage.backends.sql.postgresql_connection import PostgreSQLConnection


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What every connection sends from here on: the second word of each statement, and what begins and ends."""
    told: list[str] = []
    for name in ("run", "begin", "commit"):
        _note_calls(monkeypatch, name, told)
    return told


def _note_calls(monkeypatch: pytest.MonkeyPatch, name: str, told: list[str]) -> None:
    inner = getattr(PostgreSQLConnection, name)

    async def noting(self: PostgreSQLConnection, *given: Any) -> Any:
        told.append(given[0].sql.split()[1] if name == "run" else name)
        return await inner(self, *given)

    monkeypatch.setattr(PostgreSQLConnection, name, noting)
