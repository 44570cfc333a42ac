"""Asking a model for a text, within a time that holds whatever the model does."""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import Any, Protocol, cast, runtime_checkable

from unified_storage.errors import StorageValidationError, redacted

_LONGEST_REASON = 500

_abandoned: set[asyncio.Task[Any]] = set()
"""Calls that were given up and have not ended yet: a task nobody holds may be collected while it runs."""


@runtime_checkable
class SummaryModel(Protocol):
    """What sums up a text; how it is told to is its own affair."""

    async def summarise(self, text: str) -> str:
        """A short text that says what *text* does; it may raise anything."""
        ...


class NoAnswerError(Exception):
    """The model gave no text; the message says why, without the secrets in what the model raised."""


async def answer_of(model: SummaryModel, text: str, *, until: float) -> str:
    """What *model* makes of *text*.

    Args:
        until: a time of ``time.monotonic``. The call is back by then also where the model does not end when it is
            cancelled; it is then left to itself. (One that never gives way to the event loop cannot be left.)
    Raises:
        NoAnswerError: it raised, gave something that is no text or a blank one, or took longer.
    """
    asked = asyncio.ensure_future(_asked(model, text))
    try:
        await asyncio.wait({asked}, timeout=max(until - monotonic(), 0))
    finally:
        if not asked.done():
            _abandon(asked)
    if not asked.done():
        raise NoAnswerError("no answer in time")
    if asked.cancelled():
        raise NoAnswerError("the model cancelled its own call")
    if (error := asked.exception()) is not None:
        # Redacted before it is cut: half a secret has no sign that it is one.
        raise NoAnswerError(redacted(f"{type(error).__name__}: {error}")[:_LONGEST_REASON]) from error
    return _checked(asked.result())


def check_timeout(timeout: object) -> None:
    """Raise ``StorageValidationError`` unless *timeout* is a number of seconds above 0."""
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not 0 < cast("float", timeout) < inf:
        raise StorageValidationError("timeout is a number of seconds above 0", details={"path": "timeout"})


async def _asked(model: SummaryModel, text: str) -> object:
    return await model.summarise(text)


def _checked(answer: object) -> str:
    if not isinstance(answer, str):
        raise NoAnswerError(f"an answer is a text, not {type(answer).__name__}")
    if not answer.strip():
        raise NoAnswerError("the answer was empty")
    return answer


def _abandon(asked: asyncio.Task[Any]) -> None:
    asked.cancel()
    _abandoned.add(asked)
    asked.add_done_callback(_forget)


def _forget(asked: asyncio.Task[Any]) -> None:
    _abandoned.discard(asked)
    if not asked.cancelled():
        asked.exception()  # it came too late for anybody to hear of it
