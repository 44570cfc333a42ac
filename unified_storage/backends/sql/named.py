"""Listing records that a filter names by id and type: each is looked up, however many others there are.

Left to a planner, such a filter may be answered by walking all records of the type: what a server plans while a table
is empty it keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unified_storage.arguments import Place
from unified_storage.backends.sql.conditions import is_text
from unified_storage.backends.sql.shown import shown, shown_without_data
from unified_storage.backends.sql.statements import Steps
from unified_storage.backends.sql.store import Store
from unified_storage.filters import Condition, Test, conjuncts, matches
from unified_storage.interface import Records

_AT_ONCE = 256
"""Ids of one statement."""
_MOST_TYPES = 8
_ID, _TYPE = ("id",), ("type",)


@dataclass(frozen=True, slots=True)
class Named:
    """What a filter names.

    Attributes:
        ids: in their order, each once.
        types: likewise.
        says_more: the filter has further conditions.
    """

    ids: Sequence[str]
    types: Sequence[str]
    says_more: bool


def named_by(condition: Condition) -> Named | None:
    """The ids and types that *condition* names, if it names both."""
    tests = conjuncts(condition)
    ids, types = _values(tests, _ID), _values(tests, _TYPE)
    if ids is None or types is None or len(types) > _MOST_TYPES:
        return None
    return Named(ids, types, len(tests) > 2)


def _values(tests: Sequence[Condition], path: tuple[str]) -> list[str] | None:
    """What may stand at *path*, told by exactly one of *tests*; values that can stand nowhere are left out."""
    of_path = [test for test in tests if isinstance(test, Test) and test.path == path]
    if len(of_path) != 1 or of_path[0].op not in ("$eq", "$in"):
        return None
    values = [of_path[0].value] if of_path[0].op == "$eq" else of_path[0].value
    return sorted({value for value in values if is_text(value)})


def in_order(
    store: Store, condition: Condition, named: Named, start: Place | None, limit: int | None, with_data: bool
) -> Steps[tuple[Records, Place | None]]:
    """Up to *limit* of the records, by ``(id, type)``; and where to go on, None at the end.

    Inside a transaction they are claimed before.
    """
    found: Records = []
    ids = [id for id in named.ids if not _is_behind(start, id)] if named.types else []
    for at in range(0, len(ids), _AT_ONCE):
        some = ids[at : at + _AT_ONCE]
        reads_data = with_data or named.says_more
        for row in (yield store.statements.whole_of(some, named.types, store.now(), with_data=reads_data)):
            place = row[0], row[1]
            if start is not None and not isinstance(start, str) and place <= start:
                continue
            record = shown(row) if reads_data else shown_without_data(row)
            if named.says_more and not matches(condition, record):
                continue
            if store.claims is not None:
                store.claims.saw(place, (row[4], row[6]))
            if not with_data:
                record.pop("data", None)
            found.append(record)
            if len(found) == limit:
                return found, place
    return found, None


def _is_behind(start: Place | None, id: str) -> bool:
    """Whether a walk from *start* on has passed *id*."""
    if start is None:
        return False
    return id <= start if isinstance(start, str) else id < start[0]
