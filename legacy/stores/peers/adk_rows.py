"""Rows of Google ADK's tables as parts of documents: JSON parsed, pickles read as data, times as text."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from legacy.stores.file_reading import FileRefused, parse
from legacy.stores.peers.pickled import Refused, read_pickle
from legacy.stores.peers.rows import Row
from session_adapter.formats.places import is_mapping
from session_adapter.levels import TEMP

_OWNERS = frozenset({"app_name", "user_id", "session_id"})
_JSON_OF_V0 = (
    *("content", "grounding_metadata", "custom_metadata", "usage_metadata", "citation_metadata"),
    *("input_transcription", "output_transcription", "long_running_tool_ids_json"),
)
_FLAGS_OF_V0 = ("partial", "turn_complete", "interrupted")


@dataclass(slots=True)
class Oddities:
    """What is noticed while the rows of a session are read, each word once."""

    words: dict[str, None] = field(default_factory=dict)

    def note(self, *words: str) -> None:
        self.words.update(dict.fromkeys(words))


def state_of(row: Row, odd: Oddities) -> Any:
    """The state in *row*: an object, or None for JSON's null.

    Raises:
        FileRefused: it is neither; the library cannot read such a row.
    """
    parsed = parse(_octets(row["state"]))
    if parsed.value is not None and not isinstance(parsed.value, dict):
        raise FileRefused("invalid_shape", "state")
    odd.note(*parsed.warnings)
    return parsed.value


def event_row(row: Row, odd: Oddities) -> dict[str, Any]:
    """A row of v1, or of the SQLite service, as the element of a document."""
    return {
        "id": row["id"],
        "invocation_id": row["invocation_id"],
        "timestamp": time_text(row["timestamp"]),
        "event_data": _object_or_text(row["event_data"], odd),
    }


def v0_event_row(row: Row, odd: Oddities) -> dict[str, Any]:
    """A row of v0 as the element of a document: what is null is left out.

    Its pickle is kept beside what it says, in Base64, but not where that is a secret: ``temp:`` state, which was never
    to be stored, is dropped.

    Raises:
        FileRefused: the pickle is no data.
    """
    element = {name: value for name, value in row.items() if value is not None and name not in _OWNERS}
    element["timestamp"] = time_text(row["timestamp"])
    for name in _JSON_OF_V0:
        if name in element:
            element[name] = _json_or_text(element[name], odd)
    for name in _FLAGS_OF_V0:
        if name in element:
            element[name] = bool(element[name])
    element.pop("actions", None)
    return element | _actions(row.get("actions"), str(row["id"]), odd)


def _actions(pickled: Any, id: str, odd: Oddities) -> dict[str, Any]:
    if pickled is None:
        return {}
    content = bytes(pickled) if isinstance(pickled, bytes | bytearray | memoryview) else b""
    try:
        actions = _read_again(content) if len(content) <= _SMALL else read_pickle(content)
    except Refused as refused:
        raise FileRefused("refused_pickle", f"event {id!r}: {refused}") from refused
    if not isinstance(actions, dict | None):
        raise FileRefused("refused_pickle", f"event {id!r}: a {type(actions).__name__}")
    public = _without_temp(actions)
    if public is not actions:
        odd.note("temp_state_dropped")
        return {"actions": public}
    return {"actions": actions, "actions_pickle": b64encode(content).decode()}


_SMALL = 4_096
"""Bytes of the pickles of most events, which changed nothing, so that many are alike."""


@lru_cache(maxsize=256)
def _read_again(content: bytes) -> Any:
    """The data in a small pickle; shared, so nobody may change it."""
    return read_pickle(content)


def _without_temp(actions: dict[str, Any] | None) -> dict[str, Any] | None:
    """*actions* without state that was never to be stored; themselves where there is none."""
    delta = (actions or {}).get("state_delta")
    if actions is None or not isinstance(delta, dict):
        return actions
    public = {key: value for key, value in delta.items() if not (isinstance(key, str) and key.startswith(TEMP))}
    return actions if len(public) == len(delta) else {**actions, "state_delta": public}


# values


def _object_or_text(value: Any, odd: Oddities) -> Any:
    """The object that *value* is the JSON of; all else as it is, a blob as the text that can be written again."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    parsed = _json_or_text(value, odd)
    if is_mapping(parsed) or value is None:
        return parsed
    if parsed is not value:
        odd.note("event_invalid_shape")
    return value


def _json_or_text(value: Any, odd: Oddities) -> Any:
    """The value that *value* is the JSON of; itself where it is none, lone surrogates for octets that are no text."""
    if not isinstance(value, str | bytes):
        return value
    try:
        parsed = parse(_octets(value))
    except FileRefused as refused:
        odd.note(f"event_{refused.reason}")
        return value
    odd.note(*parsed.warnings)
    return parsed.value


def _octets(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return value
    raise FileRefused("invalid_shape", type(value).__name__)


def time_text(value: Any) -> Any:
    """A column's time: a driver's ``datetime`` as SQLite has it, text and number as they are."""
    return value.isoformat(" ", "microseconds") if isinstance(value, datetime) else value


def utc_text(value: Any) -> Any:
    """A time that the database's clock wrote without its offset, which was UTC."""
    told = time_text(value)
    is_naive = isinstance(told, str) and "+" not in told and "Z" not in told
    return f"{told}+00:00" if is_naive else told
