"""An event taken apart: what its history keeps of it, and what it does to the state on each level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from session_adapter import levels
from session_adapter.levels import Deltas
from session_adapter.models import Event
from unified_storage.errors import StorageValidationError
from unified_storage.handed_in import kept
from unified_storage.record import DELETE

DELTA, DELETED = "state_delta", "state_deleted"
"""The event's keys for what it sets and for what it deletes; ``DELETE`` is a value that no history can hold."""

Body = dict[str, Any]


def taken_apart(event: object) -> tuple[Body, Deltas]:
    """A copy of *event* as its history keeps it, and its delta by level.

    The kept delta has no ``temp:`` keys; keys that it deletes are listed under ``state_deleted``, which deletes them
    as well where an event brings it, so that one read from a history does the same again.

    Raises:
        StorageValidationError: no event, or no delta.
    """
    body = body_of(event)
    delta = levels.checked(body.get(DELTA), f"event.{DELTA}")
    delta |= {key: DELETE for key in _named(body.get(DELETED)) if key not in delta}
    if not delta:
        return body, levels.split({}, DELTA)
    lasting = {key: value for key, value in delta.items() if not key.startswith(levels.TEMP)}
    body[DELTA] = {key: value for key, value in lasting.items() if value is not DELETE}
    body.pop(DELETED, None)
    if deleted := [key for key, value in lasting.items() if value is DELETE]:
        body[DELETED] = deleted
    return body, levels.split(delta, f"event.{DELTA}")


def changes_state(event: Event) -> bool:
    """Whether *event*, as a history shows it, has changed a state."""
    return bool(event.state_delta or (event.model_extra or {}).get(DELETED))


def body_of(event: object) -> Body:
    """A copy of *event* as a mapping of what was given; raises ``StorageValidationError`` for what is no event."""
    if isinstance(event, BaseModel):
        # The delta as it is: a dump would look into values that are ours, such as DELETE.
        body = event.model_dump(exclude_unset=True, exclude={DELTA})
        if DELTA in event.model_fields_set:
            body[DELTA] = getattr(event, DELTA)
    elif isinstance(event, Mapping):
        body = dict(event)
    else:
        message = f"an event is a mapping, not {type(event).__name__}"
        raise StorageValidationError(message, details={"path": "event"})
    copy: Body = kept(body, "event")
    return copy


def _named(deleted: object) -> list[str]:
    if deleted is None:
        return []
    if isinstance(deleted, list | tuple) and all(isinstance(key, str) for key in deleted):
        return [*deleted]
    message = f"{DELETED} is a list of keys, not {type(deleted).__name__}"
    raise StorageValidationError(message, details={"path": f"event.{DELETED}"})
