"""Google ADK's sessions: ``adk-v1`` and ``adk-sqlite`` as its two services keep them, ``adk-v0`` with pickled actions.

A document is the row of ``sessions`` with its ``events``, rows too, in the order in which ADK shows them. It shows them
by their column ``timestamp``, then by id (v1) or as they came (sqlite), and their own time stands in ``event_data``: so
the column alone is moved where an event would come out of its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from session_adapter.formats.adk_events import OURS, body_of, events_in, storable
from session_adapter.formats.format import Event, SessionBundle
from session_adapter.formats.peer import Fields, PeerFormat
from session_adapter.formats.places import Path, is_mapping, text_of, value_at, with_value
from session_adapter.timestamps import read_time

FAMILY = "adk"
_LOSES = ("participants", "name", "metadata", "summary", "expires_at", "further_logs", "further_fields", "bytes")
_PLACES: Mapping[str, tuple[Path, ...]] = {
    "id": (("id",),),
    "app_name": (("app_name",),),
    "user_id": (("user_id",),),
    "state": (("state",),),
    "created_at": (("create_time",),),
    "updated_at": (("update_time",),),
}
_TICK = timedelta(microseconds=1)
_MAX_KEY_BYTES = 255  # of an entry in a log
# v0 has a column for each field of an event, and no null ones in the dump
_V0_ALIKE = (
    *("id", "invocation_id", "author", "branch", "content", "grounding_metadata", "custom_metadata", "usage_metadata"),
    *("citation_metadata", "partial", "turn_complete", "error_code", "error_message", "interrupted"),
    *("input_transcription", "output_transcription"),
)

# an entry is a row; these give the body of its event


def _body_of_row(row: Any) -> dict[str, Any] | None:
    """The event of a row of v1 or sqlite; None for one that could not be parsed."""
    data = row.get("event_data") if is_mapping(row) else None
    if not is_mapping(data):
        return None
    told = {name: row[name] for name in ("id", "invocation_id") if row.get(name) is not None}
    return {**data, **told, "timestamp": _said_at(row)}


def _said_at(row: Any) -> Any:
    """The time of a row of any version: an event's own is exact, the column's is what v0 has."""
    if not is_mapping(row):
        return None
    data = row.get("event_data")
    time = data.get("timestamp") if is_mapping(data) else None
    is_exact = isinstance(time, int | float) and not isinstance(time, bool)
    return time if is_exact else row.get("timestamp")


def _body_of_v0(row: Any) -> dict[str, Any] | None:
    """The event of a row of v0 as later versions dump it; its time is the column's, without an offset."""
    if not is_mapping(row):
        return None
    body = {name: row[name] for name in _V0_ALIKE if row.get(name) is not None}
    actions = row.get("actions")
    body["actions"] = _without_nulls(actions) if is_mapping(actions) else {}
    if row.get("long_running_tool_ids_json"):
        body["long_running_tool_ids"] = row["long_running_tool_ids_json"]
    return body | {"timestamp": row.get("timestamp")}


def _without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# the formats


@dataclass(frozen=True, eq=False, kw_only=True)
class AdkFormat(PeerFormat):
    """What ADK's formats know beside what every format of another framework does."""

    def write(self, bundle: SessionBundle) -> dict[str, Any]:
        document = super().write(bundle)
        has_new = any(map(_is_new, self.history(document) or ()))
        return document | {"events": self._settled(document)} if has_new else document

    def _settled(self, document: Mapping[str, Any]) -> list[Any]:
        """The rows with ids and times for those that are new, and the old ones behind them in their places."""
        events = document["events"]
        taken = {row["id"] for row in events if is_mapping(row) and not _is_new(row)}
        first_new = next(at for at, row in enumerate(events) if _is_new(row))
        rows = list(events[:first_new])
        last = max((moment for row in rows if (moment := _moment(row))), default=None)
        for at, row in enumerate(events[first_new:], first_new):
            named = _named(row, document, at, taken) if _is_new(row) else row
            earliest = _start(document) if last is None else last + _TICK
            told = _moment(named) or earliest
            last = told if last is None else max(told, earliest)
            rows.append(self._timed(named, last))
        return rows

    def _timed(self, row: Any, moment: datetime) -> Any:
        """*row* with its column at *moment*; the event keeps the time that it has."""
        if not is_mapping(row) or (row["timestamp"] is not None and _moment(row) == moment):
            return row
        data = row["event_data"]
        if is_mapping(data) and "timestamp" not in data:
            data = {**data, "timestamp": moment.timestamp()}
        return {**row, "timestamp": self.written_time(moment), "event_data": data}


def _is_new(row: Any) -> bool:
    return is_mapping(row) and row.get("timestamp", "") is None


def _start(document: Mapping[str, Any]) -> datetime:
    return read_time(document.get("create_time"), UTC).moment or datetime(1970, 1, 1, tzinfo=UTC)


def _moment(row: Any) -> datetime | None:
    """Where a row stands; for a new one when it was said; None where nobody knows."""
    if not is_mapping(row):
        return None
    data = row.get("event_data")
    told = row.get("timestamp")
    if told is None and is_mapping(data):
        told = data.get("timestamp")
    return read_time(told, UTC).moment


