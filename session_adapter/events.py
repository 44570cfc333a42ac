"""``sessions.events``: the history of a session as events, whoever wrote its entries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any, overload

from pydantic import BaseModel

from session_adapter.entries import event_entry, flat_events, history_of, is_run, places_in, run_id_of
from session_adapter.errors import storage_failures
from session_adapter.formats import Event, entry_body, entry_form
from session_adapter.history import brought, edited, mark, replaced_in_place
from session_adapter.identity import SessionId, no_session, record_id
from session_adapter.metadata import own_fields
from session_adapter.naming import SHOWN_NAME, name_after, without_name
from session_adapter.reading import ATTEMPTS, required_head, session_records
from session_adapter.timestamps import Zone
from unified_storage.arguments import check_count
from unified_storage.errors import StorageNotFoundError, StorageValidationError
from unified_storage.handed_in import kept
from unified_storage.interface import Entries, Entry, IUnifiedStorage, OnDuplicate, Record

LOOSE_RUNS = "loose_runs"
"""Our own field that says: some message of a run stands in an entry of its own."""
WHOLE_RUNS = "whole_runs"
"""Our own field that says: some run was added whole, so that a message further on may be one of its own again."""

_CHUNK = 500

Check = Callable[[Record], None]
_Name = tuple[str, str]


class Events:
    """The events of sessions on one storage, or inside one transaction.

    Args:
        source_timezone: the zone of event times without an offset; None is this machine's.
        check: is given the session's record, without its data, in each step that appends; what it raises undoes that.
    """

    def __init__(self, storage: IUnifiedStorage, source_timezone: Zone = None, *, check: Check | None = None) -> None:
        self._storage = storage
        self._zone = source_timezone
        self._check = check

    async def read(
        self,
        session: SessionId,
        *,
        last: int | None = None,
        after: int = 0,
        before: int | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        turn_safe: bool = False,
    ) -> list[Event]:
        """The events of *session*, oldest first; empty when there is no such session.

        Each has ``seq index id role author content tool_calls tool_call_id name run_id timestamp usage status
        state_delta`` (null where it has none) and its writer's further keys. The messages of a whole run share their
        ``seq`` and count ``index`` from 0; a message whose id stands in its run is shown once.

        Args:
            last: only the newest *last* events of what the others leave.
            after, before: ``seq`` numbers, both exclusive.
            since: an aware time; entries whose time is that or later.
            limit: only the first *limit* events; not together with ``last``.
            turn_safe: so many more that the turn they begin in is whole, and calls and results that lack each other
                left out, so that a model takes them; goes with ``last`` and ``since``.
        """
        for name, value in (("last", last), ("limit", limit)):
            check_count(name, value)
        if last is not None and limit is not None:
            raise StorageValidationError("last and limit exclude each other", details={"path": "last"})
        if turn_safe:
            from session_adapter.windows import safe_window  # here: few ask for it

            if (after, before, limit) != (0, None, None):
                message = "a turn-safe window is bounded by last and since alone"
                raise StorageValidationError(message, details={"path": "turn_safe"})
            return await safe_window(self, session, last=last, since=since)
        stored_id = record_id(session)
        with storage_failures("read the events of a session"):
            if last is not None:
                return await self._newest(stored_id, last, after, before, since)
            return await self._oldest(history_of(stored_id), limit, after, before, since)

    @overload
    async def append(
        self,
        session: SessionId,
        event: Mapping[str, Any] | BaseModel,
        *,
        on_duplicate: OnDuplicate = ...,
        keep_last: int | None = ...,
        expected_version: int | None = ...,
    ) -> int: ...

    @overload
    async def append(
        self,
        session: SessionId,
        event: Sequence[Mapping[str, Any] | BaseModel],
        *,
        on_duplicate: OnDuplicate = ...,
        keep_last: int | None = ...,
        expected_version: int | None = ...,
    ) -> list[int]: ...

    async def append(
        self,
        session: SessionId,
        event: Mapping[str, Any] | BaseModel | Sequence[Mapping[str, Any] | BaseModel],
        *,
        on_duplicate: OnDuplicate = "error",
        keep_last: int | None = None,
        expected_version: int | None = None,
    ) -> int | list[int]:
        """Add one event, or several in one step, to the end; its number, or their numbers.

        An event is a mapping (or an ``Event``) with at least a ``role``. Its ``id``, where given, is the key that
        makes adding it again recognisable.

        Args:
            on_duplicate: what an ``id`` that is there means: ``error`` stores nothing, ``skip`` and ``replace`` return
                the number that it has.
            keep_last: afterwards only the newest *keep_last* entries stay (a whole run is one).
            expected_version: of the session; not applied where all ids are there under ``skip`` or ``replace``.
        Raises:
            SessionNotFoundError: there is no such session.
            StorageAlreadyExistsError: an id is there, and ``on_duplicate`` is ``error``.
            StorageConflictError: the session has another version.
        """
        several = isinstance(event, Iterable) and not isinstance(event, Mapping | BaseModel | str | bytes)
        given: list[Any] = list(event) if several else [event]
        bodies = [_checked_event(one, f"events[{at}]") for at, one in enumerate(given)]
        entries = [event_entry(body, self._zone) for body in bodies]
        has_runs = any(body.get("run_id") for body in bodies)
        stored_id = record_id(session)

        async def appended(tx: IUnifiedStorage) -> list[int]:
            return await tx.append(
                history_of(stored_id),
                entries,
                on_duplicate=on_duplicate,
                keep_last=keep_last,
                expected_version=expected_version,
            )

        async def noted(tx: IUnifiedStorage) -> list[int]:
            head = await required_head(tx, session)
            if self._check is not None:
                self._check(head)
            numbers = await appended(tx)
            await replaced_in_place(tx, head, numbers)
            own = {LOOSE_RUNS: True} if has_runs and not own_fields(head).get(LOOSE_RUNS) else {}
            named = name_after(head, numbers, [entry["body"] for entry in entries])
            if own or SHOWN_NAME in own_fields(head):  # no statement for the name alone: a list finds it
                own |= named
            if own:
                await mark(tx, head, **own)
            return numbers

        with storage_failures("append to a session"):
            try:
                plain = on_duplicate != "replace" and not has_runs and self._check is None
                storage = self._storage
                numbers = await (appended(storage) if plain else storage.atomically(noted, attempts=ATTEMPTS))
            except StorageNotFoundError as error:
                raise no_session(session) from error
        return numbers if several else numbers[0]

    async def pop(self, session: SessionId) -> Event | None:
        """Withdraw the newest event that ``read`` shows and return it; None when there is none.

        In a run, it is its last message; where that stands in an entry of its own too, it is withdrawn there as well.

        Raises:
            SessionNotFoundError: there is no such session.
        """

        async def withdrawn(tx: IUnifiedStorage) -> Event | None:
            head = await required_head(tx, session)
            log = history_of(head["id"])
            newest = await tx.read(log, last=1)
            if newest and self._is_surely_last(head, newest[0]):
                if own := without_name(head, [newest[0]["seq"]]):
                    await mark(tx, head, **own)
                return await self._pop_last(tx, log, newest[0])
            return await self._pop_behind(tx, head, await tx.read(log))

        with storage_failures("pop an event of a session"):
            return await self._storage.atomically(withdrawn, attempts=ATTEMPTS)

    async def count(self, session: SessionId) -> int:
        """How many events ``read`` shows; 0 when there is no such session."""
        return len(await self.read(session))

    # reading

    async def _oldest(
        self, log: str, limit: int | None, after: int, before: int | None, since: datetime | None
    ) -> list[Event]:
        entries: Entries = []
        async for chunk in self._forward(log, limit, after, before, since):
            entries += chunk
            if limit is not None and len(shown := self.shown(entries)) >= limit:
                return shown[:limit]
        return self.shown(entries)

    async def _forward(
        self, log: str, limit: int | None, after: int, before: int | None, since: datetime | None
    ) -> AsyncIterator[Entries]:
        if limit is None:
            yield await self._storage.read(log, after=after, before=before, since=since)
            return
        while limit > 0:
            chunk = await self._storage.read(log, after=after, before=before, since=since, limit=limit)
            yield chunk
            if len(chunk) < limit:
                return
            after = chunk[-1]["seq"]

    async def _newest(
        self, stored_id: str, last: int, after: int, before: int | None, since: datetime | None
    ) -> list[Event]:
        entries: Entries = []
        wanted = last
        while wanted > 0:
            chunk = await self._storage.read(
                history_of(stored_id), after=after, before=before, since=since, last=wanted
            )
            entries = chunk + entries
            shown = self.shown(entries)[-last:]
            if len(chunk) < wanted:
                return shown
            if len(shown) == last and not await self._may_repeat(stored_id, shown, entries):
                return shown
            before = chunk[0]["seq"]
            # Entries that show nothing were among the newest, or a run that may hold some of them stands further back.
            wanted = max(_CHUNK, len(entries))
        return []

    async def _may_repeat(self, stored_id: str, shown: list[Event], entries: Entries) -> bool:
        """Whether one of *shown* may stand in a run too that is not among *entries*, the newest of the log."""
        if all(event["run_id"] is None for event in shown):
            return False
        runs = {entry["seq"]: run_id_of(entry) for entry in entries if is_run(entry["body"])}
        loose = [event for event in shown if event["seq"] not in runs]
        unseen = {name[0] for event in loose if (name := _name(event["run_id"], event))} - {*runs.values()}
        if not unseen:
            return False
        heads = await session_records(self._storage, [stored_id], with_data=False)
        return any(own_fields(head).get(WHOLE_RUNS) for head in heads)

    def shown(self, entries: Entries) -> list[Event]:
        """The events that *entries*, of one log and in its order, show together."""
        groups = [(entry, flat_events(entry, self._zone)) for entry in entries]
        runs = [(run_id_of(entry), events) for entry, events in groups if is_run(entry["body"])]
        if not runs:
            return [event for _, events in groups for event in events]
        in_runs = {_name(run_id, event) for run_id, events in runs for event in events} - {None}
        return [
            event
            for entry, events in groups
            for event in events
            if is_run(entry["body"]) or _name(event["run_id"], event) not in in_runs
        ]

    # popping

    def _is_surely_last(self, head: Record, newest: Entry) -> bool:
        """Whether *newest* ends what is shown, and its last message stands nowhere else: no other need be looked at."""
        events = flat_events(newest, self._zone)
        if not events:
            return False
        if is_run(newest["body"]):
            return events[-1]["id"] is None
        return _name(events[-1]["run_id"], events[-1]) is None or not own_fields(head).get(WHOLE_RUNS)

    async def _pop_last(self, tx: IUnifiedStorage, log: str, entry: Entry) -> Event:
        event = flat_events(entry, self._zone)[-1]
        await brought(tx, log, [entry], _without_last_message(entry))
        return event

    async def _pop_behind(self, tx: IUnifiedStorage, head: Record, entries: Entries) -> Event | None:
        """The newest event where entries that show none may stand after it, or its own message once more."""
        shown = self.shown(entries)
        if not shown:
            return None
        event = shown[-1]
        at = next(at for at, entry in enumerate(entries) if entry["seq"] == event["seq"])
        repeated = _name(run_id_of(entries[at]), event) if is_run(entries[at]["body"]) else None
        left = [*entries[:at], *_without_last_message(entries[at]), *entries[at + 1 :]]
        await edited(tx, head, entries, [entry for entry in left if not self._repeats(entry, repeated)])
        return event

    def _repeats(self, entry: Entry, name: _Name | None) -> bool:
        """Whether *entry* is the message *name* of a run, by itself."""
        if name is None or is_run(entry["body"]):
            return False
        return any(_name(event["run_id"], event) == name for event in flat_events(entry, self._zone))


def _name(run_id: object, event: Event) -> _Name | None:
    """What makes an event one message of one run, wherever it stands; None where it has no id, or no run."""
    event_id = event["id"]
    return (run_id, event_id) if isinstance(run_id, str) and isinstance(event_id, str) else None


def _without_last_message(entry: Entry) -> Entries:
    """What is left of *entry* when its last message is taken out: nothing, or what shows those before it."""
    if not is_run(entry["body"]):
        return _without_last_event(entry)
    shorter = deepcopy(entry)
    places = places_in(shorter["body"])
    messages, at = places[-1]
    del messages[at]
    return [shorter] if len(places) > 1 else []


def _without_last_event(entry: Entry) -> Entries:
    format, value = entry_form(entry["body"])
    if format is None or format.shorter is None or len(format.events(value)) < 2:
        return []
    return [{**entry, "body": entry_body(format, format.shorter(value))}]


def _checked_event(event: object, path: str) -> dict[str, Any]:
    given = event.model_dump(exclude_unset=True) if isinstance(event, BaseModel) else event
    if not isinstance(given, Mapping):
        message = f"an event is a mapping, not {type(event).__name__}"
        raise StorageValidationError(message, details={"path": path})
    if not isinstance(given.get("role"), str) or not given["role"]:
        raise StorageValidationError("an event needs its role, a text", details={"path": f"{path}.role"})
    own: dict[str, Any] = kept(dict(given), path)
    return own
