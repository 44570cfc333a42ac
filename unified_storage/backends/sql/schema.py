"""A store's schema: made and upgraded at open by numbered forward-only steps, and the list of indexed paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy.schema import CreateIndex, CreateTable

from unified_storage.backends.sql.dialect import Dialect
from unified_storage.backends.sql.statements import Call, Row, Steps, statements_of
from unified_storage.backends.sql.store import Slot, Slots, Store
from unified_storage.backends.sql.tables import FIRST_SLOTS, Tables, tables_of
from unified_storage.errors import StorageConfigurationError
from unified_storage.filters import Path, parse_path, path_text, value_at
from unified_storage.interface import Indexed
from unified_storage.order_keys import index_key
from unified_storage.values import decode

_FILL_AT_ONCE = 500


def _ddl(element: Any, dialect: Dialect) -> Call:
    return Call(str(element.compile(dialect=dialect.sqlalchemy)))


def _first_tables(tables: Tables, dialect: Dialect) -> Steps[None]:
    """Step 1: every table and index, and the row that tells the version."""
    for table in tables.metadata.sorted_tables:
        yield _ddl(CreateTable(table), dialect)
    for index in sorted(tables.first_indexes, key=lambda index: str(index.name)):
        yield _ddl(CreateIndex(index), dialect)
    yield Call(f"INSERT INTO {tables.schema.name} (version, paths_generation) VALUES (1, 0)")


STEPS: tuple[Callable[[Tables, Dialect], Steps[None]], ...] = (_first_tables,)
"""What turns each version of the schema into the next; only ever added to."""


def version_of(tables: Tables, dialect: Dialect) -> Steps[int]:
    """The version of a store's schema, 0 when there is none; a later one than this program knows is refused."""
    rows = yield Call(dialect.has_table, [tables.schema.name])
    if not rows[0][0]:
        return 0
    rows = yield Call(f"SELECT version FROM {tables.schema.name}")
    version: int = rows[0][0] if rows else 0
    if version > len(STEPS):
        raise StorageConfigurationError(
            f"the store has schema version {version}, this program knows {len(STEPS)}: upgrade unified-storage",
            details={"found": version, "known": len(STEPS)},
        )
    return version


def is_current(tables: Tables, dialect: Dialect, indexed: Indexed) -> Steps[bool]:
    """Whether nothing has to be made: looked at without a lock."""
    version = yield from version_of(tables, dialect)
    if version < len(STEPS):
        return False
    rows = yield Call(f"SELECT type, path, slot, filled FROM {tables.paths.name}")
    slots = _slots(rows)
    return all(slots.get(type_name, {}).keys() >= paths for type_name, paths in indexed.items())


def upgraded(tables: Tables, dialect: Dialect, indexed: Indexed) -> Steps[None]:
    """Bring a store up to date; runs under the lock of a write transaction."""
    version = yield from version_of(tables, dialect)
    for number, step in enumerate(STEPS[version:], version + 1):
        yield from step(tables, dialect)
        yield Call(f"UPDATE {tables.schema.name} SET version = {number}")
    yield from _add_paths(tables, dialect, indexed)


def _add_paths(tables: Tables, dialect: Dialect, indexed: Indexed) -> Steps[None]:
    rows = yield Call(f"SELECT type, path, slot, filled FROM {tables.paths.name}")
    slots = _slots(rows)
    columns = _columns(slots)
    indexes = {slot.number for paths in slots.values() for slot in paths.values()}
    added = False
    for type_name, path in _missing(slots, indexed):
        taken = {slot.number for slot in slots.get(type_name, {}).values()}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        if number >= columns:
            yield Call(f"ALTER TABLE {tables.records.name} ADD COLUMN k{number} BLOB")
            columns = number + 1
        if number not in indexes:
            index = tables_of(tables.prefix, columns).slot_index(number)
            yield _ddl(CreateIndex(index), dialect)
            indexes.add(number)
        there = yield Call(f"SELECT 1 FROM {tables.records.name} WHERE type = ? LIMIT 1", [type_name])
        yield Call(
            f"INSERT INTO {tables.paths.name} (type, path, slot, filled) VALUES (?, ?, ?, ?)",
            [type_name, path_text(path), number, 0 if there else 1],
        )
        slots.setdefault(type_name, {})[path] = Slot(number, not there)
        added = True
    if added:
        yield Call(f"UPDATE {tables.schema.name} SET paths_generation = paths_generation + 1")


def _missing(slots: dict[str, dict[Path, Slot]], indexed: Indexed) -> Iterable[tuple[str, Path]]:
    for type_name, paths in sorted(indexed.items()):
        for path in sorted(paths - slots.get(type_name, {}).keys()):
            yield type_name, path


def _slots(rows: Iterable[Row]) -> dict[str, dict[Path, Slot]]:
    slots: dict[str, dict[Path, Slot]] = {}
    for type_name, path, number, filled in rows:
        slots.setdefault(type_name, {})[parse_path(path)] = Slot(number, bool(filled))
    return slots


def _columns(slots: Slots) -> int:
    return max([FIRST_SLOTS, *(slot.number + 1 for paths in slots.values() for slot in paths.values())])


def refreshed(store: Store, dialect: Dialect) -> Steps[None]:
    """Read the list of paths again when another program has changed it: what is written must have every key."""
    rows = yield store.statements.generation()
    generation = rows[0][0]
    if generation == store.generation:
        return
    rows = yield store.statements.paths()
    slots = _slots(rows)
    if _columns(slots) != store.statements.slots:
        store.statements = statements_of(store.statements.prefix, _columns(slots), dialect)
    store.slots, store.generation = slots, generation


def unfilled(store: Store) -> list[tuple[str, Path]]:
    """The paths whose keys older records do not have yet."""
    return [(kind, path) for kind, paths in store.slots.items() for path, slot in paths.items() if not slot.filled]


def filled(store: Store, type_name: str, path: Path, after: int) -> Steps[int | None]:
    """Give the next records of a type their key; the row to go on behind, None when the path is done."""
    slot = store.slots[type_name][path]
    prefix = store.statements.prefix
    rows = yield Call(
        f"SELECT r.n, r.metadata, d.data FROM {prefix}records AS r JOIN {prefix}documents AS d ON d.n = r.n "
        "WHERE r.type = ? AND r.n > ? ORDER BY r.n LIMIT ?",
        [type_name, after, _FILL_AT_ONCE],
    )
    for number, metadata, data in rows:
        record = {"metadata": None if metadata is None else decode(metadata), "data": decode(data)}
        key = index_key(value_at(record, path))[0]
        yield Call(f"UPDATE {prefix}records SET k{slot.number} = ? WHERE n = ?", [key, number])
    if len(rows) == _FILL_AT_ONCE:
        return int(rows[-1][0])
    yield Call(f"UPDATE {prefix}paths SET filled = 1 WHERE type = ? AND path = ?", [type_name, path_text(path)])
    yield Call(f"UPDATE {prefix}schema SET paths_generation = paths_generation + 1")
    return None


def new_store(prefix: str, dialect: Dialect, clock: Any) -> Store:
    """A store whose paths are still to be read."""
    return Store(statements_of(prefix, FIRST_SLOTS, dialect), clock, {}, generation=-1)
