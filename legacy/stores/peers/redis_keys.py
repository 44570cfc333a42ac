"""Keys of another framework's Redis: looked for in parts, read in batches, written in one step."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from legacy.stores.peers.kinds import Opening
from unified_storage.backends.redis.client import RedisClient, Script, opened_client
from unified_storage.opening import parse_url, refuse_unknown

Word = str | bytes | int
Command = tuple[Word, ...]

_KEYS_AT_A_TIME, _FIELDS_AT_A_TIME = 500, 50
_WORDS_AT_A_TIME = 1_000
"""Lua unpacks no more than some thousand words into one call."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALL_AT_ONCE = Script(
    """
    local at = 1
    while at <= #ARGV do
        local count = tonumber(ARGV[at])
        redis.call(unpack(ARGV, at + 1, at + count))
        at = at + count + 1
    end
    """
)


class RedisKeys:
    """One Redis. Nothing here writes but :meth:`write`."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def ask(self, *commands: Command) -> list[Any]:
        """The answers to *commands*, all of which only read."""
        return await self._client.ask(commands, timeout=self._client.statement_timeout) if commands else []

    async def scan(self, begin: bytes) -> AsyncIterator[list[tuple[bytes, str]]]:
        """The keys that begin so, with what Redis calls their values, some hundred at a time; one may be told twice."""
        pattern = re.sub(rb"([\\*?\[\]^-])", rb"\\\1", begin) + b"*"
        cursor: Any = 0
        while cursor != b"0":
            [(cursor, names)] = await self.ask(("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_AT_A_TIME))
            types = await self.ask(*(("TYPE", name) for name in names))
            found = [(name, type.decode()) for name, type in zip(names, types, strict=True)]
            yield [(name, type) for name, type in found if type != "none"]  # gone meanwhile

    async def scan_hash(self, key: bytes) -> AsyncIterator[list[tuple[bytes, bytes]]]:
        """Fields and values of a hash, in parts; one may be told twice."""
        cursor: Any = 0
        while cursor != b"0":
            [(cursor, words)] = await self.ask(("HSCAN", key, cursor, "COUNT", _FIELDS_AT_A_TIME))
            yield pairs(words)

    async def write(self, commands: Sequence[Command]) -> None:
        """All of *commands* in one step, on a single node."""
        words = [word for command in commands for word in (len(command), *command)]
        if words:
            await self._client.run(_ALL_AT_ONCE, (), words, timeout=self._client.statement_timeout)

    async def close(self) -> None:
        await self._client.close()


def opened_keys(opening: Opening) -> RedisKeys:
    """The Redis that *opening* names; it connects when it is asked."""
    url = parse_url(opening.url)
    options: dict[str, Any] = dict(url.options)
    client = opened_client(url, options)
    refuse_unknown(options, url.scheme)
    return RedisKeys(client)


def pairs(words: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """A flat answer (field, value, field, value ...) as pairs."""
    return [*zip(words[::2], words[1::2], strict=True)]


def in_parts(*begin: Word, words: Sequence[Word], step: int = 1) -> list[Command]:
    """A command with very many words as several; *step* words belong together."""
    length = _WORDS_AT_A_TIME - _WORDS_AT_A_TIME % step
    return [(*begin, *words[at : at + length]) for at in range(0, len(words), length)]


def moment(milliseconds: int) -> datetime | None:
    """The answer to ``PEXPIRETIME``: None for a key that does not expire, or is not there."""
    try:
        return None if milliseconds < 0 else _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:  # later than any calendar: as good as never
        return None


def milliseconds(moment: datetime) -> int:
    """A moment as ``PEXPIREAT`` takes it."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def text_or_bytes(value: bytes) -> str | bytes:
    """Text where it is UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def shown(name: bytes) -> str:
    """A key for people."""
    return name.decode(errors="backslashreplace")
