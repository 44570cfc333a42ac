"""ADK's events and the entries of our histories.

An event is stored as the row that ADK's ``DatabaseSessionService`` writes for it, in the format ``adk-v1``: what a copy
of such a database holds, and what the bridge adds, are the same thing. Entries in other forms are shown as the events
that ADK would have written for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.adk.events.event import Event
from pydantic import ValidationError

from session_adapter.entries import history_of
from session_adapter.events import Events
from session_adapter.formats import PeerFormat, entry_body, entry_form
from session_adapter.formats.adk import ADK_V1, FAMILY, body_in
from session_adapter.formats.adk_events import body_of
from session_adapter.timestamps import read_time
from unified_storage.errors import StorageIntegrityError
from unified_storage.interface import Entries, Entry, IUnifiedStorage

Body = Mapping[str, Any]


def moment_of(timestamp: float) -> datetime | None:
    """The moment that ADK calls *timestamp*, cut to microseconds; None where it is none."""
    return read_time(timestamp, UTC).moment


def entry_of(event: Event) -> dict[str, Any]:
    """The entry to append for *event*: its id is the key, its time the entry's."""
    moment = moment_of(event.timestamp)
    row = {
        "id": event.id,
        "invocation_id": event.invocation_id,
        "timestamp": None if moment is None else ADK_V1.written_time(moment),
        "event_data": event.model_dump(exclude_none=True, mode="json"),
    }
    entry = {"body": entry_body(ADK_V1, row), "key": ADK_V1.entry_key(row)}
    return entry if moment is None else entry | {"created_at": moment}


# reading


class AdkHistory:
    """The history of one session as ADK's events, oldest first.

    Args:
        stored_id: of the session's record.
        last: only the newest *last* events of what *since* leaves.
        since: only those of that moment or later.
    """

    def __init__(self, stored_id: str, *, last: int | None = None, since: datetime | None = None) -> None:
        self._log = history_of(stored_id)
        self._last = last
        self._since = since

    async def __call__(self, storage: IUnifiedStorage) -> list[tuple[int, Event]]:
        """The events, each with the number of its entry."""
        if self._last is None:
            return _events(storage, await storage.read(self._log, since=self._since))
        return await self._newest(storage, self._last)

    async def _newest(self, storage: IUnifiedStorage, last: int) -> list[tuple[int, Event]]:
        entries: Entries = []
        before, wanted = None, last
        while wanted > 0:
            chunk = await storage.read(self._log, last=wanted, since=self._since, before=before)
            entries = chunk + entries
            found = _events(storage, entries)[-last:]
            if len(found) == last or len(chunk) < wanted:
                return found
            # entries that show no event were among them
            before, wanted = chunk[0]["seq"], len(entries)
        return []


def changes_state(numbered: tuple[int, Event]) -> bool:
    """Whether the event has changed a state."""
    return bool(numbered[1].actions.state_delta)


def event_id_of(entry: Entry) -> str | None:
    """The id of the last event that *entry* shows."""
    events = _own_events(entry)
    return str(events[-1].id) if events else entry["key"]


def _events(storage: IUnifiedStorage, entries: Entries) -> list[tuple[int, Event]]:
    others = [entry for entry in entries if _adk_format(entry) is None]
    shown: dict[int, list[Event]] = {}
    if others:
        created = {entry["seq"]: entry["created_at"] for entry in others}
        for flat in Events(storage, UTC).shown(others):
            shown.setdefault(flat["seq"], []).append(_event_of(flat, created[flat["seq"]]))
    return [
        (entry["seq"], event)
        for entry in entries
        for event in (_own_events(entry) if _adk_format(entry) else shown.get(entry["seq"], ()))
    ]


def _adk_format(entry: Entry) -> PeerFormat | None:
    format, _ = entry_form(entry["body"])
    return format if isinstance(format, PeerFormat) and format.family == FAMILY else None


def _own_events(entry: Entry) -> Sequence[Event]:
    """The event of an entry that ADK's services wrote, or that was written for them; none for one that was damaged."""
    format, row = _adk_format(entry), entry_form(entry["body"])[1]
    body = None if format is None else body_in(format, row)
    return () if body is None else (_parsed(_timed(body, entry["created_at"]), entry["seq"]),)


def _event_of(flat: Body, moment: datetime) -> Event:
    """The event that ADK would have written for one of another form, with an id that stays the same."""
    at = f"{flat['seq']}.{flat['index']}" if flat["index"] else str(flat["seq"])
    return _parsed(_timed({"id": at, **body_of(flat)}, moment), flat["seq"])


def _timed(body: Body, moment: datetime) -> Body:
    time = body.get("timestamp")
    return body if isinstance(time, int | float) else {**body, "timestamp": moment.timestamp()}


def _parsed(body: Body, seq: int) -> Event:
    try:
        return Event.model_validate(body)
    except ValidationError as error:
        message = f"entry {seq} is no event that this version of ADK reads"
        raise StorageIntegrityError(message, details={"seq": seq}) from error
