"""What stands in a history: entries as events, as elements of a document's list, and as they are appended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from session_adapter.formats import CANONICAL, Event, Format, entry_body, entry_events, entry_form
from session_adapter.formats.places import is_mapping
from session_adapter.formats.runs import Place, Run, shown_messages
from session_adapter.timestamps import Zone, read_time, render
from unified_storage.logs import log_id

HISTORY = "history"
FLAT = (
    "seq",
    "index",
    "id",
    "role",
    "author",
    "content",
    "tool_calls",
    "tool_call_id",
    "name",
    "run_id",
    "timestamp",
    "usage",
    "status",
    "state_delta",
)
"""The keys that every shown event has, in this order; further ones are its writer's own."""
_BLANK: Mapping[str, Any] = dict.fromkeys(FLAT)
_HISTORY_OF = log_id(HISTORY, "")


def history_of(record_id: str) -> str:
    """The id of the log that holds the history of a session's record."""
    return _HISTORY_OF + record_id


# runs


def is_run(body: Any) -> bool:
    """Whether the entry *body* is a whole run, in our own form or its writer's."""
    return run_in(body) is not None


def run_in(body: Any) -> Run | None:
    """The whole run that the entry *body* is, as its writer had it; None for one that is none.

    In our own form that is an object without a role, as an event has one, but with messages or a run's id.
    """
    if not is_mapping(body) or "role" in body:
        return None
    format, value = entry_form(body)
    if format is None or not is_mapping(value):
        return None
    if format.run_form is not None:
        return value
    return value if format is CANONICAL and (isinstance(value.get("messages"), list) or "run_id" in value) else None


def places_in(body: Any) -> list[Place]:
    """Where in the entry *body*, a whole run, the messages stand that it shows, oldest first."""
    format, run = entry_form(body)
    form = None if format is None else format.run_form
    return [*(shown_messages if form is None else form.places)(run)]


def _run_id_in(body: Any) -> str | None:
    format, run = entry_form(body)
    found = run.get("run_id") if format is None or format.run_form is None else format.run_form.id(run)
    return found if isinstance(found, str) and found else None


# events


def events_of(body: Any) -> list[Event]:
    """The events that the entry *body* shows: one as a rule, those of a run, none where it cannot be read as any."""
    run = run_in(body)
    if run is None:
        return entry_events(body)
    to_event = (entry_form(body)[0] or CANONICAL).to_event
    told = {"run_id": _run_id_in(body) or run.get("run_id")}
    messages = (to_event(messages[at]) for messages, at in places_in(body))
    return [told | message for message in messages if message is not None]


def flat_events(entry: Mapping[str, Any], zone: Zone) -> list[Event]:
    """The events of a log's entry as ``.events`` shows them: all of :data:`FLAT`, absent ones null.

    ``timestamp`` is text in UTC, and null where the message has no readable time of its own.
    """
    body = entry["body"]
    if type(body) is dict and "role" in body:  # an event in our own form, as nearly all are
        return [_flat(body, entry, 0, entry["key"], zone)]
    own_key = None if is_run(body) else entry["key"]
    # of several events the key names the first
    return [_flat(event, entry, index, None if index else own_key, zone) for index, event in enumerate(events_of(body))]


def _flat(event: Mapping[str, Any], entry: Mapping[str, Any], index: int, key: str | None, zone: Zone) -> Event:
    shown = {**_BLANK, **event, "seq": entry["seq"], "index": index}
    if shown["timestamp"] is not None:
        shown["timestamp"] = _shown_time(shown["timestamp"], entry, zone)
    if shown["id"] is None:
        shown["id"] = key
    return shown


def _shown_time(told: object, entry: Mapping[str, Any], zone: Zone) -> str | None:
    reading = read_time(told, zone)
    if reading.moment is None:
        return None
    # Which zone a naive time means was decided when the entry was stored.
    return render(entry["created_at"] if reading.naive else reading.moment)


def run_id_of(entry: Mapping[str, Any]) -> str | None:
    """The run that a log's *entry* is, or that its message belongs to."""
    body = entry["body"]
    if type(body) is dict and "role" in body:  # an event in our own form, as nearly all are
        run_id = body.get("run_id")
    elif is_run(body):
        run_id = _run_id_in(body) or entry["key"]
    else:
        run_id = next((event.get("run_id") for event in events_of(body)), None)
    return run_id if isinstance(run_id, str) and run_id else None  # an empty one names nothing


# elements of a document's list


def shown_elements(body: Any, format: Format) -> list[Any]:
    """What the entry *body* adds to the list of a document in *format*: elements of its own form as they are."""
    writer, value = entry_form(body)
    if writer is not None and same_form(writer, format):
        return [value]
    return [format.from_event(event) for event in events_of(body)]


def same_form(one: Format, other: Format) -> bool:
    """Whether the lists of both formats hold the same kind of element."""
    return one is other or one.to_event is other.to_event


def element_entry(element: Any, format: Format, zone: Zone) -> dict[str, Any]:
    """The entry to append for *element* of a list in *format*, with its message's time where it has one."""
    return _timed({"body": entry_body(format, element)}, format.to_event(element), zone)


def event_entry(event: Mapping[str, Any], zone: Zone) -> dict[str, Any]:
    """The entry to append for a canonical *event*: its ``id`` is the key, its places in a log are left out."""
    body = {name: value for name, value in event.items() if name not in ("seq", "index")}
    return _timed({"body": entry_body(CANONICAL, body), "key": event.get("id") or None}, body, zone)


def _timed(entry: dict[str, Any], event: Event | None, zone: Zone) -> dict[str, Any]:
    told = None if event is None else event.get("timestamp")
    moment = None if told is None else read_time(told, zone).moment
    return entry if moment is None else entry | {"created_at": moment}
