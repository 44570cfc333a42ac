"""The old synchronous interface, as the programs know it that were written for it."""

from abc import ABC, abstractmethod
from typing import Any


class ISessionStore(ABC):
    """Sessions by id, each a dict. No method raises for what goes wrong in the store itself; see the classes."""

    @abstractmethod
    def save_session(self, session_id: str, session_data: dict[str, Any]) -> bool:
        """Store the session, replacing what was there; whether that was done."""

    @abstractmethod
    def get_session(self, session_id: str) -> dict[str, Any] | None:
        """The session as it was saved, a copy; None when there is none."""

    @abstractmethod
    def delete_session(self, session_id: str) -> bool:
        """Remove the session; what a missing one gives is the store's own."""

    @abstractmethod
    def list_sessions(self) -> list[dict[str, Any]]:
        """A summary of each session: ``session_id workflow_config_path created_at updated_at status``."""

    @abstractmethod
    def session_exists(self, session_id: str) -> bool:
        """Whether there is such a session."""
