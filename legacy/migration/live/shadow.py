"""Shadow reads: what callers read from L is looked for in U, beside them."""

from __future__ import annotations

import asyncio
import logging
import random

from legacy.migration.live.comparing import compared
from legacy.migration.live.legacy_side import LegacySide
from legacy.migration.live.member import Member
from unified_storage.errors import StorageError
from unified_storage.interface import IUnifiedStorage

log = logging.getLogger(__name__)

_AT_ONCE = 8
"""Comparisons beside each other; reads that come while so many run are not compared."""


class ShadowReads:
    """The comparisons of one member. No caller waits for one, and none of their failures reaches a caller.

    Args:
        share: of the reads, 0 to 1.
    """

    def __init__(self, storage: IUnifiedStorage, legacy: LegacySide, member: Member, share: float) -> None:
        self._storage = storage
        self._legacy = legacy
        self._member = member
        self._share = share
        self._running: set[asyncio.Task[None]] = set()

    def read(self, session_id: str) -> None:
        """A caller has read this session from L."""
        if len(self._running) < _AT_ONCE and random.random() < self._share:
            task = asyncio.get_running_loop().create_task(self._compare(session_id))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """End those that run on this loop; those of another loop have ended with it."""
        mine = [task for task in self._running if task.get_loop() is asyncio.get_running_loop()]
        for task in mine:
            task.cancel()
        if mine:
            await asyncio.wait(mine)

    async def _compare(self, session_id: str) -> None:
        try:
            [found] = await compared(self._storage, self._legacy, [session_id])
        except StorageError as error:
            log.warning("migration: a shadow read failed: %s", error.message, extra={"member": self._member.name})
            return
        if found.equal is not None:
            self._member.count_shadow_read(is_equal=found.equal)
        if found.equal is False:
            log.warning("migration: the stores differ", extra={"session_id": session_id, "kind": found.kind})
