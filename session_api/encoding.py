"""JSON as it comes in and goes out: bodies read strictly, answers written whatever stands in them."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import HTTPException, Request, Response

MOST_BYTES = 64 << 20
"""Four times what a session can hold: JSON may spell it at length."""

_MAYBE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with *content* as JSON."""
    return Response(encoded(content), status, dict(headers or {}), "application/json")


def encoded(content: Any) -> bytes:
    """*content* as JSON. What JSON has no word for is text, base64 or, as NaN and infinities, null."""
    try:
        return msgspec.json.encode(content)
    except (TypeError, ValueError, OverflowError):  # a lone surrogate, an integer beyond 64 bits, a text as no key
        return json.dumps(_plain(content), ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


class StrictRequest(Request):
    """A request whose body has to be JSON that can be stored and answered with, and not larger than anybody needs."""

    async def body(self) -> bytes:
        """The body; 413 as soon as it is larger than :data:`MOST_BYTES`."""
        if not hasattr(self, "_body"):
            chunks, size = [], 0
            async for chunk in self.stream():
                size += len(chunk)
                if size > MOST_BYTES:
                    raise HTTPException(413, "The request is too large to be stored")
                chunks.append(chunk)
            self._body = b"".join(chunks)
        return self._body

    async def json(self) -> Any:
        """The body's value.

        Raises:
            json.JSONDecodeError: no JSON, a number that is none, or half a character.
            UnicodeDecodeError: no text in UTF-8, UTF-16 or UTF-32, as JSON is.
        """
        if not hasattr(self, "_json"):
            self._json = _decoded(await self.body())
        return self._json


def _decoded(body: bytes) -> Any:
    text = body.decode(json.detect_encoding(body))

    def refused(constant: str) -> None:
        raise json.JSONDecodeError(f"{constant} is no JSON value", text, max(text.find(constant), 0))

    value = json.loads(text, parse_constant=refused)
    found = _MAYBE_SURROGATE.search(text)
    if found is not None and not _is_text(value):
        raise json.JSONDecodeError("half of a surrogate pair is no character", text, found.start())
    return value


def _is_text(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
