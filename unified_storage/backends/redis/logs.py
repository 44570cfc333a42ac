"""Reading logs as they are stored, and changing them on what a transaction has read and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from unified_storage.backends.redis.buffer import Buffer, OpenLog, changed_meanwhile
from unified_storage.backends.redis.partitions import time_of, time_text
from unified_storage.backends.redis.rows import HEAD, Key, Row, row_of
from unified_storage.backends.redis.scripts import LOG_INFO, SINCE
from unified_storage.backends.redis.store import Command, Store
from unified_storage.errors import StorageIntegrityError, StorageValidationError
from unified_storage.interface import Entries, Entry, Ids
from unified_storage.logs import LogName, ReadRange, RestoredLog, StoredEntry, no_owner, parse_log_id
from unified_storage.placing import Append, Placed

_ALL = 1 << 53
_HIGHEST = 1 << 53
"""Numbers of entries are scores, which are floats; below this they are exact."""
_LOG_IDS_AT_ONCE = 1000


# -- what is stored ----------------------------------------------------------------------------------------------


def entry_of(member: bytes) -> StoredEntry:
    """The entry that a member of a log's sorted set is."""
    try:
        seq, created_at, key, body = member.decode().split("\0", 3)
        return StoredEntry(int(seq), key or None, time_of(created_at), body)
    except ValueError as error:
        raise StorageIntegrityError("an entry of a log is unreadable") from error


def _entries_key(store: Store, name: LogName) -> bytes:
    return store.layout.beside(name.owner_id, f"e:{name.log_id}")


def reading(store: Store, name: LogName, wanted: ReadRange) -> Command:
    """The command that reads a part of a stored log; its answer is for :func:`entries_of`."""
    first = f"({wanted.after}"
    last = "+inf" if wanted.before is None else f"({wanted.before}"
    limit = _ALL if wanted.last is None and wanted.limit is None else min(wanted.last or wanted.limit or 0, _ALL)
    if wanted.since is not None:
        arguments = (name.log_id, first, last, time_text(wanted.since), int(wanted.last is not None), limit)
        return store.reading(SINCE, store.layout.of(name.owner_id), *arguments)
    if wanted.last is not None:
        return ("ZRANGE", _entries_key(store, name), last, first, "BYSCORE", "REV", "LIMIT", 0, limit)
    return ("ZRANGE", _entries_key(store, name), first, last, "BYSCORE", "LIMIT", 0, limit)


def entries_of(answer: Sequence[bytes], wanted: ReadRange) -> list[StoredEntry]:
    entries = [entry_of(member) for member in answer]
    return entries if wanted.last is None else entries[::-1]


def head_command(store: Store, name: LogName) -> Command:
    return ("HMGET", store.layout.record(*name.owner_key), *HEAD)


def info_command(store: Store, name: LogName) -> Command:
    """The command whose answer is for :func:`info_of`."""
    id, kind = name.owner_key
    return store.reading(LOG_INFO, store.layout.of(id), kind, id, name.log_id, time_text(store.now()))


