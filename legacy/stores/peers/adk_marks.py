"""What tells that a session or a state of Google ADK was changed, without reading a single event."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

from legacy.stores.parcels import Item
from legacy.stores.peers.adk_rows import time_text
from legacy.stores.peers.adk_tables import state_key
from legacy.stores.peers.kinds import Unit
from legacy.stores.peers.rows import Row, Rows
from session_adapter.timestamps import read_time

_NAMES = frozenset({"app_name", "user_id", "id"})


def marked_sessions(rows: Rows) -> str:
    """Each session with its times, and number and last of its events: its own time is that of an event, and may be
    that of the one before."""
    return (
        "SELECT s.app_name, s.user_id, s.id, s.create_time, s.update_time, e.number, e.last_time, e.last_id,"
        f" {rows.versions_of('s')} AS version FROM sessions AS s LEFT JOIN (SELECT app_name, user_id, session_id,"
        " count(*) AS number, max(timestamp) AS last_time, max(id) AS last_id FROM events"
        " GROUP BY app_name, user_id, session_id) AS e"
        " ON e.app_name = s.app_name AND e.user_id = s.user_id AND e.session_id = s.id"
    )


def marked_states(rows: Rows, table: str) -> str:
    """Each state of *table* with its time."""
    return f"SELECT {', '.join(state_key(table))}, update_time, {rows.versions_of(table)} AS version FROM {table}"


def marked(unit: Unit | Item, row: Row) -> Unit | Item:
    """*unit* with the mark that *row* is."""
    if isinstance(unit, Item):
        return unit
    values = {name: value for name, value in row.items() if name not in _NAMES}
    # naive times mean what they mean: the moment need not be right to the hour
    return replace(unit, mark=repr(values), moment=read_time(time_text(row["update_time"]), UTC).moment)
