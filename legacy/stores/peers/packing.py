"""Sessions of other frameworks as parcels, and parcels as sessions of other frameworks.

A session becomes a record in the canonical form, a history whose entries keep the form they had, and a log
``raw/<record id>`` with all that is neither: what a way back needs and nobody else reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from legacy.stores.contents import whole_content
from legacy.stores.parcels import Log, Parcel, Record
from legacy.stores.peers.kinds import AppKey, Found, PeerSession, PeerState, record_key
from legacy.stores.peers.whole_runs import runs_built
from session_adapter.documents import Split, format_of, record_of, stored_document
from session_adapter.entries import HISTORY, events_of, history_of, run_id_of, same_form
from session_adapter.events import LOOSE_RUNS, WHOLE_RUNS
from session_adapter.formats import CANONICAL, Format, SessionBundle, entry_body, entry_form
from session_adapter.formats.format import TIMES
from session_adapter.formats.json_values import without_bytes
from session_adapter.formats.peer import PeerFormat
from session_adapter.identity import SessionId, SessionKey, UserKey, session_id_of
from session_adapter.metadata import own_fields
from session_adapter.naming import named_record
from session_adapter.timestamps import Zone, read_time, render
from unified_storage.logs import MAX_KEY_BYTES, log_id, parse_log_id
from unified_storage.values import equal

RAW = "raw"
_NOT_IN_THE_DOCUMENT = frozenset({"id", "created_at", "updated_at"})


@dataclass(frozen=True, slots=True)
class Packing:
    """How parcels are made of what one store holds.

    Attributes:
        zone: of times without an offset.
        started: stands for times that nothing tells.
    """

    format: PeerFormat
    version: str | None
    zone: Zone
    started: datetime

    def packed(self, found: Found) -> Parcel:
        """Raises ``StorageValidationError`` or ``StorageCapacityError`` for what cannot be stored."""
        record, logs = self._state(found) if isinstance(found, PeerState) else self._session(found)
        content = whole_content(record, logs)
        unknown = record["metadata"].get("~", {}).get("time_unknown", ())
        reasons = (*found.warnings, *(f"{name}_unknown" for name in unknown))
        return Parcel(record, logs, content, content, True, found.label, reasons, found.size)

    # a session

    def _session(self, found: PeerSession) -> tuple[Record, list[Log]]:
        bundle = self.format.read(found.document, id=session_id_of(found.key), source_timezone=self.zone)
        told = (bundle.session.get("created_at"), bundle.session.get("updated_at"))
        times, unknown = self._times(*told, found.modified)
        fields = {name: value for name, value in bundle.session.items() if name not in _NOT_IN_THE_DOCUMENT}
        document = CANONICAL.write(SessionBundle(fields, [], {"session_id": session_id_of(found.key)}))
        entries = _keyed_once([self._entry(value) for value in bundle.entries])
        own: dict[str, Any] = {"time_unknown": unknown} if unknown else {}
        own |= self._marks(entries)
        record = record_of(found.key, Split(CANONICAL, document, None), own)
        record = named_record(record, (entry["body"] for entry in entries))
        record |= {"thread_id": None, "version": 1, "expires_at": found.expires_at} | times
        stored = record["id"]
        history = self._log(history_of(stored), entries, times["updated_at"])
        raw = self._log(log_id(RAW, stored), self._raw_entries(bundle.raw), times["updated_at"])
        further = [
            self._log(log_id(name, stored), entries, times["updated_at"])
            for name, entries in sorted(found.further_logs.items())
        ]
        return record, [history, raw, *further]

    def _entry(self, value: Any) -> dict[str, Any]:
        return {"body": entry_body(self.format, value), "key": self.format.entry_key(value), **self._said(value)}

    def _said(self, value: Any) -> dict[str, Any]:
        told = self._begun(value)
        moment = None if told is None else read_time(told, self.format.naive_zone or self.zone).moment
        return {} if moment is None else {"created_at": moment}

    def _begun(self, value: Any) -> Any:
        if self.format.run_form is not None:
            return self.format.run_form.begun(value) if isinstance(value, Mapping) else None
        if self.format.said_at is not None:
            return self.format.said_at(value)
        event = self.format.to_event(value)
        return None if event is None else event.get("timestamp")

    def _marks(self, entries: list[dict[str, Any]]) -> dict[str, bool]:
        """What a history says of itself beside the session: whether it has runs, whole or message by message."""
        if self.format.run_form is not None:
            return {WHOLE_RUNS: True} if entries else {}
        return {LOOSE_RUNS: True} if any(run_id_of(entry) is not None for entry in entries) else {}

    def _raw_body(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        return {"format": self.format.name, "format_version": self.version, "value": dict(raw)}

    def _raw_entries(self, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The raw document, and behind it the rows of its long lists."""
        lists = {name: raw[name] for name in self.format.row_lists if name in raw}
        first = self._raw_body({**raw, **{name: [] for name in lists}})
        rows = ({"list": name, "value": row} for name, listed in lists.items() for row in listed)
        return [{"body": body} for body in (first, *rows)]

    @staticmethod
    def _log(id: str, entries: Sequence[Mapping[str, Any]], now: datetime) -> Log:
        blank = {"key": None, "created_at": now}
        numbered = [{**blank, **entry, "seq": seq} for seq, entry in enumerate(entries, 1)]
        return {"log_id": id, "last_seq": len(numbered), "entries": numbered}

    # a state

    def _state(self, found: PeerState) -> tuple[Record, list[Log]]:
        stored, kind = record_key(found.key)
        names = {"app_name": found.key.app_name}
        if isinstance(found.key, UserKey):
            names["user_id"] = found.key.user_id
        times, unknown = self._times(found.created_at, found.updated_at)
        record = {
            "id": stored,
            "type": kind,
            "data": {**names, "state": found.state},
            "metadata": {"~": {"time_unknown": unknown}} if unknown else {},
            "session_id": None,
            "thread_id": None,
            "version": 1,
            "expires_at": found.expires_at,
            **times,
        }
        if found.raw is None:
            return record, []
        return record, [
            self._log(log_id(RAW, stored, kind), [{"body": self._raw_body(found.raw)}], times["updated_at"])
        ]

    def _times(
        self, created: datetime | None, updated: datetime | None, modified: datetime | None = None
    ) -> tuple[dict[str, datetime], list[str]]:
        """Both times, an unknown one from the other of the two, and which were unknown."""
        unknown = [name for name, moment in (("created_at", created), ("updated_at", updated)) if moment is None]
        return {
            "created_at": created or updated or modified or self.started,
            "updated_at": updated or created or modified or self.started,
        }, unknown


