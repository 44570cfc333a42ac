"""A store's schema: made and upgraded at open by numbered forward-only steps, and the list of indexed paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy.schema import CreateIndex, CreateTable

from unified_storage.backends.sql.dialect import Dialect
from unified_storage.backends.sql.statements import Call, Row, Steps, statements_of
from unified_storage.backends.sql.store import Slot, Slots, Store
from unified_storage.backends.sql.tables import FIRST_SLOTS, SLOT, Tables, tables_of
from unified_storage.errors import StorageConfigurationError
from unified_storage.filters import Path, parse_path, path_text, value_at
from unified_storage.interface import Indexed
from unified_storage.order_keys import index_key
from unified_storage.values import decode

_FILL_AT_ONCE = 500


def _ddl(element: Any, dialect: Dialect) -> Call:
    """A step's statement; where nothing undoes a step that was broken off, what it makes may be there already."""
    return Call(str(element.compile(dialect=dialect.sqlalchemy)).strip(), may_exist=not dialect.schema_is_transactional)


def _first_tables(tables: Tables, dialect: Dialect) -> Steps[None]:
    """Step 1: every table and index, and the row that tells the version."""
    for table in tables.metadata.sorted_tables:
        if table is not tables.schema or dialect.schema_is_transactional:
            yield _ddl(CreateTable(table), dialect)
    for index in sorted(tables.first_indexes, key=lambda index: str(index.name)):
        yield _ddl(CreateIndex(index), dialect)
    if dialect.schema_is_transactional:
        yield Call(f"INSERT INTO {tables.schema.name} (version, paths_generation) VALUES (0, 0)")
        return
    yield _ddl(CreateTable(tables.schema_of_one_row), dialect)
    yield Call(f"INSERT INTO {tables.schema.name} (one, version, paths_generation) VALUES (1, 0, 0)", may_exist=True)


def _one_path_a_slot(tables: Tables, dialect: Dialect) -> Steps[None]:
    """Step 2: no two programs give a slot of one type to different paths."""
    yield _ddl(CreateIndex(tables.slot_of_path), dialect)


STEPS: tuple[Callable[[Tables, Dialect], Steps[None]], ...] = (_first_tables, _one_path_a_slot)
"""What turns each version of the schema into the next; only ever added to."""
OLDEST_READ = 1
"""The first version that reads find all they look at in; a step that adds to that moves it."""


def version_of(tables: Tables, dialect: Dialect) -> Steps[int]:
    """The version of a store's schema, 0 when there is none; a later one than this program knows is refused."""
    rows = yield Call(dialect.has_table, [tables.schema.name])
    if not rows[0][0]:
        return 0
    rows = yield Call(f"SELECT version FROM {tables.schema.name}")
    # nothing where the table was made after the moment that is being looked at
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
    slots = yield from _slots_of(tables)
    return all(slots.get(type_name, {}).keys() >= paths for type_name, paths in indexed.items())


def upgraded(tables: Tables, dialect: Dialect, indexed: Indexed) -> Steps[None]:
    """Bring a store up to date; runs under the lock of a write transaction, or is fit for being run twice at once."""
    version = yield from version_of(tables, dialect)
    if version and dialect.schema_is_transactional:
        # Before any lock of our own: a writer that we wait for must not have to wait for us.
        yield from after_all_writes(tables, dialect)
    for number, step in enumerate(STEPS[version:], version + 1):
        yield from step(tables, dialect)
        yield Call(f"UPDATE {tables.schema.name} SET version = {number} WHERE version < {number}")
    added = yield from _add_paths(tables, dialect, indexed)
    if added:
        yield from _bumped(tables)
        if not dialect.schema_is_transactional:  # what was added is seen already, by those who look
            yield from after_all_writes(tables, dialect)
        yield from _fill_empty(tables, added)


def after_all_writes(tables: Tables, dialect: Dialect) -> Steps[None]:
    """Wait until nobody writes any more who has not seen the newest list of paths."""
    for text in dialect.barrier(tables.schema.name):
        yield Call(text)


def _bumped(tables: Tables) -> Steps[None]:
    yield Call(f"UPDATE {tables.schema.name} SET paths_generation = paths_generation + 1")


