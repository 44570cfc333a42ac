"""tRPC-Agent-Go's Redis: sessions in one of two layouts, which may stand side by side.

The names of its keys are joined by ``:`` and may hold one, so nothing is split where the content can tell: sessions
are found by the fields of a user's hash (v1) or by what their JSON says (v2), and their other keys are built from that.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
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
from legacy.stores.peers.redis_keys import Command, RedisKeys, moment, opened_keys, pairs, shown, text_or_bytes
from legacy.stores.peers.registry import written_format
from legacy.stores.peers.trpc_documents import Answers, session_of
from legacy.stores.peers.trpc_names import V1, V2, Names, user_of_v1, user_of_v2
from legacy.stores.peers.trpc_writing import app_commands, session_commands, user_commands
from legacy.stores.survey import in_batches, temporary_database
from session_adapter.formats.peer import PeerFormat
from session_adapter.formats.trpc_agent import TRPC_V1, TRPC_V2
from session_adapter.identity import SessionKey, UserKey
from unified_storage.errors import StorageConfigurationError, StorageConnectionError, StorageError

FORMATS = (TRPC_V2, TRPC_V1)
OPTIONS = frozenset({"prefix"})
UNREADABLE = "unreadable"
_SCHEMA = """
    CREATE TABLE sessions (
        events BLOB, app TEXT, user TEXT, id TEXT, layout TEXT, label TEXT, PRIMARY KEY (events, app, user, id)
    ) WITHOUT ROWID
"""
_SESSIONS = """
    SELECT app, user, id, layout, label,
        (SELECT count(*) FROM sessions AS other WHERE other.events = sessions.events) > 1
    FROM sessions ORDER BY layout DESC
