"""Lists, pages and counts: which sorted sets are walked, and how far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from unified_storage.backends.redis.client import Script
from unified_storage.backends.redis.courses import BY_ID, Candidate, Course
from unified_storage.backends.redis.partitions import ABOVE, time_text
from unified_storage.backends.redis.rows import Key
from unified_storage.backends.redis.scripts import COUNT, COUNT_ON
from unified_storage.backends.redis.selection import (
    Option,
    Part,
    base_part,
    left_over,
    named_ids,
    needs_value,
    options,
    pinned_types,
    ranges,
)
from unified_storage.backends.redis.store import Command, Store
from unified_storage.backends.redis.streams import Downwards, Lacking, Range, Ready, Stream, Upwards
from unified_storage.backends.redis.walks import Filter, Walk
from unified_storage.cursors import Cursor
from unified_storage.filters import And, Condition, named_types, path_text
from unified_storage.ordering import Order
from unified_storage.record import is_system

_FEW = 10_000
"""Up to so many candidates are sorted here; beyond, a walk goes through all records in order."""
_ASKED_AT_ONCE = 1000
_MOST_EXPIRED = 2000
"""So many that nobody has purged are left out of a count one by one; beside more the living ones are looked at."""
_ANY_TYPE = "\x7f"
"""Above every type."""


def behind(start: str | tuple[str, str] | None) -> Cursor | None:
    """The cursor of a walk by identity that goes on behind an id (behind all its types) or behind a record."""
    if start is None:
        return None
    id, kind = (start, _ANY_TYPE) if isinstance(start, str) else start
    return Cursor(id, id, kind)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the matches of one type (or of any) are found."""

    segments: tuple[Sequence[Stream], Sequence[Stream]]
    left: Condition


async def walk(
    store: Store, condition: Condition, order: Order, cursor: Cursor | None, wanted: int | None, *, with_data: bool
) -> Walk:
    """The matching living records behind *cursor*.

    Args:
        wanted: how many will be asked for; None for all.
    """
    planner = _Planner(store, condition, Course(order), cursor, wanted)
    kinds: Sequence[str | None] | None = pinned_types(condition)
    if (ids := named_ids(condition)) is not None:
        plans = [await planner.of_ids(ids, pinned_types(condition))]
    else:
        if kinds is None:
            kinds = [None] if order == BY_ID else await visible_types(store, condition)
        plans = [await planner.of_type(kind) for kind in kinds]
    left = plans[0].left if len(plans) == 1 else condition
    segments = [[stream for plan in plans for stream in plan.segments[number]] for number in (0, 1)]
    return Walk(store, segments, Filter(condition, left, with_data=with_data))


async def visible_types(store: Store, condition: Condition) -> list[str]:
    """The types that there ever were and that a listing by *condition* may show."""
    layout, named = store.layout, named_types(condition)
    answers = await store.ask([("SMEMBERS", layout.key(partition, "t")) for partition in range(layout.partitions)])
    kinds = {member.decode() for answer in answers for member in answer}
    return sorted(kind for kind in kinds if not is_system(kind) or kind in named)


