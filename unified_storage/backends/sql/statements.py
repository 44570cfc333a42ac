"""Every fixed statement, built once with SQLAlchemy Core and compiled once per engine and store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from unified_storage.backends.sql.dialect import Dialect
from unified_storage.backends.sql.tables import Tables, tables_of
from unified_storage.logs import ReadRange

T = TypeVar("T")
Row = Sequence[Any]

_ABOVE_ALL = 2**63 - 1
"""No entry has a higher number."""


class Into(NamedTuple):
    """Where an insert puts rows whose values stand in the order of *columns*."""

    table: str
    columns: tuple[str, ...]


class Call(NamedTuple):
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
    into: Into | None = None
    """All that it does with its many tuples is to put them there: an engine may have a faster way to do that."""


Steps = Generator[Call, list[Row], T]
"""What a verb does: it yields calls, is sent their rows, and returns the verb's result."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A compiled statement and the order in which it takes its values."""

    sql: str
    names: tuple[str, ...]
    constants: dict[str, Any]
    """Values that stand in the statement itself."""
    is_all: bool = False
    wants_number: bool = False
    into: Into | None = None

    def __call__(self, **values: Any) -> Call:
        given = {**self.constants, **values} if self.constants else values
        return Call(self.sql, [given[name] for name in self.names], False, self.is_all, self.wants_number)

    def many(self, rows: Sequence[dict[str, Any]]) -> Call:
        given = [{**self.constants, **row} for row in rows] if self.constants else rows
        return Call(self.sql, [[row[name] for name in self.names] for row in given], many=True)

    def rows(self, rows: Sequence[Row]) -> Call:
        """Insert *rows*, whose values stand in the order of ``names``."""
        return Call(self.sql, rows, many=True, into=self.into)


def head_of(tables: Tables) -> list[sa.Column[Any]]:
    """The columns of a record's head, in their order everywhere."""
    r = tables.records.c
    return [r.n, r.id, r.type, r.version, r.created_at, r.updated_at, r.expires_at]


