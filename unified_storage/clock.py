"""Where "now" comes from: the one clock of a storage."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The machine's time, aware and in UTC."""
    return datetime.now(UTC)
