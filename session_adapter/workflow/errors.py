"""What workflow state raises besides the storage's own errors."""

from __future__ import annotations

from typing import Any

from unified_storage.errors import StorageConflictError, StorageValidationError


class StateCopyError(StorageValidationError):
    """A value cannot be copied, so nobody can be given one of his own."""

    code = "STATE_COPY_ERROR"

    @property
    def key(self) -> str | None:
        """The key of the value."""
        return self.details.get("key")


class StateTypeError(StorageValidationError):
    """A value has another type than it was asked for."""

    code = "STATE_TYPE_ERROR"

    @property
    def key(self) -> str | None:
        """The key of the value."""
        return self.details.get("key")


class StateConflictError(StorageConflictError):
    """Branches changed the same key differently, and its policy is ``error``."""

    code = "STATE_CONFLICT_ERROR"

    @property
    def conflicts(self) -> list[dict[str, Any]]:
        """Each key in conflict: ``{"key", "path", "branches", "values"}``, values in the order of the branches."""
        listed: list[dict[str, Any]] = self.details.get("conflicts", [])
        return listed
