"""How far a summary reaches into a conversation, told message by message as it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from session_adapter.formats.places import Document
from session_adapter.models import SessionSummary, SummaryBoundary, WatchedRun
from session_adapter.trace import START, digests
from session_adapter.transcript import line_of

WATCHED = 32
"""A summary remembers the runs among so many of the newest entries that it covers."""


@dataclass(frozen=True)
class Piece:
    """One entry of a conversation: a whole run, or one message.

    Attributes:
        seq: its place, rising from entry to entry.
        run_id: the run that it is or belongs to.
        is_run: it is a whole one, which may come again with more messages than before.
        tokens: that it used; 0 for a message that belongs to no run.
    """

    seq: int
    messages: Sequence[Document]
    run_id: str | None = None
    is_run: bool = False
    tokens: int = 0

    @property
    def name(self) -> str | int:
        """What it is known by when it comes again."""
        return _name(self.run_id, self.seq)


@dataclass
class Coverage:
    """What is covered so far: only what went through :meth:`add` and :meth:`end`.

    Attributes:
        seq: the place of the last entry that is covered; of a run perhaps in part.
        run_count, total_tokens: of the runs that are.
    """

    seq: int = 0
    run_count: int = 0
    total_tokens: int = 0
    _watched: dict[str | int, WatchedRun] = field(default_factory=dict)
    _known: int = 0

    @classmethod
    def of(cls, summary: SessionSummary | None) -> Coverage:
        """What *summary* covers of a stored history; nothing where it does not know its place there."""
        boundary = None if summary is None else summary.boundary
        if summary is None or boundary is None or boundary.seq is None:
            return cls()
        watched = {_name(run.run_id, run.seq): run.model_copy() for run in boundary.watched if run.seq is not None}
        return cls(boundary.seq, summary.run_count, summary.total_tokens, watched, boundary.seq)

    @classmethod
    def of_pieces(cls, summary: SessionSummary | None, pieces: Sequence[Piece]) -> Coverage:
        """What *summary* covers of *pieces*, told by the runs that both know."""
        boundary = None if summary is None else summary.boundary
        places = {piece.run_id: piece.seq for piece in pieces if piece.run_id is not None}
        runs = [] if boundary is None else boundary.watched
        watched: dict[str | int, WatchedRun] = {
            run.run_id: run.model_copy(update={"seq": places[run.run_id]})
            for run in runs
            if run.run_id is not None and run.run_id in places
        }
        last = max(map(_seq_of, watched.values()), default=0)
        return cls(last, _watched=watched, _known=last)

    @property
    def reread(self) -> int:
        """The place behind which entries have to be looked at: runs that are covered may have grown."""
        return min((run.seq - 1 for run in self._watched.values() if run.seq is not None), default=self.seq)

    def unseen(self, piece: Piece) -> list[str]:
        """The lines of those messages of *piece* that are not covered, in order; blank for one that says nothing.

        A run that does not begin any more as it was covered is unseen again as a whole.
        """
        lines = [line_of(message) for message in piece.messages]
        watched = self._watched.get(piece.name) if piece.is_run else None
        if watched is None:
            return lines if piece.seq > self._known else []
        if watched.digest == digests(lines[: watched.messages])[-1]:
            return lines[watched.messages :]
        watched.messages, watched.digest = 0, START
        return lines

    def add(self, piece: Piece, line: str) -> None:
        """The next unseen message of *piece*, which reads as *line*, is covered."""
        watched = self._begun(piece)
        watched.messages += 1
        watched.digest = digests([line], watched.digest)[-1]

    def end(self, piece: Piece) -> None:
        """All messages of *piece* are covered, though it may have none."""
        if piece.seq > self.seq or (piece.is_run and piece.name in self._watched):
            self._begun(piece)

    def boundary(self) -> SummaryBoundary:
        """How far it reaches now; later changes do not show in it."""
        runs = sorted(self._watched.values(), key=_seq_of)
        last = next((run.run_id for run in reversed(runs) if run.run_id is not None), None)
        return SummaryBoundary(seq=self.seq, run_id=last, watched=[run.model_copy() for run in runs])

    def _begun(self, piece: Piece) -> WatchedRun:
        self.seq = max(self.seq, piece.seq)
        if not piece.is_run and piece.run_id is None:
            return WatchedRun()
        watched = self._watched.get(piece.name)
        if watched is None:
            watched = self._watched[piece.name] = WatchedRun(run_id=piece.run_id)
            self.run_count += 1
        watched.seq = max(_seq_of(watched), piece.seq)
        self._count(piece, watched)
        self._watched = {name: run for name, run in self._watched.items() if _seq_of(run) > self.seq - WATCHED}
        return watched

    def _count(self, piece: Piece, watched: WatchedRun) -> None:
        # A whole run says each time what it has used by then, a single message what it used itself.
        gained = piece.tokens - watched.tokens if piece.is_run else piece.tokens
        watched.tokens += gained
        self.total_tokens = max(self.total_tokens + gained, 0)


def _name(run_id: str | None, seq: int | None) -> str | int:
    return (seq or 0) if run_id is None else run_id


def _seq_of(run: WatchedRun) -> int:
    return run.seq or 0
