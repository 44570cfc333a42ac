"""Whether a document is JSON and nothing more, as forms that are kept in JSON columns want it."""

from __future__ import annotations

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
