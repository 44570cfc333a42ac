"""Where everything of a store stands: its partitions, the names of its keys, and the members of its sorted sets.

A store is divided into partitions whose keys share a hash tag, so that each lies on one node of a cluster and a
script may touch all of it. In a partition there are:

    meta           hash: schema, generation (of the list of paths), incarnation (the last number given)
    paths          hash: "<type> <path>" -> "new" or "filled", the indexed paths
    r:<type>:<id>  hash, a record: h (head), k (its keys by path), m (metadata), d (data); see ``rows``
    o:<type>:<id>  hash: log id -> the last number given, the logs of a record
    e:<log id>     sorted set of entries by their number
    k:<log id>     hash: key of an entry -> its number
    logs           log ids
    t              set of the types that there were ever
    i              <id> NUL <type>, every record
    i:<type>       <id>
    c:<type>       <created_at><id>
    u:<type>       <updated_at><id>
    x:<type>:<path>  <key><updated_at><id>, those with a value at an indexed path
    y:<type>:<path>  <key><id>
    g:s, g:t       <session_id or thread_id> NUL <id> NUL <type>
    exp            <expires_at><type>:<id>
    never          nothing, ever: see ``Layout.script_keys``

From ``logs`` to ``exp`` they are sorted sets in which every score is 0: Redis keeps those in the order of their bytes,
finds a place in them without looking at what stands before, and UTF-8 has the order of code points.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

from unified_storage.errors import StorageConfigurationError

_NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,30}")
_YEAR_ONE = 62_135_596_800_000_000
"""Microseconds from the beginning of year 1 to 1970: times are stored as counted from there, so none is negative."""


def key_prefix(namespace: str) -> str:
    """What every key of a store begins with."""
    if namespace and not _NAMESPACE.fullmatch(namespace):
        raise StorageConfigurationError("a namespace is 1-31 of a-z 0-9 _, beginning with a letter")
    return f"us:{namespace}:"


@dataclass(frozen=True, slots=True)
class Layout:
    """The partitions of one store."""

    prefix: str
    partitions: int

    def of(self, id: str) -> int:
        """The partition of a record, its logs, and everything that says where they are.

        What belongs to one user of an application shares the part of its id up to the second ``~``.
        """
        if self.partitions == 1:
            return 0
        end = id.find("~", 1) if id.startswith("~") else -1
        return crc32((id if end < 0 else id[:end]).encode()) % self.partitions

    def key(self, partition: int, name: str) -> bytes:
        return f"{self.prefix}{{p{partition:02}}}:{name}".encode("utf-8", "surrogatepass")

    def meta(self, partition: int) -> str:
        """The key by which scripts find their partition."""
        return self.key(partition, "meta").decode()

    def script_keys(self, partition: int) -> tuple[str, str]:
        """What every script declares: ``meta``, by which it finds its partition, and a key that is never there."""
        # While an administrator moves the slot to another node, key by key, a script would find some of its keys and
        # miss the rest, and take those for records that do not exist. To a command that declares several keys of which
        # one is missing, both nodes answer TRYAGAIN (or ASK, and then TRYAGAIN) as long as that lasts: so with a key
        # that always misses, no script begins before the slot is in one place again, and its caller waits. Commands of
        # one key go on, and since all writing is done by scripts they see what was written last.
        return self.meta(partition), self.key(partition, "never").decode()

    def record(self, id: str, type_name: str) -> bytes:
        return self.key(self.of(id), f"r:{type_name}:{id}")

    def beside(self, id: str, name: str) -> bytes:
        """A key in the partition of a record."""
        return self.key(self.of(id), name)


def time_text(micros: int) -> str:
    """A time as 18 digits: their order is that of the times."""
    return f"{micros + _YEAR_ONE:018}"


def time_of(text: bytes | str) -> int:
    """Microseconds since 1970 of what :func:`time_text` wrote."""
    return int(text) - _YEAR_ONE


TIME_LENGTH = 18
ABOVE = b"\xff"
"""Behind every member that begins like it: no text or time in UTF-8 has this byte."""
KEY_END = b"\x00\x01"


def escaped(key: bytes) -> bytes:
    """An order key that ends where it says so: of two, neither begins with the other, and their order stays."""
    return key.replace(b"\x00", b"\x00\xff") + KEY_END


def unescaped(key: bytes) -> bytes:
    return key.removesuffix(KEY_END).replace(b"\x00\xff", b"\x00")


def packed_keys(keys: Iterable[tuple[str, bytes]]) -> bytes:
    """Keys by path as a MessagePack map of raw strings."""
    pairs = [raw(path.encode("utf-8", "surrogatepass")) + raw(key) for path, key in keys]
    return b"\xdf" + len(pairs).to_bytes(4) + b"".join(pairs)


def raw(text: bytes) -> bytes:
    """A raw string of MessagePack: the servers' reader knows no other kind of bytes."""
    return b"\xdb" + len(text).to_bytes(4) + text
