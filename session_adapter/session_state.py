"""The state of a session inside its document, wherever the document's format keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from session_adapter.documents import format_of
from session_adapter.formats import Format
from session_adapter.formats.places import ABSENT, Path, is_mapping, value_at
from session_adapter.levels import Delta
from session_adapter.states import Policies, met, updates_of
from unified_storage.errors import StorageValidationError
from unified_storage.interface import Record


def state_updates(record: Record, delta: Delta, policies: Policies) -> dict[str, Any]:
    """*delta* as ``update`` takes it for a session's record.

    Raises:
        StorageValidationError: something else stands where the state should be, a key is where the document keeps its
            history, or a policy is not for such values.
    """
    if not delta:
        return {}
    format = format_of(record)
    path = format.places("state")[0]
    stored = _stored(record["data"], path)
    _check_history(format, path, delta)
    updates: dict[str, Any] = updates_of(met(stored, delta, policies))
    for key in reversed(path):
        updates = {key: updates}
    return {"data": updates}


def _stored(document: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    found = value_at(document, path)
    if found is ABSENT or found is None:
        return {}
    if is_mapping(found):
        return found
    place = ".".join(path)
    message = f"{place} of this session is no object, so no state can be kept in it"
    raise StorageValidationError(message, details={"path": place})


def _check_history(format: Format, path: Path, delta: Delta) -> None:
    history = format.history_path
    if history is not None and history[:-1] == path and history[-1] in delta:
        message = f"{history[-1]!r} is where {format.name} documents keep their history; name the state otherwise"
        raise StorageValidationError(message, details={"path": ".".join(history)})
