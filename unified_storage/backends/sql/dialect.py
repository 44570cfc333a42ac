"""What the SQL engines disagree about, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Dialect:
    """The handful of things that differ from engine to engine."""

    name: str
    sqlalchemy: sa.Dialect
    """Compiles the fixed statements; what is written by hand takes its values as ``?`` everywhere."""
    has_table: str
    """Counts the tables of a name."""
    index_hint: Callable[[str], str]
    """What follows a table's name so that an index is used."""
    index_names: str
    """The names of the indexes of a table that can be used."""
    key_as_text: Callable[[str], str]
    """A column of index keys in hexadecimal digits; NULL where it is, and no digits where it holds no bytes."""
    raw_text: Callable[[str], str] = "{}".format
    """A text column so that a damaged text costs its own row alone: as bytes where the engine checks no encoding."""
    or_in_its_place: str = " ON CONFLICT (n) DO UPDATE SET data = excluded.data"
    """What follows the insert of a document so that it takes the place of one that is there."""
    asks_at_once: bool = True
    """Whether rows that lie in two places are asked for in one statement; not where a union copies them."""
    knows_counts: bool = True
    """Whether it knows about how many rows an index finds; else it is told which way a page goes."""
    locks_rows: bool = False
    """Whether writers meet at rows, which they then have to lock; else one writes at a time."""
    keeps_first_plans: bool = False
    """Whether a plan that was made while a table was empty, when all indexes look alike, is kept while it grows."""
    misses_successors: bool = False
    """Whether a locking read that waited for a row's deletion does not see the row that took its place."""
    joins_to_delete: bool = False
    """Whether it looks at all rows of a table to delete those that a subquery names; not where that is joined."""
    returns_numbers: bool = True
    """Whether an insert can return the new row's number; else the driver tells it."""
    schema_is_transactional: bool = True
    """Whether schema steps are undone with their transaction; else each has to be fit for being run again."""
    barrier: Callable[[str], tuple[str, ...]] = lambda table: ()
    """Waits, in the transaction that changes the list of paths, for every write that has read *table* before."""
