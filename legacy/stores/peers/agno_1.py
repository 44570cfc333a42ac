"""agno 1.x: a table for each kind of session, its conversation inside the column ``memory``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from legacy.stores.parcels import IGNORED, QUARANTINED, Item
from legacy.stores.peers.json_columns import decoded
from legacy.stores.peers.kinds import Found, PeerSession, Unit
from legacy.stores.peers.rows import Row, Rows
from session_adapter.formats.places import is_mapping, text_of
from unified_storage.errors import StorageValidationError

_JSON = ("memory", "session_data", "extra_data", "agent_data", "team_data", "workflow_data", "runs")
_KINDS = ("agent", "team", "workflow")


async def units_of_1(rows: Rows, tables: Sequence[str]) -> AsyncIterator[list[Unit | Item]]:
    """The sessions of all *tables*; each is found by the place of its table among them, and its id."""
    for at, table in enumerate(tables):
        async for found in rows.stream(f"SELECT session_id FROM {rows.quoted(table)}"):
            yield [_unit(row["session_id"], at, table) for row in found]


def _unit(session_id: Any, at: int, table: str) -> Unit | Item:
    if not isinstance(session_id, str) or not session_id:
        return Item(table, text_of(session_id), QUARANTINED, ("invalid_session_id",))
    return Unit(session_id, f"{at}:{session_id}", table)


async def sessions_of_1(rows: Rows, units: Sequence[Unit]) -> list[Found | Item]:
    """Each of *units*, in order."""
    by_table: dict[str, list[str]] = {}
    for unit in units:
        by_table.setdefault(unit.label or "", []).append(str(unit.key))
    found: dict[tuple[str, str], Row] = {}
    for table, ids in by_table.items():
        select = f"SELECT * FROM {rows.quoted(table)} WHERE session_id IN ({rows.listed(len(ids))})"
        found |= {(table, row["session_id"]): row for row in await rows.select(select, *ids)}
    return [_found(unit, found.get((unit.label or "", str(unit.key)))) for unit in units]


def _found(unit: Unit, row: Row | None) -> Found | Item:
    if row is None:
        return Item(unit.label, str(unit.key), IGNORED, ("vanished",))
    try:
        return _session(unit, row)
    except StorageValidationError as error:
        reason = str(error.details.get("path", "unreadable"))
        return Item(unit.label, str(unit.key), QUARANTINED, (reason,), detail=error.message)


def _session(unit: Unit, row: Row) -> PeerSession:
    columns = {name: decoded(value) for name, value in row.items() if name in _JSON}
    session = {name: columns[name].value if name in columns else value for name, value in row.items()}
    warnings = [f"{name}_{word}" for name, column in columns.items() for word in column.warnings]
    memory = session.get("memory")
    document = {
        "kind": next((kind for kind in _KINDS if f"{kind}_data" in row), None),
        "table": unit.label,
        "session": session,
        "runs": _taken_runs(session, memory),
        "summary": _summary(memory, session),
    }
    size = sum(len(value) for value in row.values() if isinstance(value, str | bytes))
    return PeerSession(str(unit.key), document, warnings=tuple(dict.fromkeys(warnings)), label=unit.label, size=size)


def _taken_runs(session: dict[str, Any], memory: Any) -> list[Any]:
    """The runs of the memory and of the column ``runs``, taken out of the session: they are its history."""
    runs: list[Any] = []
    if is_mapping(memory) and isinstance(memory.get("runs"), list):
        runs += memory["runs"]
        session["memory"] = {**memory, "runs": []}
    if isinstance(session.get("runs"), list):
        runs += session["runs"]
        session["runs"] = []
    return [_named(run) for run in runs]


def _named(run: Any) -> Any:
    """*run* with its id where every other writer has it: an older memory keeps it inside the response."""
    response = run.get("response") if is_mapping(run) else None
    id = response.get("run_id") if is_mapping(response) and "run_id" not in run else None
    return run if id is None else {"run_id": id, **run}


def _summary(memory: Any, session: Mapping[str, Any]) -> Any:
    """The summary of this session, where its memory keeps one: for itself, or by user and session."""
    if not is_mapping(memory):
        return None
    if is_mapping(memory.get("summary")):
        return memory["summary"]
    of_users = memory.get("summaries")
    of_user = of_users.get(session.get("user_id") or "default") if is_mapping(of_users) else None
    found = of_user.get(session["session_id"]) if is_mapping(of_user) else None
    return found if is_mapping(found) else None