class _Planner:
    """Chooses, for one walk, which sorted sets it goes through."""

    def __init__(
        self, store: Store, condition: Condition, course: Course, cursor: Cursor | None, wanted: int | None
    ) -> None:
        self._store = store
        self._condition = condition
        self._course = course
        self._cursor = cursor
        self._wanted = wanted

    async def of_type(self, kind: str | None) -> Plan:
        paths = self._store.paths.of(kind) if kind is not None else {}
        chosen = await self._chosen(kind, [*options(self._condition, kind, paths)])
        if chosen is None:
            return await self._of_all(kind)
        left = left_over(self._condition, chosen.answers, kind if chosen.is_typed else None)
        parts = chosen.fits(self._course)
        if parts is not None:
            return Plan(self._in_order(self._streams(parts, kind)), left)
        members = await self._gathered(ranges(self._store.layout, chosen.parts, kind or ""))
        return Plan(await self._sorted(members), left)

    async def _chosen(self, kind: str | None, found: list[Option]) -> Option | None:
        """The option that leads to the matches with the least to look at; None: all records are looked at."""
        fitting = [option for option in found if option.fits(self._course)]
        if not found or found == fitting[:1]:
            return found[0] if found else None
        counts, everything = await self._counts(kind, found)
        best = min(found, key=counts.__getitem__)
        if best in fitting or self._is_worth_sorting(counts[best], everything):
            return best
        return min(fitting, key=counts.__getitem__, default=None)

    async def _counts(self, kind: str | None, found: list[Option]) -> tuple[dict[Option, int], int]:
        """How many candidates each option has, and how many records there are."""
        layout = self._store.layout
        everything = Part("i" if kind is None else f"i:{kind}")
        asked = [ranges(layout, parts, kind or "") for parts in ((everything,), *(option.parts for option in found))]
        commands = [("ZLEXCOUNT", part.key, part.lower, part.upper) for each in asked for part in each]
        answers = iter(await self._store.ask(commands))
        total, *counts = [sum(next(answers) for _ in each) for each in asked]
        return dict(zip(found, counts, strict=True)), total

    def _is_worth_sorting(self, count: int, everything: int) -> bool:
        if count > _FEW:
            return False
        # A walk through everything looks at about `everything / count` records for each that it wants.
        return self._course.set_letter == "i" or self._wanted is None or count * count <= self._wanted * everything

    # -- all records ---------------------------------------------------------------------------------------------

    async def _of_all(self, kind: str | None) -> Plan:
        course = self._course
        left = left_over(self._condition, None, kind)
        if course.set_letter is None and (kind is None or not self._store.paths.of(kind).get(course.order.path)):
            everything = ranges(self._store.layout, (Part(f"i:{kind}"),), kind or "")
            return Plan(await self._sorted(await self._gathered(everything)), left)
        streams = self._streams((base_part(course, self._condition, kind),), kind)
        if course.set_letter is not None or kind is None:
            return Plan(self._in_order(streams), left)
        return Plan(self._with_those_without(streams, kind), left)

    def _streams(self, parts: Sequence[Part], kind: str | None) -> list[Stream]:
        stream = Downwards if self._course.descending else Upwards
        cursor = self._cursor if self._cursor is None or self._cursor.key != b"" else None
        found = ranges(self._store.layout, parts, kind or "")
        return [stream(self._course, part, cursor) for part in found]

    def _in_order(self, streams: Sequence[Stream]) -> tuple[Sequence[Stream], Sequence[Stream]]:
        return (streams, ())

    def _with_those_without(self, keyed: list[Stream], kind: str) -> tuple[Sequence[Stream], Sequence[Stream]]:
        """Records that have no value at an indexed path come before all others, or after them."""
        path, cursor = self._course.order.path, self._cursor
        without: list[Stream] = []
        if not needs_value(self._condition, path):
            partitions = range(self._store.layout.partitions)
            text = path_text(path)
            without = [Lacking(self._course, self._store, number, kind, text, cursor) for number in partitions]
        if self._course.descending:
            return (keyed if cursor is None or cursor.key != b"" else (), without)
        return (without if cursor is None or cursor.key == b"" else (), keyed)

    # -- candidates that are sorted here -------------------------------------------------------------------------

    async def _gathered(self, parts: Iterable[Range]) -> list[Key]:
        """The records of all members of some ranges."""
        keys: dict[Key, None] = {}
        waiting = [(part, part.lower) for part in parts]
        while waiting:
            commands = [
                ("ZRANGE", part.key, lower, part.upper, "BYLEX", "LIMIT", 0, _ASKED_AT_ONCE) for part, lower in waiting
            ]
            answers = await self._store.ask(commands)
            further = []
            for (part, _), answer in zip(waiting, answers, strict=True):
                keys.update(dict.fromkeys(candidate.key for candidate in part.candidates(Course(BY_ID), answer)))
                if len(answer) == _ASKED_AT_ONCE:
                    further.append((part, b"(" + answer[-1]))
            waiting = further
        return [*keys]

    async def _sorted(self, keys: list[Key]) -> tuple[Sequence[Stream], Sequence[Stream]]:
        """Streams of the records behind the cursor, by segment."""
        course = self._course
        found = self._by_id(keys) if course.set_letter == "i" else await self._by_place(keys)
        last = None if self._cursor is None else course.spot_of(self._cursor)
        behind = [candidate for candidate in found if last is None or candidate.spot > last]
        first, second = ([each for each in behind if each.spot.segment == number] for number in (0, 1))
        return ([Ready(first)], [Ready(second)])

    def _by_id(self, keys: Iterable[Key]) -> list[Candidate]:
        encoded = ((id.encode(), kind) for id, kind in keys)
        return [self._course.candidate(id, id, kind) for id, kind in encoded]

    async def _by_place(self, keys: list[Key]) -> list[Candidate]:
        found: list[Candidate] = []
        with_data = self._course.order.path[0] == "data"
        start = 0
        while start < len(keys):
            asked = keys[start : start + _ASKED_AT_ONCE]
            rows = await self._store.some_rows(asked, with_data=with_data)
            asked = [*takewhile(rows.__contains__, asked)]
            start += len(asked)
            for row in filter(None, map(rows.get, asked)):
                place = self._course.place(row.handed_out(with_data))
                found.append(self._course.candidate(place, row.id.encode(), row.type))
        return found

    async def of_ids(self, ids: list[str], kinds: Sequence[str] | None) -> Plan:
        """The records of ids that the filter names."""
        if kinds is not None:
            return Plan(await self._sorted([(id, kind) for id in ids for kind in kinds]), self._condition)
        keys: list[Key] = []
        for start in range(0, len(ids), _ASKED_AT_ONCE):
            keys += await self._of_any_type(ids[start : start + _ASKED_AT_ONCE])
        return Plan(await self._sorted(keys), self._condition)

    async def _of_any_type(self, ids: Sequence[str]) -> list[Key]:
        befores = [id.encode() + b"\0" for id in ids]
        commands = [
            ("ZRANGE", self._store.layout.beside(id, "i"), b"[" + before, b"(" + before + ABOVE, "BYLEX")
            for id, before in zip(ids, befores, strict=True)
        ]
        answers = await self._store.ask(commands)
        return [
            (id, member[len(before) :].decode())
            for id, before, answer in zip(ids, befores, answers, strict=True)
            for member in answer
        ]


