"""Events as models: what a history shows, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from session_adapter.models import Event


def shown_event(flat: Mapping[str, Any]) -> Event:
    """The event that *flat*, as ``.events.read`` gives it, is; what a writer left in a wrong type is left out."""
    given = {name: value for name, value in flat.items() if value is not None}
    try:
        return Event.model_validate(given)
    except ValidationError as error:
        wrong = {fault["loc"][0] for fault in error.errors()}
        fitting = {name: value for name, value in given.items() if name not in wrong}
        return Event.model_validate({"role": "unknown", **fitting})


def shown_events(flats: Iterable[Mapping[str, Any]]) -> list[Event]:
    """The same for each of *flats*."""
    given = [{name: value for name, value in flat.items() if value is not None} for flat in flats]
    if not given:
        return []
    try:
        return _events().validate_python(given)  # all at once, which takes half as long
    except ValidationError:
        return [*map(shown_event, given)]


@cache  # made when it is first needed: an import does not have to wait for it
def _events() -> TypeAdapter[list[Event]]:
    return TypeAdapter(list[Event])
