"""What can be wrong in a partition: each look is one script and sees one state, and so does each mending.

Nothing that is only being written is taken for damage: what a look finds is looked at again by the script that mends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from unified_storage.backends.redis.client import Argument, Script
from unified_storage.backends.redis.damage_scripts import (
    COUNTER_SEEN,
    ENTRIES_SEEN,
    ENTRY_KEYS_SEEN,
    LOGS_SEEN,
    MEND_KEYS,
    RECORDS_SEEN,
    SET_SEEN,
    STRANGER,
)
from unified_storage.backends.redis.partitions import escaped
from unified_storage.backends.redis.rows import Key
from unified_storage.backends.redis.store import Store
from unified_storage.errors import StorageIntegrityError
from unified_storage.filters import parse_path, value_at
from unified_storage.findings import (
    COUNTER_BEHIND,
    DOCUMENT_MISSING,
    ENTRY_KEY,
    INDEX_KEY,
    LOG_COUNT,
    LOG_ORPHANED,
    MEMBER_MISSING,
    MEMBER_ORPHANED,
    MEMBER_STALE,
    UNREADABLE,
    Finding,
)
from unified_storage.interface import Findings
from unified_storage.order_keys import index_key
from unified_storage.values import decode

T = TypeVar("T")
_HEADS_AT_ONCE, _WHOLE_AT_ONCE = 100, 16
_LOGS_AT_ONCE, _ENTRIES_AT_ONCE, _MEMBERS_AT_ONCE = 100, 100, 100
_TRIES = 5
_LOG_KINDS = {b"orphaned": LOG_ORPHANED, b"unlisted": MEMBER_MISSING, b"low": LOG_COUNT}
_MEMBER_KINDS = {b"orphaned": MEMBER_ORPHANED, b"stale": MEMBER_STALE}
_ENTRY_WALKS = ((ENTRIES_SEEN, b"-inf"), (ENTRY_KEYS_SEEN, b"0"))
_NO_MORE = (b"", b"0")
PathStates = Mapping[str, bool]
"""The indexed paths of one type in one partition, and whether all records there have their key."""


@dataclass(frozen=True, slots=True)
class SeenLog:
    """A log, the record that its id names, and which of the places that know it told of it (``e k o logs``)."""

    owner: Key
    log_id: str
    told_by: str


class Damage:
    """The looks at one partition.

    Args:
        repair: mend what is found.
    """

    def __init__(self, store: Store, partition: int, *, repair: bool) -> None:
        self._store = store
        self._partition = partition
        self._repair = repair
        self._highest = 0

    async def _look(self, script: Script, *arguments: Argument) -> Any:
        (answer,) = await self._store.ask([self._store.reading(script, self._partition, 0, *arguments)])
        return answer

    async def _mend(self, script: Script, *arguments: Argument) -> Any:
        store = self._store
        keys = store.layout.script_keys(self._partition)
        return await store.client.run(script, keys, [1, *arguments], timeout=store.timeout)

    # -- records -------------------------------------------------------------------------------------------------

    async def of_records(self, keys: Sequence[Key]) -> Findings:
        """Records whose head or document is gone, whose keys are wrong, or that a sorted set does not know."""
        looks_into_data = any(path[0] == "data" for _, kind in keys for path in self._store.paths.of(kind))
        found: Findings = []
        for part in parts_of(keys, _WHOLE_AT_ONCE if looks_into_data else _HEADS_AT_ONCE):
            paths, *records = await self._look(RECORDS_SEEN, *self._asked(part))
            states = _path_states(paths)
            for key, seen in zip(part, records, strict=True):
                found += await self._judged(key, seen, states.get(key[1], {}))
        return found

    def _asked(self, keys: Sequence[Key]) -> Iterator[Argument]:
        for id, kind in keys:
            yield from (kind, id, int(any(path[0] == "data" for path in self._store.paths.of(kind))))

    async def _judged(self, key: Key, seen: Sequence[Any], paths: PathStates) -> Findings:
        if seen[0] != b"whole":
            return _without_document(key, seen[0])
        _, incarnation, written, lacking, stored, metadata, data = seen
        self._highest = max(self._highest, incarnation)
        try:
            wrong = _wrong_keys(_pairs(stored), paths, metadata, data)
        except StorageIntegrityError as error:
            return [Finding(UNREADABLE, *key, detail=error.error_code)]
        if self._repair:
            found = await self._with_keys(key, wrong, (incarnation, written))
            return found + (await self._with_members(key) if wrong or lacking else [])
        if wrong:  # the others follow from it
            lacking = [name for name in lacking if name[:2] not in (b"x:", b"y:")]
        return [*_key_findings(key, wrong), *_member_findings(key, lacking)]

    async def _with_keys(self, key: Key, wrong: Mapping[str, bytes], stamp: tuple[int, int]) -> Findings:
        """Give a record its keys, and put it where they say in the sorted sets."""
        for _ in range(_TRIES):
            if not wrong:
                return []
            changes = [part for path, each in wrong.items() for part in (_written(path), each)]
            id, kind = key
            if await self._mend(MEND_KEYS, kind, id, *stamp, *changes) == b"done":
                return [replace(finding, repaired=True) for finding in _key_findings(key, wrong)]
            paths, seen = await self._look(RECORDS_SEEN, *self._asked([key]))
            if seen[0] != b"whole":
                return []
            _, *stamp_now, _, stored, metadata, data = seen
            stamp = (stamp_now[0], stamp_now[1])
            wrong = _wrong_keys(_pairs(stored), _path_states(paths).get(kind, {}), metadata, data)
        return _key_findings(key, wrong)

    async def _with_members(self, key: Key) -> Findings:
        _, seen = await self._mend(RECORDS_SEEN, key[1], key[0], 0)
        lacking = seen[3] if seen[0] == b"whole" else []
        return [replace(finding, repaired=True) for finding in _member_findings(key, lacking)]

    async def of_counter(self) -> Findings:
        """Whether the next record might be taken for one of those that were looked at."""
        if not self._highest or not await self._look(COUNTER_SEEN, self._highest):
            return []
        repaired = self._repair and bool(await self._mend(COUNTER_SEEN, self._highest))
        return [Finding(COUNTER_BEHIND, "", "", True, repaired, f"partition {self._partition}")]

    # -- sorted sets ---------------------------------------------------------------------------------------------

    async def of_set(self, name: bytes) -> AsyncGenerator[Findings, None]:
        """Members that no record says, and log ids that no record has."""
        after: bytes | None = b""
        while after is not None:
            look = (name, after, _MEMBERS_AT_ONCE)
            behind, wrong = await self._look(SET_SEEN, *look)
            is_mended = bool(wrong) and self._repair and name != b"logs"
            if is_mended:
                behind, wrong = await self._mend(SET_SEEN, *look)
            if name == b"logs":
                found = await self.of_logs([_log_of_member(*each) for each in wrong])
            else:
                found = [self._member_finding(name, *each) for each in wrong]
            if found:
                yield found
            if not (is_mended and after == b""):  # else its order may be another one now: once more from the start
                after = behind or None

    def _member_finding(self, set_name: bytes, what: bytes, kind: bytes, id: bytes, member: bytes) -> Finding:
        return Finding(_MEMBER_KINDS[what], _text(id), _text(kind), True, self._repair, _text(set_name))

    # -- logs ----------------------------------------------------------------------------------------------------

    async def of_logs(self, logs: Sequence[SeenLog]) -> Findings:
        """Logs without a record, that their record does not know, or that would give a number again."""
        found: Findings = []
        for part in parts_of(logs, _LOGS_AT_ONCE):
            words = await self._look(LOGS_SEEN, *_arguments(part))
            wrong = [log for log, word in zip(part, words, strict=True) if word]
            if wrong and self._repair:
                words = await self._mend(LOGS_SEEN, *_arguments(wrong))
                part = wrong
            for log, word in zip(part, words, strict=True):
                found += [self._log_finding(log, _LOG_KINDS[each]) for each in word.split()]
        return found

    def _log_finding(self, log: SeenLog, kind: str) -> Finding:
        detail = "logs" if kind == MEMBER_MISSING else log.log_id
        return Finding(kind, *log.owner, True, self._repair, detail)

    async def of_stranger(self, owner: Key, log: SeenLog) -> Findings:
        """A log that stands with a record which its id does not name."""
        repaired = self._repair and bool(await self._mend(STRANGER, owner[1], owner[0], log.log_id))
        return [Finding(LOG_ORPHANED, *log.owner, True, repaired, log.log_id)]

    async def of_entries(self, logs: Sequence[SeenLog]) -> Findings:
        """Logs whose entries are not found by their keys, or that know keys of no entry."""
        found: Findings = []
        for part in parts_of(logs, _LOGS_AT_ONCE):
            # At once what is all of it for most logs.
            commands = [
                self._store.reading(script, self._partition, 0, log.log_id, first, _ENTRIES_AT_ONCE)
                for log in part
                for script, first in _ENTRY_WALKS
            ]
            answers = iter(await self._store.ask(commands))
            for log in part:
                ends = [next(answers) for _ in _ENTRY_WALKS]
                if any(count or following not in _NO_MORE for following, count in ends):
                    found += await self._of_entries(log)
        return found

    async def _of_entries(self, log: SeenLog) -> Findings:
        wrong = 0
        for script, after in _ENTRY_WALKS:
            following: bytes | None = after
            while following is not None:
                look = (log.log_id, following, _ENTRIES_AT_ONCE)
                after, count = await self._look(script, *look)
                if count and self._repair:
                    after, count = await self._mend(script, *look)
                wrong += count
                following = None if after in _NO_MORE else after
        return [Finding(ENTRY_KEY, *log.owner, True, self._repair, log.log_id)] if wrong else []


def parts_of(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """*items* in order, in lists of *size*, the last one shorter."""
    return (items[place : place + size] for place in range(0, len(items), size))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _written(path: str) -> bytes:
    return path.encode("utf-8", "surrogatepass")


def _without_document(key: Key, state: bytes) -> Findings:
    kinds = {b"damaged": Finding(UNREADABLE, *key, detail="head"), b"bare": Finding(DOCUMENT_MISSING, *key)}
    return [kinds[state]] if state in kinds else []


def _key_findings(key: Key, wrong: Mapping[str, bytes]) -> Findings:
    return [Finding(INDEX_KEY, *key, repairable=True, detail=", ".join(sorted(wrong)))] if wrong else []


def _member_findings(key: Key, sets: Sequence[bytes]) -> Findings:
    names = ", ".join(sorted(map(_text, sets)))
    return [Finding(MEMBER_MISSING, *key, repairable=True, detail=names)] if sets else []


def _path_states(listed: Sequence[bytes]) -> dict[str, dict[str, bool]]:
    """By type, of a partition's ``paths`` as a flat list."""
    states: dict[str, dict[str, bool]] = {}
    for name, state in zip(listed[::2], listed[1::2], strict=True):
        kind, _, path = name.decode("utf-8", "surrogatepass").partition(" ")
        states.setdefault(kind, {})[path] = state == b"filled"
    return states


