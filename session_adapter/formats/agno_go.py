"""agno-go's sessions: those of its library (a table of its own) and of its service (the columns of agno 2.x).

A document is ``{"session": the row, "runs": [run, ...]}``, its JSON columns parsed, times of the library as text in
whatever way a driver spelled them, those of the service as epoch seconds. ``texts`` has the texts of JSON columns that
their value does not give back: those that are no JSON, and what is ``null`` or NULL where its writer does the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from session_adapter.formats.agno import PLACES as AGNO_PLACES
from session_adapter.formats.agno import blank as agno_blank
from session_adapter.formats.agno import in_session, seconds_of, spelled_apart, with_known_kind
from session_adapter.formats.agno import written as agno_written
from session_adapter.formats.agno_messages import event_of, metrics_of, plain_content
from session_adapter.formats.agno_runs import named_after
from session_adapter.formats.calls import calls_of
from session_adapter.formats.format import TIMES, Event, SessionBundle
from session_adapter.formats.json_values import not_json
from session_adapter.formats.peer import Fields, PeerFormat
from session_adapter.formats.places import Document, first_given, is_mapping, text_of
from session_adapter.formats.runs import Run, RunForm, Turn, own_id, shown_messages
from session_adapter.timestamps import Zone, read_time

JSON_COLUMNS = ("metadata", "state", "agent_data", "summary", "runs")
_NAMES = ("agent_id", "team_id", "workflow_id", "user_id", "name")
_LOSES = ("user_state", "app_state", "expires_at", "further_logs", "further_fields", "bytes")
_GO_TIME = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[ T](?P<clock>\d\d:\d\d:\d\d(?:\.\d+)?) ?(?P<offset>Z|[+-]\d\d:?\d\d)?(?: [A-Z].*)?"
)
_STATUSES = ("running", "completed", "cancelled", "error", "paused", "pending")


# messages and runs


def message_to_event(message: Any) -> Event | None:
    """A message as an event; what it used stands in its metadata."""
    event = event_of(message)
    if event is None or "usage" in event:
        return event
    told = message.get("metadata")
    usage = told.get("usage") if is_mapping(told) else None
    return event | {"usage": usage} if is_mapping(usage) else event


def message_from_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as a message; fields that agno-go does not know stand in it all the same."""
    content = plain_content(event.get("content"))
    message: dict[str, Any] = {
        "id": text_of(event.get("id")),
        "role": text_of(event.get("role")) or "unknown",
        "content": "" if content is None else content if isinstance(content, str) else _as_json(content),
        "name": text_of(event.get("name")),
        "tool_call_id": text_of(event.get("tool_call_id")),
        "tool_calls": [call.shown() for call in calls_of(event)] or None,
        "metadata": _metadata(event),
    }
    further = {name: value for name, value in event.items() if name not in message and name not in _APART}
    known = {name: value for name, value in message.items() if value is not None}
    return known | {name: value for name, value in further.items() if value is not None}


_APART = frozenset({"seq", "index", "run_id", "usage", "reasoning_content"})


def _metadata(event: Mapping[str, Any]) -> dict[str, Any] | None:
    own = event.get("metadata")
    metadata = dict(own) if is_mapping(own) else {}
    if is_mapping(event.get("usage")):
        metadata["usage"] = dict(event["usage"])
    return metadata or None


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _built(turn: Turn) -> dict[str, Any]:
    given = turn.run or {}
    messages = [message_from_event(event) for event in turn.events]
    times = [moment for event in turn.events if (moment := read_time(event.get("timestamp"), None).moment)]
    begun = read_time(given.get("started_at") or given.get("created_at"), None).moment
    ended = read_time(given.get("completed_at"), None).moment
    answers = [message["content"] for message in messages if message["role"] == "assistant" and message["content"]]
    said = given.get("content")
    run = {
        "run_id": turn.run_id or named_after(turn),
        "status": _status(given.get("status")),
        "started_at": _go_time(begun or min(times, default=None)),
        "completed_at": _go_time(ended or max(times, default=None)),
        "content": said if isinstance(said, str) else answers[-1] if answers else "",
        "messages": messages,
        "metadata": _usage_of(given, turn.events) or None,
    }
    return {name: value for name, value in run.items() if value is not None}


def _status(told: Any) -> str:
    word = told.lower() if isinstance(told, str) else ""
    return word if word in _STATUSES else "completed"


def _usage_of(run: Run, events: Sequence[Event]) -> dict[str, Any]:
    own = run.get("metadata")
    metadata = dict(own) if is_mapping(own) else {}
    counted = metrics_of(run.get("usage") or run.get("metrics")) or _summed(events)
    return metadata if not counted or "usage" in metadata else {**metadata, "usage": counted}


