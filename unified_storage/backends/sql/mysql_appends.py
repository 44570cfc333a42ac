"""Appends on MySQL and MariaDB: in one round trip alone, and in two however many go together.

Together, the one holds their owners and the other does them.

Their values stand in the statements, since only so several statements are sent at once: as hexadecimal digits, of which
none can be mistaken for anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import TypeVar

from unified_storage.backends.sql.appends import Finish, Share, Verdict
from unified_storage.backends.sql.mysql_connection import MySQLConnection
from unified_storage.backends.sql.statements import Row
from unified_storage.logs import EntryDraft, LogName
from unified_storage.record import later
from unified_storage.transactions import to_the_end

# At READ COMMITTED each statement sees what is committed when it begins. Whoever changes a log holds its owner, also in
# the steps of the other verbs: what is read of a log after its owner is held stays true until the commit. No row is
# waited for, hence no deadlock. A key that is there already makes the insert fail, and with it everything; so does, for
# one alone, an owner that somebody else holds.

T = TypeVar("T")
_LAST_MOMENT = later(1 << 62, 0)
_BESIDE = 1_024
"""Bytes of a packet that are no statements of ours, at most."""
_CHANGED = 2
"""Rows that an insert says it has inserted where it changed the one that was there."""


class MySQLAppender:
    """Appends to the tables whose names begin with *prefix*."""

    most_under_way = 1

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    async def alone(
        self, line: MySQLConnection, name: LogName, draft: EntryDraft, expected: int | None, now: int, finish: Finish
    ) -> int | None:
        most = line.session.largest_packet - _BESIDE
        if not line.session.skips_locked or _size([Share(name, [draft], 1)]) > most:
            return None
        whole = self._whole(name, draft, expected, now)
        if len(whole) > most:
            return None
        with finish:
            *_, log, entry = await to_the_end(_within(finish.left, lambda: line.do_whole(whole)))
        if entry.rows == 0:
            return None
        return log.number if log.rows == _CHANGED else 1

    def _whole(self, name: LogName, draft: EntryDraft, expected: int | None, now: int) -> str:
        """The statements for one entry.

        Where one fails they are undone. Where the connection is lost meanwhile the server goes on to their end, but
        ROW_COUNT() is that of an error then: no condition may ask for it.
        """
        records, logs, log_id = f"{self._prefix}records", f"{self._prefix}logs", _text(name.log_id)
        owner = f"id = {_text(name.owner_id)} AND type = {_text(name.owner_type)}"
        key = "NULL" if draft.key is None else _text(draft.key)
        created = now if draft.created_at is None else draft.created_at
        version = "" if expected is None else f"AND version = {expected} "
        return (
            "SET @owner = NULL; "
            f"SELECT n INTO @owner FROM {records} WHERE {owner} "
            f"AND (expires_at IS NULL OR expires_at > {now}) {version}FOR UPDATE NOWAIT; "
            f"UPDATE {records} SET version = version + 1, "
            f"updated_at = LEAST(GREATEST({now}, updated_at + 1), {_LAST_MOMENT}) WHERE n = @owner; "
            f"INSERT INTO {logs} (log_id, owner, last_seq, count) "
            f"SELECT {log_id}, n, 1, 1 FROM {records} WHERE n = @owner "
            f"ON DUPLICATE KEY UPDATE last_seq = LAST_INSERT_ID({logs}.last_seq + 1), count = {logs}.count + 1; "
            f"INSERT INTO {self._prefix}entries (log, seq, `key`, created_at, body) "
            f"SELECT n, last_seq, {key}, {created}, _utf8mb4 {_text(draft.body)} FROM {logs} "
            f"WHERE log_id = {log_id} AND owner = @owner"
        )

    async def together(self, line: MySQLConnection, shares: Sequence[Share], now: int, finish: Finish) -> list[Verdict]:
        reads, most = self._reads(shares), line.session.largest_packet - _BESIDE
        if not line.session.skips_locked or max(_size(shares), len(reads)) > most:
            return [Verdict(None)] * len(shares)
        heads, logs = await line.begin_with(reads, finish.timeout)
        owners = {(id, type_name): n for n, id, type_name, expires in heads if expires is None or expires > now}
        known = {log_id: row for log_id, *row in logs}
        held = [share for share in shares if share.name.owner_key in owners]
        writes = self._writes(held, owners, known, now) if held else ""
        if not held or len(writes) > most:
            await line.rollback()
            return [Verdict(None, is_held_elsewhere=not held)] * len(shares)
        with finish:
            await to_the_end(_within(finish.left, lambda: line.finish_with(writes)))
        return [_verdict(share, owners, known) for share in shares]

    def _reads(self, shares: Sequence[Share]) -> str:
        ids = _listed(_text(share.name.owner_id) for share in shares)
        types = _listed(_text(share.name.owner_type) for share in shares)
        logs = _listed(_text(share.name.log_id) for share in shares)
        prefix = self._prefix
        return (
            f"SELECT n, id, type, expires_at FROM {prefix}records FORCE INDEX ({prefix}by_id) "
            f"WHERE id IN ({ids}) AND type IN ({types}) FOR UPDATE SKIP LOCKED; "
            f"SELECT log_id, n, last_seq FROM {prefix}logs WHERE log_id IN ({logs})"
        )

    def _writes(
        self, shares: Sequence[Share], owners: Mapping[tuple[str, str], int], known: Mapping[str, Row], now: int
    ) -> str:
        prefix = self._prefix
        new = [
            f"({_text(share.name.log_id)}, {owners[share.name.owner_key]}, {len(share.drafts)}, {len(share.drafts)})"
            for share in shares
            if share.name.log_id not in known
        ]
        entries = chain.from_iterable(self._entries(share, known.get(share.name.log_id), now) for share in shares)
        grown: dict[int, list[int]] = {}
        appends: dict[int, int] = {}
        for share in shares:
            owner = owners[share.name.owner_key]
            appends[owner] = appends.get(owner, 0) + share.appends
            if share.name.log_id in known:
                grown.setdefault(len(share.drafts), []).append(known[share.name.log_id][0])
        moved: dict[int, list[int]] = {}
        for owner, count in appends.items():
            moved.setdefault(count, []).append(owner)
        return "; ".join(
            [
                *([f"INSERT INTO {prefix}logs (log_id, owner, last_seq, count) VALUES {_listed(new)}"] if new else []),
                f"INSERT INTO {prefix}entries (log, seq, `key`, created_at, body) VALUES {_listed(entries)}",
                *(
                    f"UPDATE {prefix}logs SET last_seq = last_seq + {count}, count = count + {count} "
                    f"WHERE n IN ({_listed(map(str, sorted(logs)))})"
                    for count, logs in grown.items()
                ),
                *(
                    f"UPDATE {prefix}records SET version = version + {count}, "
                    f"updated_at = LEAST(GREATEST({now}, updated_at + 1) + {count - 1}, {_LAST_MOMENT}) "
                    f"WHERE n IN ({_listed(map(str, sorted(records)))})"
                    for count, records in moved.items()
                ),
            ]
        )

    def _entries(self, share: Share, log: Row | None, now: int) -> Iterable[str]:
        """What stands in each new row of a log's entries."""
        number, last = log or (f"(SELECT n FROM {self._prefix}logs WHERE log_id = {_text(share.name.log_id)})", 0)
        for seq, draft in enumerate(share.drafts, last + 1):
            key = "NULL" if draft.key is None else _text(draft.key)
            created = now if draft.created_at is None else draft.created_at
            yield f"({number}, {seq}, {key}, {created}, _utf8mb4 {_text(draft.body)})"


def _size(shares: Sequence[Share]) -> int:
    """Bytes that a statement has for the bodies, at least."""
    return 2 * sum(len(draft.body) for share in shares for draft in share.drafts)


def _text(text: str) -> str:
    return f"x'{text.encode().hex()}'"


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(parts))


async def _within(seconds: float, work: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(seconds):
        return await work()


def _verdict(share: Share, owners: Mapping[tuple[str, str], int], known: Mapping[str, Row]) -> Verdict:
    if share.name.owner_key not in owners:
        return Verdict(None, is_held_elsewhere=True)
    return Verdict(known[share.name.log_id][1] if share.name.log_id in known else 0)
