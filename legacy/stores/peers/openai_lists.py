"""openai-agents in Redis: for each session a hash that names it, a list of its items, a counter nobody counts with.

The keys are ``<prefix>:<id>``, ``<prefix>:<id>:messages`` and ``<prefix>:<id>:counter``. An id may hold colons, so its
type tells what a key is, and the hash names its session.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any

from legacy.stores.file_reading import FileRefused
from legacy.stores.parcels import IGNORED, QUARANTINED, Item
from legacy.stores.peers.kinds import Found, Key, Opening, PeerSession, PeerStore, Unit
from legacy.stores.peers.openai_envelopes import envelopes_of
from legacy.stores.peers.openai_items import Items, compact, with_branch
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

PREFIX = "agents:session"
_MESSAGES, _COUNTER = b":messages", b":counter"
_NAMES, _TIMES = ("session_id", "created_at", "updated_at"), ("created_at", "updated_at")
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
        return _Lists(keys, prefix, Items(compact, envelopes, seals), opening.options.get("branch"))
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

    def __init__(self, keys: RedisKeys, prefix: bytes, items: Items, branch: str | None) -> None:
        self.format = OPENAI_ENCRYPTED if items.seals else OPENAI_REDIS
        self._keys = keys
        self._prefix = prefix
        self._items = items
        self._branch = branch
        self._moments = Moments("redis")

    # what there is

    async def units(self) -> AsyncIterator[list[Unit | Item]]:
        index = temporary_database(_SCHEMA)
        try:
            async for found in self._keys.scan(self._prefix):
                await self._note(index, found)
            for batch in (*self._sessions(index), *_odd(index)):
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
        answers = iter(await self._keys.ask(*(question for unit in units for question in self._questions(unit))))
        return [self._found(unit, *(next(answers) for _ in range(5))) for unit in units]

    def _questions(self, unit: Unit) -> list[Command]:
        session, messages, counter = self._names(unit.place)
        return [
            ("HGETALL", session),
            ("LRANGE", messages, 0, -1),
            ("GET", counter),
            ("PEXPIRETIME", messages),
            ("PEXPIRETIME", session),
        ]

    def _found(
        self, unit: Unit, words: list[bytes], texts: list[bytes], counter: bytes | None, *expire: int
    ) -> Found | Item:
        if not words and not texts:
            return Item(unit.label, unit.place, IGNORED, ("vanished",))
        warnings: dict[str, None] = {}
        try:
            fields = {name.decode(): value.decode() for name, value in pairs(words)}
            elements = [self._items.element(unit.place, text, warnings) for text in texts]
        except (FileRefused, UnicodeDecodeError) as error:
            detail = error.detail if isinstance(error, FileRefused) else "a field is no utf-8"
            return Item(unit.label, unit.place, QUARANTINED, ("encoding",), detail=detail)
        if not words:
            warnings["no_session_row"] = None
        document: dict[str, Any] = {"session_id": unit.place}
        for name in _TIMES:
            document |= self._moments.told(name, fields.get(name))
        document |= {"fields": {name: value for name, value in fields.items() if name not in _NAMES}}
        document |= {"counter": None if counter is None else counter.decode(errors="backslashreplace")}
        document["messages"] = linked(elements)
        expires = moment(expire[0] if texts else expire[1])
        size = sum(map(len, texts)) + sum(map(len, words))
        return PeerSession(
            unit.key if isinstance(unit.key, str) else unit.place,
            document,
            expires_at=expires,
            warnings=tuple(warnings),
            label=unit.label,
            size=size,
        )

    # writing

    def settled(self, found: PeerSession) -> PeerSession | Item:
        chosen = with_branch(found, self._branch, self.format)
        if isinstance(chosen, Item):
            return chosen
        document: dict[str, Any] = {"session_id": chosen.document["session_id"]}
        for name in _TIMES:
            told = {key: value for key, value in found.document.items() if key.startswith(name)}
            document |= self._moments.settled(name, told)
        document |= {"fields": dict(found.document.get("fields") or {}), "counter": found.document.get("counter")}
        document["messages"] = linked(self._items.settled(chosen.document["messages"], None))
        return PeerSession(found.key, document, expires_at=_to_the_millisecond(found.expires_at), size=found.size)

    async def write(self, found: Sequence[Found]) -> None:
        sessions = [one for one in found if isinstance(one, PeerSession)]
        await self._keys.write([command for one in sessions for command in self._commands(one)])

    def _commands(self, session: PeerSession) -> list[Command]:
        document, id = session.document, str(session.key)
        names = self._names(id)
        times = {name: self._moments.column(name, document) for name in _TIMES}
        fields = {"session_id": id, **times, **document["fields"]}
        texts = [self._items.text(id, element).encode() for element in document["messages"]]
        words = [word for name, value in fields.items() if value is not None for word in (name, value)]
        commands: list[Command] = [("DEL", *names), *in_parts("HSET", names[0], words=words, step=2)]
        commands += in_parts("RPUSH", names[1], words=texts)
        if document["counter"] is not None:
            commands.append(("SET", names[2], document["counter"]))
        if session.expires_at is not None:
            commands += [("PEXPIREAT", name, milliseconds(session.expires_at)) for name in names]
        return commands

    def _names(self, id: str) -> tuple[bytes, bytes, bytes]:
        session = self._prefix + id.encode()
        return session, session + _MESSAGES, session + _COUNTER

    async def close(self) -> None:
        await self._keys.close()


def _odd(index: sqlite3.Connection) -> Iterator[list[Unit | Item]]:
    for rows in in_batches(index, "SELECT key, reason, type FROM odd"):
        yield [Item(shown(bytes(key)), None, IGNORED, (reason,), detail=type) for key, reason, type in rows]


def _to_the_millisecond(expires: datetime | None) -> datetime | None:
    return None if expires is None else moment(milliseconds(expires))
