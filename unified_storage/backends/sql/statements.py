"""Every fixed statement, built once with SQLAlchemy Core and compiled once per engine and store."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa

from unified_storage.backends.sql.dialect import Dialect
from unified_storage.backends.sql.tables import Tables, tables_of
from unified_storage.logs import ReadRange

T = TypeVar("T")
Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One statement with its values, ready for a driver."""

    sql: str
    values: Sequence[Any] = ()
    many: bool = False
    """Run once per tuple of values."""
    is_all: bool = False
    """Nothing follows it in its steps: a read needs no transaction around it."""
    wants_number: bool = False
    """Its one row is the number of the row it inserted, where the statement itself cannot return that."""
    may_exist: bool = False
    """What it makes (a table, an index, a column, a row) may be there already, which is no error."""


Steps = Generator[Call, list[Row], T]
"""What a verb does: it yields calls, is sent their rows, and returns the verb's result."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A compiled statement and the order in which it takes its values."""

    sql: str
    names: tuple[str, ...]
    constants: dict[str, Any]
    """Values that stand in the statement itself."""

    def __call__(self, **values: Any) -> Call:
        given = {**self.constants, **values} if self.constants else values
        return Call(self.sql, [given[name] for name in self.names])

    def many(self, rows: Sequence[dict[str, Any]]) -> Call:
        return Call(self.sql, [[row[name] for name in self.names] for row in rows], many=True)


