"""What holds for stored records on every backend: versions and times, lifetimes, cascades, ids without a type."""

from datetime import timedelta

import pytest

from unified_storage import StorageIntegrityError, StorageValidationError
from unified_storage.filters import parse_filters
from unified_storage.record import Draft, checked_record
from unified_storage.stored import (
    Stamps,
    StoredRecord,
    only_one,
    restored,
    restored_stamps,
    saved,
    saved_stamps,
)
from unified_storage.testing.clock import NOON
from unified_storage.times import micros

NOW = micros(NOON)
EARLIER = micros(NOON - timedelta(days=1))


def draft(id: str = "a", type: str = "note", **fields) -> Draft:
    return checked_record({"id": id, "type": type, "data": {"x": [1]}, **fields}, restored=True)


def record(id: str = "a", type: str = "note", **fields) -> StoredRecord:
    return saved(draft(id, type, **fields), None, NOW)


def test_a_new_record_has_version_one_and_the_clocks_times() -> None:
    assert saved_stamps(draft(), None, NOW) == Stamps(version=1, created_at=NOW, updated_at=NOW)


def test_a_new_record_keeps_the_creation_time_that_it_brings_and_no_other() -> None:
    old = NOON - timedelta(days=1)
    assert saved_stamps(draft(created_at=old, updated_at=old), None, NOW) == Stamps(1, EARLIER, NOW)


def test_a_record_that_is_saved_over_keeps_when_it_was_made() -> None:
    stamps = saved_stamps(draft(created_at=NOON), Stamps(4, EARLIER, EARLIER), NOW)
    assert stamps == Stamps(5, EARLIER, NOW)


@pytest.mark.parametrize("now", [NOW, NOW - 5_000_000])
def test_a_change_is_later_than_the_one_before_whatever_the_clock_says(now: int) -> None:
    assert Stamps(1, EARLIER, NOW).touched(now) == Stamps(2, EARLIER, NOW + 1)
    assert saved_stamps(draft(), Stamps(1, EARLIER, NOW), now).updated_at == NOW + 1


def test_a_restored_record_has_its_own_times_and_goes_on_in_version() -> None:
    own = draft(created_at=NOON - timedelta(days=2), updated_at=NOON - timedelta(days=1))
    made = EARLIER - (NOW - EARLIER)
    assert restored_stamps(own, None, NOW) == Stamps(1, made, EARLIER)
    assert restored_stamps(own, Stamps(6, NOW, NOW), NOW) == Stamps(7, made, EARLIER)


def test_a_restored_record_without_times_was_made_now_and_never_changed() -> None:
    assert restored_stamps(draft(), None, NOW) == Stamps(1, NOW, NOW)
    assert restored_stamps(draft(created_at=NOON - timedelta(days=1)), None, NOW) == Stamps(1, EARLIER, EARLIER)


def test_a_record_lives_until_the_very_moment_of_its_end() -> None:
    ending = record(expires_at=NOON)
    assert ending.lives(NOW - 1)
    assert not ending.lives(NOW)
    assert record().lives(2**62)


def test_a_touched_record_is_another_one() -> None:
    before = record()
    after = before.touched(NOW)
    assert (before.version, after.version) == (1, 2)
    assert after.draft == before.draft


def test_what_is_handed_out_is_a_copy_each_time() -> None:
    stored = record()
    stored.handed_out()["data"]["x"].append(2)
    assert stored.handed_out()["data"] == {"x": [1]}
    assert stored.handed_out()["created_at"] == NOON


def test_without_data_the_document_is_not_even_read() -> None:
    damaged = _damaged(record())
    assert "data" not in damaged.handed_out(with_data=False)
    assert damaged.handed_out(with_data=False)["id"] == "a"


def test_damage_names_the_record() -> None:
    with pytest.raises(StorageIntegrityError) as refusal:
        _damaged(record()).handed_out()
    assert refusal.value.details == {"id": "a", "type": "note"}
    assert "'a'" in refusal.value.message


def _damaged(stored: StoredRecord) -> StoredRecord:
    whole = stored.draft
    texts = (whole.id, whole.type, whole.data_text[:-1], whole.metadata_text)
    return StoredRecord(Draft(*texts, None, None, None, None, None, None), stored.stamps)


GROUPED = [
    record("s", "session", session_id="s"),
    record("under", session_id="s"),
    record("by-thread", thread_id="s"),
    record("t", "thread", session_id="s"),
    record("in-t", thread_id="t"),
    record("sys", "_copy", session_id="s", thread_id="t"),
    record("other", session_id="S"),
]


@pytest.mark.parametrize(
    ("place", "cascade", "gone"),
    [
        (0, True, ["s", "under", "t"]),
        (0, False, ["s"]),
        (3, True, ["t", "in-t"]),
        (3, False, ["t"]),
        (1, True, ["under"]),
    ],
)
def test_a_cascade_takes_what_is_grouped_under_a_session_or_a_thread(place: int, cascade: bool, gone) -> None:
    found = GROUPED[place].taken(iter(GROUPED), cascade=cascade)
    assert [stored.draft.id for stored in found] == gone


def test_a_cascade_of_a_type_that_groups_nothing_takes_the_record_alone() -> None:
    others = [record("b", session_id="a", thread_id="a")]
    assert record("a").taken(others, cascade=True) == [record("a")]


def test_an_id_without_a_type_means_the_one_record_that_has_it() -> None:
    assert only_one("a", None, {"note": 1}) == 1
    assert only_one("a", None, {}) is None
    assert only_one("a", None, {"note": 1, "_copy": 2}) == 1
    assert only_one("a", None, {"_copy": 2}) is None


def test_an_id_that_types_share_needs_a_type() -> None:
    with pytest.raises(StorageValidationError) as refusal:
        only_one("a", None, {"note": 1, "_copy": 3, "agent": 2})
    assert refusal.value.details == {"id": "a", "types": ["agent", "note"]}
    assert only_one("a", "note", {"note": 1, "agent": 2}) == 1
    assert only_one("a", "_copy", {"_copy": 3}) == 3
    assert only_one("a", "note", {"agent": 2}) is None


def test_a_listing_shows_what_matches_and_system_types_only_by_name() -> None:
    assert record().is_listed(parse_filters({"data.x": {"$contains": 1}}))
    assert not record().is_listed(parse_filters({"data.x": {"$contains": 2}}))
    assert not record(type="_copy").is_listed(parse_filters(None))
    assert record(type="_copy").is_listed(parse_filters({"type": "_copy"}))


def test_what_is_saved_or_restored_over_something_follows_it() -> None:
    first = saved(draft(), None, NOW)
    assert saved(draft(), first, NOW).stamps == Stamps(2, NOW, NOW + 1)
    assert restored(draft(created_at=NOON, updated_at=NOON), first, NOW).stamps == Stamps(2, NOW, NOW)
