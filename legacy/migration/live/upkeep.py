"""What a member does in the background: follow the migration, end what was left under way, drain journals."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from legacy.migration.live.journal import Journal
from legacy.migration.live.member import Member
from legacy.migration.live.phases import Phase
from legacy.migration.live.state import MEMBER_TYPE, MemberState, migration_in
from legacy.migration.live.writer import Writer
from unified_storage.errors import StorageConflictError, StorageError
from unified_storage.interface import IUnifiedStorage

log = logging.getLogger(__name__)

_HURRIED = 0.02
"""Seconds between two looks while somebody waits for everybody."""


class Upkeep:
    """The background work of one member.

    Args:
        poll_interval: seconds between two looks at the migration.
    """

    def __init__(self, storage: IUnifiedStorage, member: Member, writer: Writer, poll_interval: float) -> None:
        self._storage = storage
        self._member = member
        self._writer = writer
        self._poll_interval = poll_interval

        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on the loop that runs."""
        self._task = asyncio.create_task(self._run())

    async def until_serving(self) -> None:
        """Look until the migration is followed: what a journal still tells is drained, and foreign writes are ended."""
        while not self._member.is_serving:
            await self.once()
            self._member.check_serves()
            if not self._member.is_serving:
                await asyncio.sleep(_HURRIED)

    async def stop(self) -> None:
        """End, on the loop that it was started on."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._tell_what_is_left()

    async def _run(self) -> None:
        """Until it is cancelled, or nothing can change any more."""
        while not self._member.is_final:
            try:
                await self.once()
            except StorageError as error:
                log.warning("migration: the target does not answer: %s", error.message, extra=self._facts())
            except OSError as error:
                log.warning("migration: the journal cannot be read or written: %s", error, extra=self._facts())
            await asyncio.sleep(_HURRIED if self._member.is_hurried else self._poll_interval)

    async def once(self) -> None:
        """Look once, and do what is to be done."""
        self._tell_what_is_left()
        await self._member.look()
        await self._writer.end_open()
        await self._drain_mine()
        await self._adopt()

    def _tell_what_is_left(self) -> None:
        """As it is, not as it was told: a write may tell of its journal while something older is being written down."""
        journal = self._member.journal
        left = len(self._writer.open) + len(self._writer.lost)
        self._member.tell(open_writes=left, journal_empty=journal is None or not journal.size)

    async def _drain_mine(self) -> None:
        journal = self._member.journal
        if journal is None or not journal.size:
            return
        is_drainable = self._is_drainable((await migration_in(self._storage)).phase)
        known = journal.size
        if (
            self._writer.journalling
        ):  # asked after the size: what is in these bytes has been written to L, or is not now
            return
        if not is_drainable:
            await self._set_aside(journal)
        elif await self._writer.drain(await asyncio.to_thread(journal.ids)):
            # what was added meanwhile is drained the next time: it is told by the file having grown
            await asyncio.to_thread(journal.clear, known)
        self._tell_what_is_left()

    async def _adopt(self) -> None:
        """Drain the journals of programs in the same folder that have ended."""
        mine = self._member.journal
        if mine is None or not self._member.is_serving:
            return
        for journal in await asyncio.to_thread(lambda: [*Journal.left_behind(mine.path.parent, mine.path)]):
            if not self._is_drainable(self._member.phase):
                await self._set_aside(journal)
                await asyncio.to_thread(journal.close)
                continue
            drained = await self._writer.drain(await asyncio.to_thread(journal.ids))
            if drained:
                await journal_drained(self._storage, str(journal.path))
            await asyncio.to_thread(journal.close, remove=drained)

    @staticmethod
    def _is_drainable(phase: Phase) -> bool:
        return phase in (Phase.DUAL_WRITE, Phase.SHADOW_READ)

    async def _set_aside(self, journal: Journal) -> None:
        """Nothing is drained where L is not what counts; a pass that came after has seen what was written there."""
        kept = await asyncio.to_thread(journal.set_aside)
        if kept is not None:
            log.warning("migration: a journal came too late and was set aside", extra={"file": str(kept)})

    def _facts(self) -> dict[str, str]:
        return {"member": self._member.name}


async def journal_drained(storage: IUnifiedStorage, path: str) -> None:
    """Write down that nothing is left to tell in the journal at *path*, whose program has ended."""
    for record in await storage.list({"type": MEMBER_TYPE, "data.journal": path}):
        state = replace(MemberState.of(record), journal_empty=True, journal_drained=True)
        try:
            await storage.save(state.record(), expected_version=state.version)
        except StorageConflictError:
            continue  # somebody else looks after it at this moment
