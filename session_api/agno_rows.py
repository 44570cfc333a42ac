"""Rows of AgentOS's tables as rows of the service, and new ones and changes as AgentOS writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from session_adapter.formats.agno import JSON_COLUMNS, row_of
from session_adapter.naming import name_from
from session_adapter.timestamps import read_time
from session_api.agno_engines import Spelling
from session_api.agno_schema import COLUMNS
from session_api.our_rows import shown_summary, type_of
from session_api.tables import (
    COMPONENTS,
    UNCHANGED,
    Changes,
    NewSession,
    Run,
    SessionRow,
    SessionType,
    StoredSession,
)
from session_api.told import chat_of
from unified_storage.errors import StorageIntegrityError, StorageValidationError
from unified_storage.record import new_id
from unified_storage.values import encode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = -(2**63), 2**63 - 1
"""What a column of seconds can hold."""
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

Columns = dict[str, Any]


# what is read


def shown_row(row: Sequence[Any]) -> SessionRow:
    """The session in a row of the columns ``COLUMNS``."""
    told = dict(zip(COLUMNS, row, strict=False))
    objects = {name: _object_in(told[name]) for name in JSON_COLUMNS}
    objects["summary"] = shown_summary(objects["summary"])
    texts = {name: told[name] for name in ("session_id", "user_id", *COMPONENTS.values())}
    return SessionRow(
        session_type=type_of({**told, "kind": told["session_type"]}),
        created_at=_moment(told["created_at"]) or _EPOCH,
        updated_at=_moment(told["updated_at"]),
        **texts,
        **objects,  # type: ignore[arg-type]  # they are the fields of these names
    )


def stored_session(row: Sequence[Any], run_rows: Iterable[Sequence[Any]]) -> StoredSession:
    """A session with its history.

    Args:
        row: of the columns ``COLUMNS``; older runs may stand behind them.
        run_rows: ``(run_id, run_data)``, in their order.
    """
    shown = shown_row(row)
    older = value_in(row[len(COLUMNS)]) if len(row) > len(COLUMNS) else None
    runs = _merged([_run_in(*run_row) for run_row in run_rows], older if isinstance(older, list) else [])
    if shown.name is None:
        shown.shown_name = name_told(shown, runs)
    return StoredSession(shown, runs, chat_of({"body": run} for run in runs))


def name_told(row: SessionRow, runs: Iterable[Run]) -> str:
    """What *runs* call a session that has no name; empty where they tell nothing."""
    return name_from(runs, row.session_type, (row.workflow_data or {}).get("name"))


def _run_in(run_id: str, stored: Any) -> Run:
    run = value_in(stored)
    return {"run_id": run_id, **run} if isinstance(run, dict) else {"run_id": run_id, "run_data": run}


def _merged(runs: list[Run], older: list[Any]) -> list[Run]:
    """*runs*, and those of *older*, the copy that an upgrade from 2.x leaves, that have no row: as agno merges them."""
    rows = {str(run["run_id"]): run for run in runs}
    copies = {run["run_id"]: run for run in older if isinstance(run, dict) and isinstance(run.get("run_id"), str)}
    return [*{**copies, **rows}.values()]


def value_in(stored: Any) -> Any:
    """The value of a JSON column, which 2.x encodes twice on SQLite; text where it is no JSON."""
    value = _parsed(stored)
    return _parsed(value) if isinstance(value, str) and value != stored else value


def _parsed(stored: Any) -> Any:
    if not isinstance(stored, str | bytes):
        return stored  # SQLite keeps a JSON number as one
    try:
        return json.loads(stored)
    except (ValueError, RecursionError):
        return stored


def _object_in(stored: Any) -> dict[str, Any] | None:
    value = value_in(stored)
    return value if isinstance(value, dict) else None


def _moment(seconds: Any) -> datetime | None:
    return read_time(seconds).moment


# what is written


def new_columns(new: NewSession, now: datetime, spelling: Spelling) -> Columns:
    """The columns of a new session, as AgentOS fills them."""
    is_workflow = new.session_type is SessionType.WORKFLOW
    data = {"session_state": new.state, "session_name": new.name}
    objects: dict[str, Any] = {
        "session_data": {name: value for name, value in data.items() if value is not None} or None,
        "metadata": {} if new.metadata is None and is_workflow else new.metadata,
        "summary": new.summary,
    }
    seconds = int(now.timestamp())
    texts = {
        "session_id": new.session_id,
        "session_type": str(new.session_type),
        COMPONENTS[new.session_type]: new.component_id,
        "user_id": new.user_id,
    }
    for name, text in texts.items():
        if text is not None and not is_storable(text, spelling):
            raise _holds_nul(name)
    columns = {name: _checked(value, spelling, name) for name, value in objects.items()}
    return {**texts, **columns, "created_at": seconds, "updated_at": seconds}


def new_runs(new: NewSession, now: datetime, spelling: Spelling) -> list[Columns]:
    """The rows of a new session's runs; of several with one id the last counts, in the first one's place."""
    given = [{**run, "run_id": run.get("run_id") or new_id()} for run in new.runs]
    session = {"session_id": new.session_id, "session_type": str(new.session_type), "user_id": new.user_id}
    rows = [_run_row(run, {**session, "created_at": int(now.timestamp())}, spelling) for run in given]
    numbered = enumerate({row["run_id"]: row for row in rows}.values())
    return [row | {"run_index": at} for at, row in numbered]


def _run_row(run: Run, session: Mapping[str, Any], spelling: Spelling) -> Columns:
    row = row_of(run, session, 0) | {"run_id": run["run_id"], "run_data": _checked(run, spelling, "runs")}
    for name in ("run_id", *COMPONENTS.values(), "parent_run_id", "status"):
        if row[name] is not None and not (isinstance(row[name], str) and is_storable(row[name], spelling)):
            raise StorageValidationError(f"a run's {name} is a text", details={"path": f"runs.{name}"})
    if not _EARLIEST <= row["created_at"] <= _LATEST:
        raise StorageValidationError("a run's created_at is a time in seconds", details={"path": "runs.created_at"})
    return row


def changed_columns(row: Sequence[Any], changes: Changes, now: datetime, spelling: Spelling) -> Columns:
    """The columns that *changes* change in a session's row of the columns ``COLUMNS``."""
    stored = dict(zip(COLUMNS, row, strict=False))
    columns: Columns = {}
    data = {"session_name": changes.name, "session_state": changes.state}
    if given := {name: value for name, value in data.items() if value is not UNCHANGED}:
        _checked(given, spelling, "session_data")
        columns["session_data"] = json.dumps(_required_object(stored) | given)
    metadata = changes.metadata
    if metadata is UNCHANGED and changes.as_type is SessionType.WORKFLOW and value_in(stored["metadata"]) is None:
        metadata = {}
    for name, value in (("metadata", metadata), ("summary", changes.summary)):
        if value is not UNCHANGED:
            columns[name] = _checked(value, spelling, name)
    return columns | {"updated_at": int(now.timestamp())}


def _required_object(stored: Mapping[str, Any]) -> dict[str, Any]:
    data = value_in(stored["session_data"])
    if data is not None and not isinstance(data, dict):
        raise StorageIntegrityError("the session's data are no JSON object", details={"id": stored["session_id"]})
    return data or {}


def is_storable(text: str, spelling: Spelling) -> bool:
    """Whether the engine's texts can hold *text*; one that it cannot hold names nothing there."""
    return spelling.keeps_nul or "\0" not in text


def _checked(value: Any, spelling: Spelling, path: str) -> str | None:
    """*value* as JSON text, as AgentOS's own writer spells it.

    Raises:
        StorageValidationError: it is too deep, or the database or AgentOS could not read it back.
        StorageCapacityError: it is too large.
    """
    if value is None:
        return None
    encode(value, path=path)  # the limits are those of our own storages
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        raise StorageValidationError(f"{path} holds a number that JSON has none for", details={"path": path}) from None
    if not spelling.keeps_nul and _NUL.search(text):
        raise _holds_nul(path)
    return text


def _holds_nul(path: str) -> StorageValidationError:
    return StorageValidationError(f"{path} holds a NUL character", details={"path": path})
