"""The state of ADK's sessions: what is handed in as JSON, by level; and all levels together, as a session shows it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from session_adapter.documents import format_of, stored_document
from session_adapter.formats import CANONICAL
from session_adapter.formats.places import object_of
from session_adapter.levels import APP, TEMP, USER, Deltas, State
from unified_storage.interface import Record

log = logging.getLogger(__name__)


def deltas_of(state: Mapping[str, Any] | None) -> Deltas:
    """*state* by level, its values as JSON; ``temp:`` keys are left out.

    What has no form in JSON, such as a function, is kept as its ``repr``, with a warning.
    """
    deltas = Deltas({}, {}, {})
    lasting = {key: value for key, value in (state or {}).items() if not key.startswith(TEMP)}
    for key, value in _as_json(lasting).items():
        if key.startswith(APP):
            deltas.app[key.removeprefix(APP)] = value
        elif key.startswith(USER):
            deltas.user[key.removeprefix(USER)] = value
        else:
            deltas.session[key] = value
    return deltas


def shown_state(record: Record, levels: State) -> State:
    """The state that the session of *record* shows.

    Args:
        levels: those of its user and of the app, as ``shown_levels`` puts them together.
    """
    format = format_of(record)
    if format is CANONICAL:  # as nearly all are
        return {**(object_of(record["data"].get("state")) or {}), **levels}
    return {**format.shown(stored_document(record), None, ("state",)).get("state", {}), **levels}


def _as_json(state: State) -> State:
    if not state:
        return state
    try:
        found: State = to_jsonable_python(state)
    except Exception as error:  # noqa: BLE001 (whatever a value's own code raises)
        log.warning("values of a state have no form in JSON", extra={"error": type(error).__name__})
        found = to_jsonable_python(state, serialize_unknown=True)
    return found
