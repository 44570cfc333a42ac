"""A clock that stands still until it is told to move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NOON = datetime(2024, 5, 15, 12, 0, tzinfo=UTC)


class ManualClock:
    """Gives the time of a storage under test: ``open_storage(url, clock=ManualClock())``."""

    def __init__(self, start: datetime = NOON) -> None:
        self.now = start

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **units: float) -> datetime:
        """Move on by the units of a ``timedelta`` (``days=1``, ``microseconds=-1``), and give the new time."""
        self.now += timedelta(**units)
        return self.now