def _named(row: Mapping[str, Any], document: Mapping[str, Any], at: int, taken: set[Any]) -> dict[str, Any]:
    """A new *row* with an id of its own; one that is taken is carried along."""
    id, data = row.get("id"), row["event_data"]
    if not id or id in taken:
        fresh = _made_id(document, at)
        if is_mapping(data) and id:
            data = {**data, "custom_metadata": _carrying(data.get("custom_metadata"), {"id": id})}
        id = fresh
    taken.add(id)
    return {**row, "id": id, "event_data": {**data, "id": id} if is_mapping(data) else data}


def _carrying(metadata: Any, further: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(metadata) if is_mapping(metadata) else {}
    ours = kept.get(OURS)
    return {**kept, OURS: {**(ours if is_mapping(ours) else {}), **further}}


def _made_id(document: Mapping[str, Any], at: int) -> str:
    """An id for the event at that place of that session: the same one each time."""
    parts = repr((document["app_name"], document["user_id"], document["id"], at))
    return str(UUID(bytes=hashlib.sha256(parts.encode("utf-8", "backslashreplace")).digest()[:16], version=5))


def _naive_text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f").rjust(26, "0")


def _aware_text(moment: datetime) -> str:
    return f"{_naive_text(moment)}+00:00"


def _shorter(row: Mapping[str, Any]) -> dict[str, Any]:
    """*row* without the last of its results."""
    path = ("event_data", "content", "parts") if "event_data" in row else ("content", "parts")
    parts = value_at(row, path)
    last = max(at for at, part in enumerate(parts) if is_mapping(part) and is_mapping(part.get("function_response")))
    return with_value(row, path, [*parts[:last], *parts[last + 1 :]])


def _row_of(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": body.get("id"),
        "invocation_id": body.get("invocation_id") or "",
        "timestamp": None,
        "event_data": body,
    }


def body_in(writer: PeerFormat, row: Any) -> dict[str, Any] | None:
    """The event of a *row* of one of ADK's formats, as ADK dumps it; None for one that could not be parsed."""
    return _body_of_v0(row) if writer is ADK_V0 else _body_of_row(row)


def _adopted(writer: PeerFormat, value: Any, moment: datetime) -> dict[str, Any] | None:
    """The row of another of ADK's formats as a new one of this; see ``PeerFormat.adopt``."""
    if not is_mapping(value):
        return None
    body = body_in(writer, value)
    if body is None:
        return {**{name: value.get(name) for name in ("id", "invocation_id", "event_data")}, "timestamp": None}
    return _row_of(storable({**body, "timestamp": moment.timestamp()}))


def by_value(document: Any) -> Any:
    """*document* with whole numbers as integers: PostgreSQL's JSONB keeps what a number is, not how it is spelled."""
    if isinstance(document, float) and document.is_integer():
        return int(Decimal(repr(document)))
    if isinstance(document, list):
        return [by_value(one) for one in document]
    if isinstance(document, dict):
        return {key: by_value(one) for key, one in document.items()}
    return document


def _written(_: str, value: Any) -> Any:
    return storable(value)


def _key(row: Any) -> str | None:
    id = text_of(row.get("id")) if is_mapping(row) else None
    return id if id and len(id.encode("utf-8", "surrogatepass")) <= _MAX_KEY_BYTES else None


def _format(name: str, engines: tuple[str, ...], body: Any, written_time: Any, **further: Any) -> AdkFormat:
    def to_events(value: Any) -> list[Event]:
        found = body(value)
        return [] if found is None else events_in(found)

    def to_event(value: Any) -> Event | None:
        return next(iter(to_events(value)), None)

    def from_event(event: Mapping[str, Any]) -> dict[str, Any]:
        return _row_of(body_of(event))

    def blank(fields: Fields) -> dict[str, Any]:
        owners = {name: fields[name] for name in ("app_name", "user_id", "id")}
        times = {"create_time": written_time(fields["created_at"]), "update_time": written_time(fields["updated_at"])}
        return {**owners, "state": {}, **times, "events": []}

    return AdkFormat(
        name,
        to_event,
        from_event,
        history_path=("events",),
        own_places=_PLACES,
        to_events=to_events,
        shorter=_shorter,
        family=FAMILY,
        engines=engines,
        is_scoped=True,
        loses=_LOSES,
        blank=blank,
        entry_key=_key,
        written_time=written_time,
        written=_written,
        said_at=_said_at,
        is_timed=True,
        adopt=_adopted,
        **further,
    )


_SERVERS = ("sqlite", "postgresql", "mysql")
ADK_V1 = _format("adk-v1", _SERVERS, _body_of_row, _naive_text, naive_zone=UTC)
ADK_SQLITE = _format("adk-sqlite", ("sqlite",), _body_of_row, datetime.timestamp, naive_zone=UTC)
ADK_V0 = _format("adk-v0", _SERVERS, _body_of_v0, _aware_text, writes=False, needs_zone=True)
