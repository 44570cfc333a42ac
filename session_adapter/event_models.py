"""Events as models: what a history shows, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

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
