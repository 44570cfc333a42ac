"""What a server answers (RESP2), read from the pieces in which it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from redis._parsers import BaseParser
from redis.exceptions import InvalidResponse

_error_of: Callable[[str], Exception] = BaseParser.parse_error
_TEXT, _ERROR, _NUMBER, _BYTES, _LIST = b"+-:$*"


class Answers:
    """Whole answers, and the beginning of the next one.

    Texts are bytes; an error is the exception that redis-py has for it, and not raised.
    """

    def __init__(self) -> None:
        self.whole: deque[Any] = deque()
        self._pieces: list[bytes] = []
        self._size = 0
        self._wanted = 0
        """So many bytes have to be there before it is worth looking at them again."""
        self._open: list[tuple[int, list[Any]]] = []
        """The lists that are not complete, each in the one before it: their sizes, and what they have."""

    @property
    def is_empty(self) -> bool:
        return not (self.whole or self._pieces or self._open)

    def feed(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            redis.InvalidResponse: it is no RESP2.
        """
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size < self._wanted:
            return
        text = piece if len(self._pieces) == 1 else b"".join(self._pieces)
        try:
            left = text[self._read(text) :]
        except ValueError as error:  # a size that is no number
            raise InvalidResponse(f"Redis answered with {text[:20]!r}") from error
        self._pieces, self._size = [left] if left else [], len(left)

    def _read(self, text: bytes) -> int:
        """Read what is complete in *text*; where that ends."""
        at = self._wanted = 0
        while (end := text.find(b"\r\n", at)) >= 0:
            kind, head = text[at], text[at + 1 : end]
            following = end + 2
            value: Any
            if kind == _BYTES and head != b"-1":
                stop = following + int(head)
                following = stop + 2
                if following > len(text):
                    self._wanted = following - at
                    break
                value = text[end + 2 : stop]
            elif kind == _LIST and head not in (b"-1", b"0"):
                self._open.append((int(head), []))
                at = following
                continue
            else:
                value = _simple(kind, head)
            at = following
            self._place(value)
        return at

    def _place(self, value: Any) -> None:
        while self._open:
            size, items = self._open[-1]
            items.append(value)
            if len(items) < size:
                return
            value = items
            self._open.pop()
        self.whole.append(value)


def _simple(kind: int, head: bytes) -> Any:
    if kind == _NUMBER:
        return int(head)
    if kind == _TEXT:
        return head
    if kind == _ERROR:
        return _error_of(head.decode("utf-8", "replace"))
    if kind == _LIST:
        return None if head == b"-1" else []
    if kind == _BYTES:
        return None
    raise InvalidResponse(f"Redis answered with {bytes([kind]) + head[:20]!r}")
