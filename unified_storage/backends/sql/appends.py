"""Appends that wait while others are under way are sent together, in one statement, and end each by itself.

What is unusual about an append (a key that is there, an owner that is not, one that is locked) is found by that
statement and left undone: such an append goes the long way, step by step in a transaction of its own.
"""

from __future__ import annotations

import asyncio
import copy
import math
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from unified_storage.backends.sql.loops import forget_closed_loops
from unified_storage.backends.sql.store import Store
from unified_storage.errors import StorageError, StorageTimeoutError
from unified_storage.logs import EntryDraft, LogName
from unified_storage.placing import Append
from unified_storage.transactions import to_the_end

_MOST_TOGETHER = 128
_MOST_ENTRIES = 1000
_MOST_BYTES = 1 << 20
_SOON = 0.02
"""Seconds after which an append that was sent alone most likely waits for a lock: nobody else waits for it."""
_BESIDE_A_BODY = 64

T = TypeVar("T")
Numbers = list[int]
Line = TypeVar("Line", contravariant=True)
LongWay = Callable[[Append], Awaitable[Numbers]]


@dataclass(slots=True)
class Share:
    """What several appends add to one log."""

    name: LogName
    drafts: list[EntryDraft]
    appends: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a share."""

    before: int | None
    """The log's last number before it; None where nothing was done."""
    is_held_elsewhere: bool = False
    """Nothing was done because somebody else holds the owner, or there is none."""


class Finish(Protocol):
    """A block around what commits: what is lost in it has an outcome that nobody knows."""

    @property
    def timeout(self) -> float:
        """Seconds that the whole verb has."""

    @property
    def left(self) -> float:
        """Seconds that the block may take."""

    def __enter__(self) -> None: ...

    def __exit__(self, *error: Any) -> None: ...


Appending = Callable[[Any, Finish], Awaitable[T]]
"""What is done on a connection in a transaction of its own."""


class Appender(Protocol[Line]):
    """How an engine appends in as few round trips as it can, in a transaction of its own."""

    @property
    def most_under_way(self) -> int:
        """Statements of one event loop at once: while the server carries out one, we make another of the other owners.

        The fewer there are, the more goes with each.
        """

    async def alone(
        self, line: Line, name: LogName, draft: EntryDraft, expected: int | None, now: int, finish: Finish
    ) -> int | None:
        """Add one entry; its number, or None where it is unusual. May wait for an owner that is locked.

        Args:
            expected: the version that the owner has to have; None for whichever.
        """

    async def together(self, line: Line, shares: Sequence[Share], now: int, finish: Finish) -> list[Verdict]:
        """Add all shares that it can, waiting for no row that somebody else holds; what became of each.

        Raises:
            StorageConflictError: another writer was in the way, and nothing was done.
        """


@dataclass(slots=True, eq=False)
class _Waiting:
    """An append, and what became of it."""

    asked: Append
    size: int
    due: float
    """The loop's time at which it is given up where it still waits."""
    outcome: asyncio.Future[Numbers | None]
    """Its numbers; None where it has to go the long way. Done where the caller was cancelled."""
    flight: asyncio.Task[None] | None = None
    """What has it in hand."""
    leads: bool = False
    """It goes the long way to a locked owner; others wait for its end instead of waiting for the lock as well."""

    @property
    def owner(self) -> tuple[str, str]:
        return self.asked.name.owner_key

    @property
    def keys(self) -> list[tuple[str, str]]:
        log_id = self.asked.name.log_id
        return [(log_id, draft.key) for draft in self.asked.drafts if draft.key is not None]


@dataclass(slots=True, eq=False)
class _Lane:
    """The appends of one event loop."""

    most_under_way: int
    waiting: deque[_Waiting] = field(default_factory=deque)
    under_way: int = 0
    busy: set[tuple[str, str]] = field(default_factory=set)
    """The owners that somebody has in hand: a second statement would only find them locked."""
    flights: set[asyncio.Task[None]] = field(default_factory=set)
    alarm: asyncio.TimerHandle | None = None


class AtOnce(Protocol):
    """Carries out what is a transaction of its own; None where another writer was in its way."""

    async def __call__(self, appending: Appending[T]) -> T | None: ...


