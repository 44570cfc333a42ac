"""The tables of a store.

A record is two rows: its head, which every append moves, and its document, which only a save rewrites. An entry is
one row, found by its log's number and its own. Paths that are fast to filter by stand as keys in the head's slots.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from unified_storage.errors import StorageConfigurationError
from unified_storage.logs import MAX_KEY_BYTES, MAX_LOG_ID_BYTES
from unified_storage.order_keys import KEY_LIMIT
from unified_storage.record import MAX_ID_BYTES, MAX_TYPE_BYTES

_NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,30}")
_FOR_MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}
FIRST_SLOTS = 12
"""Slots that a new store has; more are added when more paths are indexed."""


def _name(most_bytes: int) -> Any:
    """A text that is compared by its bytes: nothing is folded or padded."""
    return (
        sa.Text().with_variant(sa.Text(collation="C"), "postgresql").with_variant(mysql.VARBINARY(most_bytes), "mysql")
    )


_ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # only INTEGER names a row of SQLite itself
_ID, _TYPE, _LOG_ID, _KEY = _name(MAX_ID_BYTES), _name(MAX_TYPE_BYTES), _name(MAX_LOG_ID_BYTES), _name(MAX_KEY_BYTES)
_DOCUMENT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
SLOT = sa.LargeBinary().with_variant(mysql.VARBINARY(KEY_LIMIT), "mysql")
"""What a slot is: a cut order key."""


def table_prefix(namespace: str) -> str:
    """What the names of a store's tables begin with."""
    if not namespace:
        return "unified_"
    if not _NAMESPACE.fullmatch(namespace):
        raise StorageConfigurationError("a namespace is 1-31 of a-z 0-9 _, beginning with a letter")
    return f"unified_{namespace}__"


class Tables:
    """The tables of one namespace, with *slots* key columns."""

    def __init__(self, prefix: str, slots: int = FIRST_SLOTS) -> None:
        self.prefix = prefix
        self.slots = slots
        self.metadata = sa.MetaData()
        self.schema = self._table(
            "schema",
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("paths_generation", sa.Integer, nullable=False),
        )
        self.paths = self._table(
            "paths",
            sa.Column("type", _TYPE, primary_key=True),
            sa.Column("path", _name(MAX_LOG_ID_BYTES), primary_key=True),
            sa.Column("slot", sa.Integer, nullable=False),
            sa.Column("filled", sa.Integer, nullable=False),
            sqlite_with_rowid=False,
        )
        self.records = self._table(
            "records",
            sa.Column("n", _ROW, primary_key=True),
            sa.Column("id", _ID, nullable=False),
            sa.Column("type", _TYPE, nullable=False),
            sa.Column("session_id", _ID),
            sa.Column("thread_id", _ID),
            sa.Column("version", sa.BigInteger, nullable=False),
            sa.Column("created_at", sa.BigInteger, nullable=False),
            sa.Column("updated_at", sa.BigInteger, nullable=False),
            sa.Column("expires_at", sa.BigInteger),
            sa.Column("metadata", _DOCUMENT),
            *(sa.Column(f"k{slot}", SLOT) for slot in range(slots)),
        )
        self.documents = self._table(
            "documents",
            sa.Column("n", _ROW, primary_key=True, autoincrement=False),
            sa.Column("data", _DOCUMENT, nullable=False),
        )
        self.logs = self._table(
            "logs",
            sa.Column("n", _ROW, primary_key=True),
            sa.Column("log_id", _LOG_ID, nullable=False, unique=True),
            sa.Column("owner", sa.BigInteger, nullable=False, index=True),
            sa.Column("last_seq", sa.BigInteger, nullable=False),
            sa.Column("count", sa.BigInteger, nullable=False),
        )
        self.entries = self._table(
            "entries",
            sa.Column("log", sa.BigInteger, primary_key=True),
            sa.Column("seq", sa.BigInteger, primary_key=True),
            sa.Column("key", _KEY),
            sa.Column("created_at", sa.BigInteger, nullable=False),
            sa.Column("body", _DOCUMENT, nullable=False),
            sqlite_with_rowid=False,
        )
        # Two programs may make it at once where no lock covers that; and some servers take no table without a key.
        self.schema_of_one_row = sa.Table(
            self.schema.name,
            sa.MetaData(),
            sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
            *(sa.Column(column.name, column.type, nullable=False) for column in self.schema.c),
            **_FOR_MYSQL,
        )
        self._add_indexes()
        self.first_indexes = [index for table in self.metadata.sorted_tables for index in table.indexes]
        self._slot_indexes: dict[int, sa.Index] = {}
        self.slot_of_path = sa.Index(f"{prefix}by_slot", self.paths.c.type, self.paths.c.slot, unique=True)

    def _table(self, name: str, *columns: sa.Column[Any], **options: Any) -> sa.Table[Any]:
        return sa.Table(self.prefix + name, self.metadata, *columns, **_FOR_MYSQL, **options)

    def _add_indexes(self) -> None:
        records, entries = self.records.c, self.entries.c
        name = self.prefix + "by_"
        sa.Index(name + "id", records.id, records.type, unique=True)
        sa.Index(name + "type", records.type, records.id)
        sa.Index(name + "updated", records.type, records.updated_at.desc(), records.id)
        sa.Index(name + "created", records.type, records.created_at, records.id)
        for column in (records.session_id, records.thread_id, records.expires_at):
            sa.Index(name + column.name, column, **_where_there(column))
        sa.Index(name + "key", entries.log, entries.key, unique=True, **_where_there(entries.key))

    def slot_index(self, slot: int) -> sa.Index:
        """The index of one slot, with the newest first behind each key."""
        if slot not in self._slot_indexes:
            records = self.records.c
            column = records[f"k{slot}"]
            self._slot_indexes[slot] = sa.Index(
                f"{self.prefix}by_k{slot}",
                records.type,
                column,
                records.updated_at.desc(),
                records.id,
                **_where_there(column),
            )
        return self._slot_indexes[slot]


def _where_there(column: sa.Column[Any]) -> dict[str, Any]:
    """Makes an index leave out what is null, on the engines that can."""
    return {"sqlite_where": column.is_not(None), "postgresql_where": column.is_not(None)}


@lru_cache(maxsize=64)
def tables_of(prefix: str, slots: int = FIRST_SLOTS) -> Tables:
    """The tables of a namespace: made once, and not to be changed."""
    return Tables(prefix, slots)