def _pairs(flat: Sequence[bytes]) -> dict[str, bytes]:
    paths = (path.decode("utf-8", "surrogatepass") for path in flat[::2])
    return dict(zip(paths, flat[1::2], strict=True))


def _wrong_keys(
    stored: Mapping[str, bytes], states: PathStates, metadata: bytes | None, data: bytes | None
) -> dict[str, bytes]:
    """The paths at which a record has not the key that it should have, and that key, empty for none.

    At a path that is being filled it may still have none.
    """
    record = {
        "metadata": None if metadata is None else decode(metadata),
        "data": None if data is None else decode(data),
    }
    wrong = {}
    for text in states.keys() | stored.keys():
        path = parse_path(text)
        if path[0] == "data" and data is None:
            continue  # another program began to index it a moment ago
        key = index_key(value_at(record, path))[0]
        wanted = b"" if key is None else escaped(key)
        if stored.get(text, b"") != wanted and (text in stored or states.get(text, False)):
            wrong[text] = wanted
    return wrong


def _arguments(logs: Sequence[SeenLog]) -> Iterator[Argument]:
    for log in logs:
        id, kind = log.owner
        yield from (kind, id, log.log_id, log.told_by)


def _log_of_member(_: bytes, kind: bytes, id: bytes, member: bytes) -> SeenLog:
    return SeenLog((_text(id), _text(kind)), _text(member), "logs")
