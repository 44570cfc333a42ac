"""As much of Helm's templates as the chart uses, so that its manifests are tested where no helm is installed.

What a template may use here: ``if``, ``else``, ``else if``, ``with``, ``define``, ``include``, variables, pipelines,
and the functions in :data:`FUNCTIONS`. Anything else raises :class:`NotUnderstood`: the chart is not tested by guesses.
Where helm is installed, a test compares all that this renders with what helm renders.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

_ACTION = re.compile(r"\{\{(?P<left>- )?\s*(?P<code>/\*.*?\*/|.*?)\s*(?P<right> -)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'\s*(?P<token>"(?:[^"\\]|\\.)*"|:=|[()|]|\$?\.[\w.]*|\$\w*(?:\.[\w.]+)?|-?\d+|\w+)')


class Failed(Exception):
    """What ``fail`` says."""


class NotUnderstood(Exception):
    """A template uses what this does not know."""


@dataclass
class Block:
    """``if``, ``with`` or ``define``: what it asks, and what stands in it and behind its else."""

    kind: str
    code: str
    inside: list[Any] = field(default_factory=list)
    otherwise: list[Any] = field(default_factory=list)


def parsed(text: str) -> list[Any]:
    """*text* as a tree: texts, actions as one-tuples of code, and blocks."""
    root = Block("", "")
    open_blocks = [(root, root.inside, False)]
    for piece in _pieces(text):
        if not open_blocks:
            raise NotUnderstood(f"an end too many in {text}")
        block, into, is_chained = open_blocks[-1]
        word = piece[0].split(" ")[0] if isinstance(piece, tuple) else ""
        if word in ("if", "with", "define"):
            inner = Block(word, piece[0].removeprefix(word))
            into.append(inner)
            open_blocks.append((inner, inner.inside, False))
        elif word == "else":
            open_blocks[-1] = (block, block.otherwise, is_chained)
            condition = piece[0].removeprefix("else").strip()
            if condition:
                inner = Block("if", condition.removeprefix("if"))
                block.otherwise.append(inner)
                open_blocks.append((inner, inner.inside, True))
        elif word == "end":
            while open_blocks.pop()[2]:
                pass
        else:
            into.append(piece)
    if len(open_blocks) != 1:
        raise NotUnderstood(f"ends and blocks do not fit in {text}")
    return root.inside


def _pieces(text: str) -> Iterator[str | tuple[str]]:
    """Texts and actions; the dashes have taken their white space away."""
    at, trimming = 0, False
    for found in _ACTION.finditer(text):
        before = text[at : found.start()]
        before = before.lstrip() if trimming else before
        yield before.rstrip() if found["left"] else before
        if not found["code"].startswith("/*"):
            yield (found["code"],)
        at, trimming = found.end(), bool(found["right"])
    rest = text[at:]
    yield rest.lstrip() if trimming else rest


class Templates:
    """Templates that include each other.

    Args:
        texts: files by name; the ``define`` in any of them is known in all.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._files = {name: parsed(text) for name, text in texts.items()}
        self._defined = {
            json.loads(node.code): node.inside
            for tree in self._files.values()
            for node in tree
            if isinstance(node, Block) and node.kind == "define"
        }

    def render(self, name: str, values: Any) -> str:
        """The file *name*, given what stands for its dot."""
        return self._text(self._files[name], values, {"$": values})

    def _text(self, tree: Sequence[Any], dot: Any, names: dict[str, Any]) -> str:
        return "".join(self._piece(node, dot, names) for node in tree)

    def _piece(self, node: Any, dot: Any, names: dict[str, Any]) -> str:
        if isinstance(node, str):
            return node
        if isinstance(node, Block):
            return "" if node.kind == "define" else self._block(node, dot, names)
        name, assigned, code = node[0].partition(":=")
        if assigned:
            names[name.strip()] = self._value(code, dot, names)
            return ""
        return _printed(self._value(node[0], dot, names))

    def _block(self, block: Block, dot: Any, names: dict[str, Any]) -> str:
        value = self._value(block.code, dot, names)
        inner = value if block.kind == "with" and value else dot
        return self._text(block.inside if value else block.otherwise, inner, dict(names))

    def _value(self, code: str, dot: Any, names: dict[str, Any]) -> Any:
        tokens = _tokens(code)
        value = self._pipeline(tokens, dot, names)
        if tokens:
            raise NotUnderstood(f"{tokens} is left of {code}")
        return value

    def _pipeline(self, tokens: list[str], dot: Any, names: dict[str, Any]) -> Any:
        value = self._call(tokens, [], dot, names)
        while tokens and tokens[0] == "|":
            tokens.pop(0)
            value = self._call(tokens, [value], dot, names)
        return value

    def _call(self, tokens: list[str], piped: list[Any], dot: Any, names: dict[str, Any]) -> Any:
        if not re.fullmatch(r"[a-zA-Z]\w*", tokens[0]):
            return self._operand(tokens, dot, names)
        name, arguments = tokens.pop(0), []
        while tokens and tokens[0] not in ("|", ")"):
            arguments.append(self._operand(tokens, dot, names))
        arguments += piped
        if name == "include":
            return self._text(self._defined[arguments[0]], arguments[1], {"$": arguments[1]})
        if name not in FUNCTIONS:
            raise NotUnderstood(f"the function {name}")
        return FUNCTIONS[name](*arguments)

    def _operand(self, tokens: list[str], dot: Any, names: dict[str, Any]) -> Any:
        token = tokens.pop(0)
        if token == "(":
            value = self._pipeline(tokens, dot, names)
            tokens.remove(")")
            return value
        if token[0] == '"' or token.lstrip("-").isdigit():
            return json.loads(token)
        name, _, path = token.partition(".")
        value = names[name] if name else dot
        for key in filter(None, path.split(".")):
            value = value.get(key)
        return value


def _tokens(code: str) -> list[str]:
    tokens, at, code = [], 0, code.strip()
    while at < len(code):
        found = _TOKEN.match(code, at)
        if found is None:
            raise NotUnderstood(code[at:])
        tokens.append(found["token"])
        at = found.end()
    return tokens


def _printed(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int):
        raise NotUnderstood(f"{value!r} as text")
    return str(value)


def _fail(message: str) -> None:
    raise Failed(message)


def _json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for sign in "<>&":  # as Go does, for pages in which it might stand
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _all(*values: Any) -> Any:
    return next((value for value in values if not value), values[-1])


def _any(*values: Any) -> Any:
    return next((value for value in values if value), values[-1])


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _all,
    "contains": lambda part, text: part in text,
    "default": lambda other, value: value or other,
    "dict": lambda *pairs: dict(zip(pairs[::2], pairs[1::2], strict=True)),
    "fail": _fail,
    "gt": lambda one, other: one > other,
    "hasKey": lambda mapping, key: key in mapping,
    "len": len,
    "nindent": lambda spaces, text: "\n" + "\n".join(" " * spaces + line for line in text.split("\n")),
    "not": lambda value: not value,
    "or": _any,
    "printf": lambda form, *values: form % values,
    "quote": lambda value: json.dumps(_printed(value), ensure_ascii=False),
    "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "toJson": _json,
    "toYaml": lambda value: yaml.safe_dump(value, default_flow_style=False).rstrip("\n"),
    "trimSuffix": lambda suffix, text: text.removesuffix(suffix),
    "trunc": lambda length, text: text[:length],
}
