"""Parsing a session file: the quick way gives what the careful way gives, or leaves it to that."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from legacy.stores import file_reading
from legacy.stores.file_reading import FileRefused, parse
from unified_storage.texts import is_plain
from unified_storage.values import MAX_DEPTH, equal

_NAMES = st.text(max_size=4) | st.sampled_from(["a", 'q"', "b\\", '":', ":", "$type"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | _NAMES
DOCUMENTS = st.dictionaries(
    _NAMES,
    st.recursive(
        _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3), max_leaves=8
    ),
    max_size=4,
)
STYLES: list[dict[str, Any]] = [
    {"indent": 2},
    {"separators": (",", ":")},
    {"separators": (" , ", " : ")},
    {"ensure_ascii": False},
]


@given(DOCUMENTS, st.sampled_from(STYLES))
def test_what_is_said_to_be_plain_is(document: dict[str, Any], style: dict[str, Any]) -> None:
    parsed = parse(json.dumps(document, **style).encode("utf-8", "surrogatepass"))
    assert is_plain(parsed.value) or not parsed.is_plain


def _outcome(way: Any, content: bytes) -> Any:
    try:
        parsed = way(content)
    except FileRefused as refused:
        return refused.reason, refused.detail
    return parsed.value, [*parsed.value.items()] if isinstance(parsed.value, dict) else None, parsed.warnings


@given(DOCUMENTS, st.sampled_from(STYLES))
def test_whatever_a_writer_writes_is_read_alike(document: dict[str, Any], style: dict[str, Any]) -> None:
    content = json.dumps(document, **style).encode("utf-8", "surrogatepass")
    assert equal(*(_outcome(way, content) for way in (parse, file_reading._parsed_with_care)))


@given(st.text(alphabet='{}[]":,\\ \n019.eE-+aunlI\ud800é', max_size=24))
@example('{"a":1,"a":2}')
@example('{"a" :1,"b":":"}')
@example('{"a" :1,"b":1,"b":2}')
@example('{"b\\\\":1,"b\\\\":2}')
@example('{"a":1,"a":":"}')
@example('{"a":1} {"a":1}')
@example('{"a":-0,"b":1E400}')
def test_whatever_stands_in_a_file_is_read_alike(text: str) -> None:
    content = text.encode("utf-8", "surrogatepass")
    assert equal(*(_outcome(way, content) for way in (parse, file_reading._parsed_with_care)))


@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_the_depth_is_counted_alike(levels: int, brackets: str) -> None:
    opening = "[" if brackets == "[]" else '{"a":'
    content = ('{"a":' + opening * (levels - 1) + "1" + brackets[1] * (levels - 1) + "}").encode()
    assert equal(*(_outcome(way, content) for way in (parse, file_reading._parsed_with_care)))
    assert (_outcome(parse, content)[0] == "nesting_too_deep") == (levels > MAX_DEPTH)


def test_what_old_stores_wrote_takes_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reading, "_parsed_with_care", None)
    document = {"metadata": {"session_id": "s", "tags": ["é"]}, "workflow_state": {"messages": [{"content": "x: y"}]}}
    assert parse(json.dumps(document, ensure_ascii=False, indent=2).encode()).value == document
    assert parse(json.dumps(document).encode()).value == document