def _keyed_once(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """*entries*, of which only the first of a key keeps it: writers repeat what they call unique, or make it long."""
    known: set[Any] = set()
    for entry in entries:
        key = entry["key"]
        if key in known or (key is not None and len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES):
            entry["key"] = None
        known.add(key)
    return entries


# the way back


def retimed(parcel: Parcel, times: Mapping[str, Any]) -> Parcel:
    """*parcel*, of which nobody knows when it was, with the times that it was given elsewhere."""
    given = {name: times[name] for name in TIMES if isinstance(times.get(name), datetime)}
    record = parcel.record | given
    stands = {parcel.record["updated_at"]: record["updated_at"]}
    logs = [{**log, "entries": [_restamped(entry, stands) for entry in log["entries"]]} for log in parcel.logs]
    return replace(parcel, record=record, logs=logs)


def _restamped(entry: dict[str, Any], stands: Mapping[Any, Any]) -> dict[str, Any]:
    return entry | {"created_at": stands.get(entry["created_at"], entry["created_at"])}


def unpacked(parcel: Parcel, key: SessionId | UserKey | AppKey, format: PeerFormat) -> Found:
    """What a store in *format* is to hold of *parcel*.

    Entries that came from there are as they were, others are built; so is the document, in which only what has changed
    since is another.

    Args:
        key: under which it is to stand there.
    Raises:
        StorageValidationError: something in it has no place in that form.
    """
    raw = _raw_of(parcel, format)
    record = parcel.record
    if not isinstance(key, str | SessionKey):
        return PeerState(
            key,
            format.written("state", dict(record["data"].get("state") or {})),
            raw,
            record["created_at"],
            record["updated_at"],
            record["expires_at"],
            size=parcel.size,
        )
    shown: Mapping[str, Any] = {}
    fields = _fields_of(record, key, format)
    if raw is None:
        raw = format.blank(fields)
    else:
        shown = format.read(raw).shown
    entries = _elements(_entries(parcel, history_of(record["id"])), format, fields)
    if "bytes" in format.loses:  # what came from there has none
        entries = without_bytes(entries)
    document = format.write(SessionBundle(_placeable(fields, shown, record, format), entries, raw, shown))
    return PeerSession(key, document, _further(parcel, format), record["expires_at"], size=parcel.size)


def _fields_of(record: Mapping[str, Any], key: SessionId, format: PeerFormat) -> dict[str, Any]:
    document = stored_document(record)
    bundle = format_of(record).read(document, id=session_id_of(key))
    times = {name: record[name] for name in TIMES}
    owners = {"app_name": key.app_name, "user_id": key.user_id} if isinstance(key, SessionKey) else {}
    further = {name: document[name] for name in format.further if document.get(name) is not None}
    return {**further, **bundle.session, **owners, **times}


def _placeable(
    fields: Mapping[str, Any], shown: Mapping[str, Any], record: Mapping[str, Any], format: PeerFormat
) -> dict[str, Any]:
    """Those of *fields* that the form has a place for, times that changed as it writes them."""
    placed = {name: value for name, value in fields.items() if name in format.own_places and name != "id"}
    unknown = own_fields(record).get("time_unknown", ())
    for name in TIMES:
        if name in placed and placed[name] != shown.get(name):
            if name in unknown and record["created_at"] == record["updated_at"]:
                del placed[name]  # nobody knows it: it stands for the other
            else:
                placed[name] = format.written_time(placed[name])
    return {name: value if name in TIMES else _written(name, value, shown, format) for name, value in placed.items()}


def _written(name: str, value: Any, shown: Mapping[str, Any], format: PeerFormat) -> Any:
    if name in shown and equal(value, shown[name]):
        return value
    return format.written(name, without_bytes(value) if "bytes" in format.loses else value)


def _raw_of(parcel: Parcel, format: PeerFormat) -> dict[str, Any] | None:
    """What was kept beside the session when it came from a store in *format*; None where it came from elsewhere."""
    found: dict[str, Any] | None = None
    for entry in _entries(parcel, log_id(RAW, parcel.record["id"], parcel.record["type"])):
        body = entry["body"]
        if not isinstance(body, Mapping):
            continue
        if body.get("format") == format.name:
            found = {name: [] if name in format.row_lists else value for name, value in body["value"].items()}
        elif found is not None and body.get("list") in format.row_lists:
            found[body["list"]].append(body["value"])
    return found


def _entries(parcel: Parcel, id: str) -> list[dict[str, Any]]:
    return next((log["entries"] for log in parcel.logs if log["log_id"] == id), [])


def _further(parcel: Parcel, format: PeerFormat) -> dict[str, list[dict[str, Any]]]:
    named = ((parse_log_id(log["log_id"]).name, log["entries"]) for log in parcel.logs)
    logs = {name: entries for name, entries in named if entries and name not in (HISTORY, RAW)}
    if format.placed_log is None:
        return logs
    placed = {name: format.placed_log(name, [entry["body"] for entry in entries]) for name, entries in logs.items()}
    return {name: [{"body": body} for body in bodies] for name, bodies in placed.items() if bodies}


def _elements(entries: Iterable[Mapping[str, Any]], format: PeerFormat, fields: Mapping[str, Any]) -> list[Any]:
    """The entries as elements of a document in *format*, new ones where other writers wrote them."""
    if format.run_form is not None:
        return format.arranged(runs_built(entries, format, format.run_form, fields))
    elements: list[Any] = []
    for entry in entries:
        writer, value = entry_form(entry["body"])
        if writer is not None and same_form(writer, format):
            elements.append(value)
        elif (own := _adopted(writer, value, entry, format)) is not None:
            elements.append(own)
        else:
            elements += [format.from_event(_timed(event, entry, format)) for event in events_of(entry["body"])]
    return format.arranged(elements)


def _adopted(writer: Format | None, value: Any, entry: Mapping[str, Any], format: PeerFormat) -> Any:
    """An entry of another form of the same family as one of *format*; None where it has to be built."""
    if format.adopt is None or not isinstance(writer, PeerFormat) or writer.family != format.family:
        return None
    return format.adopt(writer, value, entry["created_at"])


def _timed(event: dict[str, Any], entry: Mapping[str, Any], format: PeerFormat) -> dict[str, Any]:
    """*event* with the moment of its entry, where that says more than its own time does."""
    told = event.get("timestamp")
    # Which zone a time without an offset means was decided when the entry was stored.
    if format.is_timed if told is None else read_time(told).naive:
        return event | {"timestamp": render(entry["created_at"])}
    return event
