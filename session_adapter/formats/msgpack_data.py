"""MessagePack read as data: nothing is built from it but plain values, whatever its extensions ask for.

Written here because a library's reader makes room for as many elements as a text of five bytes claims to have.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 128
_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_LENGTHS = {
    0xC4: ("bytes", 1),
    0xC5: ("bytes", 2),
    0xC6: ("bytes", 4),
    0xC7: ("extension", 1),
    0xC8: ("extension", 2),
    0xC9: ("extension", 4),
    0xD9: ("text", 1),
    0xDA: ("text", 2),
    0xDB: ("text", 4),
    0xDC: ("list", 2),
    0xDD: ("list", 4),
    0xDE: ("mapping", 2),
    0xDF: ("mapping", 4),
}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
Extension = Callable[[int, bytes, int], Any]
"""Its code, its bytes and how deep it stands -> what stands in its place."""


class NotMessagePack(ValueError):
    """What is no MessagePack, or nests too deep."""


def read_msgpack(content: bytes, extension: Extension, depth: int = 0) -> Any:
    """The value that *content* is, to its last byte. Keys that are no text become it.

    Raises:
        NotMessagePack: it is none; nothing of it was executed.
    """
    reader = _Reader(content, extension)
    try:
        value = reader.value(depth)
    except RecursionError:
        raise NotMessagePack("it nests too deep") from None
    if reader.at != len(content):
        raise NotMessagePack(f"something follows at byte {reader.at}")
    return value


class _Reader:
    def __init__(self, content: bytes, extension: Extension) -> None:
        self._content = content
        self._extension = extension
        self.at = 0

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise NotMessagePack(f"more than {MAX_DEPTH} levels")
        (mark,) = self._taken(1)
        if mark <= 0x7F:
            return mark
        if mark >= 0xE0:
            return mark - 0x100
        if mark <= 0xBF:
            return self._short(mark, depth)
        if mark in _CONSTANTS:
            return _CONSTANTS[mark]
        if mark in _NUMBERS:
            return struct.unpack(_NUMBERS[mark], self._taken(struct.calcsize(_NUMBERS[mark])))[0]
        if mark in _FIXED_EXTENSIONS:
            return self._extended(_FIXED_EXTENSIONS[mark], depth)
        if mark in _LENGTHS:
            kind, width = _LENGTHS[mark]
            return self._long(kind, int.from_bytes(self._taken(width)), depth)
        raise NotMessagePack(f"no such value at byte {self.at - 1}")

    def _short(self, mark: int, depth: int) -> Any:
        if mark >= 0xA0:
            return self._text(mark & 0x1F)
        return self._list(mark & 0x0F, depth) if mark >= 0x90 else self._mapping(mark & 0x0F, depth)

    def _long(self, kind: str, count: int, depth: int) -> Any:
        match kind:
            case "bytes":
                return self._taken(count)
            case "text":
                return self._text(count)
            case "list":
                return self._list(count, depth)
            case "mapping":
                return self._mapping(count, depth)
        return self._extended(count, depth)

    def _text(self, length: int) -> str:
        try:
            return self._taken(length).decode()
        except UnicodeDecodeError as error:
            raise NotMessagePack(f"no text before byte {self.at}") from error

    def _list(self, count: int, depth: int) -> list[Any]:
        return [self.value(depth + 1) for _ in range(count)]

    def _mapping(self, count: int, depth: int) -> dict[str, Any]:
        return {_key(self.value(depth + 1)): self.value(depth + 1) for _ in range(count)}

    def _extended(self, length: int, depth: int) -> Any:
        code = int.from_bytes(self._taken(1), signed=True)
        return self._extension(code, self._taken(length), depth + 1)

    def _taken(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self._content):
            raise NotMessagePack("it ends too early")
        taken, self.at = self._content[self.at : end], end
        return taken


def _key(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
