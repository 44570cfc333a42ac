"""Scoped sessions in a Redis laid out by hand; it is only read.

``appdata:{app}`` and ``userdata:{app}:{user}`` are hashes of state, ``session:{app}:{user}`` is one of a user's
sessions (id -> JSON), ``events:{app}:{user}:{session}`` a sorted set of events' JSON by time. The parts of a key are
joined as they are, so a ``:`` in one of them leaves it open which is which. Then the session's JSON has to tell;
what stays open is quarantined, and nothing is guessed.

Values of state are text where they are UTF-8, else bytes; a text that looks like JSON stays a text. A session expires
with the hash that it stands in, whatever its events do.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from legacy.stores.file_reading import FileRefused, parse
from legacy.stores.parcels import IGNORED, QUARANTINED, Item
from legacy.stores.peers.kinds import (
    APP_STATE,
    USER_STATE,
    AppKey,
    Found,
    Key,
    Opening,
    PeerSession,
    PeerState,
    PeerStore,
    Tables,
    Unit,
    record_key,
    shown_key,
)
from legacy.stores.peers.redis_keys import RedisKeys, moment, opened_keys, shown, text_or_bytes
from legacy.stores.peers.scoped_keys import owner_of
from legacy.stores.survey import in_batches, temporary_database
from session_adapter.formats import SCOPED_REDIS, PeerFormat
from session_adapter.identity import SessionKey, UserKey
from unified_storage.errors import StorageUnsupportedError

FORMATS = (SCOPED_REDIS,)
OPTIONS = frozenset({"prefix"})

_TYPES = {"session": "hash", "events": "zset", "appdata": "hash", "userdata": "hash"}
"""The first word of a key -> what Redis calls its value."""
_SCHEMA = """
    CREATE TABLE keys (kind TEXT, rest BLOB, type TEXT, PRIMARY KEY (kind, rest)) WITHOUT ROWID;
    CREATE TABLE sessions (
        rest BLOB, id BLOB, app TEXT, user TEXT, reason TEXT, events BLOB, PRIMARY KEY (rest, id)
    ) WITHOUT ROWID;
    CREATE INDEX by_events ON sessions (events);
"""
_SESSIONS = """
    SELECT rest, id, app, user, reason,
        (SELECT count(*) FROM sessions AS other WHERE other.events = sessions.events) > 1
        AND EXISTS (SELECT 1 FROM keys WHERE kind = 'events' AND keys.rest = sessions.events)
    FROM sessions
