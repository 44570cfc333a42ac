"""Which sorted sets can answer a filter: parts of them that hold every match, and few others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from unified_storage.backends.redis.courses import ID, KEYED, TIMED, TYPED_ID, Course
from unified_storage.backends.redis.partitions import ABOVE, Layout, escaped, time_text
from unified_storage.backends.redis.streams import Range
from unified_storage.filters import And, Condition, Path, Test, conjuncts, joined, path_text
from unified_storage.order_keys import index_key
from unified_storage.times import micros

_MOST_VALUES = 50
_GROUPS: dict[Path, str] = {("session_id",): "g:s", ("thread_id",): "g:t"}
_TIMES: dict[Path, str] = {("created_at",): "c", ("updated_at",): "u"}
_UPPER = frozenset({"$lt", "$lte"})
_ORDERINGS = frozenset({"$gt", "$gte", "$lt", "$lte"})


@dataclass(frozen=True, slots=True)
class Part:
    """A sorted set, without saying in which partition, and the part of it that is meant."""

    set_name: str
    before: bytes = b""
    first: bytes = b""
    last: bytes = ABOVE


@dataclass(frozen=True, slots=True)
class Option:
    """One way to find every match of a filter.

    Args:
        parts: in which all matches stand, together.
        answers: what of the filter they answer exactly: it need not be compared again.
        by_update: the same parts in the order of ``updated_at``, where there are such.
        is_ordered: whether each part has its records in the order of their ids.
        is_typed: whether there are records of the one type only.
    """

    parts: tuple[Part, ...]
    answers: Test | None
    by_update: tuple[Part, ...] = ()
    is_ordered: bool = True
    is_typed: bool = True

    def fits(self, course: Course) -> tuple[Part, ...] | None:
        """The parts to be walked in the order of *course*; None when they would have to be sorted."""
        if course.order.path == ("updated_at",):
            return self.by_update or None
        return self.parts if self.is_ordered and course.is_by_identity else None


def ranges(layout: Layout, parts: Sequence[Part], kind: str) -> list[Range]:
    """The parts in every partition."""
    return [
        Range(layout, partition, part.set_name, _shape(part), kind, part.before, part.first, part.last)
        for partition in range(layout.partitions)
        for part in parts
    ]


def _shape(part: Part) -> Any:
    letter = part.set_name.partition(":")[0]
    if letter == "y":
        # Where a key is given, ids are what follows it.
        return ID if part.before else KEYED
    return {"i": ID if ":" in part.set_name else TYPED_ID, "g": TYPED_ID}.get(letter, TIMED)


def left_over(condition: Condition, answered: Test | None, kind: str | None) -> Condition:
    """What is still to be compared, where *answered* and the type are known to hold."""
    parts = [part for part in conjuncts(condition) if part is not answered and not _pins(part, kind)]
    return joined(And, parts)


def _pins(part: Condition, kind: str | None) -> bool:
    match part:
        case Test(("type",), "$eq", name):
            return bool(name == kind)
        case Test(("type",), "$in", names):
            return kind in names
    return False


def pinned_types(condition: Condition) -> list[str] | None:
    """The only types that can match, where the condition says so at its top."""
    for part in conjuncts(condition):
        match part:
            case Test(("type",), "$eq", name):
                return [name] if isinstance(name, str) else []
            case Test(("type",), "$in", names):
                return sorted({name for name in names if isinstance(name, str)})
    return None


def named_ids(condition: Condition) -> list[str] | None:
    """The only ids that can match, in order."""
    for part in conjuncts(condition):
        match part:
            case Test(("id",), "$eq", id):
                return [id] if _is_text(id) else []
            case Test(("id",), "$in", ids):
                return sorted({id for id in ids if _is_text(id)})
    return None


def options(condition: Condition, kind: str | None, paths: Mapping[Path, bool]) -> Iterator[Option]:
    """The ways to find the matches of one type, or of any (None).

    Args:
        paths: indexed ones of the type, and whether they may be searched by.
    """
    for test in conjuncts(condition):
        if not isinstance(test, Test):
            continue
        found = None
        if test.path in _GROUPS:
            found = _of_group(test)
        elif kind is not None and paths.get(test.path, False):
            found = _of_path(test, kind)
        elif kind is not None and test.path in _TIMES:
            found = _of_time(test, kind)
        if found is not None:
            yield found


def _of_group(test: Test) -> Option | None:
    values = _values(test)
    if not values or not all(map(_is_text, values)):
        return None
    return Option(tuple(Part(_GROUPS[test.path], value.encode() + b"\0") for value in values), test, is_typed=False)


def _of_path(test: Test, kind: str) -> Option | None:
    name = f"{kind}:{path_text(test.path)}"
    if test.op in _ORDERINGS:
        key, _ = index_key(test.value)
        assert key is not None  # null is not ordered
        first, last = key[:1], bytes([key[0] + 1])
        # A longer value that was cut has the same key, or a smaller one.
        first, last = (first, escaped(key) + ABOVE) if test.op in _UPPER else (escaped(key), last)
        return Option((Part(f"y:{name}", first=first, last=last),), None, is_ordered=False)
    keys = dict.fromkeys(index_key(value) for value in _values(test))
    found = [escaped(key) for key, _ in keys if key is not None]
    if not keys or len(found) < len(keys):
        return None
    answers = test if all(exact for _, exact in keys) else None
    in_order = tuple(Part(f"y:{name}", key) for key in found)
    return Option(in_order, answers, by_update=tuple(Part(f"x:{name}", key) for key in found))


def _of_time(test: Test, kind: str) -> Option | None:
    if not isinstance(test.value, datetime) or test.op not in (*_ORDERINGS, "$eq"):
        return None
    place = time_text(micros(test.value)).encode()
    first = place if test.op not in _UPPER else b""
    last = place + ABOVE if test.op in (*_UPPER, "$eq") else ABOVE
    return Option((Part(f"{_TIMES[test.path]}:{kind}", first=first, last=last),), None, is_ordered=False)


def _values(test: Test) -> list[Any]:
    if test.op == "$eq":
        return [test.value]
    return [*test.value] if test.op == "$in" and len(test.value) <= _MOST_VALUES else []


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def base_part(course: Course, condition: Condition, kind: str | None) -> Part:
    """All records of a type (or of any) in the order of *course*, or those within bounds that the filter sets to it."""
    letter, path = course.set_letter, course.order.path
    first, last = b"", ABOVE
    for test in conjuncts(condition):
        if isinstance(test, Test) and test.path == path and test.op in _ORDERINGS:
            bound = _bound(test)
            if bound is not None and test.op in _UPPER:
                last = min(last, bound + ABOVE)
            elif bound is not None:
                first = max(first, bound)
    if kind is None:
        return Part("i", first=first, last=last)
    name = f"{letter}:{kind}" if letter else f"y:{kind}:{path_text(path)}"
    return Part(name, first=first, last=last)


def needs_value(condition: Condition, path: Path) -> bool:
    """Whether nothing matches that has no value at *path*."""
    return any(
        isinstance(test, Test) and test.path == path and test.op in (*_ORDERINGS, "$eq") and test.value is not None
        for test in conjuncts(condition)
    )


def _bound(test: Test) -> bytes | None:
    if test.path == ("id",):
        return test.value.encode() if _is_text(test.value) else None
    if test.path in _TIMES:
        return time_text(micros(test.value)).encode() if isinstance(test.value, datetime) else None
    key, _ = index_key(test.value)
    return None if key is None else escaped(key)
