"""Records on PostgreSQL, saved in one statement and updated in two: a look, and a write if nothing came between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from unified_storage.backends.sql import records
from unified_storage.backends.sql.appends import Finish
from unified_storage.backends.sql.driver import Connection
from unified_storage.backends.sql.records import Head
from unified_storage.backends.sql.server_engine import ServerEngine
from unified_storage.backends.sql.shown import shown
from unified_storage.backends.sql.statements import Call, Row, Steps
from unified_storage.backends.sql.store import Store
from unified_storage.record import Draft, checked_record, later, updated_record
from unified_storage.stored import only_one, saved_stamps

# A record's row is taken first, and its document after it: as everywhere, so that nobody is locked out. Whoever waits
# for the row is shown its newest state, and the conditions on it are tested again; a row that was deleted and made
# again meanwhile is met as well (ON CONFLICT). The list of paths is read in the same statement: who adds to it waits
# for all that have read it before, and who reads it after that finds another generation, and writes nothing.

_LAST_MOMENT = later(1 << 62, 0)
_MANAGED = ("version", "created_at", "updated_at")
_TEXTS = ("id", "type", "session_id", "thread_id", "metadata")
_AND_DOCUMENT = """INSERT INTO {prefix}documents (n, data) SELECT n, {data}::text FROM record
ON CONFLICT (n) DO UPDATE SET data = excluded.data RETURNING n"""
_SAVE = (
    """WITH record AS (
  INSERT INTO {prefix}records AS r ({names}) SELECT {values}
  WHERE (SELECT paths_generation FROM {prefix}schema) = {generation}::bigint
  ON CONFLICT (id, type) DO UPDATE SET {changes}, version = r.version + 1,
    updated_at = least(greatest(excluded.updated_at, r.updated_at + 1), {last})
  WHERE {may_replace}::boolean AND (r.expires_at IS NULL OR r.expires_at > {now}::bigint)
  RETURNING r.n
)
"""
    + _AND_DOCUMENT
)
_UPDATE = (
    """WITH record AS (
  UPDATE {prefix}records AS r SET {changes}
  WHERE r.n = {row}::bigint AND r.version = {seen_version}::bigint AND r.updated_at = {seen_at}::bigint
    AND (SELECT paths_generation FROM {prefix}schema) = {generation}::bigint
  RETURNING r.n
)
"""
    + _AND_DOCUMENT
)


@lru_cache(maxsize=64)
def _statement(template: str, prefix: str, names: tuple[str, ...], extra: tuple[str, ...]) -> str:
    """A statement whose places are numbered as *names*, the columns, and then *extra*."""
    places = {name: f"${number}" for number, name in enumerate((*names, *extra), 1)}
    typed = {name: f"{places[name]}::{_kind(name)}" for name in names}
    if template is _SAVE:
        kept = ("id", "type", *_MANAGED)
        changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in kept)
    else:
        changes = ", ".join(f"{name} = {typed[name]}" for name in names)
    return template.format(
        prefix=prefix,
        names=", ".join(names),
        values=", ".join(typed.values()),
        changes=changes,
        last=_LAST_MOMENT,
        **{name: places[name] for name in extra},
    )


def _kind(column: str) -> str:
    if column in _TEXTS:
        return "text"
    return "bytea" if column.startswith("k") else "bigint"


class PostgreSQLRecords:
    """The short ways of one storage.

    Args:
        timeout: seconds that a verb has.
    """

    def __init__(self, engine: ServerEngine, timeout: float) -> None:
        self._engine = engine
        self._timeout = timeout

    async def save(self, store: Store, draft: Draft, expected_version: int | None) -> bool:
        now, generation = store.now(), store.generation  # before its paths: another thread may be told of new ones
        if expected_version not in (None, 0) or _has_managed_path(store, draft.type):
            return False
        columns = records.written(store, draft, saved_stamps(draft, None, now))
        extra = {
            "data": draft.data_text,
            "generation": generation,
            "may_replace": expected_version is None,
            "now": now,
        }
        return await self._is_done(_SAVE, store, columns, extra)

    async def update(
        self, store: Store, id: str, updates: Mapping[str, Any], kind: str | None, expected_version: int | None
    ) -> bool:
        rows = await self._engine.read(lambda: _looked(store, id, kind), self._timeout)
        heads = {head.type: (head, row) for head, row in ((_head_of(row), row) for row in rows)}
        found = only_one(id, kind, {name: each for name, each in heads.items() if each[0].lives(store.now())})
        if found is None:
            return False
        head, row = found
        generation = store.generation  # as above
        if row[-1] is None or expected_version not in (None, head.version) or _has_managed_path(store, head.type):
            return False
        changed = checked_record(updated_record(shown(row[1:]), updates))
        columns = records.written(store, changed, head.stamps.touched(store.now()))
        columns = {name: value for name, value in columns.items() if name not in ("id", "type", "created_at")}
        extra = {
            "data": changed.data_text,
            "generation": generation,
            "row": head.n,
            "seen_version": head.version,
            "seen_at": head.updated_at,
        }
        return await self._is_done(_UPDATE, store, columns, extra)

    async def _is_done(self, template: str, store: Store, columns: Mapping[str, Any], extra: Mapping[str, Any]) -> bool:
        sql = _statement(template, store.statements.prefix, tuple(columns), tuple(extra))
        call = Call(sql, [*columns.values(), *extra.values()])

        async def written(line: Connection, finish: Finish) -> Sequence[Row]:
            with finish:
                return await line.run(call)

        return bool(await self._engine.at_once(written, timeout=self._timeout))


def _has_managed_path(store: Store, type_name: str) -> bool:
    """Whether the key of an indexed path depends on what is stored."""
    return any(path[0] in _MANAGED for path in store.slots.get(type_name, ()))


def _looked(store: Store, id: str, kind: str | None) -> Steps[list[Row]]:
    """The records of an id, with their documents."""
    statements = store.statements
    return (yield statements.load_any(id=id) if kind is None else statements.load(id=id, type=kind))


def _head_of(row: Row) -> Head:
    return Head(row[0], row[1], row[2], row[5], row[6], row[7], row[8])
