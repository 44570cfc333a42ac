"""What a caller wants done to a session, as each of the two stores does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from legacy.migration.live.legacy_side import Document, LegacySide
from session_adapter.identity import no_session
from session_adapter.service import SessionService
from unified_storage.handed_in import kept
from unified_storage.record import merged


class Change(Protocol):
    """One write of a caller."""

    @property
    def session_id(self) -> str: ...

    @property
    def expected_version(self) -> int | None:
        """Of the session in U; L knows no versions."""

    async def in_legacy(self, legacy: LegacySide) -> Document | None:
        """Do it in L; the document that L holds afterwards, None for a deleted one.

        Raises:
            SessionNotFoundError: there is none, and nothing was written.
        """

    async def in_unified(self, sessions: SessionService) -> None:
        """Do it in U, as the view does it whose reads callers see there."""


@dataclass(frozen=True)
class Save:
    """Insert or replace a session."""

    session_id: str
    document: Document
    expected_version: int | None = None

    async def in_legacy(self, legacy: LegacySide) -> Document | None:
        await legacy.save(self.session_id, self.document)
        return await legacy.kept(self.session_id, self.document)

    async def in_unified(self, sessions: SessionService) -> None:
        await sessions.save_session(self.session_id, self.document, expected_version=self.expected_version)


@dataclass(frozen=True)
class Update:
    """Change only the fields given."""

    session_id: str
    updates: Mapping[str, Any]
    expected_version: int | None = None

    async def in_legacy(self, legacy: LegacySide) -> Document | None:
        stored = await legacy.get(self.session_id)
        if stored is None:
            raise no_session(self.session_id)
        document = merged(stored, kept(dict(self.updates), "updates"))
        await legacy.save(self.session_id, document)
        return await legacy.kept(self.session_id, document)

    async def in_unified(self, sessions: SessionService) -> None:
        await sessions.update_session(self.session_id, self.updates, expected_version=self.expected_version)


@dataclass(frozen=True)
class Delete:
    """Delete a session."""

    session_id: str
    expected_version: int | None = None

    async def in_legacy(self, legacy: LegacySide) -> Document | None:
        if not await legacy.exists(self.session_id):
            raise no_session(self.session_id)
        await legacy.delete(self.session_id)
        return None

    async def in_unified(self, sessions: SessionService) -> None:
        await sessions.delete_session(self.session_id, expected_version=self.expected_version)
