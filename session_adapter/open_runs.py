"""Runs of agents that are under way: noted in their session, so that one that was broken off is closed by the next.

A run is noted before its first event is stored, among our own fields of the session's record:
``open_runs: {run_id: {"process", "began", "after"}}``. It is struck off when it ended, or when it was closed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

from session_adapter.calls import Mention
from session_adapter.entries import history_of
from session_adapter.errors import SessionAlreadyExistsError, SessionNotFoundError, storage_failures
from session_adapter.events import Events
from session_adapter.formats import Event
from session_adapter.formats.places import object_of
from session_adapter.history import mark
from session_adapter.identity import SessionKey, no_session, record_id
from session_adapter.metadata import own_fields
from session_adapter.pairing import STAND_IN, open_calls
from session_adapter.reading import ATTEMPTS, required_head, session_records
from session_adapter.scoped import ScopedSessionService
from session_adapter.timestamps import render
from unified_storage.errors import StorageError
from unified_storage.interface import IUnifiedStorage, OnDuplicate, Record
from unified_storage.processes import has_ended, this_process
from unified_storage.record import DELETE, new_id
from unified_storage.transactions import to_the_end

OPEN_RUNS = "open_runs"
"""Our own field of a session's record: what is noted of each run that is under way."""

_under_way: set[tuple[int, str]] = set()
"""(process, run) of the runs here that have not ended; a forked process begins with those of its parent."""

Note = Mapping[str, Any]


class OpenRun:
    """One run of a session, from its first step to its last: ``async with OpenRun(...) as run``.

    Entering makes the session where there is none, and closes runs that were broken off before. Leaving by an error, a
    cancellation or the end of its stream closes this one, whatever is cancelled meanwhile.

    Attributes:
        key: of its session.
        run_id: made here.
        after: the number of the last entry before this run.
    """

    def __init__(self, service: ScopedSessionService, key: SessionKey, lost_after: timedelta) -> None:
        record_id(key)
        self.key = key
        self.run_id = new_id()
        self.after = 0
        self._service = service
        self._storage = service.storage
        self._began_in: datetime | None = None
        self._lost_after = lost_after

    async def __aenter__(self) -> Self:
        _under_way.add((os.getpid(), self.run_id))
        try:
            await self._begin()
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await to_the_end(self._struck_off(self.run_id))
            else:
                await self._break_off(error)
        finally:
            _under_way.discard((os.getpid(), self.run_id))

    async def append(self, event: Event, *, on_duplicate: OnDuplicate = "error") -> int:
        """Add an event of this run, or of one that it closes; its number.

        Raises:
            SessionNotFoundError: the session is gone, though there may be a new one of its key.
            StorageAlreadyExistsError: its ``id`` is there, and *on_duplicate* is not ``skip``.
        """
        return await self._service.append_of_run(self.key, event, check=self._check, on_duplicate=on_duplicate)

    def _check(self, head: Record) -> None:
        # Not by the note: a run that counted as lost has none any more, but may go on.
        if head["created_at"] != self._began_in:
            raise no_session(self.key)

    async def _begin(self) -> None:
        try:
            noted = await self._noted()
        except SessionNotFoundError:
            await self._made()
            noted = await self._noted()
        for run_id, note in noted.items():
            if _is_over(run_id, note, self._storage.clock() - self._lost_after):
                await self._close(run_id, note["after"], "lost")

    async def _made(self) -> None:
        with suppress(SessionAlreadyExistsError):  # made by another run, which came first
            await self._service.create_session(self.key)

    async def _noted(self) -> dict[str, Note]:
        """Note this run; the notes of the others."""

        async def noted(tx: IUnifiedStorage) -> dict[str, Note]:
            head = await required_head(tx, self.key)
            info = await tx.log_info(history_of(head["id"]))
            self.after = info["last_seq"] if info else 0
            self._began_in = head["created_at"]
            began = render(self._storage.clock())
            note = {"process": this_process(), "began": began, "after": self.after}
            await mark(tx, head, **{OPEN_RUNS: {self.run_id: note}})
            return _runs_noted(head)

        with storage_failures("begin a run"):
            return await self._storage.atomically(noted, attempts=ATTEMPTS)

    async def _struck_off(self, run_id: str) -> None:
        async def struck_off(tx: IUnifiedStorage) -> None:
            # Only where it is noted: a session that was made anew meanwhile knows nothing of it.
            for head in await session_records(tx, [record_id(self.key)], with_data=False):
                if run_id in _runs_noted(head):
                    await mark(tx, head, **{OPEN_RUNS: {run_id: DELETE}})

        with storage_failures("end a run"):
            await self._storage.atomically(struck_off, attempts=ATTEMPTS)

    # closing

    async def _break_off(self, error: BaseException) -> None:
        """Close this run; the error that broke it off stays the one that is raised."""
        try:
            await to_the_end(self._close(self.run_id, self.after, _reason(error)))
        except SessionNotFoundError:
            pass  # it was deleted, and its runs with it
        except StorageError as failure:
            error.add_note(f"closing the run failed too, so the next run of the session closes it: {failure}")

    async def _close(self, run_id: str, after: int, reason: str) -> None:
        """Answer the run's open calls, end it, and strike it off; one of which nothing was stored is struck off alone.

        The events have ids that follow from the run's, so that it is closed once, whoever else closes it as well.
        """
        stored = await Events(self._storage).read(self.key, after=after)
        own = [event for event in stored if event["run_id"] == run_id]
        if own:
            results = [_no_result(run_id, *call) for call in open_calls(own)]
            for event in [*results, _last_event(run_id, reason)]:
                await self.append(event | {"timestamp": render(self._storage.clock())}, on_duplicate="skip")
        await self._struck_off(run_id)


def _runs_noted(head: Record) -> dict[str, Note]:
    return object_of(own_fields(head).get(OPEN_RUNS)) or {}


def _is_over(run_id: str, note: Note, long_ago: datetime) -> bool:
    if (os.getpid(), run_id) in _under_way:
        return False
    process = note["process"]
    if process == this_process() or has_ended(process):
        return True
    # One of another machine may still go on.
    return datetime.fromisoformat(note["began"]) < long_ago


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return "closed" if isinstance(error, GeneratorExit) else type(error).__name__


def _no_result(run_id: str, event: Event, number: int, call: Mention) -> Event:
    told: Event = {"id": f"{run_id}/{event['seq']}.{event['index']}.{number}", "run_id": run_id, "role": "tool"}
    if call.ids:
        told["tool_call_id"] = call.ids[0]
    if call.name is not None:
        told["name"] = call.name
    return told | {"content": "The run was interrupted before this had a result.", "status": "error", STAND_IN: True}


def _last_event(run_id: str, reason: str) -> Event:
    told = {"id": f"{run_id}/interrupted", "run_id": run_id, "role": "assistant", "status": "interrupted"}
    return told | {"content": "The run was interrupted.", "reason": reason}
