"""The words of query text, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from unified_storage.errors import StorageValidationError
from unified_storage.paths import Path

_CONSTANTS = {"TRUE": True, "FALSE": False, "NULL": None}
_JOINTS = {"WHERE", "AND", "OR", "NOT", "IN", "LIKE", "IS", "CONTAINS", "EXISTS", "ORDER", "BY", "LIMIT"}
_KEYWORDS = _JOINTS | _CONSTANTS.keys()
_NAME = r"[^\W\d]\w*"
_QUOTED = r'"(?:[^"]|"")*+"'
_TOKEN = re.compile(
    rf"""
    \s*+ (?:
        (?P<path> (?:{_NAME}|{_QUOTED}) (?:\.(?:\w+|{_QUOTED}))*+ )
      | (?P<text> '(?:[^']|'')*+' )
      | (?P<param> :{_NAME} )
      | (?P<number> [+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)? (?![\w.]) )
      | (?P<sign> != | <= | >= | [=<>(),-] )
      | (?P<end> \Z )
    )""",
    re.VERBOSE,
)
_PART = re.compile(rf"{_QUOTED}|\w+")


@dataclass(frozen=True, slots=True)
class Token:
    """One word of a query.

    Attributes:
        kind: path, text, param, number, keyword, sign or end.
        word: the keyword in capitals, the sign, or ``end``; empty for the others.
        text: as written.
        offset: characters before it, from 0.
    """

    kind: str
    word: str
    text: str
    offset: int

    def refused(self, reason: str, *, path: str | None = None) -> StorageValidationError:
        """The error that points at this word."""
        details: dict[str, Any] = {"offset": self.offset}
        if path is not None:
            details["path"] = path
        return StorageValidationError(f"query, at character {self.offset}: {reason}", details=details)

    def __str__(self) -> str:
        if self.kind in ("keyword", "sign"):
            return self.word
        # Texts and numbers are somebody's values: errors do not repeat them.
        return {"end": "the end", "text": "a text", "number": "a number"}.get(self.kind, self.text)


def tokens_of(text: str) -> list[Token]:
    """All words of *text*, the last of kind ``end``.

    Raises:
        StorageValidationError: something that is no word of the language, with its offset.
    """
    tokens: list[Token] = []
    place = 0
    while not tokens or tokens[-1].kind != "end":
        found = _TOKEN.match(text, place)
        if found is None:
            start = place + len(text[place:]) - len(text[place:].lstrip())
            raise Token("unknown", "", text[start], start).refused(f"unexpected {text[start]!r}")
        tokens.append(_token(found))
        place = found.end()
    return tokens


def _token(found: re.Match[str]) -> Token:
    kind = str(found.lastgroup)
    text, offset = found[kind], found.start(kind)
    if kind == "path" and text.upper() in _KEYWORDS:
        return Token("keyword", text.upper(), text, offset)
    return Token(kind, {"sign": text, "end": "end"}.get(kind, ""), text, offset)


def path_of(token: Token) -> Path:
    """The keys of a path; quoted ones without their quotes."""
    parts = (part[0] for part in _PART.finditer(token.text))
    return tuple(part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts)


def value_of(token: Token) -> Any:
    """The value of a literal.

    Raises:
        StorageValidationError: *token* is none, or a number too large.
    """
    if token.kind == "text":
        return token.text[1:-1].replace("''", "'")
    if token.kind == "keyword" and token.word in _CONSTANTS:
        return _CONSTANTS[token.word]
    if token.kind != "number":
        raise token.refused(f"expected a value or :name, found {token}")
    return _number(token)


def _number(token: Token) -> int | float:
    try:
        number = int(token.text) if token.text.lstrip("+-").isdigit() else float(token.text)
    except ValueError as error:  # Python's own limit of digits
        raise token.refused("the number has too many digits") from error
    if number in (float("inf"), float("-inf")):
        raise token.refused("the number is too large for a float; bind it through params")
    return number