def info_of(answer: Sequence[bytes | int | None] | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    first, last, count = answer
    return {"first_seq": None if first is None else int(first), "last_seq": int(last or 0), "count": count}


async def ids_after(
    store: Store, prefix: str, after: bytes | None, lives: Callable[[list[Key]], Any]
) -> tuple[Ids, bytes | None]:
    """Stored log ids that begin with *prefix*, in order, behind *after*; and where to go on, None at the end.

    Args:
        lives: tells which owners are there.
    """
    first = b"[" + prefix.encode() if after is None else b"(" + after
    last = b"(" + prefix.encode() + b"\xff"
    keys = [store.layout.key(partition, "logs") for partition in range(store.layout.partitions)]
    answers = await store.ask([("ZRANGE", key, first, last, "BYLEX", "LIMIT", 0, _LOG_IDS_AT_ONCE) for key in keys])
    # A partition that gave all it was asked for may have more behind: nothing beyond its last one is known.
    ends = [answer[-1] for answer in answers if len(answer) == _LOG_IDS_AT_ONCE]
    known_to = min(ends, default=None)
    members = sorted(member for answer in answers for member in answer if known_to is None or member <= known_to)
    names = [name for member in members if (name := parse_log_id(member.decode())).is_listed(prefix)]
    living = await lives([*dict.fromkeys(name.owner_key for name in names)])
    return [name.log_id for name in names if name.owner_key in living], known_to


# -- in a transaction --------------------------------------------------------------------------------------------


async def _answers(buffer: Buffer, owners: Sequence[Key], commands: Sequence[Command]) -> list[Any]:
    """The answers to commands about logs; with them, and behind them, their owners are looked at.

    An owner that has not moved since it was read first stands for what was read of its logs.
    """
    heads = [owner for owner in dict.fromkeys(owners) if owner not in buffer.written]
    asked = [*commands, *(("HMGET", buffer.store.layout.record(*owner), *HEAD) for owner in heads)]
    answers = await buffer.store.ask(asked)
    for owner, head in zip(heads, answers[len(commands) :], strict=True):
        buffer.note(owner, row_of(owner, head))
    return answers[: len(commands)]


async def read_each(buffer: Buffer, names: Sequence[LogName], wanted: ReadRange) -> list[Entries]:
    await buffer.wait_for_turns(dict.fromkeys(name.owner_id for name in names))
    unchanged = [name for name in names if _is_as_stored(buffer, name)]
    owners = [name.owner_key for name in names]
    answers = await _answers(buffer, owners, [reading(buffer.store, name, wanted) for name in unchanged])
    stored = {name.log_id: answer for name, answer in zip(unchanged, answers, strict=True)}
    found: list[Entries] = []
    for name in names:
        entries: Sequence[StoredEntry] = ()
        if await buffer.living(name.owner_key) is not None:
            if name.log_id in stored:
                entries = entries_of(stored[name.log_id], wanted)
            elif name.log_id in buffer.logs:
                log = buffer.logs[name.log_id]
                entries = wanted.of([*await _stored_part(buffer, log, wanted), *log.fresh.values()])
        found.append([entry.handed_out() for entry in entries])
    return found


def _is_as_stored(buffer: Buffer, name: LogName) -> bool:
    """Whether a transaction has left a log alone."""
    return name.log_id not in buffer.logs and not buffer.is_anew(name.owner_key)


async def read(buffer: Buffer, name: LogName, wanted: ReadRange) -> Entries:
    return (await read_each(buffer, [name], wanted))[0]


async def _stored_part(buffer: Buffer, log: OpenLog, wanted: ReadRange) -> list[StoredEntry]:
    """The stored entries left between the numbers asked for, as they are now."""
    if not log.stored:
        return []
    before = [bound for bound in (wanted.before, log.ceiling) if bound is not None]
    window = ReadRange(max(wanted.after, log.floor), min(before, default=None), None, None, None)
    (answer,) = await buffer.store.ask([reading(buffer.store, log.name, window)])
    return [log.replaced.get(entry.seq, entry) for entry in entries_of(answer, window)]


async def log_info(buffer: Buffer, name: LogName) -> dict[str, Any] | None:
    if _is_as_stored(buffer, name):
        await buffer.wait_for_turns([name.owner_id])
        (answer,) = await _answers(buffer, [name.owner_key], [info_command(buffer.store, name)])
        return info_of(answer) if await buffer.living(name.owner_key) is not None else None
    log = buffer.logs.get(name.log_id)
    if log is None or not log.exists or await buffer.living(name.owner_key) is None:
        return None
    first = min(log.fresh, default=None)
    if log.stored:
        first = (await _stored_entry(buffer, log, 0)).seq
    return {"first_seq": first, "last_seq": log.last_seq, "count": log.count}


async def _stored_entry(buffer: Buffer, log: OpenLog, skipped: int, *, newest: bool = False) -> StoredEntry:
    """One of the stored entries that are left, counted from the oldest or from the newest."""
    first, last = f"({log.floor}", "+inf" if log.ceiling is None else f"({log.ceiling}"
    bounds = (last, first, "BYSCORE", "REV") if newest else (first, last, "BYSCORE")
    entry = await _first(buffer, log, (*bounds, "LIMIT", skipped, 1))
    return log.replaced.get(entry.seq, entry)


async def _first(buffer: Buffer, log: OpenLog, part: Command) -> StoredEntry:
    """The first entry of a part of what is stored, which was not empty when the log was looked at first."""
    (answer,) = await buffer.store.ask([("ZRANGE", _entries_key(buffer.store, log.name), *part)])
    if not answer:
        raise changed_meanwhile(log.name.owner_key)
    return entry_of(answer[0])


async def _opened(buffer: Buffer, name: LogName, keys: Iterable[str] = ()) -> tuple[OpenLog, dict[str, int]]:
    """A log to be changed, and the numbers of those *keys* that it has."""
    asked = [*dict.fromkeys(keys)]
    log = buffer.logs.get(name.log_id)
    if log is None and buffer.is_anew(name.owner_key):
        log = OpenLog(name, last_seq=0, exists=False, stored=0, is_rewritten=True)
    store, (id, kind) = buffer.store, name.owner_key
    commands: list[Command] = []
    if asked and not (log is not None and log.is_rewritten):
        commands.append(("HMGET", store.layout.beside(id, f"k:{name.log_id}"), *asked))
    if log is None:
        commands.append(("HGET", store.layout.beside(id, f"o:{kind}:{id}"), name.log_id))
        commands.append(("ZCARD", _entries_key(store, name)))
    answers = await _answers(buffer, [name.owner_key], commands) if commands else []
    if log is None:
        last_seq, stored = answers[-2], answers[-1]
        log = OpenLog(name, int(last_seq or 0), exists=last_seq is not None, stored=stored)
    buffer.logs[name.log_id] = log
    numbers = answers[0] if asked and commands and commands[0][0] == "HMGET" else [None] * len(asked)
    known = {
        key: int(number)
        for key, number in zip(asked, numbers, strict=True)
        if number is not None and log.holds_stored(int(number))
    }
    known |= {entry.key: entry.seq for entry in log.fresh.values() if entry.key in asked and entry.key is not None}
    return log, known


async def append(buffer: Buffer, asked: Append) -> list[int]:
    """``append`` or ``rewrite``."""
    name = asked.name
    owner = await buffer.living(name.owner_key)
    if owner is None:
        raise no_owner(name)
    log, known = await _opened(buffer, name, (draft.key for draft in asked.drafts if draft.key is not None))
    placed = asked.placed(known, log.last_seq, log.count, owner.version)
    if placed.changes:
        if asked.rewrites:
            log.forget_stored()
            log.fresh = {}
        await _place(buffer, log, placed)
        if not asked.rewrites:
            await _drop_oldest(buffer, log, placed.dropped)
        _changed(buffer, log, owner)
    return placed.numbers


async def _place(buffer: Buffer, log: OpenLog, placed: Placed) -> None:
    now = buffer.now()
    for seq, draft in placed.replaced.items():
        target = log.fresh if seq in log.fresh else log.replaced
        created = draft.created_at
        if created is None:
            earlier = target.get(seq) or await _first(buffer, log, (seq, seq, "BYSCORE"))
            created = earlier.created_at
        target[seq] = draft.stored(seq, created)
    log.fresh |= {seq: draft.stored(seq, now) for seq, draft in placed.fresh.items()}
    log.last_seq, log.exists = placed.last_seq, True


async def _drop_oldest(buffer: Buffer, log: OpenLog, count: int) -> None:
    if count >= log.stored:
        count -= log.stored
        log.forget_stored()
        for seq in sorted(log.fresh)[:count]:
            del log.fresh[seq]
    elif count:
        last = await _stored_entry(buffer, log, count - 1)
        log.floor, log.stored = last.seq, log.stored - count
        log.replaced = {seq: entry for seq, entry in log.replaced.items() if seq > log.floor}


def _changed(buffer: Buffer, log: OpenLog, owner: Row) -> None:
    log.is_changed = True
    buffer.touch(owner)


async def pop(buffer: Buffer, name: LogName) -> Entry | None:
    owner = await buffer.living(name.owner_key)
    if owner is None:
        return None
    log, _ = await _opened(buffer, name)
    if not log.count:
        return None
    if log.fresh:
        newest = log.fresh.pop(max(log.fresh))
    else:
        newest = await _stored_entry(buffer, log, 0, newest=True)
        log.replaced.pop(newest.seq, None)
        log.ceiling, log.stored = newest.seq, log.stored - 1
    _changed(buffer, log, owner)
    return newest.handed_out()


async def restore(buffer: Buffer, restored: RestoredLog, among: set[Key]) -> None:
    """Write a log whole; its owner is a living record, or one of *among*: those restored just now, expired ones too."""
    name = restored.owner
    owner = await buffer.row(name.owner_key)
    if owner is None or not (owner.key in among or owner.lives(buffer.now())):
        raise no_owner(name)
    log = OpenLog(name, restored.last_seq, exists=True, stored=0, is_rewritten=True, is_changed=True)
    log.fresh = {entry.seq: entry for entry in restored.stored}
    buffer.logs[name.log_id] = log
    if owner.key not in among:
        buffer.touch(owner)


def check_numbers(logs: Iterable[RestoredLog]) -> None:
    """Raise ``StorageValidationError`` for numbers that a sorted set does not hold exactly."""
    for log in logs:
        if log.last_seq >= _HIGHEST:
            raise StorageValidationError(
                f"{log.log_id!r}: Redis numbers entries up to 2**53", details={"path": "logs", "log_id": log.log_id}
            )


def can_begin_a_log_id(prefix: str) -> bool:
    """No log id has a lone surrogate."""
    return not any("\ud800" <= character <= "\udfff" for character in prefix)


async def log_ids(buffer: Buffer, prefix: str) -> Ids:
    """All log ids that begin with *prefix*, as they are after what was written here."""

    async def living(owners: list[Key]) -> set[Key]:
        await buffer.prepare(owners)
        return {key for key in owners if not buffer.is_anew(key) and await buffer.living(key) is not None}

    found: set[str] = set()
    place: bytes | None = None
    while True:
        ids, place = await ids_after(buffer.store, prefix, place, living)
        found.update(ids)
        if place is None:
            break
    for log_id, log in buffer.logs.items():
        if log.exists and log.name.is_listed(prefix) and await buffer.living(log.name.owner_key) is not None:
            found.add(log_id)
    return sorted(found)