class Appends:
    """Appends to logs, those that come together together.

    Args:
        at_once: carries out what is a transaction of its own; None where another writer was in its way.
        timeout: seconds that an append has.
    """

    def __init__(self, store: Store, appender: Appender[Any], at_once: AtOnce, timeout: float) -> None:
        self._store = store
        self._appender = appender
        self._at_once = at_once
        self._timeout = timeout
        self._lanes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Lane] = weakref.WeakKeyDictionary()

    async def append(self, asked: Append, long_way: LongWay) -> Numbers:
        """Add the entries of *asked*; a cancelled caller finds them all there, or none of them and none to come."""
        if not _is_usual(asked):
            return await long_way(asked)
        lane = self._lane()
        loop = asyncio.get_running_loop()
        mine = _Waiting(asked, _size(asked), loop.time() + self._timeout, loop.create_future())
        try:
            numbers = await self._tried(lane, mine)
            return await long_way(asked) if numbers is None else numbers
        finally:
            if mine.leads:
                lane.busy.discard(mine.owner)
                self._start(lane)

    def _lane(self) -> _Lane:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            forget_closed_loops(self._lanes)
            lane = self._lanes[loop] = _Lane(self._appender.most_under_way)
        return lane

    async def _tried(self, lane: _Lane, mine: _Waiting) -> Numbers | None:
        is_free = lane.under_way < lane.most_under_way and mine.owner not in lane.busy
        if is_free and len(mine.asked.drafts) == 1:
            return await self._alone(lane, mine)
        if mine.asked.expected_version is not None:
            return None  # others that go with it would move the version
        lane.waiting.append(mine)
        self._watch(lane)
        if is_free:
            self._start(lane)
        return await self._with_others(lane, mine)

    # -- alone: in the caller's own task, at once --------------------------------------------------------------------

    async def _alone(self, lane: _Lane, mine: _Waiting) -> Numbers | None:
        lane.under_way += 1
        lane.busy.add(mine.owner)
        alarm = asyncio.get_running_loop().call_later(_SOON, self._waits_for_a_lock, lane, mine)
        try:
            asked, now = mine.asked, self._store.now()
            number = await self._at_once(
                lambda line, finish: self._appender.alone(
                    line, asked.name, asked.drafts[0], asked.expected_version, now, finish
                )
            )
            is_done = number is not None
        except BaseException:
            is_done = True
            raise
        finally:
            alarm.cancel()
            if not mine.leads:
                lane.under_way -= 1
            mine.leads = mine.leads or not is_done
            if not mine.leads:
                lane.busy.discard(mine.owner)
            self._start(lane)
        return None if number is None else [number]

    def _waits_for_a_lock(self, lane: _Lane, mine: _Waiting) -> None:
        mine.leads = True
        lane.under_way -= 1
        self._start(lane)

    # -- with others -------------------------------------------------------------------------------------------------

    async def _with_others(self, lane: _Lane, mine: _Waiting) -> Numbers | None:
        try:
            return await mine.outcome
        except asyncio.CancelledError:
            if mine.flight is not None:
                await to_the_end(asyncio.wait([mine.flight]))
            elif mine in lane.waiting:
                lane.waiting.remove(mine)
            raise

    def _watch(self, lane: _Lane) -> None:
        """See to it that nobody waits for longer than an append may take."""
        if lane.alarm is None and lane.waiting:
            lane.alarm = asyncio.get_running_loop().call_at(lane.waiting[0].due, self._tell_the_late, lane)

    def _tell_the_late(self, lane: _Lane) -> None:
        lane.alarm = None
        now = asyncio.get_running_loop().time()
        for each in [each for each in lane.waiting if each.due <= now]:
            lane.waiting.remove(each)
            if not each.outcome.done():
                each.outcome.set_exception(StorageTimeoutError("appends to the same record by others took too long"))
        self._watch(lane)

    def _start(self, lane: _Lane) -> None:
        """Send what waits, as far as statements may be under way."""
        while lane.waiting and lane.under_way < lane.most_under_way:
            taken = _taken(lane)
            if not taken:
                return
            lane.under_way += 1
            lane.busy.update(each.owner for each in taken)
            flight = asyncio.get_running_loop().create_task(self._fly(lane, taken))
            for each in taken:
                each.flight = flight
            lane.flights.add(flight)
            flight.add_done_callback(lane.flights.discard)

    async def _fly(self, lane: _Lane, taken: list[_Waiting]) -> None:
        try:
            await self._flown(lane, taken)
        except BaseException as error:
            for each in taken:
                if not each.outcome.done():
                    # each its own: whoever raises one adds to it
                    each.outcome.set_exception(copy.copy(error) if isinstance(error, StorageError) else error)
            if not isinstance(error, StorageError):
                raise
        finally:
            # A turn later: those whose appends are done may be about to append again, and go together once more.
            asyncio.get_running_loop().call_soon(self._land, lane, taken)

    def _land(self, lane: _Lane, taken: list[_Waiting]) -> None:
        lane.under_way -= 1
        lane.busy.difference_update({each.owner for each in taken} - {each.owner for each in taken if each.leads})
        self._start(lane)

    async def _flown(self, lane: _Lane, taken: list[_Waiting]) -> None:
        by_log: dict[str, list[_Waiting]] = {}
        for each in taken:
            by_log.setdefault(each.asked.name.log_id, []).append(each)
        shares = [
            Share(members[0].asked.name, [draft for each in members for draft in each.asked.drafts], len(members))
            for members in by_log.values()
        ]
        now = self._store.now()
        verdicts = await self._at_once(lambda line, finish: self._appender.together(line, shares, now, finish))
        verdicts = verdicts or [Verdict(None)] * len(shares)
        locked: dict[tuple[str, str], list[_Waiting]] = {}
        for members, verdict in zip(by_log.values(), verdicts, strict=True):
            if verdict.is_held_elsewhere:
                locked.setdefault(members[0].owner, []).extend(members)
            else:
                _settle(members, verdict.before)
        for members in locked.values():
            _wait_behind_one(lane, members)
        self._watch(lane)


