"""Documents as forms want them that are kept in JSON: whether one is JSON and nothing more, and bytes as text."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

_PLAIN = (str, int, float, bool)


def not_json(document: Mapping[str, Any]) -> str | None:
    """``not_json`` where *document* holds what JSON would change or refuse: bytes, times, tuples ...; else None."""
    left: list[Any] = [document]
    while left:
        value = left.pop()
        if type(value) is dict:
            left += value.values()
        elif type(value) is list:
            left += value
        elif not (value is None or type(value) in _PLAIN):
            return "not_json"
    return None


def text_of_octets(octets: bytes) -> str:
    """What *octets* say where they are UTF-8, else their Base64."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return b64encode(octets).decode()


def without_bytes(value: Any) -> Any:
    """*value* with its bytes as text."""
    if isinstance(value, bytes):
        return text_of_octets(value)
    if isinstance(value, Mapping):
        return {name: without_bytes(inner) for name, inner in value.items()}
    return [*map(without_bytes, value)] if isinstance(value, list) else value


def has_bytes(value: Any) -> bool:
    """Whether :func:`without_bytes` would be another."""
    left: list[Any] = [value]
    while left:
        one = left.pop()
        if isinstance(one, bytes):
            return True
        if isinstance(one, Mapping):
            left += one.values()
        elif isinstance(one, list):
            left += one
    return False
