"""Patterns of $like and $ilike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unified_storage import filter_cases as cases
from unified_storage.errors import StorageValidationError
from unified_storage.likes import check_pattern, is_like


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("", ""),
        ("%", ""),
        ("%%", "a\nb"),
        ("a%", "a"),
        ("%a%a", "xaya"),
        ("_", "é"),
        ("_", "\U0001f600"),
        ("_", "\n"),
        (r"50\%", "50%"),
        (r"a\_b", "a_b"),
        ("a\\\\b", "a\\b"),
        (r"\a.*", "a.*"),
        ("\ud800%", "\ud800x"),
        ("a%\x00", "ab\x00"),
    ],
)
def test_a_pattern_fits_the_whole_text(pattern: str, text: str) -> None:
    assert is_like(text, pattern, fold=False)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("a", "ab"),
        ("a", "A"),
        ("%a", "a\n"),
        ("_", ""),
        ("a%a", "a"),
        (r"\%", "x"),
        (r"a\_b", "axb"),
        (".", "a"),
        ("a_", "a"),
    ],
)
def test_a_pattern_fits_nothing_else(pattern: str, text: str) -> None:
    assert not is_like(text, pattern, fold=False)


def test_ilike_folds_the_ascii_letters_only() -> None:
    assert is_like("HeLLo", "hEl%", fold=True)
    assert not is_like("É", "é", fold=True)
    assert not is_like("\u212a", "k", fold=True)  # the Kelvin sign
    assert not is_like("ſ", "s", fold=True)
    assert not is_like("ı", "I", fold=True)


@pytest.mark.parametrize("pattern", ["\\", "a\\", "\\\\\\", "%\\"])
def test_a_lone_backslash_at_the_end_is_refused(pattern: str) -> None:
    with pytest.raises(StorageValidationError):
        check_pattern(pattern)


@given(cases.patterns, st.text(alphabet="aAbx%_\\\né", max_size=8), st.booleans())
def test_patterns_mean_what_a_plain_table_of_prefixes_says(pattern: str, text: str, fold: bool) -> None:
    assert is_like(text, pattern, fold=fold) == _by_table(text, pattern, fold)


def _by_table(text: str, pattern: str, fold: bool) -> bool:
    """``fits[n]``: the pattern so far fits the first n characters."""

    def same(left: str, right: str) -> bool:
        return left == right or (fold and left.isascii() and right.isascii() and left.lower() == right.lower())

    fits = [True] + [False] * len(text)
    symbols = iter(pattern)
    for symbol in symbols:
        if symbol == "%":
            fits = [any(fits[: end + 1]) for end in range(len(fits))]
            continue
        literal = next(symbols) if symbol == "\\" else symbol
        wild = symbol == "_"
        fits = [False] + [fits[end] and (wild or same(text[end], literal)) for end in range(len(text))]
    return fits[-1]


@pytest.mark.timeout(20)
def test_a_hostile_pattern_takes_no_exponential_time() -> None:
    text = "a" * 20_000
    assert not is_like(text, "%a" * 40 + "%b", fold=False)
    assert not is_like(text, "%a_a%" * 40 + "b", fold=True)
    assert is_like(text + "b", "%a" * 40 + "%b", fold=False)
