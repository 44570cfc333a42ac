"""Items of openai-agents as entries of a history, and the other way round.

An entry that this framework wrote, here or in a store that was copied, holds one item as it was. An entry of another
writer is the items in which its events would be told to a model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents.items import TResponseInputItem

from session_adapter.entries import same_form
from session_adapter.formats import Event, entry_body, entry_form
from session_adapter.formats.openai_agents import (
    BEFORE,
    HIDDEN,
    OPENAI_SQLITE,
    item_from_event,
    linked,
    unlinked,
)
from session_adapter.formats.places import is_mapping
from session_adapter.timestamps import render
from unified_storage.errors import StorageValidationError
from unified_storage.interface import Entries, Entry


def is_own(entry: Entry) -> bool:
    """Whether *entry* is an item of this framework's."""
    return _element(entry) is not None


def entries_of(items: Sequence[TResponseInputItem], now: datetime) -> Entries:
    """What is appended for *items*, added together at the time *now*.

    Raises:
        StorageValidationError: one is no mapping; ``details`` name its place.
    """
    for at, item in enumerate(items):
        if not isinstance(item, Mapping):
            message = f"an item is a mapping, not {type(item).__name__}"
            raise StorageValidationError(message, details={"path": f"items[{at}]"})
    said = render(now)
    return [_entry(element, now) for element in linked({"item": item, "created_at": said} for item in items)]


def items_in(entries: Entries, shown: Callable[[Entries], Iterable[Event]]) -> list[TResponseInputItem]:
    """The items of *entries*, of one log and in its order; what is no readable item is left out, as its own stores do.

    Args:
        shown: gives the events that entries show, with their numbers; asked where some are of other writers.
    """
    elements = [_element(entry) for entry in entries]
    told: dict[int, list[Event]] = {}
    for event in shown(entries) if None in elements else ():
        told.setdefault(event["seq"], []).append(event)
    listed: list[Mapping[str, Any]] = []
    for entry, own in zip(entries, elements, strict=True):
        listed += [item_from_event(event) for event in told.get(entry["seq"], [])] if own is None else [own]
    return _items(listed)


def items_of_event(event: Event) -> list[TResponseInputItem]:
    """The items in which *event* is told, at least one."""
    return _items([item_from_event(event)])


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What becomes of the end of a log when its newest item is withdrawn.

    Attributes:
        item: None where it could not be read.
        gone: how many of the newest entries are withdrawn.
        added: what then takes their place.
    """

    item: TResponseInputItem | None
    gone: int
    added: Entries


def answer_length(newest: Entry) -> int:
    """How many entries the answer has that *newest*, an own one, is the last of."""
    return 1 + len((_element(newest) or {}).get(BEFORE) or [])


def without_last(answer: Entries) -> Withdrawn:
    """How the newest item is withdrawn from a log that ends with *answer*, as :func:`answer_length` says.

    The items of one answer are shown by its last one; so the one before takes that over.
    """
    newest = answer[-1]
    values = _shown_together(answer)
    told = unlinked(values)
    left = linked(told[:-1])
    same = next((at for at, (one, other) in enumerate(zip(left, values, strict=False)) if one != other), len(left))
    item = _readable(told[-1]) if told else None
    return Withdrawn(item, len(values) - same, [_entry(element, newest["created_at"]) for element in left[same:]])


def _shown_together(answer: Entries) -> list[Mapping[str, Any]]:
    """The elements that the last entry of *answer* shows: its own, and the hidden ones right before it."""
    *earlier, newest = map(_element, answer)
    together = [newest or {}]
    for element in reversed(earlier):
        if element is None or not element.get(HIDDEN):
            break
        together.insert(0, element)
    return together


def _element(entry: Entry) -> Mapping[str, Any] | None:
    """The element that an entry of this framework's is; None for an entry of another writer."""
    format, value = entry_form(entry["body"])
    is_item = format is not None and same_form(format, OPENAI_SQLITE) and is_mapping(value) and "item" in value
    return value if is_item else None


def _entry(element: Mapping[str, Any], moment: datetime) -> Entry:
    return {"body": entry_body(OPENAI_SQLITE, element), "created_at": moment}


def _items(elements: Iterable[Mapping[str, Any]]) -> list[TResponseInputItem]:
    return [item for element in unlinked(elements) if (item := _readable(element)) is not None]


def _readable(element: Mapping[str, Any]) -> TResponseInputItem | None:
    item = element["item"]
    if isinstance(item, str):  # JSON that would not be spelled so again, or none at all
        try:
            item = json.loads(item)
        except (ValueError, RecursionError):
            return None
    return item
