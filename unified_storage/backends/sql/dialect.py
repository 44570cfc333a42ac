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
    """Compiles the fixed statements."""
    has_table: str
    """Counts the tables of a name."""
    index_hint: Callable[[str], str]
    """What follows a table's name so that an index is used."""
