"""A storage by a third party: the abstract verbs and nothing more, on records and entries that never change."""

from unified_storage import IUnifiedStorage
from unified_storage.arguments import behind, check_version, check_walk, checked_kind
from unified_storage.exclusive import Exclusive, Work
from unified_storage.filters import parse_filters
from unified_storage.logs import check_owners, checked_logs, checked_range, info_of, parse_log_id
from unified_storage.opening import refuse_unknown
from unified_storage.placing import checked_append, checked_rewrite
from unified_storage.record import checked_id, checked_record, checked_records, now_micros
from unified_storage.stored import only_one, restored, saved


class Shelf(IUnifiedStorage):
    """``rows``: by ``(id, type)`` a record and its logs; those by name, each its last number and its entries."""

    def __init__(self, indexed, clock, rows=()) -> None:
        self.indexed, self.clock, self.rows, self._exclusive = indexed, clock, dict(rows), Exclusive()

    def _living(self):
        now = now_micros(self.clock)
        return {key: row for key, row in self.rows.items() if row[0].lives(now)}

    def _found(self, id, type):
        id, type = checked_id(id), checked_kind(type)
        return only_one(id, type, {key[1]: record for key, (record, _) in self._living().items() if key[0] == id})

    def _put(self, written, draft, expected_version=None) -> None:
        stored, logs = self._living().get(draft.key, (None, {}))
        check_version(expected_version, stored.version if stored else 0, draft.id)
        self.rows[draft.key] = written(draft, stored, now_micros(self.clock)), logs

    async def save(self, data, *, expected_version=None):
        draft = checked_record(data)
        async with self._exclusive:
            self._put(saved, draft, expected_version)
        return draft.id

    async def load(self, id, *, type=None):
        async with self._exclusive:
            record = self._found(id, type)
        return record and record.handed_out()

    async def delete(self, id, *, type=None, cascade=False, expected_version=None):
        async with self._exclusive:
            found = self._found(id, type)
            check_version(expected_version, found.version if found else 0, id)
            for gone in found.taken((record for record, _ in self.rows.values()), cascade=cascade) if found else []:
                del self.rows[gone.key]
        return found is not None

    async def stream_list(self, filters=None, batch_size=100, *, after=None, with_data=True):
        condition, place = parse_filters(filters), behind(after)
        check_walk(batch_size, with_data)
        while True:
            async with self._exclusive:
                rows = sorted(self._living().items())
            batch = [record for key, (record, _) in rows if key > place and record.is_listed(condition)][:batch_size]
            if not batch:
                return
            yield [record.handed_out(with_data) for record in batch]
            place = batch[-1].key

    def _log(self, name):
        """The owner of a log, and the log; None for what is not there."""
        owner, logs = self._living().get(name.owner_key, (None, {}))
        return owner, logs.get(name)

    def _write(self, name, last_seq, entries, restored_with=()) -> None:
        owner, logs = self.rows[name.owner_key]
        owner = owner if owner.key in restored_with else owner.touched(now_micros(self.clock))
        self.rows[owner.key] = owner, logs | {name: (last_seq, entries)}

    async def _add(self, call):
        async with self._exclusive:
            owner, log = self._log(call.name)
            last_seq, entries = log or (0, ())
            known = {entry.key: entry.seq for entry in entries if entry.key}
            new = call.placed(known, last_seq, len(entries), owner and owner.version)
            if new.changes:
                self._write(call.name, new.last_seq, new.applied_to(entries, now_micros(self.clock)))
        return new.numbers

    async def append(self, log_id, entries, *, on_duplicate="error", keep_last=None, expected_version=None):
        return await self._add(checked_append(log_id, entries, on_duplicate, keep_last, expected_version))

    async def rewrite(self, log_id, entries, *, expected_version=None):
        return await self._add(checked_rewrite(log_id, entries, expected_version))

    async def pop(self, log_id):
        name = parse_log_id(log_id)
        async with self._exclusive:
            last_seq, entries = self._log(name)[1] or (0, ())
            if entries:
                self._write(name, last_seq, entries[:-1])
        return entries[-1].handed_out() if entries else None

    async def read(self, log_id, *, after=0, before=None, last=None, since=None, limit=None):
        name, wanted = parse_log_id(log_id), checked_range(after, before, since, last, limit)
        async with self._exclusive:
            _, entries = self._log(name)[1] or (0, ())
        return [entry.handed_out() for entry in wanted.of(entries)]

    async def log_info(self, log_id):
        async with self._exclusive:
            _, log = self._log(parse_log_id(log_id))
        return log and info_of(*log)

    async def logs(self, prefix=""):
        async with self._exclusive:
            names = [name for _, logs in self._living().values() for name in logs if name.is_listed(prefix)]
        if names:
            yield sorted(name.log_id for name in names)

    async def restore(self, records, logs=()):
        drafts, wholes = checked_records(records, restored=True), checked_logs(logs)
        among = {draft.key for draft in drafts}
        async with self._exclusive:
            check_owners(wholes, among, self._living().get)
            for draft in drafts:
                self._put(restored, draft)
            for log in wholes:
                self._write(log.owner, log.last_seq, log.stored, among)
        return len(drafts)

    async def purge_expired(self):
        async with self._exclusive:
            before, self.rows = len(self.rows), self._living()
            return before - len(self.rows)

    def transaction(self, operations=None, *, timeout=30):
        return self._exclusive.transaction(self._begin, operations, timeout)

    def _begin(self):
        inside = Shelf(self.indexed, self.clock, self.rows)
        return Work(inside, commit=lambda: setattr(self, "rows", inside.rows))

    async def health_check(self):
        async with self._exclusive:
            return {"status": "ok", "backend": "shelf", "latency_ms": 0.0}

    async def close(self) -> None:
        self._exclusive.close()


def open_shelf(url, *, indexed, clock, **options):
    """The storage of ``shelf://``."""
    refuse_unknown(options, url.scheme)
    return Shelf(indexed, clock)