"""
_ORPHANS = "SELECT rest FROM keys WHERE kind = 'events' AND rest NOT IN (SELECT events FROM sessions)"
_Batch = list[Unit | Item]


def told_by(tables: Tables) -> PeerFormat | None:
    """None: it lives on no SQL database."""
    return None


async def open_store(opening: Opening) -> PeerStore:
    prefix = opening.options.get("prefix", "")
    return _Layout(opened_keys(opening), f"{prefix}:".encode() if prefix else b"")


class _Layout:
    """See ``PeerStore``."""

    format: PeerFormat = SCOPED_REDIS
    version: str | None = None

    def __init__(self, keys: RedisKeys, prefix: bytes) -> None:
        self._keys = keys
        self._prefix = prefix

    # what there is

    async def units(self) -> AsyncIterator[_Batch]:
        index = temporary_database(_SCHEMA)
        try:
            for kind in _TYPES:
                await self._note_keys(index, kind)
            for rows in in_batches(index, "SELECT rest FROM keys WHERE kind = 'session' AND type = 'hash'"):
                for (rest,) in rows:
                    await self._note_sessions(index, rest)
            for batch in chain(self._odd(index), self._sessions(index), self._states(index)):
                yield batch
        finally:
            index.close()

    async def _note_keys(self, index: sqlite3.Connection, kind: str) -> None:
        begin = self._key(kind, b"")
        async for found in self._keys.scan(begin):
            rows = [(kind, name[len(begin) :], type) for name, type in found]
            index.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", rows)

    async def _note_sessions(self, index: sqlite3.Connection, rest: bytes) -> None:
        async for found in self._keys.scan_hash(self._key("session", rest)):
            for id, text in found:
                row = (rest, id, *_owner(rest, text), rest + b":" + id)
                index.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?)", row)

    def _odd(self, index: sqlite3.Connection) -> Iterator[_Batch]:
        """What has the name of a key of this layout and is none, and events whose session is not there."""
        for rows in in_batches(index, "SELECT kind, rest, type FROM keys"):
            yield [
                Item(self._label(kind, rest), None, IGNORED, ("wrong_type",), detail=type)
                for kind, rest, type in rows
                if type != _TYPES[kind]
            ]
        for rows in in_batches(index, _ORPHANS):
            yield [
                Item(self._label("events", rest), None, QUARANTINED, ("events_without_session",)) for (rest,) in rows
            ]

    def _sessions(self, index: sqlite3.Connection) -> Iterator[_Batch]:
        for rows in in_batches(index, _SESSIONS):
            yield [self._session_unit(*row) for row in rows]

    def _session_unit(
        self, rest: bytes, id: bytes, app: str, user: str, reason: str | None, shares_events: bool
    ) -> Unit | Item:
        label, name = self._label("session", rest), text_or_bytes(id)
        if reason is None and shares_events:
            reason = "ambiguous_events"
        if reason is None and not isinstance(name, str):
            reason = "invalid_session_id"
        if reason is not None or not isinstance(name, str):
            return Item(label, shown(id), QUARANTINED, (reason or "",))
        return Unit(SessionKey(app, user, name), _place(rest, id), label)

    def _states(self, index: sqlite3.Connection) -> Iterator[_Batch]:
        for rows in in_batches(index, "SELECT rest FROM keys WHERE kind = 'appdata' AND type = 'hash'"):
            yield [self._app_unit(rest) for (rest,) in rows]
        for rows in in_batches(index, "SELECT rest FROM keys WHERE kind = 'userdata' AND type = 'hash'"):
            yield [self._user_unit(index, rest) for (rest,) in rows]

    def _app_unit(self, rest: bytes) -> Unit | Item:
        label, name = self._label("appdata", rest), text_or_bytes(rest)
        if not isinstance(name, str):
            return Item(label, shown(rest), QUARANTINED, ("invalid_key",), APP_STATE)
        return Unit(AppKey(name), _place(rest), label)

    def _user_unit(self, index: sqlite3.Connection, rest: bytes) -> Unit | Item:
        label, name = self._label("userdata", rest), text_or_bytes(rest)
        if not isinstance(name, str) or ":" not in name:
            return Item(label, shown(rest), QUARANTINED, ("invalid_key",), USER_STATE)
        owner = owner_of(name, {}).user
        if owner is not None:
            return Unit(owner, _place(rest), label)
        # A hash of state does not say whose it is, but the sessions of the same key may all say the same.
        told = index.execute("SELECT DISTINCT app, user FROM sessions WHERE rest = ?", (rest,)).fetchall()
        if len(told) != 1 or told[0][0] is None:
            return Item(label, shown(rest), QUARANTINED, ("ambiguous_key",), USER_STATE)
        return Unit(UserKey(*told[0]), _place(rest), label)

    def unit(self, key: Key) -> Unit:
        match key:
            case SessionKey():
                return Unit(key, _place(f"{key.app_name}:{key.user_id}".encode(), key.session_id.encode()))
            case UserKey():
                return Unit(key, _place(f"{key.app_name}:{key.user_id}".encode()))
        return Unit(key, _place(shown_key(key).encode()))

    # what is in it

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        questions = [self._questions(unit) for unit in units]
        answers = iter(await self._keys.ask(*(question for asked in questions for question in asked)))
        told = [[next(answers) for _ in asked] for asked in questions]
        return [_found(unit, *answered) for unit, answered in zip(units, told, strict=True)]

    def _questions(self, unit: Unit) -> list[tuple[Any, ...]]:
        rest, *id = _parts(unit.place)
        if isinstance(unit.key, SessionKey):
            key, events = self._key("session", rest), self._key("events", rest + b":" + id[0])
            ranged = ("ZRANGE", events, 0, -1, "WITHSCORES")
            return [("PEXPIRETIME", key), ("HGET", key, id[0]), ranged, ("PEXPIRETIME", events)]
        key = self._key("appdata" if isinstance(unit.key, AppKey) else "userdata", rest)
        return [("PEXPIRETIME", key), ("HGETALL", key)]

    async def write(self, found: Sequence[Found]) -> None:
        raise StorageUnsupportedError("the hand-written layout of scoped sessions is only read")

    async def close(self) -> None:
        await self._keys.close()

    # Redis

    def _key(self, kind: str, rest: bytes) -> bytes:
        return self._prefix + kind.encode() + b":" + rest

    def _label(self, kind: str, rest: bytes) -> str:
        return shown(self._key(kind, rest))


# keys


def _owner(rest: bytes, text: bytes) -> tuple[str | None, str | None, str | None]:
    """App and user of a session with the JSON *text*, or why they stay open."""
    joined = text_or_bytes(rest)
    if not isinstance(joined, str) or ":" not in joined:
        return None, None, "invalid_key"
    user = owner_of(joined, {}).user
    if user is None:
        try:
            document = parse(text).value
        except FileRefused as refused:
            return None, None, refused.reason
        user = owner_of(joined, document if isinstance(document, Mapping) else {}).user
    return (None, None, "ambiguous_key") if user is None else (user.app_name, user.user_id, None)


def _place(*parts: bytes) -> str:
    return json.dumps([part.decode("latin-1") for part in parts])


def _parts(place: str) -> list[bytes]:
    return [part.encode("latin-1") for part in json.loads(place)]


# values


def _found(unit: Unit, expires: int, *answers: Any) -> Found | Item:
    if isinstance(unit.key, SessionKey):
        return _session(unit, unit.key, moment(expires), *answers)
    return _state(unit, unit.key, moment(expires), *answers)


def _session(
    unit: Unit, key: SessionKey, expires: datetime | None, text: bytes | None, members: list[bytes], events_expire: int
) -> Found | Item:
    if text is None:
        return Item(unit.label, key.session_id, IGNORED, ("vanished",))
    try:
        parsed = parse(text)
    except FileRefused as refused:
        return Item(unit.label, key.session_id, QUARANTINED, (refused.reason,), detail=refused.detail)
    if not isinstance(parsed.value, dict):
        return Item(unit.label, key.session_id, QUARANTINED, ("invalid_shape",))
    events, warnings = _events(members)
    if not events and isinstance(parsed.value.get("events"), list):
        events = [{"score": None, "event": event} for event in parsed.value["events"]]
    document = {
        "app_name": key.app_name,
        "user_id": key.user_id,
        "session_id": key.session_id,
        "session": parsed.value,
        "events": events,
    }
    if events and moment(events_expire) not in (None, expires):
        warnings.append("events_expire_otherwise")
    warnings += owner_of(f"{key.app_name}:{key.user_id}", parsed.value).warnings
    return PeerSession(
        key,
        document,
        expires_at=expires,
        warnings=(*parsed.warnings, *warnings),
        label=unit.label,
        size=len(text) + sum(map(len, members)),
    )


def _events(members: list[bytes]) -> tuple[list[dict[str, Any]], list[str]]:
    """The members of a sorted set, which alternate with their scores, as elements of a document, and warnings."""
    elements: list[dict[str, Any]] = []
    warnings: dict[str, None] = {}
    known: set[str] = set()
    for member, score in zip(members[::2], members[1::2], strict=True):
        element: dict[str, Any] = {"score": float(score)}
        try:
            parsed = parse(member)
            element["event"] = parsed.value
            warnings |= dict.fromkeys(parsed.warnings)
        except FileRefused as refused:
            element["event"] = text_or_bytes(member)
            warnings[f"event_{refused.reason}"] = None
        id = SCOPED_REDIS.entry_key(element)
        if id in known:
            element["again"] = True
        elif id is not None:
            known.add(id)
        elements.append(element)
    return elements, list(warnings)


def _state(unit: Unit, key: Key, expires: datetime | None, pairs: list[bytes]) -> Found | Item:
    kind = record_key(key)[1]
    if not pairs:
        return Item(unit.label, shown_key(key), IGNORED, ("vanished",), kind)
    names = [text_or_bytes(name) for name in pairs[::2]]
    if not isinstance(key, UserKey | AppKey) or any(isinstance(name, bytes) for name in names):
        return Item(unit.label, shown_key(key), QUARANTINED, ("invalid_state_key",), kind)
    state = {str(name): text_or_bytes(value) for name, value in zip(names, pairs[1::2], strict=True)}
    return PeerState(key, state, expires_at=expires, label=unit.label, size=sum(map(len, pairs)))
