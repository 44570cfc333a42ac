"""Cursors as text: a place, and a seal that binds it to the order and the filters it was made for."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import blake2b
from json.encoder import encode_basestring_ascii as quoted

from unified_storage.errors import StorageValidationError
from unified_storage.filters import And, Condition, Not, Or, Test, path_text
from unified_storage.order_keys import order_key
from unified_storage.scalars import kind_of

_SEAL = 12
_WHOLE = range(-(1 << 63), 1 << 63)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place behind which the next page starts.

    Attributes:
        key: microseconds since 1970 for times, the id for ``id``, the cut order key for an indexed path
            (empty for null and missing).
        id: with *type*, the last record of the page before: breaks ties of *key*.
    """

    key: int | str | bytes
    id: str
    type: str


def write_text(cursor: Cursor, order: str, condition: Condition) -> str:
    """*cursor* as text of letters, digits, ``-`` and ``_``."""
    place = f"[{_key_text(cursor.key)},{quoted(cursor.id)},{quoted(cursor.type)}]".encode()
    return _armoured(_seal(place, order, condition) + place)


def _key_text(key: int | str | bytes) -> str:
    """*key* as JSON, written by hand: a page has one, and a general writer takes longer than all the rest of it."""
    if isinstance(key, int):
        return str(key)
    return quoted(key) if isinstance(key, str) else f'{{"hex":{quoted(key.hex())}}}'


def read_text(text: str, order: str, condition: Condition) -> Cursor:
    """The cursor in *text*.

    Raises:
        StorageValidationError: damaged, or made for another order or other filters.
    """
    raw = _unarmoured(text)
    seal, place = raw[:_SEAL], raw[_SEAL:]
    if seal != _seal(place, order, condition):
        raise StorageValidationError("the cursor is damaged, or was made for other filters or another order")
    return _cursor(place)


def _armoured(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _unarmoured(text: str) -> bytes:
    if not isinstance(text, str):
        raise StorageValidationError(f"a cursor is a text, not {type(text).__name__}")
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise StorageValidationError("the cursor is damaged") from error
    # The decoder skips what it does not know; only our own spelling counts.
    if _armoured(raw) != text:
        raise StorageValidationError("the cursor is damaged")
    return raw


def _cursor(place: bytes) -> Cursor:
    # The seal is no secret: a forged place must not do more than be refused.
    try:
        match json.loads(place):
            case [{"hex": str(key)}, str(id), str(type)]:
                return Cursor(bytes.fromhex(key), _text(id), _text(type))
            case [str(key), str(id), str(type)]:
                return Cursor(_text(key), _text(id), _text(type))
            case [int(key), str(id), str(type)] if key in _WHOLE:
                return Cursor(key, _text(id), _text(type))
    except (ValueError, RecursionError) as error:
        raise StorageValidationError("the cursor is damaged") from error
    raise StorageValidationError("the cursor is damaged")


def _text(text: str) -> str:
    """*text* as a database takes it; ``ValueError`` for a lone surrogate or a NUL."""
    text.encode()
    if "\0" in text:
        raise ValueError("a text with a NUL")
    return text


def _seal(place: bytes, order: str, condition: Condition) -> bytes:
    bound = f"[1, {quoted(order)}, {quoted(canonical(condition))}]".encode()
    return blake2b(place, digest_size=_SEAL, key=blake2b(bound, digest_size=32).digest()).digest()


def canonical(condition: Condition) -> str:
    """The same text for conditions that differ only in the order of parts or in how a value is written."""
    match condition:
        case Test(path, op, value):
            values = sorted({_value_text(each) for each in value}) if isinstance(value, tuple) else _value_text(value)
            if isinstance(values, str):
                return f"[{quoted(op)}, {quoted(path_text(path))}, {quoted(values)}]"
            return json.dumps([op, path_text(path), values])
        case Not(part):
            return f"not[{canonical(part)}]"
        case And(parts):
            return f"and[{','.join(sorted({canonical(part) for part in parts}))}]"
        case Or(parts):
            return f"or[{','.join(sorted({canonical(part) for part in parts}))}]"


def _value_text(value: object) -> str:
    if type(value) is str:
        return order_key(value).hex()
    kind = kind_of(value)
    if kind in ("date", "uuid"):
        return f"{kind}:{value}"
    if isinstance(value, bytes):
        return f"{kind}:{value.hex()}"
    return order_key(value).hex()