class Statements:
    """The statements of one store on one engine."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._dialect = dialect
        self._tables = tables
        self._by_shape: dict[object, Statement] = {}
        self.slots = tables.slots
        self.prefix = tables.prefix
        self.misses_successors = dialect.misses_successors
        self.asks_at_once = dialect.asks_at_once
        self.knows_counts = dialect.knows_counts
        self.key_as_text = dialect.key_as_text
        self._of_records(tables)
        self._of_logs(tables)
        self._of_entries(tables)
        self._of_upkeep(tables)

    def _compiled(self, element: sa.ClauseElement, **flags: Any) -> Statement:
        compiled = element.compile(dialect=self._dialect.sqlalchemy)
        names: Sequence[str] = getattr(compiled, "positiontup", None) or ()
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        return Statement(str(compiled), tuple(names), constants, **flags)

    def _inserting(self, table: sa.Table[Any], values: Mapping[str, str]) -> Statement:
        """An insert of rows; *values* names the value of each column, in the order of the table."""
        insert = sa.insert(table).values({column: sa.bindparam(name) for column, name in values.items()})
        return self._compiled(insert, into=Into(table.name, tuple(values)))

    def _numbered(self, insert: sa.Insert, number: sa.Column[Any]) -> Statement:
        """An insert whose one row is the new row's number."""
        if self._dialect.returns_numbers:
            return self._compiled(insert.returning(number))
        return self._compiled(insert, wants_number=True)

    def identity_hint(self, of_one_type: bool) -> str:
        """Makes the engine walk records by identity whatever else it might prefer."""
        return self._dialect.index_hint(f"{self.prefix}by_{'type' if of_one_type else 'id'}")

    def _is_of_type(self) -> sa.ColumnElement[bool]:
        """The type beside an id."""
        return self._type_beside_id() == sa.bindparam("type", type_=self._tables.records.c.type.type)

    def _type_beside_id(self) -> sa.ColumnElement[str]:
        """Hidden where a wrong index could be kept: only the one that begins with ids fits."""
        type_name: sa.ColumnElement[str] = self._tables.records.c.type
        return type_name.concat(sa.literal_column("''")) if self._dialect.keeps_first_plans else type_name

    def _of_records(self, tables: Tables) -> None:
        records, documents = tables.records, tables.documents
        r, bind = records.c, sa.bindparam
        head = head_of(tables)
        named = (r.id == bind("id"), self._is_of_type())
        one = sa.select(*head).where(*named)
        every = sa.select(*head).where(r.id == bind("id")).order_by(r.type)
        # What is about to be changed is locked where writers meet at rows; SQLite leaves that out.
        self.head, self.peek = self._compiled(one.with_for_update()), self._compiled(one, is_all=True)
        self.heads, self.peeks = self._compiled(every.with_for_update()), self._compiled(every, is_all=True)
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
        self._shown = shown
        self.shown_of_r = ", ".join(f"r.{column.name}" for column in shown)
        both, with_its_document = sa.select(r.n, *shown, documents.c.data), documents.c.n == r.n
        # Both rows are locked: after a wait for another writer both are read anew.
        locked = both.select_from(records.join(documents, with_its_document)).with_for_update()
        # A head without its document is damage, and not an absence.
        seen = both.select_from(records.outerjoin(documents, with_its_document))
        self.claim, self.load = self._compiled(locked.where(*named)), self._compiled(seen.where(*named), is_all=True)
        self.claim_any, self.load_any = (
            self._compiled(locked.where(named[0]).order_by(r.type)),
            self._compiled(seen.where(named[0]).order_by(r.type), is_all=True),
        )
        written = [c.name for c in r if c.name != "n"]
        insert_record = sa.insert(records).values({name: bind(name) for name in written})
        self.insert_record = self._numbered(insert_record, r.n)
        self.insert_records = self._inserting(records, {name: name for name in written})
        changed: dict[str, Any] = {name: bind(name) for name in written if name not in ("id", "type")}
        self.update_record = self._compiled(sa.update(records).where(r.n == bind("row")).values(changed))
        self.insert_document = self._inserting(documents, {"n": "row", "data": "data"})
        or_replace = self.insert_document.sql + self._dialect.or_in_its_place
        self.put_document = replace(self.insert_document, sql=or_replace, into=None)
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
        # As a value, and not joined: so an engine knows that it is one log, whose entries lie in order.
        self._living_log = (
            sa.select(logs.c.n).select_from(owned).where(logs.c.log_id == bind("log_id"), living).scalar_subquery()
        )
        e = tables.entries.c
        first = sa.select(e.seq).where(e.log == logs.c.n).order_by(e.seq).limit(1).scalar_subquery()
        self.log_info = self._compiled(
            sa.select(first, logs.c.last_seq, logs.c.count)
            .select_from(owned)
            .where(logs.c.log_id == bind("log_id"), living),
            is_all=True,
        )
        insert_log = sa.insert(logs).values(
            log_id=bind("log_id"), owner=bind("owner"), last_seq=bind("last_seq"), count=bind("count")
        )
        self.insert_log = self._numbered(insert_log, logs.c.n)
        self.insert_logs = self._inserting(logs, {name: name for name in ("log_id", "owner", "last_seq", "count")})
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
        self.insert_entry = self._inserting(entries, {column.name: column.name for column in e})
        self.replace_entry = self._compiled(
            sa.update(entries)
            .where(of_log, e.seq == bind("place"))
            .values(body=bind("new_body"), created_at=sa.func.coalesce(bind("new_time"), e.created_at))
        )
        self.newest = self._compiled(sa.select(*shown).where(of_log).order_by(e.seq.desc()).limit(1))
        self.nth = self._compiled(sa.select(e.seq).where(of_log).order_by(e.seq).limit(1).offset(bind("skipped")))
        self.delete_entry = self._compiled(sa.delete(entries).where(of_log, e.seq == bind("place")))
        self.delete_up_to = self._compiled(sa.delete(entries).where(of_log, e.seq <= bind("place")))
        self.delete_entries = self._compiled(sa.delete(entries).where(of_log))

    def _of_upkeep(self, tables: Tables) -> None:
        records, logs, bind = tables.records, tables.logs, sa.bindparam
        r = records.c
        self.delete_entries_of = self._compiled(self._entries_of_owner(tables))
        self.delete_logs_of = self._compiled(sa.delete(logs).where(logs.c.owner == bind("row")))
        self.delete_document = self._compiled(sa.delete(tables.documents).where(tables.documents.c.n == bind("row")))
        self.delete_record = self._compiled(sa.delete(records).where(r.n == bind("row")))
        self.generation = self._compiled(sa.select(tables.schema.c.paths_generation))
        paths = tables.paths.c
        self.paths = self._compiled(sa.select(paths.type, paths.path, paths.slot, paths.filled))
        both = sa.select(r.n, r.metadata, tables.documents.c.data).select_from(
            records.join(tables.documents, tables.documents.c.n == r.n)
        )
        of_type = both.where(r.type == bind("type"), r.n > bind("after")).order_by(r.n).limit(bind("limit"))
        self.to_fill = self._compiled(of_type.with_for_update())
        self.expired = self._compiled(
            sa.select(r.n)
            .where(r.expires_at <= bind("now"))
            .order_by(r.expires_at, r.n)
            .limit(bind("limit"))
            .with_for_update()
        )

    def _entries_of_owner(self, tables: Tables) -> sa.Delete:
        logs, e = tables.logs.c, tables.entries.c
        of_owner = logs.owner == sa.bindparam("row")
        if self._dialect.joins_to_delete:
            return sa.delete(tables.entries).where(e.log == logs.n, of_owner)
        return sa.delete(tables.entries).where(e.log.in_(sa.select(logs.n).where(of_owner)))

    def entries_in(self, log: int, wanted: ReadRange) -> Call:
        """The entries of a log within bounds, oldest first; newest first where only the last ones are wanted."""
        return self._entries("entries_in", sa.bindparam("log"), wanted, log=log)

    def entries_seen(self, log_id: str, now: int, wanted: ReadRange) -> Call:
        """As :meth:`entries_in`, of a log whose owner lives: all that a read has to ask."""
        return self._entries("entries_seen", self._living_log, wanted, log_id=log_id, now=now, is_all=True)

    def _entries(self, name: str, which: Any, wanted: ReadRange, *, is_all: bool = False, **values: Any) -> Call:
        most = wanted.limit if wanted.last is None else wanted.last
        shape = (name, wanted.before is None, wanted.since is None, most is None, wanted.last is None)
        statement = self._by_shape.get(shape)
        if statement is None:
            given = [bound for bound in ("after", "before", "since") if getattr(wanted, bound) is not None]
            select = self._entries_of_log(
                which, given, is_limited=most is not None, newest_first=wanted.last is not None
            )
            statement = self._by_shape[shape] = self._compiled(select, is_all=is_all)
        return statement(after=wanted.after, before=wanted.before, since=wanted.since, most=most, **values)

    def _entries_of_log(
        self, which: Any, given: Collection[str], *, is_limited: bool, newest_first: bool
    ) -> sa.Select[Any]:
        e, bind = self._tables.entries.c, sa.bindparam
        tests = {
            "after": e.seq > bind("after"),
            "before": e.seq < bind("before"),
            "since": e.created_at >= bind("since"),
        }
        found = sa.select(e.seq, e.key, e.created_at, e.body).where(e.log == which)
        found = found.where(*(tests[name] for name in given))
        found = found.order_by(e.seq.desc() if newest_first else e.seq)
        return found.limit(bind("most")) if is_limited else found

    def entries_of(self, log_ids: Sequence[str], now: int, wanted: ReadRange) -> Call:
        """The entries of living logs, all, the newest or the oldest of each, with the log's id before them."""
        if wanted.last is not None:
            return self._listed("newest_of", self._newest_of, log_ids, now=now, others=wanted.last - 1)
        if wanted.limit is not None:
            return self._listed("oldest_of", self._oldest_of, log_ids, now=now, others=wanted.limit - 1)
        return self._listed("entries_of", self._entries_of, log_ids, now=now)

    def _newest_of(self, named: Any) -> sa.Select[Any]:
        found = self._entries_of(named)
        return found.where(self._tables.entries.c.seq >= self._farthest(newest_first=True, otherwise=0))

    def _oldest_of(self, named: Any) -> sa.Select[Any]:
        found = self._entries_of(named)
        return found.where(self._tables.entries.c.seq <= self._farthest(newest_first=False, otherwise=_ABOVE_ALL))

    def _farthest(self, *, newest_first: bool, otherwise: int) -> Any:
        """The number of the entry behind *others* at one end of a log; *otherwise* where it has fewer."""
        one = self._tables.entries.alias("one").c
        order = one.seq.desc() if newest_first else one.seq
        counted = sa.select(one.seq).where(one.log == self._tables.logs.c.n).order_by(order)
        return sa.func.coalesce(counted.limit(1).offset(sa.bindparam("others")).scalar_subquery(), otherwise)

    def _entries_of(self, named: Any) -> sa.Select[Any]:
        logs, records, entries = self._tables.logs, self._tables.records, self._tables.entries
        e = entries.c
        living = sa.or_(records.c.expires_at.is_(None), records.c.expires_at > sa.bindparam("now"))
        return (
            sa.select(logs.c.log_id, e.seq, e.key, e.created_at, e.body)
            .select_from(logs.join(records, logs.c.owner == records.c.n).join(entries, e.log == logs.c.n))
            .where(logs.c.log_id.in_(named), living)
            .order_by(logs.c.log_id, e.seq)
        )

    def seqs_of_keys(self, log: int, keys: Sequence[str]) -> Call:
        """The key and the number of those of *keys* that are present."""
        return self._listed("seqs_of_keys", self._seqs_of_keys, keys, log=log)

    def _seqs_of_keys(self, named: Any) -> sa.Select[Any]:
        e = self._tables.entries.c
        return sa.select(e.key, e.seq).where(e.log == sa.bindparam("log"), e.key.in_(named))

    def logs_named(self, log_ids: Sequence[str]) -> Call:
        """The row number and the id of those logs that are there."""
        return self._listed("logs_named", self._logs_named, log_ids)

    def _logs_named(self, named: Any) -> sa.Select[Any]:
        logs = self._tables.logs.c
        return sa.select(logs.n, logs.log_id).where(logs.log_id.in_(named))

    def ids_of(self, ids: Sequence[str]) -> Call:
        """Those of *ids* that records of any type have; nothing is locked."""
        r = self._tables.records.c
        return self._listed("ids_of", lambda named: sa.select(r.id).where(r.id.in_(named)), ids)

    def grouped_under(self, column: str, ids: Sequence[str]) -> Call:
        """The heads of what stands under *ids* by a column, for a change of them, with that id before them."""
        return self._listed(f"grouped by {column}", lambda named: self._grouped(column, named), ids)

    def _grouped(self, column: str, named: Any) -> sa.Select[Any]:
        r = self._tables.records.c
        no_system = sa.func.substr(r.type, 1, 1) != "_"
        found = sa.select(r[column], *head_of(self._tables)).where(r[column].in_(named), no_system)
        return found.order_by(r.n).with_for_update()

    def logs_of(self, owners: Sequence[int]) -> Call:
        """The row numbers of the logs of records."""
        logs = self._tables.logs.c
        return self._listed("logs_of", lambda named: sa.select(logs.n).where(logs.owner.in_(named)), owners)

    def delete_entries_in(self, logs: Sequence[int]) -> Call:
        """Delete all entries of some logs."""
        return self._deleting(self._tables.entries.c.log, logs)

    def delete_logs(self, numbers: Sequence[int]) -> Call:
        return self._deleting(self._tables.logs.c.n, numbers)

    def delete_documents(self, numbers: Sequence[int]) -> Call:
        return self._deleting(self._tables.documents.c.n, numbers)

    def delete_records(self, numbers: Sequence[int]) -> Call:
        return self._deleting(self._tables.records.c.n, numbers)

    def _deleting(self, column: sa.Column[Any], numbers: Sequence[int]) -> Call:
        """Delete the rows whose *column* is one of *numbers*."""
        name = f"delete from {column.table.name}"
        return self._listed(name, lambda named: sa.delete(column.table).where(column.in_(named)), numbers)

    def whole_of(self, ids: Sequence[str], types: Sequence[str], now: int, *, with_data: bool) -> Call:
        """What is shown of the living records that have one of *ids* and one of *types*, in their order."""
        size = 1 << (len(ids) - 1).bit_length()
        shape = ("whole_of", size, len(types), with_data)
        if shape not in self._by_shape:
            self._by_shape[shape] = self._compiled(self._whole_of(size, len(types), with_data), is_all=True)
        listed = {f"id{place}": id for place, id in enumerate([*ids, *[ids[-1]] * (size - len(ids))])}
        return self._by_shape[shape](now=now, **listed, **{f"type{place}": name for place, name in enumerate(types)})

    def _whole_of(self, ids: int, types: int, with_data: bool) -> sa.Select[Any]:
        records, documents = self._tables.records, self._tables.documents
        r = records.c
        whole = sa.select(*self._shown, documents.c.data if with_data else sa.null())
        source = records.outerjoin(documents, documents.c.n == r.n) if with_data else records
        named = r.id.in_([sa.bindparam(f"id{place}") for place in range(ids)])
        names = [sa.bindparam(f"type{place}", type_=r.type.type) for place in range(types)]
        of_type = self._type_beside_id().in_(names)
        living = sa.or_(r.expires_at.is_(None), r.expires_at > sa.bindparam("now"))
        return whole.select_from(source).where(named, of_type, living).order_by(r.id, r.type)

    def heads_of(self, ids: Sequence[str]) -> Call:
        """The heads of every type of *ids*, for a change of them."""
        return self._listed("heads_of", self._heads_of, ids)

    def heads_of_type(self, ids: Sequence[str], type_name: str) -> Call:
        """The heads of one type of *ids*, for a change of them."""
        return self._listed("heads_of_type", self._heads_of_type, ids, type=type_name)

    def _heads_of(self, named: Any) -> sa.Select[Any]:
        r = self._tables.records.c
        return sa.select(*head_of(self._tables)).where(r.id.in_(named)).order_by(r.id, r.type).with_for_update()

    def _heads_of_type(self, named: Any) -> sa.Select[Any]:
        return self._heads_of(named).where(self._is_of_type())

    def _listed(self, name: str, made: Callable[[Any], sa.ClauseElement], listed: Sequence[Any], **values: Any) -> Call:
        # One statement for each power of two: a shorter list repeats its last element.
        size = 1 << (len(listed) - 1).bit_length()
        shape = (name, size)
        if shape not in self._by_shape:
            self._by_shape[shape] = self._compiled(made([sa.bindparam(f"in{place}") for place in range(size)]))
        padded = [*listed, *[listed[-1]] * (size - len(listed))]
        return self._by_shape[shape](**values, **{f"in{place}": value for place, value in enumerate(padded)})


@lru_cache(maxsize=64)
def statements_of(prefix: str, slots: int, dialect: Dialect) -> Statements:
    """The statements for one layout of tables: compiled once, however often it is opened."""
    return Statements(tables_of(prefix, slots), dialect)