def _is_usual(asked: Append) -> bool:
    if asked.rewrites or asked.keep_last is not None or not asked.drafts:
        return False
    if len(asked.drafts) > (_MOST_ENTRIES if asked.expected_version is None else 1):
        return False
    keys = [draft.key for draft in asked.drafts if draft.key is not None]
    return len({*keys}) == len(keys)


def _size(asked: Append) -> int:
    return sum(len(draft.body) + _BESIDE_A_BODY for draft in asked.drafts)


def _taken(lane: _Lane) -> list[_Waiting]:
    """What goes together now: of nobody's owner, no key of a log twice, and not too much of it."""
    taken: list[_Waiting] = []
    left: deque[_Waiting] = deque()
    owners: set[tuple[str, str]] = set()
    keys: set[tuple[str, str]] = set()
    size = entries = 0
    most_owners = _part_of(lane)
    while lane.waiting and len(taken) < _MOST_TOGETHER:
        each = lane.waiting.popleft()
        if each.outcome.done():  # cancelled a moment ago
            continue
        owner, its_keys = each.owner, each.keys
        is_in_turn = owner in owners or (len(owners) < most_owners and owner not in lane.busy)
        if not is_in_turn or not keys.isdisjoint(its_keys):
            left.append(each)
            continue
        is_too_much = size + each.size > _MOST_BYTES or entries + len(each.asked.drafts) > _MOST_ENTRIES
        if taken and is_too_much:
            left.append(each)
            break
        taken.append(each)
        owners.add(owner)
        keys.update(its_keys)
        size += each.size
        entries += len(each.asked.drafts)
    lane.waiting.extendleft(reversed(left))
    return taken


def _part_of(lane: _Lane) -> int:
    """The owners of one statement, at most: so many that all that may be under way have them all."""
    owners = {each.owner for each in lane.waiting}
    return math.ceil(len(owners | lane.busy) / lane.most_under_way)


def _settle(members: Sequence[_Waiting], before: int | None) -> None:
    """Give each its numbers, in order; None where nothing was done."""
    for each in members:
        count = len(each.asked.drafts)
        numbers = None if before is None else [*range(before + 1, before + count + 1)]
        before = None if before is None else before + count
        if not each.outcome.done():
            each.outcome.set_result(numbers)


def _wait_behind_one(lane: _Lane, members: Sequence[_Waiting]) -> None:
    """Have the first go the long way to an owner that is locked, and the others try again after it."""
    left = [each for each in members if not each.outcome.done()]
    for leader in left[:1]:
        leader.leads = True
        leader.outcome.set_result(None)
    for each in left[1:]:
        each.flight = None
    lane.waiting.extendleft(reversed(left[1:]))