# -- counting ----------------------------------------------------------------------------------------------------


async def count(store: Store, condition: Condition) -> int:
    """How many living records match: by counting members where that says it, else by looking at each."""
    kinds = pinned_types(condition)
    if kinds is None:
        kinds = await visible_types(store, condition)
    parts = [(kind, _counted(store, condition, kind)) for kind in kinds]
    if all(part is not None for _, part in parts):
        return await _members(store, [(kind, part) for kind, part in parts if part is not None])
    found = await walk(store, condition, BY_ID, None, None, with_data=False)
    total = 0
    while batch := await found.next(_ASKED_AT_ONCE):
        total += len(batch)
    return total


def _counted(store: Store, condition: Condition, kind: str) -> Part | None:
    """A set whose members are exactly the matching records of a type, and those whose time is over."""
    if left_over(condition, None, kind) == And(()):
        return Part(f"i:{kind}")
    for option in options(condition, kind, store.paths.of(kind)):
        exact = option.answers is not None and left_over(condition, option.answers, kind) == And(())
        if exact and option.is_typed and len(option.parts) == 1:
            return option.parts[0]
    return None


async def _members(store: Store, parts: Sequence[tuple[str, Part]]) -> int:
    now, total = time_text(store.now()), 0

    def counting(script: Script, part: Range, name: str, lower: bytes, most: int) -> Command:
        return store.reading(script, part.partition, name, lower, part.upper, now, part.before, part.type, most)

    left = [(part, each.set_name) for kind, each in parts for part in ranges(store.layout, (each,), kind)]
    answers = await store.ask([counting(COUNT, part, name, part.lower, _MOST_EXPIRED) for part, name in left])
    while left:
        total += sum(count for count, _ in answers)
        further = [(*each, lower) for each, (_, lower) in zip(left, answers, strict=True) if lower is not None]
        answers = await store.ask(
            [counting(COUNT_ON, part, name, lower, _ASKED_AT_ONCE) for part, name, lower in further]
        )
        left = [(part, name) for part, name, _ in further]
    return total