def _summed(events: Sequence[Event]) -> dict[str, Any]:
    counted = [metrics_of(event.get("usage")) for event in events]
    names = ("input_tokens", "output_tokens", "total_tokens")
    return {name: total for name in names if (total := sum(one.get(name, 0) for one in counted))}


def _longer(run: Run, events: Sequence[Event]) -> dict[str, Any]:
    copied = deepcopy(dict(run))
    places = [*shown_messages(copied)]
    messages = [message_from_event(event) for event in events]
    if places:
        places[-1][0].extend(messages)
        return copied
    held = copied.get("messages")
    copied["messages"] = [*(held if isinstance(held, list) else []), *messages]
    return copied


def _begun(run: Run) -> Any:
    return run.get("started_at") or run.get("created_at")


def _go_time(moment: datetime | None) -> str | None:
    """RFC 3339, as Go's JSON has it."""
    return None if moment is None else f"{_shortened(moment, 'T')}Z"


def _shortened(moment: datetime, between: str) -> str:
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(between)
    return text.rstrip("0") if moment.microsecond else text


# sessions


def sql_time(moment: datetime) -> str:
    """A time as its SQLite driver writes it: ``2024-05-15 20:00:00.5+00:00``."""
    return f"{_shortened(moment, ' ')}+00:00"


def iso_time(told: Any) -> Any:
    """A time in one of the ways in which Go spells it, as ISO 8601; what is none as it is."""
    found = _GO_TIME.fullmatch(told) if isinstance(told, str) else None
    return told if found is None else f"{found['day']}T{found['clock']}{found['offset'] or ''}"


def _blank(fields: Fields) -> dict[str, Any]:
    names = {name: text_of(fields.get(name)) for name in _NAMES}
    times = {name: sql_time(fields[name]) for name in TIMES}
    columns = ("metadata", "state", "agent_data", "summary")
    return {"session": {"session_id": fields["id"], **names, **dict.fromkeys(columns), **times}, "runs": []}


def _written(name: str, value: Any) -> Any:
    return _summary(value) if name == "summary" else value


def _service_written(name: str, value: Any) -> Any:
    return _summary(value) if name == "summary" else agno_written(name, value)


def _summary(value: Any) -> Any:
    """A summary of ours as agno-go's own: ``{content, run_count, total_tokens, created_at}``."""
    if not is_mapping(value):
        return {"content": value} if isinstance(value, str) else value
    text = value.get("content", value.get("summary"))
    made = _go_time(read_time(value.get("created_at") or value.get("updated_at"), None).moment)
    counts = {name: value[name] for name in ("run_count", "total_tokens") if isinstance(value.get(name), int)}
    told = {} if made is None else {"created_at": made}
    return {"content": "" if text is None else str(text)} | counts | told


def _compared(document: dict[str, Any]) -> dict[str, Any]:
    """*document* without how it is spelled, its times to the microsecond: PostgreSQL keeps no more of them."""
    row = document["session"]
    moments = {name: read_time(iso_time(row.get(name)), None).moment for name in TIMES}
    times = {name: sql_time(moment) for name, moment in moments.items() if moment is not None}
    return {**spelled_apart(document), "session": {**row, **times}}


class _OfLibrary(PeerFormat):
    """Sessions of the library, whose times drivers spell in several ways."""

    def _field(self, document: Document, name: str, zone: Zone) -> Any:
        if name in TIMES:
            return read_time(iso_time(first_given(document, self.places(name))), zone).moment
        return super()._field(document, name, zone)


class _OfService(PeerFormat):
    def write(self, bundle: SessionBundle) -> dict[str, Any]:
        return super().write(with_known_kind(bundle))


_RUNS = RunForm(built=_built, longer=_longer, begun=_begun)


def _format(form: type[PeerFormat], name: str, engines: tuple[str, ...], **further: Any) -> PeerFormat:
    return form(
        name,
        message_to_event,
        message_from_event,
        history_path=("runs",),
        run_form=_RUNS,
        family="agno-go",
        engines=engines,
        loses=_LOSES,
        entry_key=own_id,
        refusal=not_json,
        **further,
    )


AGNO_GO = _format(
    _OfLibrary,
    "agno-go",
    ("sqlite", "postgresql"),
    own_places={
        "id": in_session("session_id"),
        **{name: in_session(name) for name in (*_NAMES, "metadata", "state", "summary", "agent_data", *TIMES)},
        "app_name": in_session("metadata", "app_name"),
    },
    blank=_blank,
    written_time=sql_time,
    written=_written,
    further=("agent_data",),
    compared=_compared,
)
AGNO_GO_SERVICE = _format(
    _OfService,
    "agno-go-service",
    ("postgresql",),
    own_places=AGNO_PLACES,
    blank=agno_blank,
    written_time=seconds_of,
    written=_service_written,
    further=("agent_data", "team_data", "workflow_data", "metrics"),
    compared=spelled_apart,
)
