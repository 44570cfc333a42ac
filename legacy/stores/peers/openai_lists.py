"""openai-agents in Redis: for each session a hash that names it, a list of its items, a counter nobody counts with.

The keys are ``<prefix>:<id>``, ``<prefix>:<id>:messages`` and ``<prefix>:<id>:counter``. An id may hold colons, so its
type tells what a key is, and the hash names its session.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from legacy.stores.file_reading import FileRefused
from legacy.stores.parcels import IGNORED, QUARANTINED, Item
from legacy.stores.peers.kinds import Found, Key, Opening, PeerSession, PeerStore, Unit
from legacy.stores.peers.openai_envelopes import envelopes_of
from legacy.stores.peers.openai_items import Items, branches_of, compact, with_branch
from legacy.stores.peers.openai_moments import Moments
from legacy.stores.peers.redis_keys import (
    Command,
    RedisKeys,
    in_parts,
    milliseconds,
    moment,
    opened_keys,
    pairs,
    shown,
)
from legacy.stores.survey import in_batches, temporary_database
from session_adapter.formats.openai_agents import OPENAI_ENCRYPTED, OPENAI_REDIS, is_envelope, linked
from unified_storage.errors import StorageValidationError

PREFIX = "agents:session"
_MESSAGES, _COUNTER = b":messages", b":counter"
_NAMES, _TIMES = ("session_id", "created_at", "updated_at"), ("created_at", "updated_at")
_KEY_TYPES = ("hash", "list", "string")
_SCHEMA = """
    CREATE TABLE sessions (id BLOB PRIMARY KEY, has_hash INTEGER) WITHOUT ROWID;
    CREATE TABLE odd (key BLOB PRIMARY KEY, reason TEXT, type TEXT) WITHOUT ROWID;
"""
_LOOKED_AT = 20


async def open_lists(opening: Opening) -> PeerStore:
    """The prefix is the library's ``key_prefix``, without the colon behind it."""
    keys = opened_keys(opening)
    try:
        prefix = opening.options.get("prefix", PREFIX).encode() + b":"
        envelopes = envelopes_of(opening.options.get("key_env"))
        seals = envelopes is not None or opening.family == OPENAI_ENCRYPTED.name or await _has_envelopes(keys, prefix)
        return _Lists(keys, prefix, Items(compact, envelopes, seals), *branches_of(opening))
    except BaseException:
        await keys.close()
        raise


async def _has_envelopes(keys: RedisKeys, prefix: bytes) -> bool:
    """Whether the newest items of some sessions are encrypted."""
    async for found in keys.scan(prefix):
        lists = [name for name, type in found if type == "list"][:_LOOKED_AT]
        if lists:
            newest = await keys.ask(*(("LINDEX", name, -1) for name in lists))
            return any(_is_sealed(text) for text in newest)
    return False


def _is_sealed(text: bytes | None) -> bool:
    try:
        return text is not None and b'"__enc__"' in text and is_envelope(json.loads(text))
    except (ValueError, RecursionError):
        return False


