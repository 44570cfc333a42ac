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
# A quote that is followed by another one is part of the text, never its end.
_QUOTED = r'"[^"]*(?:""[^"]*)*"(?!")'
_SPACE = re.compile(r"\s*")
_TOKEN = re.compile(
    rf"""
        (?P<path> (?:{_NAME}|{_QUOTED}) (?:\.(?:\w+|{_QUOTED}))* )
      | (?P<text> '[^']*(?:''[^']*)*'(?!') )
      | (?P<param> :{_NAME} )
      | (?P<number> [+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)? (?![\w.]) )
      | (?P<sign> != | <= | >= | [=<>(),-] )
      | (?P<end> \Z )
    """,
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
        tokens.append(_token(text, place))
        place = tokens[-1].offset + len(tokens[-1].text)
    return tokens


def _token(text: str, place: int) -> Token:
    space = _SPACE.match(text, place)
    offset = place if space is None else space.end()
    found = _TOKEN.match(text, offset)
    if found is None:
        raise Token("unknown", "", text[offset], offset).refused(f"unexpected {text[offset]!r}")
    kind, written = str(found.lastgroup), found[0]
    # upper() alone would make a keyword of letters that only look like one, such as a dotless i.
    if kind == "path" and written.isascii() and written.upper() in _KEYWORDS:
        return Token("keyword", written.upper(), written, offset)
    return Token(kind, {"sign": written, "end": "end"}.get(kind, ""), written, offset)


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
