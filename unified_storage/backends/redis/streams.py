"""Candidates of a walk from one sorted set each, in the order of the walk, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from unified_storage.backends.redis.courses import ID, TIMED, Candidate, Course, Shape
from unified_storage.backends.redis.partitions import ABOVE, TIME_LENGTH, Layout
from unified_storage.backends.redis.scripts import BACKWARDS, LACKING
from unified_storage.backends.redis.store import Command, Store
from unified_storage.cursors import Cursor


@dataclass(frozen=True, slots=True)
class Range:
    """A part of one sorted set: members that begin with ``before``, between two bounds behind that.

    Args:
        type: the only one that is meant; empty for all in a set of every type.
    """

    layout: Layout
    partition: int
    name: str
    shape: Shape
    type: str
    before: bytes = b""
    first: bytes = b""
    last: bytes = ABOVE

    @property
    def key(self) -> bytes:
        return self.layout.key(self.partition, self.name)

    @property
    def lower(self) -> bytes:
        return b"[" + self.before + self.first

    @property
    def upper(self) -> bytes:
        return b"(" + self.before + self.last

    def candidates(self, course: Course, members: Iterable[bytes]) -> list[Candidate]:
        parts = (self.shape.parts(member, len(self.before), self.type) for member in members)
        # A set of every type is walked once for each type that is asked for: the others' records are theirs to give.
        return [course.candidate(place, id, kind) for place, id, kind in parts if not self.type or kind == self.type]

    def behind(self, course: Course, cursor: Cursor) -> bytes:
        """The bound below which nothing comes after *cursor* where the walk goes upwards."""
        id = cursor.id.encode()
        if self.shape.name == "id, type":
            return b"(" + self.before + id + b"\0" + cursor.type.encode()
        # At the same place and id, the types behind the cursor's own are still to come.
        sign = b"[" if self.type > cursor.type else b"("
        return sign + self.before + (id if self.shape.name == "id" else course.place_of(cursor) + id)


class Stream:
    """What has been read of a stream and not been taken yet, and whether there is more."""

    def __init__(self) -> None:
        self.ready: deque[Candidate] = deque()
        self.is_done = False

    def command(self, count: int) -> Command:
        """The command that asks for about *count* more; its answer is for :meth:`accept`."""
        raise NotImplementedError

    def accept(self, answer: Any, count: int) -> None:
        raise NotImplementedError


class Ready(Stream):
    """Candidates that are known."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        super().__init__()
        self.ready.extend(sorted(candidates, key=lambda candidate: candidate.spot))
        self.is_done = True


class Upwards(Stream):
    """A range in its own order."""

    def __init__(self, course: Course, part: Range, cursor: Cursor | None) -> None:
        super().__init__()
        self._course = course
        self._range = part
        lower = part.lower
        if cursor is not None:
            lower = max(lower, part.behind(course, cursor), key=lambda bound: (bound[1:], bound[:1] == b"("))
        self._lower = lower

    def command(self, count: int) -> Command:
        return ("ZRANGE", self._range.key, self._lower, self._range.upper, "BYLEX", "LIMIT", 0, count)

    def accept(self, answer: Sequence[bytes], count: int) -> None:
        self.ready.extend(self._range.candidates(self._course, answer))
        self.is_done = len(answer) < count
        if answer:
            self._lower = b"(" + answer[-1]


class Downwards(Stream):
    """A range from its end, in which ties nevertheless go upwards by id.

    The server gives members backwards, with them the ties. A tie of which the end was not seen is read again in its
    own order, as much of it as is wanted: by the server itself where the length of a place is known.
    """

    def __init__(self, course: Course, part: Range, cursor: Cursor | None) -> None:
        super().__init__()
        self._course = course
        self._range = part
        self._has_ties = part.shape is not ID
        self._is_timed = part.shape is TIMED
        self._upper = part.upper
        self._tie: bytes | None = None
        """The bound behind which the rest of a tie is still to be read."""
        self._place = b""
        if cursor is None:
            return
        if self._has_ties:
            self._tie, self._place = part.behind(course, cursor), course.place_of(cursor)
        else:
            self._upper = min(part.upper, part.behind(course, cursor), key=lambda bound: (bound[1:], bound[:1] != b"("))

    def command(self, count: int) -> Command:
        part = self._range
        if self._tie is not None:
            end = b"(" + part.before + self._place + ABOVE
            return ("ZRANGE", part.key, self._tie, end, "BYLEX", "LIMIT", 0, count)
        if self._is_timed:
            bytes_of_place = len(part.before) + TIME_LENGTH
            asked = (part.name, self._upper, part.lower, count, bytes_of_place)
            return BACKWARDS.reading(part.layout.script_keys(part.partition), asked)
        # One more, which tells whether the last tie has ended.
        return ("ZRANGE", part.key, self._upper, part.lower, "BYLEX", "REV", "LIMIT", 0, count + 1)

    def accept(self, answer: Sequence[Any], count: int) -> None:
        if self._tie is not None:
            self._accept_tie(answer, count)
        elif self._is_timed:
            backwards, tie = answer
            self._accept_ties(backwards, count)
            if tie:
                self._tie = b"[" + self._range.before + self._place
                self._accept_tie(tie, count)
        elif self._has_ties:
            self._accept_ties(answer, count)
        else:
            self.ready.extend(self._range.candidates(self._course, answer))
            self.is_done = len(answer) <= count
            self._upper = b"(" + answer[-1] if answer else self._upper

    def _accept_tie(self, answer: Sequence[bytes], count: int) -> None:
        self.ready.extend(self._range.candidates(self._course, answer))
        if len(answer) == count:
            self._tie = b"(" + answer[-1]
            return
        self._tie = None
        self._upper = min(self._upper, b"(" + self._range.before + self._place)

    def _accept_ties(self, answer: Sequence[bytes], count: int) -> None:
        found, is_end = self._range.candidates(self._course, answer), len(answer) <= count
        ties = [[*tie] for _, tie in groupby(found, key=lambda candidate: candidate.found_at)]
        unfinished = [] if is_end else ties.pop()
        for tie in ties:
            self.ready.extend(reversed(tie))
        self.is_done = is_end
        if unfinished:
            self._place = unfinished[0].found_at
            place = self._range.before + self._place
            if ties:
                self._upper = b"(" + place + ABOVE
            else:
                self._tie = b"[" + place


class Lacking(Stream):
    """The records of a type that have no value at an indexed path, by id: every record is looked at."""

    def __init__(
        self, course: Course, store: Store, partition: int, kind: str, path: str, cursor: Cursor | None
    ) -> None:
        super().__init__()
        self._course = course
        self._store = store
        self._partition = partition
        self._kind = kind
        self._path = path.encode("utf-8", "surrogatepass")
        self._lower = b"-"
        if cursor is not None and not cursor.key:
            self._lower = (b"[" if kind > cursor.type else b"(") + cursor.id.encode()

    def command(self, count: int) -> Command:
        return self._store.reading(LACKING, self._partition, self._kind, self._path, self._lower, "+", _LOOKED_AT)

    def accept(self, answer: Sequence[bytes], count: int) -> None:
        last, *ids = answer
        self.ready.extend(self._course.candidate(b"", id, self._kind) for id in ids)
        self.is_done = not last
        self._lower = b"(" + last


_LOOKED_AT = 1000