class _Lists:
    """See ``PeerStore``."""

    version: str | None = None

    def __init__(
        self, keys: RedisKeys, prefix: bytes, items: Items, read_branch: str | None, written_branch: str | None
    ) -> None:
        self.format = OPENAI_ENCRYPTED if items.seals else OPENAI_REDIS
        self._keys = keys
        self._prefix = prefix
        self._items = items
        self._read_branch, self._written_branch = read_branch, written_branch
        self._moments = Moments("redis")

    # what there is

    async def units(self) -> AsyncIterator[list[Unit | Item]]:
        index = temporary_database(_SCHEMA)
        try:
            async for found in self._keys.scan(self._prefix):
                await self._note(index, found)
            for batch in chain(self._sessions(index), _odd(index)):
                yield batch
        finally:
            index.close()

    async def _note(self, index: sqlite3.Connection, found: Sequence[tuple[bytes, str]]) -> None:
        hashes = [name for name, type in found if type == "hash"]
        names = await self._keys.ask(*(("HGET", name, "session_id") for name in hashes))
        told = dict(zip(hashes, names, strict=True))
        for key, type in found:
            rest = key[len(self._prefix) :]
            if type == "hash" and told[key] in (None, rest):
                index.execute("INSERT OR REPLACE INTO sessions VALUES (?, 1)", (rest,))
            elif type == "list" and rest.endswith(_MESSAGES):
                index.execute("INSERT OR IGNORE INTO sessions VALUES (?, 0)", (rest.removesuffix(_MESSAGES),))
            elif not (type == "string" and rest.endswith(_COUNTER)):
                reason = "other_prefix" if type == "hash" else "wrong_type"
                index.execute("INSERT OR IGNORE INTO odd VALUES (?, ?, ?)", (key, reason, type))

    def _sessions(self, index: sqlite3.Connection) -> Iterator[list[Unit | Item]]:
        # The list of a hash that names another session belongs to that one, which has a longer prefix.
        others = {bytes(key) for (key,) in index.execute("SELECT key FROM odd WHERE reason = 'other_prefix'")}
        for rows in in_batches(index, "SELECT id, has_hash FROM sessions"):
            yield [self._unit(id) for id, has_hash in rows if has_hash or self._prefix + id not in others]

    def _unit(self, id: bytes) -> Unit | Item:
        label = shown(self._prefix + id)
        try:
            return Unit(id.decode(), id.decode(), label)
        except UnicodeDecodeError:
            return Item(label, shown(id), QUARANTINED, ("invalid_session_id",))

    def unit(self, key: Key) -> Unit:
        return Unit(key, str(key))

    # what is in it

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        types = await self._types([unit.place for unit in units])
        asked = [_questions(self._names(unit.place), types) for unit in units]
        answers = iter(await self._keys.ask(*(question for questions in asked for question in questions.values())))
        told = [{name: next(answers) for name in questions} for questions in asked]
        return [self._found(unit, **answered) for unit, answered in zip(units, told, strict=True)]

    async def _types(self, ids: Sequence[str]) -> dict[bytes, str]:
        """What stands under the keys of sessions: a part of one may have the name of another session."""
        keys = [*dict.fromkeys(key for id in ids for key in self._names(id))]
        types = await self._keys.ask(*(("TYPE", key) for key in keys))
        return {key: type.decode() for key, type in zip(keys, types, strict=True)}

    def _found(
        self,
        unit: Unit,
        fields: Sequence[bytes] = (),
        items: Sequence[bytes] = (),
        counter: bytes | None = None,
        expires: int = -1,
        items_expire: int = -1,
    ) -> Found | Item:
        if not fields and not items:
            return Item(unit.label, unit.place, IGNORED, ("vanished",))
        warnings: dict[str, None] = {}
        try:
            named = {name.decode(): value.decode() for name, value in pairs(fields)}
            elements = [self._items.element(unit.place, text, warnings) for text in items]
        except (FileRefused, UnicodeDecodeError) as error:
            detail = error.detail if isinstance(error, FileRefused) else "a field is no utf-8"
            return Item(unit.label, unit.place, QUARANTINED, ("encoding",), detail=detail)
        if not fields:
            warnings["no_session_row"] = None
        document: dict[str, Any] = {"session_id": unit.place}
        for name in _TIMES:
            document |= self._moments.told(name, named.get(name))
        document |= {"fields": {name: value for name, value in named.items() if name not in _NAMES}}
        document |= {"counter": None if counter is None else counter.decode(errors="backslashreplace")}
        document["messages"] = linked(elements)
        found = PeerSession(
            unit.place,
            document,
            expires_at=moment(items_expire if items else expires),
            warnings=tuple(warnings),
            label=unit.label,
            size=sum(map(len, items)) + sum(map(len, fields)),
        )
        return with_branch(found, self._read_branch, self.format)

    # writing

    def settled(self, found: PeerSession) -> PeerSession | Item:
        chosen = with_branch(found, self._written_branch, self.format)
        if isinstance(chosen, Item):
            return chosen
        document: dict[str, Any] = {"session_id": chosen.document["session_id"]}
        for name in _TIMES:
            told = {key: value for key, value in found.document.items() if key.startswith(name)}
            document |= self._moments.settled(name, told)
        document |= {"fields": dict(found.document.get("fields") or {}), "counter": found.document.get("counter")}
        start = {"created_at": document.get("created_at")}  # when an item was sealed that has no time
        elements = self._items.settled(({**start, **element} for element in chosen.document["messages"]), None)
        document["messages"] = linked(elements)
        return PeerSession(found.key, document, expires_at=_to_the_millisecond(found.expires_at), size=found.size)

    async def write(self, found: Sequence[Found]) -> None:
        sessions = [one for one in found if isinstance(one, PeerSession)]
        types = await self._types([str(one.key) for one in sessions])
        self._check_free(sessions, dict(types))
        await self._keys.write([command for one in sessions for command in self._commands(one, types)])

    def _check_free(self, sessions: Sequence[PeerSession], types: dict[bytes, str]) -> None:
        """Raise ``StorageValidationError`` where a session's key is that of another one: ``a`` and ``a:messages``."""
        for at, session in enumerate(sessions):
            for key, type in self._claimed(session).items():
                if types[key] not in ("none", type):
                    message = f"the key {shown(key)} is that of another session, so {session.key!r} has no place there"
                    raise StorageValidationError(message, details={"index": at, "path": "session_id"})
                types[key] = type

    def _claimed(self, session: PeerSession) -> dict[bytes, str]:
        """The keys that *session* takes: that of its counter where it has one."""
        count = 2 if session.document["counter"] is None else 3
        return dict(zip(self._names(str(session.key))[:count], _KEY_TYPES[:count], strict=True))

    def _commands(self, session: PeerSession, types: Mapping[bytes, str]) -> list[Command]:
        document, id = session.document, str(session.key)
        names = self._names(id)
        times = {name: self._moments.column(name, document) for name in _TIMES}
        fields = {"session_id": id, **times, **document["fields"]}
        texts = [self._items.text(id, element).encode() for element in document["messages"]]
        words = [word for name, value in fields.items() if value is not None for word in (name, value)]
        own = [key for key, type in zip(names, _KEY_TYPES, strict=True) if types[key] in ("none", type)]
        commands: list[Command] = [("DEL", *own), *in_parts("HSET", names[0], words=words, step=2)]
        commands += in_parts("RPUSH", names[1], words=texts)
        if document["counter"] is not None:
            commands.append(("SET", names[2], document["counter"]))
        if session.expires_at is not None:
            commands += [("PEXPIREAT", key, milliseconds(session.expires_at)) for key in self._claimed(session)]
        return commands

    def _names(self, id: str) -> tuple[bytes, bytes, bytes]:
        session = self._prefix + id.encode()
        return session, session + _MESSAGES, session + _COUNTER

    async def close(self) -> None:
        await self._keys.close()


def _questions(names: tuple[bytes, bytes, bytes], types: Mapping[bytes, str]) -> dict[str, Command]:
    session, messages, counter = (
        key if types[key] == type else None for key, type in zip(names, _KEY_TYPES, strict=True)
    )
    asked: dict[str, Command] = {}
    if session is not None:
        asked |= {"fields": ("HGETALL", session), "expires": ("PEXPIRETIME", session)}
    if messages is not None:
        asked |= {"items": ("LRANGE", messages, 0, -1), "items_expire": ("PEXPIRETIME", messages)}
    return asked if counter is None else asked | {"counter": ("GET", counter)}


def _odd(index: sqlite3.Connection) -> Iterator[list[Unit | Item]]:
    for rows in in_batches(index, "SELECT key, reason, type FROM odd"):
        yield [Item(shown(bytes(key)), None, IGNORED, (reason,), detail=type) for key, reason, type in rows]


def _to_the_millisecond(expires: datetime | None) -> datetime | None:
    return None if expires is None else moment(milliseconds(expires))
