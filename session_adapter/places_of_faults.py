"""What a storage refuses in an argument, named as the caller knows it: ``state.user:a``, and not ``data.state.a``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from unified_storage.errors import StorageValidationError
from unified_storage.record import DELETE
from unified_storage.values import encode

_OF_AN_EVENT = (("entries[0].body", "event"), ("entries[0].key", "event.id"), ("events[0]", "event"))


@contextmanager
def named_in_state(state: object, path: str = "state") -> Iterator[None]:
    """Let a fault in a value of *state*, as it was handed in, be named by its key with its prefix."""
    try:
        yield
    except StorageValidationError as error:
        if isinstance(state, Mapping) and str(error.path).startswith("data."):
            encode({key: value for key, value in state.items() if value is not DELETE}, path=path)
        raise


@contextmanager
def named_in_event(body: Mapping[str, Any]) -> Iterator[None]:
    """Let a fault in an event be named by its place in it; *body* is what of the event is stored."""
    try:
        with named_in_state(body, "event"):
            yield
    except StorageValidationError as error:
        for stored, shown in _OF_AN_EVENT:
            if error.path is not None and error.path.startswith(stored):
                place = shown + error.path.removeprefix(stored)
                message = error.message.replace(error.path, place)
                raise StorageValidationError(message, details={**error.details, "path": place}) from error
        raise
