"""The levels of a state - app, user, session - and what a delta says to each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unified_storage.errors import StorageValidationError
from unified_storage.handed_in import kept
from unified_storage.record import DELETE

APP, USER, TEMP = "app:", "user:", "temp:"
"""What the keys of a level begin with where levels stand together; those of a session have no such beginning."""

State = dict[str, Any]
Delta = dict[str, Any]
"""Key -> the value that takes the stored one's place, or ``DELETE``."""


@dataclass(frozen=True, slots=True)
class Deltas:
    """A delta by level, the keys without their prefixes; ``temp:`` keys are in none of them."""

    session: Delta
    user: Delta
    app: Delta


def split(delta: object, path: str) -> Deltas:
    """*delta*, copied, by level.

    Args:
        path: what it is called in errors; None stands for an empty one.
    Raises:
        StorageValidationError: no mapping, a key that is no text, or one with two prefixes.
    """
    parts = Deltas({}, {}, {})
    for key, value in checked(delta, path).items():
        _check_prefix(key, value, path)
        if key.startswith(APP):
            parts.app[key.removeprefix(APP)] = value
        elif key.startswith(USER):
            parts.user[key.removeprefix(USER)] = value
        elif not key.startswith(TEMP):
            parts.session[key] = value
    return parts


def of_level(delta: object, level: str, path: str) -> Delta:
    """*delta* of one level, copied, whose keys may be given with or without the prefix *level*.

    Raises:
        StorageValidationError: no mapping, a key that is no text, one of another level, one with two prefixes, or one
            given both ways.
    """
    found: Delta = {}
    for key, value in checked(delta, path).items():
        if key.startswith(TEMP):
            continue
        _check_prefix(key, value, path)
        name = bare(key, level, path)
        if name in found:
            message = f"{path} names {name!r} with its prefix and without it"
            raise StorageValidationError(message, details={"path": f"{path}.{key}"})
        found[name] = value
    return found


def bare(key: object, level: str, path: str) -> str:
    """*key* of a level without the prefix *level*, which it may have.

    Raises:
        StorageValidationError: no text, or a key of another level.
    """
    if not isinstance(key, str):
        raise _no_key(key, path)
    if key.startswith(USER if level == APP else APP):
        message = f"{key!r} is a key of another level; this one's begin with {level!r}, or with nothing"
        raise StorageValidationError(message, details={"path": f"{path}.{key}"})
    return key.removeprefix(level)


def checked(delta: object, path: str) -> Delta:
    """A copy of *delta* that shares no container with it; empty for None."""
    if delta is None:
        return {}
    if not isinstance(delta, Mapping):
        raise StorageValidationError(f"{path} is a mapping, not {type(delta).__name__}", details={"path": path})
    for key in delta:
        if not isinstance(key, str):
            raise _no_key(key, path)
    copy: Delta = kept(dict(delta), path)
    return copy


def shown_levels(user: Mapping[str, Any], app: Mapping[str, Any]) -> State:
    """The states of a user and an app as a session shows them beside its own: behind their prefixes."""
    return {f"{APP}{key}": value for key, value in app.items()} | {f"{USER}{key}": value for key, value in user.items()}


def _check_prefix(key: str, value: object, path: str) -> None:
    """Refuse to set what would be shown without its prefix as a key of another level; it may be deleted."""
    level = next((level for level in (APP, USER) if key.startswith(level)), None)
    if level is None or value is DELETE or not key.removeprefix(level).startswith((APP, USER, TEMP)):
        return
    message = f"{key!r} has two prefixes; a key of {level!r} does not begin with {APP!r}, {USER!r} or {TEMP!r}"
    raise StorageValidationError(message, details={"path": f"{path}.{key}"})


def _no_key(key: object, path: str) -> StorageValidationError:
    return StorageValidationError(f"a key of {path} is a text, not {type(key).__name__}", details={"path": path})
