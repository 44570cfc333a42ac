"""Reading scoped sessions: documents, the states of all levels, and a part of the history, which belong together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar

from session_adapter.entries import history_of
from session_adapter.event_deltas import changes_state
from session_adapter.event_models import shown_events
from session_adapter.events import Events
from session_adapter.identity import SESSION, SessionKey, UserKey, record_id, user_scope, visible_id
from session_adapter.levels import State, shown_levels
from session_adapter.models import Event
from session_adapter.reading import ATTEMPTS, BATCH
from session_adapter.session import Session
from session_adapter.states import place_of_app, place_of_user, state_in
from session_adapter.timestamps import Zone
from session_adapter.typed import shown_session
from unified_storage.arguments import check_count, check_switch
from unified_storage.errors import StorageIntegrityError
from unified_storage.filters import And, Condition, Test
from unified_storage.interface import IUnifiedStorage, Page, Record, Records
from unified_storage.paths import COLUMNS
from unified_storage.record import checked_time
from unified_storage.transactions import is_transaction

_TRIES = 3
_ALL = 1 << 40
"""More sessions than a page is asked for where no limit is set."""

Flat = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a history that is wanted: of the events since a time the newest, oldest first.

    Attributes:
        last: how many at most; None for all, 0 for none.
        since: an aware time, itself included.
        turn_safe: so many more that no call is cut off from its result.
        before: a number; only events with a lower one. For turn-safe windows alone.
    """

    last: int | None = None
    since: datetime | None = None
    turn_safe: bool = False
    before: int | None = None

    @classmethod
    def of(cls, event_num: int | None, event_time: datetime | None, turn_safe: bool) -> Window:
        """Raises ``StorageValidationError`` for a negative number or a naive time."""
        check_count("event_num", event_num)
        checked_time(event_time, "event_time")
        check_switch("turn_safe", turn_safe)
        return cls(event_num, event_time, turn_safe)


NO_EVENTS = Window(last=0)


