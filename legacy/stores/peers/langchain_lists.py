"""LangChain's histories in Redis: a list for each session, newest message first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from legacy.stores.parcels import IGNORED, QUARANTINED, Item
from legacy.stores.peers.kinds import Found, Key, Opening, PeerSession, Unit
from legacy.stores.peers.langchain_messages import found_session, text_of
from legacy.stores.peers.redis_keys import Command, RedisKeys, in_parts, milliseconds, moment, opened_keys, shown
from session_adapter.formats.langchain import LANGCHAIN_REDIS

PREFIX = "message_store:"


def open_lists(opening: Opening) -> Lists:
    """The prefix is LangChain's ``key_prefix``, a colon included where it has one."""
    return Lists(opened_keys(opening), opening.options.get("prefix", PREFIX).encode())


class Lists:
    """See ``PeerStore``."""

    format = LANGCHAIN_REDIS
    version: str | None = None

    def __init__(self, keys: RedisKeys, prefix: bytes) -> None:
        self._keys = keys
        self._prefix = prefix

    async def units(self) -> AsyncIterator[list[Unit | Item]]:
        async for found in self._keys.scan(self._prefix):
            yield [self._unit(key, type) for key, type in found]

    def _unit(self, key: bytes, type: str) -> Unit | Item:
        label = shown(key)
        if type != "list":
            return Item(label, None, IGNORED, ("wrong_type",), detail=type)
        try:
            session_id = key[len(self._prefix) :].decode()
        except UnicodeDecodeError:
            return Item(label, None, QUARANTINED, ("invalid_session_id",))
        return Unit(session_id, session_id, label)

    def unit(self, key: Key) -> Unit:
        return Unit(key, str(key))

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        keys = [self._key(unit.place) for unit in units]
        questions = (question for key in keys for question in (("LRANGE", key, 0, -1), ("PEXPIRETIME", key)))
        answers = await self._keys.ask(*questions)
        return [
            found_session(unit, texts[::-1], expires_at=moment(expires))
            for unit, texts, expires in zip(units, answers[::2], answers[1::2], strict=True)
        ]

    async def write(self, found: Sequence[Found]) -> None:
        sessions = [one for one in found if isinstance(one, PeerSession)]
        await self._keys.write([command for one in sessions for command in self._commands(one)])

    def _commands(self, session: PeerSession) -> list[Command]:
        key = self._key(str(session.key))
        texts = [text_of(message).encode() for message in session.document["messages"]]
        expiring: list[Command] = []
        if session.expires_at is not None:
            expiring = [("PEXPIREAT", key, milliseconds(session.expires_at))]
        return [("DEL", key), *in_parts("LPUSH", key, words=texts), *expiring]

    async def close(self) -> None:
        await self._keys.close()

    def _key(self, session_id: str) -> bytes:
        return self._prefix + session_id.encode()
