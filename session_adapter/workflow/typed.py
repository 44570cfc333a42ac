"""Reading a value as the type that the reader wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from session_adapter.workflow.errors import StateTypeError

T = TypeVar("T")


def typed(key: str, value: Any, wanted: type[T]) -> T:
    """*value* as a *wanted*: a class, a model or dataclass that a mapping describes, or a type such as ``list[int]``.

    The fields of a model or dataclass are read by pydantic's usual rules. Elsewhere nothing is turned into something
    similar: a text is no number, and True is not 1.

    Raises:
        StateTypeError: it is something else; the message names *key* and both types.
    """
    if isinstance(value, Mapping) and _is_structured(wanted) and not isinstance(value, wanted):
        return _checked(key, dict(value), wanted, strict=False)
    if not _is_class(wanted):
        return _checked(key, value, wanted, strict=True)
    if isinstance(value, wanted) and not (type(value) is bool and wanted is int):
        return value
    raise _wrong(key, value, wanted)


def _is_class(wanted: Any) -> bool:
    """Whether ``isinstance`` takes it, as it does not take a TypedDict, of this or that module."""
    is_class = isinstance(wanted, type) and get_origin(wanted) is None
    return is_class and wanted is not Any and not hasattr(wanted, "__required_keys__")


def _is_structured(wanted: Any) -> bool:
    return _is_class(wanted) and (is_dataclass(wanted) or issubclass(wanted, BaseModel))


def _checked(key: str, value: Any, wanted: type[T], *, strict: bool) -> T:
    try:
        return TypeAdapter(wanted).validate_python(value, strict=strict)
    except ValidationError as error:
        faults = [{"path": list(map(str, fault["loc"])), "fault": fault["msg"]} for fault in error.errors()]
        raise _wrong(key, value, wanted, faults=faults) from error


def _wrong(key: str, value: Any, wanted: Any, **facts: Any) -> StateTypeError:
    expected = getattr(wanted, "__name__", None) if get_origin(wanted) is None else None
    details = {"key": key, "expected": expected or str(wanted), "found": type(value).__name__, **facts}
    places = "; ".join(f"{'.'.join(fault['path'])}: {fault['fault']}" for fault in facts.get("faults", ()))
    message = f"the value of {key!r} is no {details['expected']} but a {details['found']}"
    return StateTypeError(f"{message} ({places})" if places else message, details=details)
