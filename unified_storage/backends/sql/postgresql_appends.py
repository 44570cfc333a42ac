"""Appends on PostgreSQL, each of which is one statement and a transaction of its own."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import accumulate

from unified_storage.backends.sql.appends import Finish, Share, Verdict
from unified_storage.backends.sql.driver import Connection
from unified_storage.backends.sql.statements import Call
from unified_storage.logs import EntryDraft, LogName
from unified_storage.record import later

_LAST_MOMENT = later(1 << 62, 0)

# What such a statement sees at READ COMMITTED: of a row that it waited for, or that was changed since it began, the
# newest state (the conditions on it are tested again); of all others the state at its beginning. Hence:
# - Whoever changes a log holds its owner, also in the steps of the other verbs. The owner is changed or locked first,
#   and what is made of the log's last number is made of its newest state (ON CONFLICT DO UPDATE).
# - The keys are those of the beginning. One that was added after that makes the insert fail, and with it everything.
# - An owner that was deleted and made again meanwhile is not seen: no row, which is the sign to go the long way.
# No deadlock: the one statement waits for its owner before it holds anything, the other waits for none at all.

# A record is looked up by the index that begins with its id: the type is hidden from the planner, to which all indexes
# look alike while a table is empty, and which keeps its plan while the table grows.
_OWNER = """r.id = {id} AND r.type || '' = {type} AND (r.expires_at IS NULL OR r.expires_at > {now})"""

_HAS_KEY = """(SELECT true FROM {prefix}logs AS l CROSS JOIN LATERAL
    (SELECT FROM {prefix}entries AS e WHERE e.log = l.n AND e.key = {key} OFFSET 0) AS e WHERE l.log_id = {log_id})"""

_ALONE = """WITH owner AS (
  UPDATE {prefix}records AS r SET version = r.version + 1, updated_at = least(greatest($4, r.updated_at + 1), {last})
  WHERE {owner} AND {has_key} IS NULL AND ($8::bigint IS NULL OR r.version = $8)
  RETURNING r.n
), log AS (
  INSERT INTO {prefix}logs AS l (log_id, owner, last_seq, count) SELECT $1, n, 1, 1 FROM owner
  ON CONFLICT (log_id) DO UPDATE SET last_seq = l.last_seq + 1, count = l.count + 1
  RETURNING l.n, l.last_seq
)
INSERT INTO {prefix}entries (log, seq, key, created_at, body) SELECT n, last_seq, $5, $6, $7 FROM log RETURNING seq"""

# The test of share.fresh is true of everything. The planner takes it for rare, and therefore looks each row of a table
# up by its index; and it finds no plan worth making anew for the values of each call. A log has a row in both fit and
# log, which a full join finds by a hash: any other, of two rows as the planner thinks, would compare each with each.
_TOGETHER = """WITH share AS MATERIALIZED (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::int[], $6::int[])
  AS share (log_id, id, type, appends, fresh, start) WHERE fresh BETWEEN 1 AND 1000000000
), held AS MATERIALIZED (
  SELECT share.*, owner.n AS owner FROM share CROSS JOIN LATERAL (
    SELECT r.n FROM {prefix}records AS r WHERE {owner} FOR NO KEY UPDATE SKIP LOCKED
  ) AS owner
), fit AS MATERIALIZED (
  SELECT * FROM held WHERE NOT EXISTS (
    SELECT FROM generate_series(start, start + fresh - 1) AS at WHERE ($7::text[])[at] IS NOT NULL AND {has_key}
  )
), log AS (
  INSERT INTO {prefix}logs AS l (log_id, owner, last_seq, count) SELECT log_id, owner, fresh, fresh FROM fit
  ON CONFLICT (log_id) DO UPDATE SET last_seq = l.last_seq + excluded.last_seq, count = l.count + excluded.count
  RETURNING l.n, l.log_id, l.last_seq
), added AS (
  INSERT INTO {prefix}entries (log, seq, key, created_at, body)
  SELECT log.n, log.last_seq - fit.fresh + 1 + at - start, ($7::text[])[at], ($8::bigint[])[at], ($9::text[])[at]
  FROM fit FULL JOIN log ON log.log_id = fit.log_id CROSS JOIN LATERAL generate_series(start, start + fresh - 1) AS at
), moved AS (
  UPDATE {prefix}records AS r
  SET version = r.version + o.appends, updated_at = least(greatest($10, r.updated_at + 1) + o.appends - 1, {last})
  FROM (SELECT owner, sum(appends)::bigint AS appends FROM fit GROUP BY owner) AS o
  WHERE r.n = o.owner
)
SELECT log_id, last_seq FROM log UNION ALL SELECT log_id, NULL FROM held"""


class PostgreSQLAppender:
    """The statements for the tables whose names begin with *prefix*."""

    most_under_way = 2

    def __init__(self, prefix: str) -> None:
        known = {"prefix": prefix, "last": _LAST_MOMENT}
        alone = known | {"owner": _OWNER.format(id="$2", type="$3", now="$4")}
        self._alone = _ALONE.format(has_key=_HAS_KEY.format(prefix=prefix, key="$5", log_id="$1"), **alone)
        self._alone_without_key = _ALONE.format(has_key="$5::text", **alone)
        self._together = _TOGETHER.format(
            has_key=_HAS_KEY.format(prefix=prefix, key="($7::text[])[at]", log_id="held.log_id"),
            owner=_OWNER.format(id="share.id", type="share.type", now="$10"),
            **known,
        )

    async def alone(
        self, line: Connection, name: LogName, draft: EntryDraft, expected: int | None, now: int, finish: Finish
    ) -> int | None:
        call = Call(
            self._alone_without_key if draft.key is None else self._alone,
            (
                *(name.log_id, name.owner_id, name.owner_type, now),
                *(draft.key, now if draft.created_at is None else draft.created_at, draft.body, expected),
            ),
        )
        with finish:
            rows = await line.run(call)
        return rows[0][0] if rows else None

    async def together(self, line: Connection, shares: Sequence[Share], now: int, finish: Finish) -> list[Verdict]:
        names = [share.name for share in shares]
        counts = [len(share.drafts) for share in shares]
        drafts = [draft for share in shares for draft in share.drafts]
        call = Call(
            self._together,
            (
                [name.log_id for name in names],
                [name.owner_id for name in names],
                [name.owner_type for name in names],
                [share.appends for share in shares],
                counts,
                [*accumulate(counts[:-1], initial=1)],
                [draft.key for draft in drafts],
                [now if draft.created_at is None else draft.created_at for draft in drafts],
                [draft.body for draft in drafts],
                now,
            ),
        )
        with finish:
            rows = await line.run(call)
        last = {log_id: seq for log_id, seq in rows if seq is not None}
        held = {log_id for log_id, _ in rows}
        return [_verdict(share, last.get(share.name.log_id), held) for share in shares]


def _verdict(share: Share, last: int | None, held: Container[str]) -> Verdict:
    if last is not None:
        return Verdict(last - len(share.drafts))
    return Verdict(None, is_held_elsewhere=share.name.log_id not in held)
