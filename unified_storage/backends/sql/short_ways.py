"""Records written in one round trip, where an engine can: what it cannot is left to the steps of the verbs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from unified_storage.backends.sql.store import Store
from unified_storage.record import Draft


class ShortWays(Protocol):
    """What an engine may do of a verb by itself."""

    async def save(self, store: Store, draft: Draft, expected_version: int | None) -> bool:
        """Save a record; False where nothing was done, and the verb has to go step by step.

        Raises:
            StorageConnectionError: as for a commit; ``details["outcome"]`` may be ``unknown``.
        """

    async def update(
        self, store: Store, id: str, updates: Mapping[str, Any], kind: str | None, expected_version: int | None
    ) -> bool:
        """Update a record; False and what is raised are as for :meth:`save`."""
