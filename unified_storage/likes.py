r"""Patterns of ``$like`` and ``$ilike``: ``%`` any run, ``_`` any character, ``\`` takes the next one as it is."""

from __future__ import annotations

import re
from functools import lru_cache

from unified_storage.errors import StorageValidationError

_TOKEN = re.compile(r"\\(.)|(.)", re.DOTALL)


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that ends in the middle of an escape.

    Raises:
        StorageValidationError: *pattern* ends with a backslash that has nothing to stand before.
    """
    backslashes = len(pattern) - len(pattern.rstrip("\\"))
    if backslashes % 2:
        raise StorageValidationError("a pattern must not end with a lone backslash")


def is_like(text: str, pattern: str, *, fold: bool) -> bool:
    """Whether the whole of *text*, newlines included, fits *pattern*.

    Args:
        pattern: checked by :func:`check_pattern`.
        fold: the 26 ASCII letters match in either case; no other letter does.
    """
    return _compiled(pattern, fold).fullmatch(text) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str, fold: bool) -> re.Pattern[str]:
    head, *middle = _runs(pattern)
    if not middle:
        written = head
    else:
        # The leftmost place of each run is never a worse choice than a later one, so a run once found is
        # final (atomic): without this, "%a%a%a%b" would try every combination of places.
        found = "".join(f"(?>.*?{run})" for run in middle[:-1] if run)
        written = f"{head}{found}.*{middle[-1]}"
    flags = re.DOTALL | (re.IGNORECASE | re.ASCII if fold else re.NOFLAG)
    return re.compile(written, flags)


def _runs(pattern: str) -> list[str]:
    """Regular expressions of fixed length for what stands between the ``%`` signs."""
    groups: list[list[str]] = [[]]
    for escaped, plain in _TOKEN.findall(pattern):
        if plain == "%":
            groups.append([])
        else:
            groups[-1].append("." if plain == "_" else re.escape(escaped or plain))
    return ["".join(group) for group in groups]
