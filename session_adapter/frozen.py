"""Copies of runs and documents as bytes: equal bytes are the same content, to the types of its leaves.

A session with a long history is compared run by run with what was shown, and copied, each time it is written; what is
read is copied in case that it is written. This way that costs a twentieth of what the storage's own encoding does,
which looks at every value in Python. Bytes are compared and thawed where they were frozen; nothing stores them.
"""

from __future__ import annotations

import hashlib
import marshal
from typing import Any

from unified_storage.values import decode, encode

_UNSHARED = 2
"""The newest version of the form in which equal values have equal bytes, whoever else holds parts of them."""
_TEXT = b"text:"
"""Before what marshal cannot write, such as datetimes; its own bytes begin with the type of a dict."""


def frozen(body: dict[str, Any], path: str) -> bytes:
    """A copy of *body*, which thaws to the same.

    Args:
        path: what it is called in errors.
    Raises:
        StorageValidationError: something in it that no storage keeps. Some such things are found only when it is
            stored.
    """
    try:
        return marshal.dumps(body, _UNSHARED)
    except ValueError:
        return _TEXT + encode(body, path=path).encode()


def thawed(copy: bytes) -> dict[str, Any]:
    """What was frozen, anew: shares nothing with any other."""
    if copy.startswith(_TEXT):
        text: dict[str, Any] = decode(copy.removeprefix(_TEXT))
        return text
    body: dict[str, Any] = marshal.loads(copy)  # noqa: S302  # made by this process, from what is data already
    return body


def digest(copy: bytes) -> bytes:
    """What tells one content from all others, in 32 bytes."""
    return hashlib.sha256(copy).digest()