def _add_paths(tables: Tables, dialect: Dialect, indexed: Indexed) -> Steps[list[tuple[str, Path]]]:
    """Give every path that has none a slot; the paths that were added, here or by another program meanwhile."""
    added: list[tuple[str, Path]] = []
    while True:
        slots = yield from _slots_of(tables)
        missing = [*_missing(slots, indexed)]
        if not missing:
            return added
        added += missing
        for type_name, path in missing:
            number = _free_slot(slots, type_name)
            yield from _make_slot(tables, dialect, slots, number)
            yield Call(
                f"INSERT INTO {tables.paths.name} (type, path, slot, filled) VALUES (?, ?, ?, 0)",
                [type_name, path_text(path), number],
                may_exist=not dialect.schema_is_transactional,
            )
            slots.setdefault(type_name, {})[path] = Slot(number, filled=False)


def _slots_of(tables: Tables) -> Steps[dict[str, dict[Path, Slot]]]:
    rows = yield Call(f"SELECT type, path, slot, filled FROM {tables.paths.name}")
    return _slots(rows)


def _free_slot(slots: Slots, type_name: str) -> int:
    taken = {slot.number for slot in slots.get(type_name, {}).values()}
    return next(number for number in range(len(taken) + 1) if number not in taken)


def _make_slot(tables: Tables, dialect: Dialect, slots: Slots, number: int) -> Steps[None]:
    """The column and the index of a slot, unless a path of another type has it already."""
    if any(slot.number == number for paths in slots.values() for slot in paths.values()):
        return
    if number >= FIRST_SLOTS:
        kind = SLOT.compile(dialect=dialect.sqlalchemy)
        text = f"ALTER TABLE {tables.records.name} ADD COLUMN k{number} {kind}"
        yield Call(text, may_exist=not dialect.schema_is_transactional)
    index = tables_of(tables.prefix, max(FIRST_SLOTS, number + 1)).slot_index(number)
    yield _ddl(CreateIndex(index), dialect)


def _fill_empty(tables: Tables, added: Iterable[tuple[str, Path]]) -> Steps[None]:
    """Types without records have nothing to fill."""
    empty: dict[str, bool] = {}
    for type_name, path in added:
        if type_name not in empty:
            there = yield Call(f"SELECT 1 FROM {tables.records.name} WHERE type = ? LIMIT 1", [type_name])
            empty[type_name] = not there
        if empty[type_name]:
            yield _is_filled(tables.prefix, type_name, path)
    if any(empty.values()):
        yield from _bumped(tables)


def _is_filled(prefix: str, type_name: str, path: Path) -> Call:
    return Call(f"UPDATE {prefix}paths SET filled = 1 WHERE type = ? AND path = ?", [type_name, path_text(path)])


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
    store.slots = slots
    store.generation = generation  # last: whoever has read it before finds paths that are as new, or newer


def unfilled(store: Store) -> dict[str, list[Path]]:
    """The paths, by type, whose keys older records do not have yet."""
    by_type = {kind: [path for path, slot in paths.items() if not slot.filled] for kind, paths in store.slots.items()}
    return {kind: paths for kind, paths in by_type.items() if paths}


def filled(store: Store, type_name: str, paths: Sequence[Path], after: int) -> Steps[int | None]:
    """Give the next records of a type their keys; the row to go on behind, None when the paths are done."""
    prefix = store.statements.prefix
    numbers = {path: store.slots[type_name][path].number for path in paths}
    columns = ", ".join(f"k{number} = ?" for number in numbers.values())
    rows = yield store.statements.to_fill(type=type_name, after=after, limit=_FILL_AT_ONCE)
    changed = []
    for number, metadata, data in rows:
        record = {"metadata": None if metadata is None else decode(metadata), "data": decode(data)}
        changed.append([*(index_key(value_at(record, path))[0] for path in numbers), number])
    if changed:
        yield Call(f"UPDATE {prefix}records SET {columns} WHERE n = ?", changed, many=True)
    if len(rows) == _FILL_AT_ONCE:
        return int(rows[-1][0])
    for path in paths:
        yield _is_filled(prefix, type_name, path)
    yield Call(f"UPDATE {prefix}schema SET paths_generation = paths_generation + 1")
    return None


def new_store(prefix: str, dialect: Dialect, clock: Any) -> Store:
    """A store whose paths are still to be read."""
    return Store(statements_of(prefix, FIRST_SLOTS, dialect), clock, {}, generation=-1)