class Statements:
    """The statements of one store on one engine."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._dialect = dialect
        self._tables = tables
        self._by_shape: dict[object, Statement] = {}
        self.slots = tables.slots
        self.prefix = tables.prefix
        self._of_records(tables)
        self._of_logs(tables)
        self._of_entries(tables)
        self._of_upkeep(tables)

    def _compiled(self, element: sa.ClauseElement) -> Statement:
        compiled = element.compile(dialect=self._dialect.sqlalchemy)
        names: Sequence[str] = getattr(compiled, "positiontup", None) or ()
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        return Statement(str(compiled), tuple(names), constants)

    def identity_hint(self, of_one_type: bool) -> str:
        """Makes the engine walk records by identity whatever else it might prefer."""
        return self._dialect.index_hint(f"{self.prefix}by_{'type' if of_one_type else 'id'}")

    def _of_records(self, tables: Tables) -> None:
        records, documents = tables.records, tables.documents
        r, bind = records.c, sa.bindparam
        head = [r.n, r.id, r.type, r.version, r.created_at, r.updated_at, r.expires_at]
        self.head = self._compiled(sa.select(*head).where(r.id == bind("id"), r.type == bind("type")))
        self.heads = self._compiled(sa.select(*head).where(r.id == bind("id")).order_by(r.type))
        shown = [
            r.id,
            r.type,
            r.session_id,
            r.thread_id,
            r.version,
            r.created_at,
            r.updated_at,
            r.expires_at,
            r.metadata,
        ]
        self.shown_columns = [column.name for column in shown]
        both = sa.select(r.n, *shown, documents.c.data).select_from(records.join(documents, documents.c.n == r.n))
        self.load = self._compiled(both.where(r.id == bind("id"), r.type == bind("type")))
        self.load_any = self._compiled(both.where(r.id == bind("id")).order_by(r.type))
        written = [c.name for c in r if c.name != "n"]
        self.insert_record = self._compiled(
            sa.insert(records).values({name: bind(name) for name in written}).returning(r.n)
        )
        kept = {"n", "id", "type", "created_at"}
        changed: dict[str, Any] = {name: bind(name) for name in written if name not in kept}
        self.update_record = self._compiled(sa.update(records).where(r.n == bind("row")).values(changed))
        self.replace_record = self._compiled(
            sa.update(records).where(r.n == bind("row")).values(changed | {"created_at": bind("created_at")})
        )
        self.insert_document = self._compiled(sa.insert(documents).values(n=bind("row"), data=bind("data")))
        self.update_document = self._compiled(
            sa.update(documents).where(documents.c.n == bind("row")).values(data=bind("data"))
        )
        self.touch = self._compiled(
            sa.update(records).where(r.n == bind("row")).values(version=r.version + 1, updated_at=bind("moved_at"))
        )
        self.next_type = self._compiled(sa.select(sa.func.min(r.type)).where(r.type > bind("type")))

    def _of_logs(self, tables: Tables) -> None:
        logs, r, bind = tables.logs, tables.records.c, sa.bindparam
        self.log = self._compiled(
            sa.select(logs.c.n, logs.c.last_seq, logs.c.count).where(logs.c.log_id == bind("log_id"))
        )
        living = sa.or_(r.expires_at.is_(None), r.expires_at > bind("now"))
        owned = logs.join(tables.records, logs.c.owner == r.n)
        self.living_log = self._compiled(
            sa.select(logs.c.n, logs.c.last_seq, logs.c.count)
            .select_from(owned)
            .where(logs.c.log_id == bind("log_id"), living)
        )
        self.insert_log = self._compiled(
            sa.insert(logs)
            .values(log_id=bind("log_id"), owner=bind("owner"), last_seq=bind("last_seq"), count=bind("count"))
            .returning(logs.c.n)
        )
        self.update_log = self._compiled(
            sa.update(logs).where(logs.c.n == bind("log")).values(last_seq=bind("last"), count=bind("left"))
        )
        self.log_ids = self._compiled(
            sa.select(logs.c.log_id, r.type)
            .select_from(owned)
            .where(logs.c.log_id > bind("after"), logs.c.log_id >= bind("first"), living)
            .order_by(logs.c.log_id)
            .limit(bind("limit"))
        )

    def _of_entries(self, tables: Tables) -> None:
        entries, e, bind = tables.entries, tables.entries.c, sa.bindparam
        of_log = e.log == bind("log")
        shown = [e.seq, e.key, e.created_at, e.body]
        self.insert_entry = self._compiled(
            sa.insert(entries).values(
                log=bind("log"), seq=bind("seq"), key=bind("key"), created_at=bind("created_at"), body=bind("body")
            )
        )
        self.replace_entry = self._compiled(
            sa.update(entries)
            .where(of_log, e.seq == bind("place"))
            .values(body=bind("new_body"), created_at=sa.func.coalesce(bind("new_time"), e.created_at))
        )
        self.seq_of_key = self._compiled(sa.select(e.seq).where(of_log, e.key == bind("wanted")))
        self.newest = self._compiled(sa.select(*shown).where(of_log).order_by(e.seq.desc()).limit(1))
        self.nth = self._compiled(sa.select(e.seq).where(of_log).order_by(e.seq).limit(1).offset(bind("skipped")))
        self.delete_entry = self._compiled(sa.delete(entries).where(of_log, e.seq == bind("place")))
        self.delete_up_to = self._compiled(sa.delete(entries).where(of_log, e.seq <= bind("place")))
        self.delete_entries = self._compiled(sa.delete(entries).where(of_log))

    def _of_upkeep(self, tables: Tables) -> None:
        records, logs, bind = tables.records, tables.logs, sa.bindparam
        r = records.c
        of_owner = sa.select(logs.c.n).where(logs.c.owner == bind("row"))
        self.delete_entries_of = self._compiled(sa.delete(tables.entries).where(tables.entries.c.log.in_(of_owner)))
        self.delete_logs_of = self._compiled(sa.delete(logs).where(logs.c.owner == bind("row")))
        self.delete_document = self._compiled(sa.delete(tables.documents).where(tables.documents.c.n == bind("row")))
        self.delete_record = self._compiled(sa.delete(records).where(r.n == bind("row")))
        no_system = sa.func.substr(r.type, 1, 1) != "_"
        self.of_session = self._compiled(sa.select(r.n).where(r.session_id == bind("group"), no_system))
        self.of_thread = self._compiled(sa.select(r.n).where(r.thread_id == bind("group"), no_system))
        self.generation = self._compiled(sa.select(tables.schema.c.paths_generation))
        paths = tables.paths.c
        self.paths = self._compiled(sa.select(paths.type, paths.path, paths.slot, paths.filled))
        self.expired = self._compiled(
            sa.select(r.n).where(r.expires_at <= bind("now")).order_by(r.expires_at).limit(bind("limit"))
        )

    def entries_in(self, log: int, wanted: ReadRange) -> Call:
        """The entries of a log within bounds, oldest first; newest first where only the last ones are wanted."""
        bounds = {"after": wanted.after, "before": wanted.before, "since": wanted.since}
        most = wanted.limit if wanted.last is None else wanted.last
        given = {name: value for name, value in bounds.items() if value is not None}
        shape = ("entries_in", *given, most is None, wanted.last is None)
        if shape not in self._by_shape:
            self._by_shape[shape] = self._compiled(self._entries_in(given, most is not None, wanted.last is not None))
        return self._by_shape[shape](log=log, most=most, **given)

    def _entries_in(self, given: Collection[str], is_limited: bool, newest_first: bool) -> sa.Select[Any]:
        e, bind = self._tables.entries.c, sa.bindparam
        tests = {
            "after": e.seq > bind("after"),
            "before": e.seq < bind("before"),
            "since": e.created_at >= bind("since"),
        }
        found = sa.select(e.seq, e.key, e.created_at, e.body).where(e.log == bind("log"))
        found = found.where(*(tests[name] for name in given))
        found = found.order_by(e.seq.desc() if newest_first else e.seq)
        return found.limit(bind("most")) if is_limited else found

    def entries_of(self, log_ids: Sequence[str], now: int) -> Call:
        """All entries of living logs, with the log's id before them."""
        # One statement for each power of two: a shorter list repeats its last id.
        size = 1 << (len(log_ids) - 1).bit_length()
        shape = ("entries_of", size)
        if shape not in self._by_shape:
            self._by_shape[shape] = self._compiled(self._entries_of(size))
        padded = [*log_ids, *[log_ids[-1]] * (size - len(log_ids))]
        return self._by_shape[shape](now=now, **{f"id{place}": log_id for place, log_id in enumerate(padded)})

    def _entries_of(self, size: int) -> sa.Select[Any]:
        logs, records, entries = self._tables.logs, self._tables.records, self._tables.entries
        e = entries.c
        living = sa.or_(records.c.expires_at.is_(None), records.c.expires_at > sa.bindparam("now"))
        named = logs.c.log_id.in_([sa.bindparam(f"id{place}") for place in range(size)])
        return (
            sa.select(logs.c.log_id, e.seq, e.key, e.created_at, e.body)
            .select_from(logs.join(records, logs.c.owner == records.c.n).join(entries, e.log == logs.c.n))
            .where(named, living)
            .order_by(logs.c.log_id, e.seq)
        )


@lru_cache(maxsize=64)
def statements_of(prefix: str, slots: int, dialect: Dialect) -> Statements:
    """The statements for one layout of tables: compiled once, however often it is opened."""
    return Statements(tables_of(prefix, slots), dialect)
