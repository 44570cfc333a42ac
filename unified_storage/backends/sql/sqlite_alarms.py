"""One timer for all that wait on one event loop: nearly every job is over long before its time."""

from __future__ import annotations

import asyncio
import threading
from typing import Protocol


class Waiting(Protocol):
    def withdraw_late(self, most: float) -> None:
        """Its *most* seconds are over."""


class Alarm:
    """Rings for what still waits when its time is over. A timer for each would cost more than many a read does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._due: dict[Waiting, tuple[float, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def set(self, waiting: Waiting, seconds: float) -> None:
        due = self.loop.time() + seconds
        self._due[waiting] = (due, seconds)
        if self._timer is None or due < self._timer.when():
            self._ring_at(due)

    def lift(self, waiting: Waiting) -> None:
        self._due.pop(waiting, None)

    def _ring_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self.loop.time()
        for waiting, (due, seconds) in [*self._due.items()]:
            if due <= now:
                self.lift(waiting)
                waiting.withdraw_late(seconds)
        if self._due:
            self._ring_at(min(due for due, _ in self._due.values()))


class _Last(threading.local):
    alarm: Alarm | None = None


_last = _Last()
"""The alarm of the loop that this thread has run last."""


def alarm_of(loop: asyncio.AbstractEventLoop) -> Alarm:
    """The alarm of the loop that runs in this thread."""
    alarm = _last.alarm
    if alarm is None or alarm.loop is not loop:
        # One that is left to a loop which is run again later still rings there, for what it was set for.
        alarm = _last.alarm = Alarm(loop)
    return alarm
