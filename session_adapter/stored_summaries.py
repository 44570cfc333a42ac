"""Summaries of stored sessions, kept up to date entry by entry beside whatever else is written meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from session_adapter.answering import SummaryModel
from session_adapter.coverage import Coverage, Piece
from session_adapter.documents import format_of
from session_adapter.entries import events_of, flat_events, history_of, run_id_of, run_in
from session_adapter.errors import storage_failures
from session_adapter.events import Events
from session_adapter.formats import Event
from session_adapter.formats.places import Path, first_given
from session_adapter.identity import SESSION, SessionId, no_session, record_id
from session_adapter.models import SessionSummary
from session_adapter.reading import ATTEMPTS, session_record
from session_adapter.summaries import TIMEOUT
from session_adapter.summary_document import summary_body, summary_in
from session_adapter.telling import FALLBACK, Telling, base_of, fallback
from session_adapter.timestamps import Zone
from session_adapter.transcript import run_messages
from session_adapter.usage import tokens_of
from session_adapter.windows import safe_window
from unified_storage.errors import StorageValidationError
from unified_storage.interface import Entry, IUnifiedStorage, Record
from unified_storage.record import REPLACE

_CHUNK = 50
_NEWEST = 6


@dataclass(frozen=True, slots=True)
class SummaryWindow:
    """What a prompt is built of.

    Attributes:
        summary: of what was said before ``events``; None where there is none.
        events: the later events, oldest first, as ``.events.read`` gives them.
    """

    summary: str | None = None
    events: list[Event] = field(default_factory=list)


class Summaries:
    """The summaries of the sessions on one storage: plain and scoped ones, of documents in every format.

    Args:
        source_timezone: the zone of event times without an offset; None is this machine's.
    """

    def __init__(self, storage: IUnifiedStorage, source_timezone: Zone = None) -> None:
        self._storage = storage
        self._zone = source_timezone

    async def get(self, session: SessionId) -> SessionSummary | None:
        """The stored summary of *session*; None where it has none.

        Raises:
            SessionNotFoundError: there is no such session.
        """
        with storage_failures("read the summary of a session"):
            return _summary_in(await self._required(self._storage, session), self._zone)

    async def update(
        self, session: SessionId, model: SummaryModel, *, timeout: float = TIMEOUT
    ) -> SessionSummary | None:
        """Bring the summary of *session* up to date, and store it; None where nothing was said yet.

        *model* is told the summary so far and what its boundary leaves out: messages behind it, and messages that runs
        before it were given since. Where there are none, nothing is asked or written. A long history is told in
        steps, and no more of it is in memory than one of them. What is appended while *model* works stays behind the
        boundary.

        Where *model* fails, what it wrote until then is stored with ``error``; where it wrote nothing, a fallback made
        of the last runs is (``source`` is ``fallback``). That keeps the last summary's text, in front and as ``base``,
        and its boundary, so that the next model is told all that came since.

        Nothing else of the document is touched. Where somebody else changed the summary meanwhile, theirs stays, and is
        returned, unless a model wrote it and it reaches less far.

        Args:
            timeout: seconds that *model* may take, all steps together.
        Raises:
            SessionNotFoundError: there is no such session, or not any more.
            StorageValidationError: *timeout* is no number of seconds above 0, or what stands in the summary's place
                is none.
        """
        with storage_failures("sum up a session"):
            record = await self._required(self._storage, session)
            earlier = _summary_in(record, self._zone)
            coverage = Coverage.of(earlier)
            telling = Telling(base_of(earlier), coverage, model, timeout=timeout, clock=self._storage.clock)
            written = await telling.tell(self._pieces(record["id"], coverage.reread))
            if written is None and telling.error is None:
                return earlier
            if written is None:
                newest = await self._storage.read(history_of(record["id"]), last=_NEWEST)
                pieces = [self._piece(entry) for entry in newest]
                written = fallback(earlier, pieces, telling.error, coverage, self._storage.clock())
            return await self._store(session, record, written)

    async def window(self, session: SessionId, *, last: int | None = None) -> SummaryWindow:
        """The summary of *session* and the events that it does not cover, from the start of the turn they begin in.

        Where the newest summary is a fallback, it is the one before that: the events say the rest themselves.

        Args:
            last: only the newest *last* events of these.
        Raises:
            SessionNotFoundError: there is no such session.
        """
        with storage_failures("read the window of a session"):
            record = await self._required(self._storage, session)
            summary = _summary_in(record, self._zone)
            coverage = Coverage.of(summary)
            first = await self._first_unseen(record["id"], coverage)
            events = Events(self._storage, self._zone)
            found = await safe_window(events, session, last=last, after=first - 1)
            return SummaryWindow(base_of(summary), found)

    # reading

    async def _required(self, storage: IUnifiedStorage, session: SessionId) -> Record:
        record = await session_record(storage, record_id(session))
        if record is None:
            raise no_session(session)
        return record

    async def _pieces(self, stored_id: str, after: int) -> AsyncIterator[Piece]:
        entries = await self._storage.read(history_of(stored_id), after=after, limit=_CHUNK)
        while entries:
            for entry in entries:
                yield self._piece(entry)
            if len(entries) < _CHUNK:
                return  # what came meanwhile is for the next summary
            entries = await self._storage.read(history_of(stored_id), after=entries[-1]["seq"], limit=_CHUNK)

    async def _first_unseen(self, stored_id: str, coverage: Coverage) -> int:
        known = coverage.seq
        entries = await self._storage.read(history_of(stored_id), after=coverage.reread, before=known + 1)
        grown = (entry["seq"] for entry in entries if coverage.unseen(self._piece(entry)))
        return next(grown, known + 1)

    def _piece(self, entry: Entry) -> Piece:
        body, run_id, seq = entry["body"], run_id_of(entry), entry["seq"]
        if (run := run_in(body)) is not None:
            return Piece(seq, events_of(body) or run_messages(run), run_id, is_run=True, tokens=tokens_of(run))
        events = flat_events(entry, self._zone)
        used = 0 if run_id is None else tokens_of({"messages": events})
        return Piece(seq, events, run_id, tokens=used)

    # writing

    async def _store(self, session: SessionId, seen: Record, written: SessionSummary) -> SessionSummary | None:
        """Store *written*, made for the record *seen*, unless there is a better one by now; the one that is stored."""

        async def stored(tx: IUnifiedStorage) -> SessionSummary | None:
            record = await self._required(tx, session)
            if not _is_later(record, seen) or await _last_seq(tx, record) < Coverage.of(written).seq:
                raise no_session(session)  # another one of the same name: nothing of this is about it
            present = _summary_in(record, self._zone)
            if present != _summary_in(seen, self._zone) and not _reaches_further(written, present):
                return present
            await tx.update(record["id"], _with_summary(record, written), type=SESSION)
            return written

        return await self._storage.atomically(stored, attempts=ATTEMPTS)


def _is_later(record: Record, seen: Record) -> bool:
    """Whether *record* is the one that was *seen*, by now perhaps changed."""
    return bool(record["created_at"] == seen["created_at"] and record["version"] >= seen["version"])


async def _last_seq(tx: IUnifiedStorage, record: Record) -> int:
    info = await tx.log_info(history_of(record["id"]))
    return 0 if info is None else int(info["last_seq"])


def _reaches_further(one: SessionSummary, other: SessionSummary | None) -> bool:
    """Whether *one* is a model's, and covers more than *other*, which must not be a person's."""
    if one.source == FALLBACK or other is None or other.source is None:
        return False
    return other.source == FALLBACK or Coverage.of(one).seq > Coverage.of(other).seq


def _summary_in(record: Record, zone: Zone) -> SessionSummary | None:
    """The summary in the document of *record*.

    Raises:
        StorageValidationError: what stands in its place is none.
    """
    found = first_given(record["data"], _places(record))
    if found is None:
        return None
    summary = summary_in(found, zone)
    if summary is None:
        place = ".".join(_places(record)[0])
        raise StorageValidationError(f"what {place} holds is no summary", details={"path": place})
    return summary


def _places(record: Record) -> tuple[Path, ...]:
    return format_of(record).places("summary")


def _with_summary(record: Record, summary: SessionSummary) -> dict[str, Any]:
    """What an update of *record* says to put *summary* where its document keeps it."""
    changed: Any = REPLACE(summary_body(summary))
    for key in reversed(_places(record)[0]):
        changed = {key: changed}
    return {"data": changed}
