"""One order of all values, as byte strings that any engine can compare.

Missing and null < bool < number < text < datetime < everything else. Two values that are equal by ``$eq`` have the
same key; numbers of every type and size are ordered exactly.
"""

from __future__ import annotations

from decimal import Decimal

from unified_storage.paths import MISSING
from unified_storage.scalars import exact_decimal, is_nan, kind_of
from unified_storage.times import micros

KEY_LIMIT = 512
"""Bytes of a key that an index keeps; values that differ only behind them are ties."""

_BOOL, _NUMBER, _TEXT, _DATETIME, _OTHER = b"\x10", b"\x20", b"\x30", b"\x40", b"\x50"
_LOWEST, _NEGATIVE, _ZERO, _POSITIVE, _HIGHEST, _NAN = b"\x00", b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
_MIDDLE = 1 << 63
_DOWN = bytes(max(0xFE - byte, 0) for byte in range(256))


def order_key(value: object) -> bytes:
    """The key of *value*: whole, so as long as the text or the digits of the value; empty for null and missing.

    NaN stands behind infinity. Naive datetimes, dates, UUIDs, bytes and containers share the last key.
    """
    if value is None or value is MISSING:
        return b""
    if type(value) is str:
        # Lone surrogates are kept: their bytes too stand in the order of their code points.
        return _TEXT + value.encode("utf-8", "surrogatepass")
    if type(value) is bool:
        return _BOOL + bytes([value])
    if type(value) in (int, float, Decimal):
        return _NUMBER + _number_key(value)  # type: ignore[arg-type]  # the three number types
    if kind_of(value) == "datetime":
        return _DATETIME + (micros(value) + _MIDDLE).to_bytes(8)  # type: ignore[arg-type]
    return _OTHER


def index_key(value: object) -> tuple[bytes | None, bool]:
    """What an index keeps of *value*, and whether finding this key proves equality by ``$eq``.

    The key is :func:`order_key` cut at :data:`KEY_LIMIT` bytes, None for null and missing. Where the second is
    False (null, NaN, other values, long ones) what an index finds has to be compared again.
    """
    if value is None or value is MISSING:
        return None, False
    key = order_key(value)
    # A key of exactly the limit is also what longer values are cut to.
    exact = len(key) < KEY_LIMIT and key != _OTHER and not is_nan(value)
    return key[:KEY_LIMIT], exact


def _number_key(value: int | float | Decimal) -> bytes:
    """Sign, then the exponent, then two decimal digits a byte; all of it mirrored for negative numbers."""
    if is_nan(value):
        return _NAN
    exact = exact_decimal(value)
    if exact.is_infinite():
        return _LOWEST if exact.is_signed() else _HIGHEST
    if not exact:
        return _ZERO
    digits = "".join(map(str, exact.as_tuple().digits)).rstrip("0")
    packed = bytes.fromhex(digits + "0" * (len(digits) % 2))
    if exact.is_signed():
        # More digits mean a smaller number here, so the end sorts behind every further byte.
        return _NEGATIVE + (_MIDDLE - exact.adjusted()).to_bytes(8) + packed.translate(_DOWN) + b"\xff"
    return _POSITIVE + (_MIDDLE + exact.adjusted()).to_bytes(8) + packed
