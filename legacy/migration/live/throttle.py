"""Holding a pass back: by a rate, by how slow the target answers, by a share of the time, by a file, by a word."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from unified_storage.interface import IUnifiedStorage, Record

SETTINGS_TYPE, SETTINGS_ID, REASON_ID = "_migration_settings", "settings", "throttled"
_CHECK_EVERY = 0.2
_PROBES = 50
_ENOUGH = 10
"""So many answers of the target are known before a 95th percentile says anything."""


@dataclass(frozen=True)
class Settings:
    """What holds a pass back; changed while it runs.

    Attributes:
        max_rate: sessions a second.
        max_p95: seconds within which 95 of 100 questions to the target are to be answered.
        nice: seconds of rest for each second of work.
        paused: nothing is copied; writes and repairs go on.
    """

    max_rate: float | None = None
    max_p95: float | None = None
    nice: float = 0.0
    paused: bool = False
    version: int = 0

    @classmethod
    def of(cls, record: Record | None) -> Self:
        return cls() if record is None else cls(**record["data"], version=record["version"])

    def record(self) -> Record:
        data = asdict(self)
        del data["version"]
        return {"id": SETTINGS_ID, "type": SETTINGS_TYPE, "data": data}


async def settings_in(storage: IUnifiedStorage) -> Settings:
    """As they were set last."""
    return Settings.of(await storage.load(SETTINGS_ID, type=SETTINGS_TYPE))


async def throttled(storage: IUnifiedStorage) -> str | None:
    """Why nothing is copied at this moment, as the runner said last; None while it copies or has nothing to copy."""
    found = await storage.load(REASON_ID, type=SETTINGS_TYPE)
    return None if found is None else found["data"]["reason"]


async def tell_reason(storage: IUnifiedStorage, reason: str | None) -> None:
    """Say why nothing is copied, for whoever asks."""
    await storage.save({"id": REASON_ID, "type": SETTINGS_TYPE, "data": {"reason": reason}})


async def change_settings(storage: IUnifiedStorage, changes: Mapping[str, Any]) -> Settings:
    """Set some of them; a runner sees it within a second."""

    async def step(tx: IUnifiedStorage) -> Settings:
        changed = replace(await settings_in(tx), **changes)
        await tx.save(changed.record(), expected_version=changed.version)
        return changed

    return await storage.atomically(step)


class Throttle:
    """Decides when the next batch may begin.

    Args:
        pause_file: as long as it is there, nothing is copied.
        clock, sleep: seconds; for tests.

    Attributes:
        reason: why nothing is copied at this moment; None while it is.
    """

    def __init__(
        self,
        storage: IUnifiedStorage,
        *,
        pause_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.reason: str | None = None
        self._storage = storage
        self._pause_file = pause_file
        self._clock = clock
        self._sleep = sleep
        self._settings = Settings()
        self._answers: deque[float] = deque(maxlen=_PROBES)
        self._due = self._last_end = clock()

    async def __call__(self, sessions: int) -> None:
        """A batch of so many *sessions* is done; returns when the next may begin."""
        worked = self._clock() - self._last_end
        await self._ask()
        await self._rest("nice", worked * self._settings.nice)
        await self._keep_rate(sessions)
        while (reason := await self._held_back()) is not None:
            self.reason = reason
            await self._sleep(_CHECK_EVERY)
            await self._ask()
        self.reason = None
        self._last_end = self._clock()

    async def _keep_rate(self, sessions: int) -> None:
        rate = self._settings.max_rate
        now = self._clock()
        if rate is None:
            self._due = now
            return
        self._due = max(self._due, now - 1.0) + sessions / rate
        await self._rest(f"rate, {rate:g}/s at most", self._due - now)

    async def _rest(self, reason: str, seconds: float) -> None:
        if seconds > 0:
            self.reason = f"throttled, {reason}"
            await self._sleep(seconds)

    async def _held_back(self) -> str | None:
        if self._pause_file is not None and await asyncio.to_thread(self._pause_file.exists):
            return f"paused by the file {self._pause_file}"
        if self._settings.paused:
            return "paused"
        most, slow = self._settings.max_p95, self._p95()
        if most is not None and slow is not None and slow > most:
            return f"throttled, target p95 {slow * 1000:.0f} ms > {most * 1000:.0f} ms"
        return None

    async def _ask(self) -> None:
        """Ask the target for the settings; how long that takes is what is known of its speed."""
        begun = self._clock()
        self._settings = await settings_in(self._storage)
        self._answers.append(self._clock() - begun)

    def _p95(self) -> float | None:
        if len(self._answers) < _ENOUGH:
            return None
        ordered = sorted(self._answers)
        return ordered[int(len(ordered) * 0.95) - 1]
