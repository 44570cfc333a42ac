"""A storage by a third party: the abstract verbs and nothing more, on rows that never change in two dicts."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from unified_storage import IUnifiedStorage, StorageAlreadyExistsError, StorageClosedError, StorageNotFoundError
from unified_storage.arguments import check_count, check_expected, check_version, checked_kind, checked_place
from unified_storage.errors import StorageValidationError
from unified_storage.filters import matches, parse_filters, visible
from unified_storage.logs import (
    check_append,
    checked_entries,
    checked_log,
    checked_range,
    names_system_logs,
    parse_log_id,
)
from unified_storage.record import checked_id, checked_record, checked_records, is_system, later, now_micros
from unified_storage.times import moment
from unified_storage.transactions import Holders, OuterTransaction
from unified_storage.turns import Turns
from unified_storage.values import decode


class Shelf(IUnifiedStorage):
    """``rows``: key -> (draft, version, created, updated); ``books``: log id -> (owner's key, last number, entries)."""

    def __init__(self, indexed, clock, rows=(), books=()) -> None:
        self.indexed, self.clock = indexed, clock
        self.rows, self.books = dict(rows), dict(books)
        self._turns, self._holders, self._closed = Turns(), Holders(), False

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        self._holders.check()
        await self._take(30)
        before = dict(self.rows), dict(self.books)
        try:
            yield
        except BaseException:
            self.rows, self.books = before
            raise
        finally:
            self._turns.leave()

    async def _take(self, timeout: float) -> None:
        await self._turns.take(timeout)
        if self._closed:
            self._turns.leave()
            raise StorageClosedError("the shelf was closed")

    def _living(self, key):
        row = self.rows.get(key)
        over = row is None or (row[0].expires_at is not None and row[0].expires_at <= now_micros(self.clock))
        return None if over else row

    def _found(self, id, type):
        kinds = [type] if type else [kind for one, kind in self.rows if one == id and not is_system(kind)]
        found = [row for kind in kinds if (row := self._living((id, kind)))]
        if len(found) > 1:
            raise StorageValidationError(f"several types share the id {id!r}")
        return found[0] if found else None

    def _drop(self, key) -> None:
        self.rows.pop(key, None)
        self.books = {name: book for name, book in self.books.items() if book[0] != key}

    def _put(self, draft, expected=None) -> None:
        key, now = (draft.id, draft.type), now_micros(self.clock)
        _, version, created, updated = self._living(key) or (None, 0, _given(draft.created_at, now), now - 1)
        check_version(expected, version, draft.id)
        if not version:
            self._drop(key)
        self.rows[key] = (draft, version + 1, created, later(now, updated))

    async def save(self, data, *, expected_version=None):
        check_expected(expected_version)
        draft = checked_record(data)
        async with self._turn():
            self._put(draft, expected_version)
        return draft.id

    async def load(self, id, *, type=None):
        checked_id(id)
        async with self._turn():
            row = self._found(id, checked_kind(type))
        return None if row is None else _shown(row)

    async def delete(self, id, *, type=None, cascade=False, expected_version=None):
        checked_id(id)
        check_expected(expected_version)
        async with self._turn():
            row = self._found(id, checked_kind(type))
            check_version(expected_version, row[1] if row else 0, id)
            column = {"session": "session_id", "thread": "thread_id"}.get(row[0].type, "") if row and cascade else ""
            for key, (draft, *_) in [*self.rows.items()] if column else []:
                if getattr(draft, column) == id and not is_system(draft.type):
                    self._drop(key)
            if row:
                self._drop((id, row[0].type))
        return row is not None

    async def stream_list(self, filters=None, batch_size=100, *, after=None, with_data=True):
        condition, place = parse_filters(filters), checked_place(after)
        check_count("batch_size", batch_size, least=1)
        place = (place + "\0", "") if isinstance(place, str) else place
        while True:
            async with self._turn():
                keys = sorted(self.rows)
                keys = keys[0 if place is None else bisect_right(keys, place) :]
                living = [row for key in keys if visible(condition, key[1]) and (row := self._living(key))]
            batch = [record for record in map(_shown, living) if matches(condition, record)][:batch_size]
            if not batch:
                return
            place = (batch[-1]["id"], batch[-1]["type"])
            yield [record if with_data else _without_data(record) for record in batch]

    def transaction(self, operations=None, *, timeout=30):
        return OuterTransaction(self._begin, self._holders, operations, timeout)

    async def _begin(self, timeout):
        await self._take(timeout)
        return Unit(self)

    def _book(self, log_id, *, needed=True):
        """The owner's row and the log; where both have to be there, or (None, None)."""
        name = parse_log_id(log_id)
        key = (name.owner_id, name.owner_type)
        row = self._living(key)
        if row is None and needed:
            raise StorageNotFoundError(f"nobody owns the log {log_id!r}", details={"log_id": log_id})
        return row, name.log_id, self.books.get(name.log_id) if row else None, key

    def _touch(self, row, key) -> None:
        draft, version, created, updated = row
        self.rows[key] = (draft, version + 1, created, later(now_micros(self.clock), updated))

    def _added(self, last, entries, drafts, mode):
        entries, numbers, now = list(entries), [], now_micros(self.clock)
        for draft in drafts:
            same = [n for n, entry in enumerate(entries) if draft.key is not None and entry.key == draft.key]
            if same and mode == "error":
                raise StorageAlreadyExistsError(f"the key {draft.key!r} is there")
            if not same:
                last += 1
                entries.append(dataclasses.replace(draft, seq=last, created_at=_given(draft.created_at, now)))
            elif mode == "replace":
                old = entries[same[0]]
                created = _given(draft.created_at, old.created_at)
                entries[same[0]] = dataclasses.replace(draft, seq=old.seq, created_at=created)
            numbers.append(entries[same[0]].seq if same else last)
        return last, tuple(entries), numbers

    async def append(self, log_id, entries, *, on_duplicate="error", keep_last=None, expected_version=None):
        drafts = checked_entries(entries)
        check_append(on_duplicate, keep_last)
        check_expected(expected_version)
        async with self._turn():
            row, name, book, key = self._book(log_id)
            _, last, old = book or (key, 0, ())
            keys = {entry.key for entry in old} - {None}
            if not drafts or any(draft.key not in keys for draft in drafts):
                check_version(expected_version, row[1], key[0])
            last, new, numbers = self._added(last, old, drafts, on_duplicate)
            kept = new if keep_last is None else new[max(0, len(new) - keep_last) :]
            if kept != old or last != (book or (0, 0))[1] or (drafts and on_duplicate == "replace"):
                self.books[name] = (key, last, kept)
                self._touch(row, key)
        return numbers

    async def rewrite(self, log_id, entries, *, expected_version=None):
        drafts = checked_entries(entries)
        check_expected(expected_version)
        async with self._turn():
            row, name, book, key = self._book(log_id)
            check_version(expected_version, row[1], key[0])
            last, new, numbers = self._added(book[1] if book else 0, (), drafts, "error")
            self.books[name] = (key, last, new)
            self._touch(row, key)
        return numbers

    async def pop(self, log_id):
        async with self._turn():
            row, name, book, key = self._book(log_id, needed=False)
            if book is None or not book[2]:
                return None
            self.books[name] = (key, book[1], book[2][:-1])
            self._touch(row, key)
        return _entry(book[2][-1])

    async def read(self, log_id, *, after=0, before=None, last=None, since=None, limit=None):
        part = checked_range(after, before, since, last, limit)
        async with self._turn():
            book = self._book(log_id, needed=False)[2]
        found = [entry for entry in (book[2] if book else ()) if entry.seq > part.after]
        found = [entry for entry in found if part.before is None or entry.seq < part.before]
        found = [entry for entry in found if part.since is None or entry.created_at >= part.since]
        found = found if part.last is None else found[max(0, len(found) - part.last) :]
        return [_entry(entry) for entry in found[: part.limit]]

    async def log_info(self, log_id):
        async with self._turn():
            book = self._book(log_id, needed=False)[2]
        first = book[2][0].seq if book and book[2] else None
        return book and {"first_seq": first, "last_seq": book[1], "count": len(book[2])}

    async def logs(self, prefix=""):
        named = names_system_logs(prefix)
        async with self._turn():
            seen = [(name, key) for name, (key, *_) in self.books.items() if name.startswith(prefix)]
            found = sorted(name for name, key in seen if self._living(key) and (named or not is_system(key[1])))
        if found:
            yield found

    async def restore(self, records, logs=()):
        drafts, books = checked_records(records, restored=True), [checked_log(log) for log in logs]
        async with self._turn():
            for draft in drafts:
                key, now = (draft.id, draft.type), now_micros(self.clock)
                version = (self._living(key) or (None, 0))[1]
                if not version:
                    self._drop(key)
                created = _given(draft.created_at, now)
                self.rows[key] = (draft, version + 1, created, _given(draft.updated_at, created))
            for book in books:
                key = (book.owner.owner_id, book.owner.owner_type)
                if key not in {(draft.id, draft.type) for draft in drafts} and self._living(key) is None:
                    raise StorageNotFoundError(f"nobody owns the log {book.log_id!r}")
                self.books[book.log_id] = (key, book.last_seq, tuple(book.entries))
                if key not in {(draft.id, draft.type) for draft in drafts}:
                    self._touch(self.rows[key], key)
        return len(drafts)

    async def purge_expired(self):
        async with self._turn():
            expired = [key for key in self.rows if self._living(key) is None]
            for key in expired:
                self._drop(key)
        return len(expired)

    async def health_check(self):
        async with self._turn():
            return {"status": "ok", "backend": "shelf", "latency_ms": 0.0}

    async def close(self) -> None:
        self._closed = True


class Unit:
    """An open transaction: a shelf of its own, put in the place of the other's at the end."""

    def __init__(self, outer: Shelf) -> None:
        self.outer, self.verbs = outer, Shelf(outer.indexed, outer.clock, outer.rows, outer.books)

    async def commit(self) -> None:
        self.outer.rows, self.outer.books = self.verbs.rows, self.verbs.books
        self.outer._turns.leave()

    async def rollback(self) -> None:
        self.outer._turns.leave()


def _given(value, otherwise):
    return otherwise if value is None else value


def _shown(row):
    draft, version, created, updated = row
    return draft.as_input() | {"version": version, "created_at": moment(created), "updated_at": moment(updated)}


def _without_data(record):
    return {name: value for name, value in record.items() if name != "data"}


def _entry(entry):
    return {"seq": entry.seq, "key": entry.key, "created_at": moment(entry.created_at), "body": decode(entry.body)}
