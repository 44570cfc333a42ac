"""One legacy file, read carefully: from bytes to a document, or to the reason why it is none."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain
from math import isinf
from typing import Any

import msgspec

from unified_storage.errors import StorageCapacityError, StorageError
from unified_storage.tagged import TAG
from unified_storage.values import MAX_DEPTH

EMPTY_FILE = "empty_file"
ENCODING = "encoding"
INVALID_JSON = "invalid_json"
NESTING_TOO_DEEP = "nesting_too_deep"
NUMBER_TOO_LONG = "number_too_long"
NOT_A_REGULAR_FILE = "not_a_regular_file"
UNREADABLE = "unreadable"
VANISHED = "vanished"

MAX_DIGITS = 4300
_FLAGS = ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY")  # each is missing on some system
_READ_ONLY = os.O_RDONLY | sum(int(getattr(os, name, 0)) for name in _FLAGS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STRINGS_AND_REST = re.compile(r'"(?:[^"\\]|\\.)*+"?|[^"\[\]{}]+', re.DOTALL)
_SURELY_SMALL = 1 << 20
"""Bytes of a file whose document one record can hold, however its numbers are spelled."""
_SPACE_BEHIND_NAME = re.compile(rb'"[ \t\r\n]+:')
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class FileBytes:
    """A file's content as one reading found it, and when it was last written (None: at no time that can be told)."""

    content: bytes
    modified: datetime | None

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class FileRefused(Exception):
    """A file that gives no document.

    Attributes:
        reason: a stable word.
        detail: where the fault is, where that is known.
    """

    def __init__(self, reason: str, detail: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def refusal_of(error: StorageError) -> FileRefused:
    """The refusal that says why a storage does not take a document: ``too_large``, or ``not_storable`` and where."""
    reason = "too_large" if isinstance(error, StorageCapacityError) else "not_storable"
    return FileRefused(reason, error.details.get("path"))


def read_bytes(path: bytes) -> FileBytes:
    """All of a file, through one opening of it: a file replaced meanwhile gives its old or its new content.

    Raises:
        FileRefused: it vanished, is no regular file (a pipe is never waited for), or cannot be read.
    """
    try:
        descriptor = os.open(path, _READ_ONLY)
    except FileNotFoundError as error:
        refused = FileRefused(UNREADABLE, "broken link") if os.path.islink(path) else FileRefused(VANISHED)
        raise refused from error
    except OSError as error:
        raise FileRefused(UNREADABLE, error.strerror) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileRefused(NOT_A_REGULAR_FILE)
        return FileBytes(_all_of(descriptor, status.st_size), _moment(status.st_mtime_ns))
    except OSError as error:
        raise FileRefused(UNREADABLE, error.strerror) from error
    finally:
        os.close(descriptor)


def _all_of(descriptor: int, size: int) -> bytes:
    """What a file holds; *size* is how much that will be, unless somebody writes to it."""
    pieces = []
    while piece := os.read(descriptor, max(size + 1, 1 << 16)):
        pieces.append(piece)
    return b"".join(pieces)


def _moment(nanoseconds: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:  # file systems can say what no calendar holds
        return None


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's JSON value, and what is odd about its text.

    Attributes:
        is_plain: known to be as ``unified_storage.texts.is_plain`` wants it; False says nothing.
    """

    value: Any
    warnings: tuple[str, ...] = ()
    is_plain: bool = False


def parse(content: bytes) -> Parsed:
    """The JSON value in *content*, read as Python's own reader does: a repeated key's last value counts.

    Raises:
        FileRefused: no text, no JSON, nested deeper than a storage keeps, or an integer of over 4300 digits.
    """
    return _parsed_quickly(content) or _parsed_with_care(content)


def _parsed_quickly(content: bytes) -> Parsed | None:
    """The document that *content* is, where nothing about its text is odd; None wherever that takes a closer look.

    What msgspec reads, Python's own reader reads to the same value. It says nothing of a repeated key: that shows in
    the number of names.
    """
    if content[:1] != b"{" or b"\0" in content[:4]:
        return None
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    names = _names_in(value)
    if names is None or content.count(b'":') != len(names) or _SPACE_BEHIND_NAME.search(content):
        return None
    return Parsed(value, is_plain=TAG not in names and len(content) <= _SURELY_SMALL)


def _names_in(tree: Any) -> list[str] | None:
    """The names that the mappings of *tree* have, all of them; None for one that is nested too deeply."""
    level: list[Any] = [tree]
    names: list[str] = []
    for _ in range(MAX_DEPTH + 1):
        maps = [item for item in level if type(item) is dict]
        lists = [item for item in level if type(item) is list]
        if not maps and not lists:
            return names
        names.extend(chain.from_iterable(maps))
        level = [*chain.from_iterable(map(dict.values, maps)), *chain.from_iterable(lists)]
    return None


def _parsed_with_care(content: bytes) -> Parsed:
    text, warnings = _decoded(content)
    if not text.strip():
        raise FileRefused(EMPTY_FILE)
    if _levels(text) > MAX_DEPTH:
        raise FileRefused(NESTING_TOO_DEEP, f"more than {MAX_DEPTH} levels")
    reader = _Reader()
    try:
        value = json.loads(
            text,
            object_pairs_hook=reader.mapping,
            parse_constant=reader.constant,
            parse_float=reader.float,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        raise FileRefused(INVALID_JSON, f"offset {error.pos}, line {error.lineno}: {error.msg}") from error
    if _SURROGATE_ESCAPE.search(text) and _has_lone_surrogate(value):
        reader.found("lone_surrogate")
    return Parsed(value, (*warnings, *reader.warnings))


def _decoded(content: bytes) -> tuple[str, tuple[str, ...]]:
    encoding = json.detect_encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise FileRefused(ENCODING, f"no {error.encoding} at byte {error.start}") from error
    if encoding == "utf-8":
        return text, ()
    if encoding == "utf-8-sig":
        return text, ("utf8_bom",)
    return text, (f"encoding_{encoding.removesuffix('-le').removesuffix('-be')}",)


def _levels(text: str) -> int:
    """How deep the brackets of *text* nest, those inside strings left out."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0  # too few to nest too deep
    steps = ((sign in "[{") - (sign in "]}") for sign in _STRINGS_AND_REST.sub("", text))
    return max(accumulate(steps), default=0)


class _Reader:
    """The hooks of one parsing, which note what they meet."""

    def __init__(self) -> None:
        self.warnings: dict[str, None] = {}

    def found(self, warning: str) -> None:
        self.warnings[warning] = None

    def mapping(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            self.found("duplicate_key")
        return made

    def constant(self, name: str) -> float:
        self.found("non_standard_number")
        return float(name)

    def float(self, digits: str) -> float:
        value = float(digits)
        if isinf(value):
            self.found("non_standard_number")
        return value


def _integer(digits: str) -> int:
    # Asked before Python is: a process may have lifted Python's own limit, and a storage keeps no more than this.
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise FileRefused(NUMBER_TOO_LONG, f"an integer of {len(digits)} digits")
    return int(digits)


def _has_lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
