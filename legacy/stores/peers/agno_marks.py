"""What tells that a session of agno was changed, without reading its runs."""

from __future__ import annotations

from dataclasses import replace

from legacy.stores.parcels import Item
from legacy.stores.peers.kinds import Unit
from legacy.stores.peers.rows import Row, Rows
from session_adapter.timestamps import read_time


def marked_sessions(rows: Rows, sessions: str, runs: str | None) -> str:
    """Each session with its times and its owner, which agno changes without a new time, and what its runs tell.

    Args:
        sessions, runs: the tables, quoted; of runs None where they stand in the sessions' own rows.
    """
    own = f"s.session_id, s.created_at, s.updated_at, s.user_id, {rows.versions_of('s')} AS version"
    if runs is None:
        return f"SELECT {own} FROM {sessions} AS s"
    told = "r.number, r.last_index, r.last_time, r.written"
    return (
        f"SELECT {own}, {told} FROM {sessions} AS s LEFT JOIN (SELECT t.session_id, count(*) AS number,"
        " max(t.run_index) AS last_index, max(t.updated_at) AS last_time,"
        f" sum({rows.versions_of('t')}) AS written FROM {runs} AS t GROUP BY t.session_id) AS r"
        " ON r.session_id = s.session_id"
    )


def marked(unit: Unit | Item, row: Row) -> Unit | Item:
    """*unit* with the mark that *row* is."""
    if isinstance(unit, Item):
        return unit
    moment = read_time(max(row["updated_at"] or 0, row.get("last_time") or 0)).moment
    return replace(unit, mark=repr({**row, "session_id": None}), moment=moment)
