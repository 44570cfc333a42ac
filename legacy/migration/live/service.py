"""``MigratingSessionService``: what programs use while their sessions move."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from legacy.listings import summaries
from legacy.migration.live.changes import Change, Delete, Save, Update
from legacy.migration.live.legacy_side import LegacySide
from legacy.migration.live.member import Member, Ticket
from legacy.migration.live.phases import Phase
from legacy.migration.live.recovering import Recovery
from legacy.migration.live.rules import ALL, Rules
from legacy.migration.live.selecting import selected
from legacy.migration.live.shadow import ShadowReads
from legacy.migration.live.upkeep import Upkeep
from legacy.migration.live.writer import Writer, no_versions
from legacy.store import ISessionStore
from session_adapter.identity import record_id
from session_adapter.service import SessionService
from session_adapter.timestamps import Zone, zone_named
from unified_storage.errors import StorageClosedError, StorageError
from unified_storage.handed_in import kept
from unified_storage.interface import IUnifiedStorage
from unified_storage.opening import open_storage
from unified_storage.portal import Portal, WouldDeadlockError, leave_behind, shared_portal

log = logging.getLogger(__name__)
T = TypeVar("T")

_EXIT_SECONDS = 0.9
SHADOW_SHARE = 0.01


class MigratingSessionService:
    """Sessions that are moving from a legacy store into a unified storage; an ``ISessionService``.

    Every program that writes the sessions uses one, from before the migration begins until it is finished; which store
    is written and believed is decided by the migration, in the target. It joins the migration with its first call, and
    refuses to serve while the target cannot say what the phase is.

    Until ``unified_primary`` sessions come out as the legacy store holds them, afterwards as every view of the unified
    storage shows them. A call that is cancelled is done to its end all the same.

    Args:
        legacy: the store that the sessions come from.
        storage: where they go, or its URL; a URL is opened here and closed with this.
        journal: a folder on a local disk, for what is written while the target is away in phase ``dual_write``; the
            programs of one machine may share it. None refuses such writes.
        member: the name of this program, unlike any other's; made up unless given.
        source_timezone: the zone of times without an offset in legacy documents.
        poll_interval: seconds between two looks at the migration.
        shadow_share: the share of reads that are compared in phase ``shadow_read``, 0 to 1.
    Raises:
        StorageError: (every method) a store failed. ``details["outcome"] == "unknown"`` says that a write may count.
        EvictedError: (every write) an operator sent this program away.
    """

    def __init__(
        self,
        legacy: ISessionStore,
        storage: IUnifiedStorage | str,
        *,
        journal: str | os.PathLike[str] | None,
        member: str | None = None,
        source_timezone: Zone = None,
        poll_interval: float = 1.0,
        shadow_share: float = SHADOW_SHARE,
        rules: Rules = ALL,
    ) -> None:
        if not isinstance(legacy, ISessionStore):
            raise TypeError(f"the legacy store is an ISessionStore, not {type(legacy).__name__}")
        if not poll_interval > 0:
            raise ValueError(f"poll_interval must be above 0 seconds, not {poll_interval!r}")
        if not 0 <= shadow_share <= 1:
            raise ValueError(f"shadow_share is between 0 and 1, not {shadow_share!r}")
        self._url = storage if isinstance(storage, str) else None
        self._storage = open_storage(storage) if isinstance(storage, str) else storage
        self._legacy = LegacySide(legacy)
        self._journal = None if journal is None else Path(journal)
        self._name = member
        self._zone = zone_named(source_timezone) if isinstance(source_timezone, str) else source_timezone
        self._poll_interval = poll_interval
        self._shadow_share = shadow_share
        self._rules = rules
        self._portal = shared_portal()
        self._closed = False
        self._set_up()
        _open_ones.add(self)

    def _set_up(self) -> None:
        self._pid = os.getpid()
        self._sessions = SessionService(self._storage, source_timezone=self._zone)
        self._member = Member(self._storage, name=self._name, journal=self._journal, rules=self._rules)
        recovery = Recovery(self._storage, self._legacy, self._zone, self._member.me, self._rules)
        self._writer = Writer(self._storage, self._legacy, self._member, recovery, self._zone, self._rules)
        self._shadow = ShadowReads(self._storage, self._legacy, self._member, self._shadow_share)
        self._upkeep = Upkeep(self._storage, self._member, self._writer, self._poll_interval)
        self._under_way: set[asyncio.Task[None]] = set()
        self._joining = asyncio.Lock()  # used on the portal's loop alone

    @property
    def phase(self) -> Phase | None:
        """What this program goes by; None before its first call."""
        return self._member.phase if self._member.is_serving else None

    @property
    def is_joined(self) -> bool:
        """Whether this process takes part in the migration."""
        return self._pid == os.getpid() and self._member.is_serving

    # the interface

    async def save_session(
        self, session_id: str, session_data: Mapping[str, Any], *, expected_version: int | None = None
    ) -> None:
        """Insert or replace a session."""
        if self._is_over:
            await self._sessions.save_session(session_id, session_data, expected_version=expected_version)
            return
        await self._write(Save(session_id, kept(dict(session_data), "data"), expected_version))

    async def get_session(self, session_id: str, *, with_version: bool = False) -> Any:
        """A copy of the session, None when there is none; from phase 3 on also ``(session, version)``."""
        if self._is_over:
            return await self._sessions.get_session(session_id, with_version=with_version)  # type: ignore[call-overload]  # bool
        record_id(session_id)
        async with self._call() as ticket:
            if not ticket.followed.phase.reads_legacy:
                return await self._sessions.get_session(session_id, with_version=with_version)  # type: ignore[call-overload]  # bool
            if with_version:
                raise no_versions()
            document = await self._legacy.get(session_id)
            if ticket.followed.phase == Phase.SHADOW_READ:
                self._shadow.read(session_id)
            return document

    async def delete_session(self, session_id: str, *, expected_version: int | None = None) -> None:
        """Delete a session, or raise ``SessionNotFoundError``."""
        if self._is_over:
            await self._sessions.delete_session(session_id, expected_version=expected_version)
            return
        await self._write(Delete(session_id, expected_version))

    async def list_sessions(
        self, filters: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """The matching sessions, the one changed last first; until phase 3 each one of L is read for it."""
        async with self._call() as ticket:
            if ticket.followed.phase.reads_legacy:
                return await selected(self._legacy, filters, limit, self._zone)
            return await self._sessions.list_sessions(filters, limit)

    async def session_exists(self, session_id: str) -> bool:
        """Whether there is such a session."""
        record_id(session_id)
        async with self._call() as ticket:
            if ticket.followed.phase.reads_legacy:
                return await self._legacy.exists(session_id)
            return await self._sessions.session_exists(session_id)

    async def update_session(
        self, session_id: str, updates: Mapping[str, Any], *, expected_version: int | None = None
    ) -> None:
        """Change only the fields given, or raise ``SessionNotFoundError``; until phase 3 the session is read for it."""
        if self._is_over:
            await self._sessions.update_session(session_id, updates, expected_version=expected_version)
            return
        await self._write(Update(session_id, kept(dict(updates), "updates"), expected_version))

    async def session_summaries(self) -> list[dict[str, Any]]:
        """What the old interface lists: of each session its id, path, times and status, newest first."""
        async with self._call() as ticket:
            if ticket.followed.phase.reads_legacy:
                return await self._legacy.summaries()
            return await summaries(self._sessions)

    # the lifetime

    async def close(self) -> None:
        """End what is under way, and leave the migration. Calling it again is fine."""
        if self._closed:
            return
        self._closed = True
        _open_ones.discard(self)
        await self._shadow.close()
        await self._writes_ended()
        if self._member.is_serving:
            await on_portal(self._portal, self._left)
            await asyncio.to_thread(self._portal.close)
        await self._legacy.close()
        if self._url is not None:
            await self._storage.close()

    async def _left(self) -> None:
        await self._upkeep.stop()
        with suppress(StorageError):  # who does not say that he has gone is found to have ended
            await self._member.leave()

    async def __aenter__(self) -> Self:
        await self._join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # inside

    @property
    def _is_over(self) -> bool:
        """Whether the target alone is used by everybody, for ever: nothing of the migration is asked any more."""
        return self._member.is_final and not self._closed and self._pid == os.getpid()

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[Ticket]:
        await self._join()
        ticket = Ticket(self._member)
        try:
            yield ticket
        finally:
            ticket.end()

    async def _write(self, change: Change) -> None:
        record_id(change.session_id)
        await self._join()
        # its own task: a write that has begun is done to its end, whatever becomes of its caller
        task = asyncio.ensure_future(self._written(change))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.shield(task)

    async def _writes_ended(self) -> None:
        """Wait for those that run on this loop, whose callers may have gone; those of another have ended with it."""
        mine = [task for task in [*self._under_way] if task.get_loop() is asyncio.get_running_loop()]
        if mine:
            await asyncio.wait(mine)

    async def _written(self, change: Change) -> None:
        ticket = Ticket(self._member)
        try:
            await self._writer.write(change, ticket)
        finally:
            ticket.end()

    async def _join(self) -> None:
        if self._closed:
            raise StorageClosedError("this session service was closed")
        if self._pid != os.getpid():
            self._begin_anew()
        if not self._member.is_serving:
            await on_portal(self._portal.open(), self._joined)
        self._member.check_serves()

    async def _joined(self) -> None:
        async with self._joining:
            if self._member.is_serving:
                self._portal.close()  # opened once more than there are services
                return
            try:
                await self._member.join()
                await self._upkeep.until_serving()
            except BaseException:
                self._portal.close()
                raise
            self._upkeep.start()

    def _begin_anew(self) -> None:
        """In a forked child: another member, with threads, connections and a journal of its own."""
        leave_behind(self._member)
        self._legacy.forget_threads()
        if self._url is not None:
            leave_behind(self._storage)
            self._storage = open_storage(self._url)
        self._name = None if self._name is None else f"{self._name}-{os.getpid()}"
        self._set_up()


async def on_portal(portal: Portal, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What ``ask()`` gives on the portal's loop, which goes on when the loop of a caller has ended."""
    try:
        portal.refuse_own_thread()
    except WouldDeadlockError:
        return await ask()
    return await asyncio.to_thread(portal.call, ask())


_open_ones: weakref.WeakSet[MigratingSessionService] = weakref.WeakSet()


@atexit.register
def _leave_at_exit() -> None:
    """Say that this program has gone, which spares others to find out."""
    for service in [*_open_ones]:
        if not service.is_joined:
            continue
        try:
            shared_portal().call(service._left(), _EXIT_SECONDS)  # the least of closing: threads start no more
        except Exception:
            log.exception("a migrating session service was not closed at exit")
