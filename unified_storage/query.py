"""Query text: a small read-only language whose conditions mean what filters mean.

    [WHERE] condition [ORDER BY order_by] [LIMIT n]

A condition is ``path op value`` with ``= != < <= > >= LIKE``, ``path IN (value, ...)``, ``path IN :list``,
``path NOT IN ...``, ``path IS NULL``, ``path IS NOT NULL``, ``CONTAINS(path, value)`` or ``EXISTS(path)``; conditions
are joined by ``NOT``, ``AND`` and ``OR`` (binding in this order) and brackets. Values are ``'text'`` (``''`` is a quote
in it), numbers, ``TRUE``, ``FALSE``, ``NULL`` or ``:name``. Keywords may be written in any case. Keys that are no plain
words stand in double quotes (``data."we.ird key"``; ``""`` is a double quote in one). ``-`` before the path of
``ORDER BY`` goes downwards.

Every form is the filter operator of the same meaning: ``=`` is ``$eq``, also with NULL; ``IS NULL`` matches null, not a
missing field; ``!=``, ``NOT IN`` and ``IS NOT NULL`` are exact negations, so they match a missing field too (add
``EXISTS(path)`` where that is not wanted).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unified_storage.errors import StorageValidationError
from unified_storage.filters import MAX_NESTING, And, Condition, Not, Or, joined, path_text, tested
from unified_storage.paths import Path, checked_path
from unified_storage.tokens import Token, path_of, tokens_of, value_of

__all__ = ["Query", "parse_query"]

_COMPARISONS = {"=": "$eq", "!=": "$ne", "<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte", "LIKE": "$like"}
_LIMIT = 1 << 63


@dataclass(frozen=True, slots=True)
class Query:
    """What a query text asks for.

    Attributes:
        order_by: as :func:`unified_storage.ordering.parse_order` reads it, which also says whether the path is
            indexed; None for the order of ``list``.
        limit: most records to return, at least 0; None for all.
    """

    condition: Condition
    order_by: str | None = None
    limit: int | None = None


def parse_query(text: str, params: Mapping[str, Any] | None = None) -> Query:
    """The query that *text* writes, with the values of *params* for its ``:name`` places; empty text asks for all.

    Raises:
        StorageValidationError: anything but the language of this module, a parameter that is missing or not used, or
            a value that its operator does not take; ``details["offset"]`` counts characters of *text* from 0.
    """
    if not isinstance(text, str):
        raise StorageValidationError(f"a query is a text, not {type(text).__name__}", details={"offset": 0})
    if not isinstance(params, Mapping | None):
        raise StorageValidationError(f"params is a mapping, not {type(params).__name__}", details={"offset": 0})
    return _Parser(tokens_of(text), params or {}).query()


class _Parser:
    """Recursive descent over the tokens of one text; the last token is always the end."""

    def __init__(self, tokens: list[Token], params: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._params = params
        self._used: set[str] = set()
        self._place = 0
        self._depth = 0

    def query(self) -> Query:
        all_records = self._next.word in ("ORDER", "LIMIT", "end")
        self._take("WHERE")
        condition = And(()) if all_records else self._any()
        order_by = self._order_by() if self._take("ORDER") else None
        limit = self._limit() if self._take("LIMIT") else None
        self._expect("end")
        self._all_params_used()
        return Query(condition, order_by, limit)

    # conditions

    def _any(self) -> Condition:
        parts = [self._all()]
        while self._take("OR"):
            parts.append(self._all())
        return joined(Or, parts)

    def _all(self) -> Condition:
        parts = [self._one()]
        while self._take("AND"):
            parts.append(self._one())
        return joined(And, parts)

    def _one(self) -> Condition:
        opening = self._next
        if opening.word not in ("NOT", "("):
            return self._test()
        self._place += 1
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise opening.refused(f"NOT and brackets nest at most {MAX_NESTING} deep")
        if opening.word == "NOT":
            condition: Condition = Not(self._one())
        else:
            condition = self._any()
            self._expect(")")
        self._depth -= 1
        return condition

    def _test(self) -> Condition:
        start = self._next
        if self._take("EXISTS"):
            self._expect("(")
            path = self._path()
            self._expect(")")
            return self._tested(start, path, "$exists", True)
        if self._take("CONTAINS"):
            self._expect("(")
            path = self._path()
            self._expect(",")
            value = self._value()
            self._expect(")")
            return self._tested(start, path, "$contains", value)
        return self._compared(self._path())

    def _compared(self, path: Path) -> Condition:
        sign = self._next
        if sign.word in _COMPARISONS:
            self._place += 1
            return self._tested(sign, path, _COMPARISONS[sign.word], self._value())
        if self._take("IS"):
            op = "$ne" if self._take("NOT") else "$eq"
            self._expect("NULL")
            return self._tested(sign, path, op, None)
        op = "$nin" if self._take("NOT") else "$in"
        self._expect("IN")
        return self._tested(sign, path, op, self._choices())

    def _choices(self) -> object:
        if self._next.kind == "param":
            return self._value()
        self._expect("(")
        if self._take(")"):
            return []
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._expect(")")
        return values

    def _tested(self, sign: Token, path: Path, op: str, value: object) -> Condition:
        try:
            return tested(path, op, value)
        except StorageValidationError as error:
            raise sign.refused(error.message, path=path_text(path)) from error

    # order and limit

    def _order_by(self) -> str:
        self._expect("BY")
        sign = "-" if self._take("-") else ""
        return sign + path_text(self._path())

    def _limit(self) -> int:
        start = self._next
        limit = self._value()
        if type(limit) is not int or not 0 <= limit < _LIMIT:
            raise start.refused("LIMIT takes a whole number from 0")
        return limit

    # tokens

    @property
    def _next(self) -> Token:
        return self._tokens[self._place]

    def _take(self, word: str) -> bool:
        found = self._next.word == word
        self._place += found
        return found

    def _expect(self, word: str) -> None:
        if not self._take(word):
            wanted = "the end of the query" if word == "end" else word
            raise self._next.refused(f"expected {wanted}, found {self._next}")

    def _path(self) -> Path:
        token = self._next
        if token.kind != "path":
            raise token.refused(f"expected a path, found {token}")
        self._place += 1
        try:
            return checked_path(path_of(token))
        except StorageValidationError as error:
            raise token.refused(error.message, path=error.path) from error

    def _value(self) -> Any:
        token = self._next
        self._place += token.kind != "end"
        if token.kind != "param":
            return value_of(token)
        name = token.text[1:]
        if name not in self._params:
            raise token.refused(f"params has no {name!r}")
        self._used.add(name)
        return self._params[name]

    def _all_params_used(self) -> None:
        unused = [repr(name) for name in self._params if name not in self._used]
        if unused:
            raise self._tokens[-1].refused(f"the query does not use params {', '.join(unused)}")
