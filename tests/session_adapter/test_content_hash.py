"""The quick way to the hash of a plain document gives the hash that the careful way gives."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_adapter.documents import _pieces, content_hash
from unified_storage.errors import StorageValidationError

_NAMES = st.text(max_size=4) | st.sampled_from(["$type", "b", "a", "é", "\uffff", "😀"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | _NAMES | st.binary(max_size=2)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_NAMES, _VALUES, max_size=4))
def test_every_document_has_one_hash_whichever_way_it_is_found(document: dict[str, Any]) -> None:
    careful = hashlib.sha256("".join(_pieces(document, "data")).encode()).hexdigest()
    assert content_hash(document) == careful
    assert content_hash(dict(reversed(document.items()))) == careful


def test_what_cannot_be_kept_is_refused_with_its_place() -> None:
    with pytest.raises(StorageValidationError) as raised:
        content_hash({"a": {"b": object()}})
    assert raised.value.details["path"] == "data.a.b"
