"""What of a session of ours a format of another framework has no place for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from legacy.stores.contents import entries_of, history_in
from legacy.stores.parcels import Log, Parcel
from session_adapter.documents import format_of, stored_document
from session_adapter.entries import HISTORY, events_of
from session_adapter.formats import PeerFormat
from session_adapter.identity import SessionKey, visible_id
from session_adapter.metadata import own_fields
from unified_storage.logs import parse_log_id

_PARTICIPANTS = ("agent_id", "team_id", "workflow_id", "kind")
_OF_EVENTS = {
    "event_ids": ("id",),
    "event_times": ("timestamp",),
    "runs": ("run_id",),
    "authors": ("author",),
    "usage": ("usage",),
    "state_deltas": ("state_delta",),
}
_OF_LOGS = {"branches": "branch:", "tracks": "track:"}
_NOT_FURTHER = (HISTORY, "raw")


def losses(parcel: Parcel, format: PeerFormat) -> list[str]:
    """The words of ``LOSSES`` for what *parcel* has and *format* has no place for, in the format's order."""
    has = {*_had(parcel, format)}
    return [word for word in format.loses if word in has]


def _had(parcel: Parcel, format: PeerFormat) -> Iterator[str]:
    if not parcel.is_session:
        yield parcel.record["type"]
        state = parcel.record["data"].get("state")
        yield from _of_values(state) if state else ("empty_states",)
        return
    record = parcel.record
    if isinstance(visible_id(record), SessionKey):
        yield from ("user", "app")
    yield from _of_the_document(record, format)
    unknown = own_fields(record).get("time_unknown", ())
    yield from (name for name in ("created_at", "updated_at") if name not in unknown)
    if record.get("expires_at") is not None:
        yield "expires_at"
    further = [parse_log_id(log["log_id"]).name for log in parcel.logs if _is_further(log)]
    if further:
        yield "further_logs"
    yield from (word for word, begin in _OF_LOGS.items() if any(name.startswith(begin) for name in further))
    history = history_in(record, parcel.logs)
    if not history:
        yield "empty_sessions"
    yield from _of_events(entries_of({"entries": history}))


def _of_the_document(record: Mapping[str, Any], format: PeerFormat) -> Iterator[str]:
    fields = format_of(record).read(stored_document(record)).session
    yield from (name for name in ("name", "metadata", "state", "summary") if fields.get(name))
    yield from _of_values(fields.get("state"))
    if any(fields.get(name) for name in _PARTICIPANTS):
        yield "participants"
    if fields.get("user_id"):
        yield "user"
    if fields.get("app_name"):
        yield "app"
    if record["data"].keys() - fields.keys() - {"session_id", *format.further}:
        yield "further_fields"


def _of_values(state: Any) -> Iterator[str]:
    """What the values of a state are."""
    values = [*state.values()] if isinstance(state, Mapping) else []
    if any(map(_holds_bytes, values)):
        yield "bytes"
    if any(value is not None and not isinstance(value, bytes) for value in values):
        yield "values"


def _holds_bytes(value: Any) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple | set) else ()
    return isinstance(value, bytes) or any(map(_holds_bytes, inner))


def _of_events(entries: list[dict[str, Any]]) -> Iterator[str]:
    events = [event for entry in entries for event in events_of(entry["body"])]
    for word, names in _OF_EVENTS.items():
        if any(event.get(name) for event in events for name in names):
            yield word


def _is_further(log: Log) -> bool:
    return bool(log["entries"]) and parse_log_id(log["log_id"]).name not in _NOT_FURTHER
