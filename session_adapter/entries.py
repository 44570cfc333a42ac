"""What stands in a history: entries as events, as elements of a document's list, and as they are appended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from session_adapter.formats import CANONICAL, Event, Format, entry_body, entry_events, entry_form
from session_adapter.formats.places import is_mapping
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

Place = tuple[list[Any], int]
"""A message inside a run: the list that holds it, and where."""


def history_of(record_id: str) -> str:
    """The id of the log that holds the history of a session's record."""
    return _HISTORY_OF + record_id


# runs


def is_run(body: Any) -> bool:
    """Whether the entry *body* is a whole run in our own form: no role as an event has, but messages or a run's id."""
    if not is_mapping(body) or "role" in body:
        return False
    return isinstance(body.get("messages"), list) or "run_id" in body


def shown_messages(run: Mapping[str, Any]) -> Iterator[Place]:
    """Where the messages stand that *run* shows, oldest first.

    A run inside another one (``parent_run_id``) shows none; the runs of a workflow's steps show theirs in it. System
    messages and those taken over from an earlier run (``from_history``) are not shown.
    """
    if run.get("parent_run_id") is None:
        yield from _messages_of(run)


def _messages_of(run: Mapping[str, Any]) -> Iterator[Place]:
    messages, steps = run.get("messages"), run.get("step_executor_runs")
    if isinstance(messages, list):
        yield from ((messages, at) for at, message in enumerate(messages) if _is_shown(message))
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, Mapping):
            yield from _messages_of(step)


def _is_shown(message: object) -> bool:
    return isinstance(message, Mapping) and message.get("role") != "system" and not message.get("from_history")


# events


def events_of(body: Any) -> list[Event]:
    """The events that the entry *body* shows: one as a rule, those of a run, none where it cannot be read as any."""
    if is_run(body):
        run = {"run_id": body.get("run_id")}
        return [run | dict(messages[at]) for messages, at in shown_messages(body)]
    return entry_events(body)


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
    if is_run(entry["body"]):
        run_id = entry["body"].get("run_id") or entry["key"]
    else:
        run_id = next((event.get("run_id") for event in events_of(entry["body"])), None)
    return run_id if isinstance(run_id, str) else None


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
