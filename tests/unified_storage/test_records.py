"""The rules of records and updates by themselves, and the functions that every backend stands on."""

import copy
import pickle
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_storage import DELETE, REPLACE, StorageValidationError
from unified_storage.arguments import check_version, checked_place
from unified_storage.errors import StorageConflictError
from unified_storage.record import checked_id, checked_record, checked_type, later, merged, new_id, updated_record
from unified_storage.testing.model import merged as merged_by_the_model

trees: st.SearchStrategy[Any] = st.recursive(
    st.integers(0, 3) | st.none(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8
)
changes: st.SearchStrategy[Any] = st.recursive(
    st.integers(0, 3) | st.none() | st.just(DELETE) | trees.map(REPLACE),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abc"), trees)
updates = st.dictionaries(st.sampled_from("abc"), changes)


@given(documents, updates)
def test_merging_means_what_the_model_says(stored: dict, change: dict) -> None:
    before = copy.deepcopy(stored)
    assert merged(stored, change) == merged_by_the_model(before, change)
    assert stored == before


@given(documents, documents)
def test_merging_twice_is_merging_once(stored: dict, change: dict) -> None:
    once = merged(stored, change)
    assert merged(once, change) == once


@given(documents, documents)
def test_replacing_everything_gives_the_new_document(stored: dict, fresh: dict) -> None:
    assert updated_record({"data": stored}, {"data": REPLACE(fresh)})["data"] == fresh


@given(documents)
def test_deleting_every_key_leaves_nothing(stored: dict) -> None:
    assert merged(stored, dict.fromkeys(stored, DELETE)) == {}


def test_delete_is_one_object_everywhere() -> None:
    assert copy.deepcopy(DELETE) is DELETE
    assert pickle.loads(pickle.dumps(DELETE)) is DELETE
    assert repr(DELETE) == "DELETE"


@given(st.text(max_size=1100))
def test_every_text_is_an_id_or_is_refused_for_a_reason(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = -1
    is_one = 0 < size <= 1024 and not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text)
    if is_one:
        assert checked_id(text) == text
    else:
        with pytest.raises(StorageValidationError):
            checked_id(text)


@given(st.text(max_size=70))
def test_every_text_is_a_type_or_is_refused(text: str) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
    if 1 <= len(text) <= 64 and all(letter in letters for letter in text):
        assert checked_type(text) == text
    else:
        with pytest.raises(StorageValidationError):
            checked_type(text)


def test_a_class_that_looks_like_a_text_is_no_id() -> None:
    class Name(str):
        __slots__ = ()

    with pytest.raises(StorageValidationError):
        checked_id(Name("a"))


def test_made_ids_are_uuids_of_version_7_and_sort_by_time() -> None:
    made = []
    for _ in range(20):
        made.append(new_id())
        time.sleep(0.002)
    assert made == sorted(made)
    assert {UUID(id).version for id in made} == {7}
    assert {UUID(id).variant for id in made} == {"specified in RFC 4122"}
    assert len({new_id() for _ in range(10_000)}) == 10_000


def test_a_draft_gives_the_record_back_as_it_was_when_it_was_checked() -> None:
    data = {"x": [1]}
    draft = checked_record({"id": "a", "type": "note", "data": data, "created_at": datetime(2024, 1, 1, tzinfo=UTC)})
    data["x"].append(2)
    assert draft.as_input()["data"] == {"x": [1]}
    assert draft.as_input()["created_at"] == datetime(2024, 1, 1, tzinfo=UTC)


def test_a_time_outside_the_calendar_is_refused() -> None:
    edge = datetime.min.replace(tzinfo=UTC).astimezone(UTC)
    beyond = datetime.max.replace(tzinfo=_zone(hours=-5))
    assert checked_record({"id": "a", "type": "note", "data": {}, "created_at": edge}).created_at is not None
    with pytest.raises(StorageValidationError):
        checked_record({"id": "a", "type": "note", "data": {}, "created_at": beyond})


def _zone(*, hours: int):
    from datetime import timezone

    return timezone(timedelta(hours=hours))


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_an_update_is_always_later(now: int, stored: int) -> None:
    assert later(now, stored) > stored
    assert later(now, stored) >= now


def test_versions_are_compared_and_zero_means_not_there() -> None:
    check_version(None, 5, "a")
    check_version(0, 0, "a")
    with pytest.raises(StorageConflictError) as conflict:
        check_version(4, 5, "a")
    assert (conflict.value.expected, conflict.value.found, conflict.value.details["id"]) == (4, 5, "a")


def test_a_place_is_an_id_or_an_id_and_a_type() -> None:
    assert checked_place(None) is None
    assert checked_place("a") == "a"
    assert checked_place(("a", "note")) == ("a", "note")