class SessionPage(Page):
    """A page of sessions, and the cursor of the next one (None on the last)."""

    items: list[Session]  # type: ignore[assignment]  # pages of a storage hold records


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A session as it was read.

    Attributes:
        states: of its user and of the app.
        history: a part of its log, oldest first.
    """

    record: Record
    states: tuple[State, State]
    history: list[T]


History = Callable[[IUnifiedStorage], Awaitable[list[T]]]


class ScopedReading:
    """Scoped sessions as they are read from a storage, or inside one transaction of it."""

    def __init__(self, storage: IUnifiedStorage, zone: Zone) -> None:
        self._storage = storage
        self._zone = zone
        self._events = Events(storage, zone)

    async def session(self, key: SessionKey, window: Window) -> Session | None:
        """A copy of the session with its merged state and the events of *window*; None when there is none."""

        async def events(storage: IUnifiedStorage) -> list[Event]:
            return shown_events(await _window(Events(storage, self._zone), key, window))

        found = await self.found(key, events, changes_state)
        return None if found is None else self._shown(found.record, found.states, found.history)

    async def found(self, key: SessionKey, history: History[T], changes: Callable[[T], bool]) -> Found[T] | None:
        """The session, its states and what *history* reads of its log, which belong together; None without a session.

        Args:
            changes: whether an element of the history has changed a state: only such a one can contradict a state
                that was read before it.
        """
        for _ in range(_TRIES):
            record, states = await self._records(key)
            if record is None:
                return None
            found = Found(record, states, await history(self._storage))
            if await self._stands(record, any(map(changes, found.history))):
                return found
        # It never held still: now it has to.
        return await self._storage.atomically(
            lambda tx: ScopedReading(tx, self._zone).found(key, history, changes), attempts=ATTEMPTS
        )

    async def _records(self, key: SessionKey) -> tuple[Record | None, tuple[State, State]]:
        """The session's record, and the states of its user and of the app: in one query where they lie together."""
        named = _records_of(key)
        found = {(record["id"], record["type"]): record for record in await self._storage.list(named.filter)}
        return found.get(named.session), (state_in(found.get(named.user)), state_in(found.get(named.app)))

    async def _stands(self, record: Record, has_changes: bool) -> bool:
        """Whether the history just read, with changes of the state or without, belongs to the state read before it.

        Only an event that changes the state can contradict it; every append moves the record.
        """
        if not has_changes or is_transaction(self._storage):
            return True
        heads = await self._storage.list(_filter([record["id"]], [SESSION]), with_data=False)
        return [_moment(head) for head in heads] == [_moment(record)]

    def _shown(self, record: Record, states: tuple[State, State], events: Sequence[Event]) -> Session:
        return shown_session(record, zone=self._zone, events=events, levels=shown_levels(*states))

    # lists

    async def page(self, user: UserKey, *, with_events: bool, limit: int | None, cursor: str | None) -> SessionPage:
        """A user's sessions, the one changed last first: a query for the page, one for states, one for histories."""
        check_switch("with_events", with_events)
        check_count("limit", limit)
        wanted = {"type": SESSION, "metadata.scope": user_scope(user)}
        page = await self._storage.page(wanted, limit=_ALL if limit is None else limit, cursor=cursor)
        records = page.items
        if not records:
            return SessionPage([], page.next_cursor)
        states = await self.states(user)
        histories = await self._histories(records) if with_events else {}
        shown: list[Any] = [self._shown(record, states, histories.get(record["id"], [])) for record in records]
        if with_events:
            shown = await self._settled(records, shown)
        return SessionPage(shown, page.next_cursor)

    async def states(self, user: UserKey) -> tuple[State, State]:
        """The states of a user and of the app."""
        of_user, of_app = place_of_user(user), place_of_app(user.app_name)
        records = await self._storage.list(_filter([of_user.id, of_app.id], [of_user.type, of_app.type]))
        found = {(record["id"], record["type"]): record for record in records}
        return state_in(found.get(of_user.key)), state_in(found.get(of_app.key))

    async def _histories(self, records: Records) -> dict[str, list[Event]]:
        logs = {record["id"]: history_of(record["id"]) for record in records}
        found = await self._storage.read_many([*logs.values()])
        return {stored_id: shown_events(self._events.shown(found[log])) for stored_id, log in logs.items()}

    async def _settled(self, records: Sequence[Record], shown: Sequence[Session]) -> list[Session]:
        """*shown*, with those read again that an event changed while their histories were read."""
        doubtful = [
            record["id"]
            for record, session in zip(records, shown, strict=True)
            if any(map(changes_state, session.events))
        ]
        now: dict[str, Any] = {}
        for start in range(0, len(doubtful), BATCH):
            heads = await self._storage.list(_filter(doubtful[start : start + BATCH], [SESSION]), with_data=False)
            now |= {head["id"]: _moment(head) for head in heads}
        found: list[Session | None] = []
        for record, session in zip(records, shown, strict=True):
            stands = record["id"] not in doubtful or now.get(record["id"]) == _moment(record)
            found.append(session if stands else await self.session(_key_of(record), Window()))
        return [session for session in found if session is not None]


async def _window(events: Events, key: SessionKey, window: Window) -> list[Flat]:
    if window.last == 0:
        return []
    if not window.turn_safe:
        return await events.read(key, last=window.last, since=window.since)
    from session_adapter.windows import safe_window  # here: few ask for it

    found: list[Flat] = await safe_window(events, key, last=window.last, since=window.since, before=window.before)
    return found


@dataclass(frozen=True, slots=True)
class _Named:
    """What is read of a session: the keys of its record and of the states it shows, and the filter that names them."""

    session: tuple[str, str]
    user: tuple[str, str]
    app: tuple[str, str]
    filter: Condition


@lru_cache(maxsize=1024)  # a session is seldom read once
def _records_of(key: SessionKey) -> _Named:
    user, app = place_of_user(key.user), place_of_app(key.app_name)
    stored_id = record_id(key)
    everything = _filter([stored_id, user.id, app.id], [SESSION, user.type, app.type])
    return _Named((stored_id, SESSION), user.key, app.key, everything)


def _filter(ids: Sequence[str], types: Sequence[str]) -> Condition:
    """The filter of the records that have one of *ids* and one of *types*, as it is once it is parsed."""
    return And((Test(("id",), "$in", tuple(ids)), Test(("type",), "$in", tuple(types))))


def _key_of(record: Record) -> SessionKey:
    key = visible_id(record)
    if isinstance(key, SessionKey):
        return key
    raise StorageIntegrityError(f"the record {record['id']!r} is no scoped session's", details={"id": record["id"]})


def _moment(head: Record) -> tuple[Any, ...]:
    """What moves with every change; the version alone counts anew where a session is deleted and made again."""
    return tuple(head[name] for name in COLUMNS)
