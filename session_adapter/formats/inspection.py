"""What an importer finds in a legacy document: whose session it is, its times, and everything worth a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from session_adapter.formats import BARE, CANONICAL, G3, Format, detect
from session_adapter.formats.legacy_files import UNKNOWN_ROLE
from session_adapter.formats.places import ABSENT, Document, Path, first_present, text_of, value_at
from session_adapter.identity import is_session_id
from session_adapter.models import STATUSES
from session_adapter.timestamps import MISSING, Reading, Zone, read_time

INVALID_SHAPE = "invalid_shape"
INVALID_SESSION_ID = "invalid_session_id"


@dataclass(frozen=True)
class Findings:
    """The outcome for one document.

    Attributes:
        format: None for what is no document.
        id: the session's id; None when refused.
        refusal: why the document cannot be imported; None when it can.
        warnings: what the report names, each reason once.
        created_at, updated_at: aware and in UTC; None when unknown.
    """

    format: Format | None
    id: str | None = None
    refusal: str | None = None
    warnings: tuple[str, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def time_unknown(self) -> list[str]:
        """Which of ``created_at`` and ``updated_at`` the document does not tell."""
        return [name for name in ("created_at", "updated_at") if getattr(self, name) is None]


def findings(document: object, *, stem: str | None = None, source_timezone: Zone = None) -> Findings:
    """What is to be said about *document*, a parsed legacy file.

    Args:
        stem: the id that the file's name says; it counts where the document has none.
        source_timezone: the zone of times without an offset; None is this machine's.
    """
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict | None):
        return Findings(None, refusal=INVALID_SHAPE)
    format = detect(document)
    raw_id = format.document_id(document)
    session_id = stem if raw_id in (None, "") else text_of(raw_id)
    if session_id is None or not is_session_id(session_id):
        return Findings(format, refusal=INVALID_SESSION_ID)
    created = read_time(format.created_at(document), source_timezone)
    updated = read_time(format.updated_at(document), source_timezone)
    reasons = [
        *_metadata_reasons(format, document),
        *_id_reasons(raw_id, session_id, stem),
        *_field_reasons(format, document),
        *_time_reasons(created, updated),
        *_shape_reasons(format, document),
        *_event_reasons(format, document, source_timezone),
    ]
    warnings = tuple(dict.fromkeys(reasons))
    return Findings(format, session_id, None, warnings, created.moment, updated.moment)


def _metadata_reasons(format: Format, document: Document) -> Iterator[str]:
    # A session service never wrote metadata, and in our own form it may be left out.
    if format not in (G3, CANONICAL) and document.get("metadata") is None:
        yield "missing_metadata"
    status = first_present(document, format.places("status"))
    if status not in (ABSENT, None) and not (isinstance(status, str) and status in STATUSES):
        yield "unknown_status"


def _id_reasons(raw_id: object, session_id: str, stem: str | None) -> Iterator[str]:
    if raw_id in (None, ""):
        yield "missing_id"
    elif not isinstance(raw_id, str):
        yield "non_string_id"
    if stem is not None and session_id != stem:
        yield "filename_mismatch"


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_content(value: object) -> bool:
    return value is None or isinstance(value, str | list)


_FIELD_TYPES: tuple[tuple[Path, Callable[[object], bool]], ...] = (
    (("metadata", "tags"), _is_list_of_text),
    (("thread_configs",), _is_object),
    (("settings",), _is_object),
)


def _field_reasons(format: Format, document: Document) -> Iterator[str]:
    user_id = first_present(document, format.places("user_id"))
    if not (user_id in (ABSENT, None) or isinstance(user_id, str)):
        yield "field_type"
    for path, fits in _FIELD_TYPES:
        value = value_at(document, path)
        # the top level of a bare document is its owner's alone
        if value is not ABSENT and not fits(value) and not (format is BARE and len(path) == 1):
            yield "field_type"


def _time_reasons(created: Reading, updated: Reading) -> Iterator[str]:
    for reading in (created, updated):
        if reading.reason is not None:
            yield reading.reason
    told = [reading for reading in (created, updated) if reading.naive or reading.moment is not None]
    if {reading.naive for reading in told} == {True, False}:
        yield "mixed_timestamp_zones"
    if created.moment and updated.moment and updated.moment < created.moment:
        yield "updated_before_created"


def _shape_reasons(format: Format, document: Document) -> Iterator[str]:
    if format.history_path is None:
        return
    if format.history(document) is None:
        on_the_way = (value_at(document, format.history_path[:depth]) for depth in (1, len(format.history_path)))
        odd = any(value is not ABSENT and value is not None and not isinstance(value, dict) for value in on_the_way)
        messages = value_at(document, format.history_path)
        yield "unknown_state_shape" if odd or messages not in (ABSENT, None) else "no_messages"
    if len(_generations(document) | {format.history_path[0]}) > 1:
        yield "mixed_shapes"


def _generations(document: Document) -> set[str]:
    # Named by where each keeps its history; a G3 context is told from a user's own by the id in it.
    found = {key for key in ("workflow_state", "state") if key in document}
    if value_at(document, ("context", "session_id")) is not ABSENT or isinstance(document.get("interactions"), list):
        found.add("interactions")
    return found


def _event_reasons(format: Format, document: Document, zone: Zone) -> Iterator[str]:
    for element in format.history(document) or []:
        event = format.to_event(element)
        if event is None:
            yield "bad_event"
            continue
        if event["role"] == UNKNOWN_ROLE:
            yield "unknown_message_type"
        if not _is_content(event["content"]):
            yield "field_type"
        told = event.get("timestamp")
        if told is None:
            continue
        time = read_time(told, zone)
        if time.moment is None and time.reason != MISSING:
            yield "bad_event"
