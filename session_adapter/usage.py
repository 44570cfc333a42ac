"""How many tokens runs used, by whatever name whoever wrote them counted them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from typing import Any

from pydantic import BaseModel

from session_adapter.formats.places import Document, Path, is_mapping, value_at
from session_adapter.models import mapping_of

_TOTAL = ("total_tokens", "total_token_count", "totalTokens", "totalTokenCount")
_PROMPT = ("prompt_tokens", "input_tokens", "prompt_token_count", "promptTokens", "inputTokens", "promptTokenCount")
_COMPLETION = (
    "completion_tokens",
    "output_tokens",
    "candidates_token_count",
    "completionTokens",
    "outputTokens",
    "candidatesTokenCount",
)

# Where a run or a message says what it used: the first that counts anything is believed.
_PLACES: tuple[Path, ...] = (
    ("usage",),
    ("metrics",),
    ("usage_metadata",),
    ("usageMetadata",),
    ("metadata", "usage"),
    ("response_metadata", "token_usage"),
    ("response", "usage"),
    ("response", "metrics"),
    (),
)


def tokens_used(runs: Iterable[Document | BaseModel]) -> int:
    """The tokens of all *runs* together; a run listed beside the one that holds it (``parent_run_id``) counts once."""
    listed = [mapping_of(run) for run in runs]
    held = {run_id for run in listed for run_id in _held_ids(run)}
    return sum(tokens_of(run) for run in listed if run.get("parent_run_id") is None or run.get("run_id") not in held)


def tokens_of(run: Document) -> int:
    """The tokens of one run, with those of the runs of a team's members in it; what cannot be read as a count is 0.

    What the run says of itself is believed: its total where that is above 0, else prompt and completion together. One
    that says nothing used what the runs of its steps did, else what its messages did.
    """
    own = _told(run) or sum(map(tokens_of, objects_in(run, "step_executor_runs"))) or _of_messages(run)
    return own + sum(map(tokens_of, objects_in(run, "member_responses")))


def _of_messages(run: Document) -> int:
    # A message taken over from an earlier run was paid for there.
    return sum(_told(message) for message in objects_in(run, "messages") if not message.get("from_history"))


def _told(thing: Document) -> int:
    return next((count for path in _PLACES if (count := _counted(value_at(thing, path)))), 0)


def _counted(usage: Any) -> int:
    if not is_mapping(usage):
        return 0
    return _first(usage, _TOTAL) or _first(usage, _PROMPT) + _first(usage, _COMPLETION) or _of_steps(usage)


def _of_steps(usage: Document) -> int:
    steps = usage.get("steps")
    return sum(_told(step) for step in steps.values() if is_mapping(step)) if is_mapping(steps) else 0


def _first(usage: Document, names: Iterable[str]) -> int:
    return next((count for name in names if (count := _count(usage.get(name)))), 0)


def _count(value: Any) -> int:
    """*value* as a count: whole numbers above 0, and lists of them, one for each request."""
    match value:
        case bool():
            return 0
        case int() if value > 0:
            return value
        case float() if isfinite(value) and value > 0:
            return int(value)
        case list():
            return sum(_count(item) for item in value if not isinstance(item, list))
    return 0


def _held_ids(run: Document) -> Iterator[object]:
    for name in ("step_executor_runs", "member_responses"):
        for inner in objects_in(run, name):
            if isinstance(inner.get("run_id"), str):
                yield inner["run_id"]
            yield from _held_ids(inner)


def objects_in(run: Document, name: str) -> Iterator[Mapping[str, Any]]:
    """The objects in the list *name* of a run; none where there is no such list."""
    listed = run.get(name)
    return (item for item in listed if is_mapping(item)) if isinstance(listed, list) else iter(())
