"""How the runs of a session went: how many, how long they took, how many succeeded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, timedelta
from typing import Any

from pydantic import BaseModel

from session_adapter.formats.places import Document, Path, is_mapping, value_at
from session_adapter.models import SessionMetrics, mapping_of
from session_adapter.timestamps import IMPLAUSIBLE, Reading, read_time
from session_adapter.usage import objects_in, tokens_used

_SECONDS: tuple[Path, ...] = (("duration",), ("metrics", "duration"), ("metrics", "time"))
_BEGUN = ("started_at", "created_at")
_ENDED = ("completed_at", "finished_at", "ended_at")
_SAID = ("timestamp", "created_at")
_ERRORS = ("error", "error_message", "error_code", "exception")
_LONGEST = 1e12  # seconds; what is more fits no timedelta, and is no run


def metrics_of(runs: Iterable[Document | BaseModel]) -> SessionMetrics:
    """The metrics of *runs*; zeros where there are none.

    ``avg_response_time`` is over the runs that tell how long they took, and 0 where none does. A run succeeded when
    its status is ``completed``, in any case of letters, and it has no error; ``success_rate`` is over all runs.
    """
    listed = [mapping_of(run) for run in runs]
    if not listed:
        return SessionMetrics()
    durations = [seconds for run in listed if (seconds := seconds_of(run)) is not None]
    average = sum(durations) / len(durations) if durations else 0.0
    return SessionMetrics(
        total_runs=len(listed),
        total_tokens=tokens_used(listed),
        avg_response_time=timedelta(seconds=average),
        success_rate=sum(map(succeeded, listed)) / len(listed),
    )


def succeeded(run: Document) -> bool:
    """Whether *run* is known to have come to its end without an error."""
    answer = _answer(run)
    status = run.get("status") or answer.get("status")
    done = isinstance(status, str) and status.casefold() == "completed"
    return done and not any(part.get(name) for part in (run, answer) for name in _ERRORS)


def seconds_of(run: Document) -> float | None:
    """How long *run* took; None where it does not tell.

    What its writer measured counts, else the time from its beginning to its end, else that from its first message to
    its last. What is no number, below 0, or no time, tells nothing.
    """
    measured = (_measured(value_at(part, path)) for part in (run, _answer(run)) for path in _SECONDS)
    told = next((seconds for seconds in measured if seconds is not None), None)
    if told is None:
        told = _between(run)
    return _spoken(run) if told is None else told


def _answer(run: Document) -> Mapping[str, Any]:
    """The part that some writers keep what came back in, apart from what was asked."""
    answer = run.get("response")
    return answer if is_mapping(answer) else {}


def _measured(value: Any) -> float | None:
    match value:
        case bool():
            return None
        case timedelta():
            return _measured(value.total_seconds())
        case int() | float():
            return float(value) if 0 <= value <= _LONGEST else None
        case list():  # one for each request
            parts = [
                part for item in value if (part := None if isinstance(item, list) else _measured(item)) is not None
            ]
            return _measured(sum(parts)) if parts else None
    return None


def _between(run: Document) -> float | None:
    return _span(*(next((run[name] for name in names if run.get(name)), None) for names in (_BEGUN, _ENDED)))


def _spoken(run: Document) -> float | None:
    """The time from the first message to the last; those of one moment tell nothing of it."""
    times = [time for message in objects_in(run, "messages") if (time := _said_at(message))]
    return (_span(times[0], times[-1]) or None) if times else None


def _said_at(message: Document) -> Any:
    own = not message.get("from_history")  # else it was said in an earlier run
    return next((message[name] for name in _SAID if own and message.get(name)), None)


def _span(begun: Any, ended: Any) -> float | None:
    start, end = _moment(begun), _moment(ended)
    # Times of which only one names its offset are no distance apart.
    if start.moment is None or end.moment is None or start.naive != end.naive:
        return None
    return _measured((end.moment - start.moment).total_seconds())


def _moment(value: Any) -> Reading:
    reading = read_time(value, UTC)
    # A writer's zero time stands for one that it does not know.
    return Reading(None) if reading.reason == IMPLAUSIBLE else reading