"""
_Batch = list[Unit | Item]


def told_by(tables: Tables) -> PeerFormat | None:
    """None: it lives on no SQL database."""
    return None


async def open_store(opening: Opening) -> PeerStore:
    prefix = opening.options.get("prefix", "")
    names = Names(f"{prefix}:".encode() if prefix else b"")
    keys = opened_keys(opening)
    try:
        return TRPCSessions(keys, names, await _format(keys, names, opening))
    except BaseException:
        await keys.close()
        raise


async def _format(keys: RedisKeys, names: Names, opening: Opening) -> PeerFormat:
    """Of what is to be written the one that was named; else the one that most of what is there has."""
    if opening.to_write:
        return written_format(opening)
    for format, begin in ((TRPC_V2, names.metas), (TRPC_V1, names.sessions), (TRPC_V2, names.app_states)):
        async for found in keys.scan(begin):
            if found:
                return format
    told = "; name their prefix by ?prefix=" if not opening.options.get("prefix") else ""
    raise StorageConfigurationError(f"there are no sessions of tRPC-Agent-Go{told}")


class TRPCSessions:
    """See ``PeerStore``."""

    version: str | None = None

    def __init__(self, keys: RedisKeys, names: Names, format: PeerFormat) -> None:
        self._keys = keys
        self._names = names
        self.format = format

    # what there is

    async def units(self) -> AsyncIterator[_Batch]:
        index = temporary_database(_SCHEMA)
        try:
            for sessions in (self._sessions_v2(), self._sessions_v1()):
                async for batch in sessions:
                    yield self._noted(batch, index)
            async for batch in self._orphans(index):
                yield batch
            for rows in in_batches(index, _SESSIONS):
                yield [_session_unit(*row) for row in rows]
            async for batch in self._states():
                yield batch
        finally:
            index.close()

    async def _sessions_v2(self) -> AsyncIterator[_Batch]:
        async for found in self._keys.scan(self._names.metas):
            names = [name for name, type in found if type == "string"]
            texts = await self._keys.ask(*(("GET", name) for name in names))
            odd = [_wrong_type(name, type) for name, type in found if type != "string"]
            yield [*odd, *(self._unit_v2(name, text) for name, text in zip(names, texts, strict=True) if text)]

    def _unit_v2(self, name: bytes, text: bytes) -> Unit | Item:
        """The session of a key, by what its JSON says, which has to give the key again."""
        label = shown(name)
        try:
            told = parse(text).value
        except FileRefused as refused:
            return Item(label, None, QUARANTINED, (refused.reason,), detail=refused.detail)
        found = [told.get(part) for part in ("appName", "userID", "id")] if isinstance(told, dict) else []
        parts = [part for part in found if isinstance(part, str) and part]
        if len(parts) != 3:
            return Item(label, None, QUARANTINED, ("invalid_shape",))
        key = SessionKey(*parts)
        try:
            is_its_own = self._names.meta(key) == name
        except UnicodeEncodeError:
            is_its_own = False
        if not is_its_own:
            return Item(label, key.session_id, QUARANTINED, ("owner_mismatch",))
        return Unit(key, V2, label)

    async def _sessions_v1(self) -> AsyncIterator[_Batch]:
        async for found in self._keys.scan(self._names.sessions):
            for name, type in found:
                if type != "hash":
                    yield [_wrong_type(name, type)]
                    continue
                user = user_of_v1(name[len(self._names.sessions) :])
                async for fields in self._keys.scan_hash(name):
                    yield [self._unit_v1(name, user, field) for field, _ in fields]

    def _unit_v1(self, name: bytes, user: UserKey | str, field: bytes) -> Unit | Item:
        label, session_id = shown(name), text_or_bytes(field)
        if isinstance(user, str):
            return Item(label, shown(field), QUARANTINED, (user,))
        if isinstance(session_id, bytes):
            return Item(label, shown(field), QUARANTINED, ("invalid_session_id",))
        return Unit(SessionKey(user.app_name, user.user_id, session_id), V1, label)

    def _noted(self, batch: _Batch, index: sqlite3.Connection) -> _Batch:
        """The items of *batch*; its sessions stand in the index now, each once."""
        for one in batch:
            if isinstance(one, Unit) and isinstance(one.key, SessionKey):
                key = one.key
                row = (self._names.events(key, one.place), *_parts(key), one.place, one.label)
                index.execute("INSERT OR IGNORE INTO sessions VALUES (?, ?, ?, ?, ?, ?)", row)
        return [one for one in batch if isinstance(one, Item)]

    async def _orphans(self, index: sqlite3.Connection) -> AsyncIterator[_Batch]:
        """Events whose session is not there."""
        for begin in (self._names.events_v1, self._names.events_v2):
            async for found in self._keys.scan(begin):
                known = "SELECT 1 FROM sessions WHERE events = ?"
                lost = [name for name, _ in found if index.execute(known, (name,)).fetchone() is None]
                yield [Item(shown(name), None, QUARANTINED, ("events_without_session",)) for name in lost]

    async def _states(self) -> AsyncIterator[_Batch]:
        names = self._names
        async for found in self._keys.scan(names.app_states):
            yield [self._app_unit(name, type) for name, type in found]
        for begin, whose in ((names.user_states_v2, user_of_v2), (names.user_states_v1, user_of_v1)):
            async for found in self._keys.scan(begin):
                yield [_user_unit(name, type, whose(name[len(begin) :])) for name, type in found]

    def _app_unit(self, name: bytes, type: str) -> Unit | Item:
        app = text_or_bytes(name[len(self._names.app_states) :].removesuffix(b"}"))
        if type != "hash":
            return _wrong_type(name, type)
        if not isinstance(app, str) or not name.endswith(b"}"):
            return Item(shown(name), None, QUARANTINED, ("invalid_key",), APP_STATE)
        return Unit(AppKey(app), "", shown(name))

    def unit(self, key: Key) -> Unit:
        layout = V1 if self.format is TRPC_V1 else V2
        return Unit(key, layout if isinstance(key, SessionKey) else "")

    # what is in it

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        try:
            return await self._read(units)
        except StorageConnectionError:
            raise
        except StorageError as error:  # such as a key of a wrong type
            if len(units) > 1:
                return [found for unit in units for found in await self.read([unit])]
            (unit,) = units
            kind = record_key(unit.key)[1]
            return [Item(unit.label, shown_key(unit.key), QUARANTINED, (UNREADABLE,), kind, error.message)]

    async def _read(self, units: Sequence[Unit]) -> list[Found | Item]:
        sessions = [unit for unit in units if isinstance(unit.key, SessionKey)]
        told = dict(zip(sessions, await self._answers(sessions), strict=True))
        return [session_of(unit, told[unit]) if unit in told else await self._state(unit) for unit in units]

    async def _answers(self, units: Sequence[Unit]) -> list[Answers]:
        asked = [self._names.questions(unit.key, unit.place) for unit in units]
        first = iter(await self._keys.ask(*(question for questions in asked for question in questions)))
        found = [
            Answers(unit.place, *(next(first) for _ in questions)) for unit, questions in zip(units, asked, strict=True)
        ]
        of_tracks = [
            (answers, track, self._names.track_questions(unit.key, unit.place, track))
            for unit, answers in zip(units, found, strict=True)
            for track in sorted(answers.track_names)
        ]
        second = iter(await self._keys.ask(*(question for *_, questions in of_tracks for question in questions)))
        for answers, track, questions in of_tracks:
            answers.tracks[track] = [next(second) for _ in questions]
        return found

    async def _state(self, unit: Unit) -> Found | Item:
        keys = self._names.states(unit.key)
        questions = [question for key in keys.values() for question in (("HGETALL", key), ("PEXPIRETIME", key))]
        answers = await self._keys.ask(*questions)
        told = {layout: _values(words) for layout, words in zip(keys, answers[::2], strict=True) if words}
        expires = [when for words, when in zip(answers[::2], answers[1::2], strict=True) if words]
        return _state_of(unit, told, expires)

    # writing

    async def write(self, found: Sequence[Found]) -> None:
        commands: list[Command] = []
        hashes = await self._expiring(found)
        for one in found:
            match one:
                case PeerSession():
                    commands += session_commands(one, self._names, hashes)
                case PeerState(key=AppKey()):
                    commands += app_commands(one, self._names)
                case PeerState():
                    commands += user_commands(one, self._names, V1 if self.format is TRPC_V1 else V2)
        await self._keys.write(commands)

    async def _expiring(self, found: Sequence[Found]) -> dict[bytes, bool]:
        """The hashes of users (v1) that are written to, and whether each is there already."""
        sessions = [one.key for one in found if isinstance(one, PeerSession) and one.document["layout"] == V1]
        names = self._names
        both = ((names.session_hash(key), names.summaries(key, V1)) for key in sessions if isinstance(key, SessionKey))
        keys = sorted({name for pair in both for name in pair})
        there = await self._keys.ask(*(("EXISTS", key) for key in keys))
        return {key: bool(is_there) for key, is_there in zip(keys, there, strict=True)}

    async def close(self) -> None:
        await self._keys.close()


def _parts(key: SessionKey) -> tuple[str, str, str]:
    return key.app_name, key.user_id, key.session_id


def _session_unit(app: str, user: str, id: str, layout: str, label: str, shares_events: bool) -> Unit | Item:
    if shares_events:  # whose they are, nothing tells
        return Item(label, id, QUARANTINED, ("ambiguous_events",))
    return Unit(SessionKey(app, user, id), layout, label)


def _wrong_type(name: bytes, type: str) -> Item:
    return Item(shown(name), None, IGNORED, ("wrong_type",), detail=type)


def _user_unit(name: bytes, type: str, user: UserKey | str) -> Unit | Item:
    if type != "hash":
        return _wrong_type(name, type)
    if isinstance(user, str):
        return Item(shown(name), None, QUARANTINED, (user,), USER_STATE)
    return Unit(user, "", shown(name))


def _values(words: Sequence[bytes]) -> dict[str | bytes, bytes]:
    return {text_or_bytes(name): value for name, value in pairs(words)}


def _state_of(unit: Unit, told: dict[str, dict[str | bytes, bytes]], expires: Sequence[int]) -> Found | Item:
    kind = record_key(unit.key)[1]
    if not told:
        return Item(unit.label, shown_key(unit.key), IGNORED, ("vanished",), kind)
    state: dict[str, Any] = {}
    for values in told.values():
        if any(isinstance(name, bytes) for name in values):
            return Item(unit.label, shown_key(unit.key), QUARANTINED, ("invalid_state_key",), kind)
        state |= {str(name): value for name, value in values.items()}
    assert not isinstance(unit.key, SessionKey | str)
    raw = {"layouts": dict(told)} if isinstance(unit.key, UserKey) else None
    differ = len({json.dumps(sorted(map(repr, values.items()))) for values in told.values()}) > 1
    when = [moment(each) for each in expires]
    return PeerState(
        unit.key,
        state,
        raw,
        expires_at=None if None in when else max(one for one in when if one is not None),
        warnings=("differs_between_layouts",) if differ else (),
        label=unit.label,
        size=sum(len(value) for value in state.values()),
    )
