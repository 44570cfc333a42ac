"""The tables of a store.

A record is two rows: its head, which every append moves, and its document, which only a save rewrites. An entry is
one row, found by its log's number and its own. Paths that are fast to filter by stand as keys in the head's slots.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from unified_storage.errors import StorageConfigurationError

_NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,30}")
FIRST_SLOTS = 12
"""Slots that a new store has; more are added when more paths are indexed."""


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
            sa.Column("type", sa.Text, primary_key=True),
            sa.Column("path", sa.Text, primary_key=True),
            sa.Column("slot", sa.Integer, nullable=False),
            sa.Column("filled", sa.Integer, nullable=False),
            sqlite_with_rowid=False,
        )
        self.records = self._table(
            "records",
            sa.Column("n", sa.Integer, primary_key=True),
            sa.Column("id", sa.Text, nullable=False),
            sa.Column("type", sa.Text, nullable=False),
            sa.Column("session_id", sa.Text),
            sa.Column("thread_id", sa.Text),
            sa.Column("version", sa.BigInteger, nullable=False),
            sa.Column("created_at", sa.BigInteger, nullable=False),
            sa.Column("updated_at", sa.BigInteger, nullable=False),
            sa.Column("expires_at", sa.BigInteger),
            sa.Column("metadata", sa.Text),
            *(sa.Column(f"k{slot}", sa.LargeBinary) for slot in range(slots)),
        )
        self.documents = self._table(
            "documents",
            sa.Column("n", sa.Integer, primary_key=True),
            sa.Column("data", sa.Text, nullable=False),
        )
        self.logs = self._table(
            "logs",
            sa.Column("n", sa.Integer, primary_key=True),
            sa.Column("log_id", sa.Text, nullable=False, unique=True),
            sa.Column("owner", sa.BigInteger, nullable=False, index=True),
            sa.Column("last_seq", sa.BigInteger, nullable=False),
            sa.Column("count", sa.BigInteger, nullable=False),
        )
        self.entries = self._table(
            "entries",
            sa.Column("log", sa.BigInteger, primary_key=True),
            sa.Column("seq", sa.BigInteger, primary_key=True),
            sa.Column("key", sa.Text),
            sa.Column("created_at", sa.BigInteger, nullable=False),
            sa.Column("body", sa.Text, nullable=False),
            sqlite_with_rowid=False,
        )
        self._add_indexes()
        self.first_indexes = [index for table in self.metadata.sorted_tables for index in table.indexes]
        self._slot_indexes: dict[int, sa.Index] = {}

    def _table(self, name: str, *columns: sa.Column[Any], **options: Any) -> sa.Table[Any]:
        return sa.Table(self.prefix + name, self.metadata, *columns, **options)

    def _add_indexes(self) -> None:
        records, entries = self.records.c, self.entries.c
        name = self.prefix + "by_"
        sa.Index(name + "id", records.id, records.type, unique=True)
        sa.Index(name + "type", records.type, records.id)
        sa.Index(name + "updated", records.type, records.updated_at.desc(), records.id)
        sa.Index(name + "created", records.type, records.created_at, records.id)
        for column in (records.session_id, records.thread_id, records.expires_at):
            sa.Index(name + column.name, column, sqlite_where=column.is_not(None))
        sa.Index(name + "key", entries.log, entries.key, unique=True, sqlite_where=entries.key.is_not(None))

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
                sqlite_where=column.is_not(None),
            )
        return self._slot_indexes[slot]


@lru_cache(maxsize=64)
def tables_of(prefix: str, slots: int = FIRST_SLOTS) -> Tables:
    """The tables of a namespace: made once, and not to be changed."""
    return Tables(prefix, slots)
