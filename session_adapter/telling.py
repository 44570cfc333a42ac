"""Telling a conversation to a model, step by step, and what it makes of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Callable, Sequence
from datetime import datetime
from time import monotonic

from session_adapter.answering import NoAnswerError, SummaryModel, answer_of, check_timeout
from session_adapter.coverage import Coverage, Piece
from session_adapter.models import SessionSummary
from session_adapter.transcript import line_of, shortened

MODEL = "model"
FALLBACK = "fallback"
MAX_TEXT = 100_000
"""Characters of conversation that a model is given at once; more is told in several steps."""

_MAX_LINE = 20_000
_FALLBACK_LINES = 6
_FALLBACK_LINE = 300

Clock = Callable[[], datetime]

log = logging.getLogger(__name__)


class Telling:
    """One telling: what is known so far, what that covers, and the time there is.

    Args:
        so_far: what the model is told to begin with.
        coverage: what that covers; what is told is added to it.
        timeout: seconds, for all steps together.
        clock: the time that summaries are written at, aware.
    Raises:
        StorageValidationError: *timeout* is no number of seconds above 0.
    """

    def __init__(
        self, so_far: str | None, coverage: Coverage, model: SummaryModel, *, timeout: float, clock: Clock
    ) -> None:
        check_timeout(timeout)
        self._so_far = so_far
        self._coverage = coverage
        self._model = model
        self._timeout = timeout
        self._clock = clock
        self._until = monotonic() + timeout
        self._lines: list[str] = []
        self._size = 0
        self._written: SessionSummary | None = None
        self.error: str | None = None
        """Why the model wrote nothing at some step."""

    async def tell(self, pieces: AsyncIterable[Piece]) -> SessionSummary | None:
        """Tell what is unseen of *pieces*.

        Returns:
            What the model wrote; None where it wrote nothing, because it failed or there was nothing to tell. Where it
            failed after some steps, it is what the last of them gave, with ``error``, and reaches as far as that.
        """
        try:
            async for piece in pieces:
                await self._tell_piece(piece)
            await self._ask()
        except NoAnswerError as error:
            self.error = str(error)
            cause = type(error.__cause__ or error).__name__
            log.warning("a model gave no summary", extra={"error": cause, "timeout": self._timeout})
            return self._written and self._written.model_copy(update={"error": self.error})
        return self._written

    async def _tell_piece(self, piece: Piece) -> None:
        for line in self._coverage.unseen(piece):
            told = shortened(line, _MAX_LINE)
            if self._size + len(told) > MAX_TEXT:
                await self._ask()  # before this line is covered
            self._coverage.add(piece, line)
            self._lines += [told] if told else []
            self._size += len(told)
        self._coverage.end(piece)

    async def _ask(self) -> None:
        if not self._lines:
            return
        content = await answer_of(self._model, self._text(), until=self._until)
        self._lines, self._size = [], 0
        self._written = SessionSummary(
            content=content,
            run_count=self._coverage.run_count,
            total_tokens=self._coverage.total_tokens,
            created_at=self._clock(),
            source=MODEL,
            boundary=self._coverage.boundary(),
        )

    def _text(self) -> str:
        so_far = self._so_far if self._written is None else self._written.content
        said = "\n".join(self._lines)
        return f"Summary so far:\n{so_far}\n\nSaid since then:\n{said}" if so_far else said


def fallback(
    earlier: SessionSummary | None, newest: Sequence[Piece], error: str | None, coverage: Coverage, now: datetime
) -> SessionSummary:
    """What stands in for a model's answer: the last words of the *newest* runs, behind the last summary that was none.

    It reaches no further than that one did, so that the next model is told all that was said since.
    """
    base = base_of(earlier)
    boundary = None if earlier is None else earlier.boundary
    counted = coverage if earlier is None or boundary is None else earlier
    return SessionSummary(
        content="\n\n".join(part for part in (base, _last_words(newest)) if part),
        run_count=counted.run_count,
        total_tokens=counted.total_tokens,
        created_at=now,
        source=FALLBACK,
        boundary=boundary,
        base=base,
        error=error or "nothing was said that could be summed up",
    )


def base_of(summary: SessionSummary | None) -> str | None:
    """The last content that is no fallback, of *summary* or of what it stands for."""
    if summary is None:
        return None
    return summary.base if summary.source == FALLBACK else summary.content


def _last_words(newest: Sequence[Piece]) -> str:
    lines: list[str] = []
    for piece in newest[-_FALLBACK_LINES:]:
        said = [line for message in piece.messages if (line := line_of(message))]
        lines += said if len(said) < 2 else [said[0], said[-1]]
    return "\n".join(shortened(line, _FALLBACK_LINE) for line in lines[-_FALLBACK_LINES:])
