"""Summaries of sessions in hand: what Session.generate_ai_summary stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from session_adapter.answering import SummaryModel
from session_adapter.coverage import Coverage, Piece
from session_adapter.models import SessionSummary, SummaryBoundary, mapping_of
from session_adapter.telling import Telling, base_of, fallback
from session_adapter.transcript import run_messages
from session_adapter.usage import tokens_of, tokens_used

TIMEOUT = 30.0


class Conversation(Protocol):
    """What :func:`summarised` looks at of a session."""

    @property
    def runs(self) -> Sequence[Any]: ...
    @property
    def events(self) -> Sequence[Any]: ...
    @property
    def summary(self) -> SessionSummary | None: ...


async def summarised(session: Conversation, model: SummaryModel, *, timeout: float = TIMEOUT) -> SessionSummary:
    """A new summary of the runs of *session*, or of its events where it has no runs; *session* is not changed.

    Where its summary knows how far it reaches, *model* is told that summary and what came after; where nothing did,
    everything anew. Where *model* fails, answers nothing or takes longer than *timeout* seconds, the summary is made
    of the last runs: ``source`` is ``fallback`` and ``error`` says why. A summary that a model or a person wrote
    before stands in front of them, and is what the next model is told.

    Its numbers are those of the runs that there were when it began; of events, of the runs that they belong to.

    Raises:
        StorageValidationError: *timeout* is no number of seconds above 0.
    """
    pieces = _pieces_of(session)
    counts = _counts(session)  # before anything is waited for: what comes meanwhile no model has seen
    so_far, coverage = base_of(session.summary), Coverage.of_pieces(session.summary, pieces)
    if not any(coverage.unseen(piece) for piece in pieces):
        so_far, coverage = None, Coverage()
    telling = Telling(so_far, coverage, model, timeout=timeout, clock=_now)
    written = await telling.tell(_each(pieces))
    if written is None:
        written = fallback(session.summary, pieces, telling.error, coverage, _now())
    return written.model_copy(update={**counts, "boundary": _without_places(written.boundary)})


def _now() -> datetime:
    return datetime.now(UTC)


def _pieces_of(session: Conversation) -> list[Piece]:
    if session.runs:
        runs = [mapping_of(run) for run in session.runs]
        return [
            Piece(seq, run_messages(run), run.get("run_id"), is_run=True, tokens=tokens_of(run))
            for seq, run in enumerate(runs, 1)
        ]
    return [Piece(seq, [mapping_of(event)]) for seq, event in enumerate(session.events, 1)]


def _counts(session: Conversation) -> dict[str, int]:
    if session.runs:
        return {"run_count": len(session.runs), "total_tokens": tokens_used(session.runs)}
    events = [event for event in map(mapping_of, session.events) if event.get("run_id") is not None]
    runs = {event["run_id"] for event in events}
    return {"run_count": len(runs), "total_tokens": sum(map(tokens_of, events))}


async def _each(pieces: Iterable[Piece]) -> AsyncIterator[Piece]:
    for piece in pieces:
        yield piece


def _without_places(boundary: SummaryBoundary | None) -> SummaryBoundary | None:
    """*boundary* without the places of this list, which mean nothing in the history that it was shown from."""
    if boundary is None:
        return None
    runs = [run.model_copy(update={"seq": None}) for run in boundary.watched]
    return boundary.model_copy(update={"seq": None, "watched": runs})
