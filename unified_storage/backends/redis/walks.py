"""Walking through the records of a store in an order: sorted sets of many partitions merged, then looked at."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from unified_storage.backends.redis.courses import Candidate, Spot
from unified_storage.backends.redis.rows import Key, Row, Stamp
from unified_storage.backends.redis.store import Store
from unified_storage.backends.redis.streams import Stream
from unified_storage.filters import And, Condition, Not, Or, Test, matches, visible
from unified_storage.interface import Record

_LOOKED_AT = 500
_LOOKED_AT_WITH_DATA = 100


@dataclass(frozen=True, slots=True)
class Found:
    """A record that matches, and where the walk came by it."""

    candidate: Candidate
    stamp: Stamp
    record: Record
    """Ours to hand out."""

    @property
    def key(self) -> Key:
        return self.candidate.key


def mentions_data(condition: Condition) -> bool:
    match condition:
        case Test(path):
            return path[0] == "data"
        case Not(part):
            return mentions_data(part)
        case And(parts) | Or(parts):
            return any(map(mentions_data, parts))


class Filter:
    """Which of the candidates match, and what has to be read of them to tell.

    Args:
        left: what the sorted sets did not answer; *condition* itself where they answered nothing.
    """

    def __init__(self, condition: Condition, left: Condition, *, with_data: bool) -> None:
        self._condition = condition
        self._with_data = with_data
        # Where the document is read anyway, the whole is compared again: it may have changed on the way.
        self._compared = left if mentions_data(condition) and not with_data else condition
        self.needs_data = with_data or mentions_data(self._compared)
        self.is_answered = left == And(())
        self._shown: dict[str, bool] = {}

    def record(self, row: Row) -> Record | None:
        """The record to hand out, or None when it does not match."""
        record = row.handed_out(self.needs_data)
        if not self.may_show(row.type) or not matches(self._compared, record):
            return None
        if not self._with_data:
            record.pop("data", None)
        return record

    def without_help(self) -> Filter:
        """The same for records that no sorted set has answered for."""
        return Filter(self._condition, self._condition, with_data=self._with_data)

    def may_show(self, kind: str) -> bool:
        shown = self._shown.get(kind)
        if shown is None:
            shown = self._shown[kind] = visible(self._condition, kind)
        return shown


class Walk:
    """Matching living records in order, a few at a time.

    Args:
        segments: one after the other; the streams of one are merged.
    """

    def __init__(self, store: Store, segments: Sequence[Sequence[Stream]], wanted: Filter) -> None:
        self.filter = wanted
        self._store = store
        self._segments = deque([[*streams] for streams in segments])
        self._waiting: deque[Candidate] = deque()
        """Come by, and not looked at yet."""
        self._rows: dict[Key, Row | None] = {}
        """Some of those, read."""

    async def next(self, count: int, without: Container[Key] = ()) -> list[Found]:
        """The next *count*; fewer only at the end.

        Args:
            without: records that are left out unread.
        """
        found: list[Found] = []
        now = self._store.now()
        while len(found) < count and (self._waiting or await self._go_further(count - len(found))):
            candidate = self._waiting[0]
            key = candidate.key
            if key in without or not self.filter.may_show(key[1]):
                self._waiting.popleft()
                continue
            if key not in self._rows:
                await self._read(without)
            self._waiting.popleft()
            row = self._rows.pop(key)
            if row is not None and row.lives(now) and (record := self.filter.record(row)) is not None:
                found.append(Found(candidate, row.stamp, record))
        return found

    async def _go_further(self, count: int) -> bool:
        """Come by some more candidates; whether there were any."""
        most = _LOOKED_AT_WITH_DATA if self.filter.needs_data else _LOOKED_AT
        self._waiting.extend(await self._candidates(min(count, most) if self.filter.is_answered else most))
        return bool(self._waiting)

    async def _read(self, without: Container[Key]) -> None:
        """Read those that wait, or as many of them as may be held at once."""
        unread = [each.key for each in self._waiting if each.key not in self._rows and each.key not in without]
        wanted = [key for key in unread if self.filter.may_show(key[1])]
        self._rows |= await self._store.some_rows(wanted, with_data=self.filter.needs_data)

    async def _candidates(self, count: int) -> list[Candidate]:
        """Up to *count* candidates in order; none at the end."""
        taken: list[Candidate] = []
        while self._segments and len(taken) < count:
            streams = self._segments[0]
            if any(not stream.ready and not stream.is_done for stream in streams):
                await self._refill(streams, count - len(taken))
            elif any(stream.ready for stream in streams):
                _merge(streams, taken, count)
            else:
                self._segments.popleft()
        return taken

    async def _refill(self, streams: Sequence[Stream], count: int) -> None:
        # Of many streams each has a part of what is wanted; those that will soon be empty are asked as well.
        share = count if len(streams) == 1 else max(4, 2 * count // len(streams) + 1)
        asked = [stream for stream in streams if not stream.is_done and len(stream.ready) <= share // 2]
        answers = await self._store.ask([stream.command(share) for stream in asked])
        for stream, answer in zip(asked, answers, strict=True):
            stream.accept(answer, share)


def _merge(streams: Sequence[Stream], taken: list[Candidate], count: int) -> None:
    """Take candidates in order, until there are *count* or a stream has to be asked first."""
    heap = [(stream.ready[0].spot, place) for place, stream in enumerate(streams) if stream.ready]
    heapify(heap)
    while heap and len(taken) < count:
        _, place = heappop(heap)
        stream = streams[place]
        taken.append(stream.ready.popleft())
        if stream.ready:
            heappush(heap, (stream.ready[0].spot, place))
        elif not stream.is_done:
            return


class Overlaid:
    """A walk through what a transaction sees: stored records that it has not written, and those that it has.

    Args:
        walk: through what is stored.
        written: gives the written records that match, in order; asked each time, since more may come.
        keys: of every record that was written, whether it matches or not.
        last: the spot behind which the walk began.
    """

    def __init__(
        self, walk: Walk, written: Callable[[], Awaitable[list[Found]]], keys: Container[Key], last: Spot | None
    ) -> None:
        self._walk = walk
        self._written = written
        self._keys = keys
        self._last = last
        self._stored: deque[Found] = deque()

    async def next(self, count: int) -> list[Found]:
        """The next *count*; fewer only at the end."""
        written = deque(
            each for each in await self._written() if self._last is None or each.candidate.spot > self._last
        )
        found: list[Found] = []
        while len(found) < count:
            while self._stored and self._stored[0].key in self._keys:
                self._stored.popleft()
            if not self._stored:
                self._stored.extend(await self._walk.next(count - len(found), self._keys))
            sources = [source for source in (self._stored, written) if source]
            if not sources:
                break
            found.append(min(sources, key=lambda source: source[0].candidate.spot).popleft())
            self._last = found[-1].candidate.spot
        return found
