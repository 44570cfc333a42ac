"""Entries as they are stored: handing them out, the part that a read asks for, what a listing of logs shows."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_storage import StorageIntegrityError, StorageNotFoundError
from unified_storage.logs import (
    EntryDraft,
    LogName,
    ReadRange,
    StoredEntry,
    check_owners,
    checked_log,
    info_of,
    parse_log_id,
)
from unified_storage.testing.clock import NOON
from unified_storage.times import micros

NOW = micros(NOON)
bounds = st.none() | st.integers(0, 14)


def entry(seq: int, created_at: int = 0) -> StoredEntry:
    return StoredEntry(seq, None, created_at, f"{seq}")


def test_an_entry_is_handed_out_as_a_copy() -> None:
    stored = StoredEntry(3, "k", NOW, '{"tags":["x"]}')
    stored.handed_out()["body"]["tags"].append("y")
    assert stored.handed_out() == {"seq": 3, "key": "k", "created_at": NOON, "body": {"tags": ["x"]}}


def test_damage_names_the_entry() -> None:
    with pytest.raises(StorageIntegrityError) as refusal:
        StoredEntry(3, "k", NOW, '{"tags":').handed_out()
    assert refusal.value.details == {"seq": 3}
    assert "3" in refusal.value.message


def test_a_draft_is_stored_with_its_own_time_or_the_one_that_is_given() -> None:
    assert EntryDraft("1", "k", 5).stored(7, NOW) == StoredEntry(7, "k", 5, "1")
    assert EntryDraft("1", None, None).stored(7, NOW) == StoredEntry(7, None, NOW, "1")


@given(st.sets(st.integers(1, 12)), st.data(), bounds, bounds, bounds, st.booleans(), st.none() | st.integers(0, 5))
def test_a_part_is_what_one_gets_by_looking_at_every_entry(seqs, data, after, before, count, newest, since) -> None:
    entries = [entry(seq, data.draw(st.integers(0, 5))) for seq in sorted(seqs)]
    last, limit = (count, None) if newest else (None, count)
    part = ReadRange(after or 0, before, since, last, limit)
    expected = [one for one in entries if one.seq > (after or 0) and (before is None or one.seq < before)]
    expected = [one for one in expected if since is None or one.created_at >= since]
    if count is not None:
        expected = expected[max(0, len(expected) - count) :] if newest else expected[:count]
    assert [*part.of(entries)] == expected
    assert [*part.of(tuple(entries))] == expected


class Looked(Sequence):
    """Entries that count how many of them were taken out."""

    def __init__(self, entries: list[StoredEntry]) -> None:
        self.entries = entries
        self.taken = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, place):
        found = self.entries[place]
        self.taken += len(found) if isinstance(place, slice) else 1
        return found


@pytest.mark.parametrize(
    "part",
    [
        ReadRange(0, None, None, 5, None),
        ReadRange(0, None, None, None, 5),
        ReadRange(40_000, None, None, None, 5),
        ReadRange(0, 40_000, None, 5, None),
        ReadRange(49_995, None, None, None, None),
    ],
)
def test_reading_a_few_entries_of_a_long_log_costs_a_few(part: ReadRange) -> None:
    log = Looked([entry(seq) for seq in range(1, 50_001)])
    assert len(part.of(log)) == 5
    assert log.taken <= 5 + 2 * 17  # two searches by halves


def test_the_info_of_a_log_tells_an_emptied_one_from_a_new_one() -> None:
    assert info_of(9, [entry(3), entry(5)]) == {"first_seq": 3, "last_seq": 9, "count": 2}
    assert info_of(9, []) == {"first_seq": None, "last_seq": 9, "count": 0}


@pytest.mark.parametrize(
    ("log_id", "prefix", "listed"),
    [
        ("events/s", "", True),
        ("events/s", "events/", True),
        ("events/s", "Events/", False),
        ("events@note/n", "events", True),
        ("places@_copy/c", "", False),
        ("places@_copy/c", "places", False),
        ("places@_copy/c", "places@_copy/", True),
        ("places@_copy/c", "places@_copy/x", False),
    ],
)
def test_a_listing_shows_logs_of_system_records_only_to_who_names_the_type(log_id, prefix, listed) -> None:
    assert parse_log_id(log_id).is_listed(prefix) is listed


def test_a_log_name_knows_its_owner() -> None:
    assert parse_log_id("events@note/a/b").owner_key == ("a/b", "note")
    assert LogName("events", "session", "s").owner_key == ("s", "session")


def restored_log(log_id: str):
    entries = [{"seq": n, "key": f"k{n}", "created_at": NOON + timedelta(seconds=n), "body": n} for n in (2, 5)]
    return checked_log({"log_id": log_id, "last_seq": 8, "entries": entries})


def test_a_restored_log_keeps_numbers_keys_and_times() -> None:
    assert restored_log("events/s").stored == [
        StoredEntry(2, "k2", NOW + 2_000_000, "2"),
        StoredEntry(5, "k5", NOW + 5_000_000, "5"),
    ]


def test_a_restored_log_needs_an_owner_that_lives_or_comes_with_it() -> None:
    logs = [restored_log("events/s"), restored_log("events@note/n")]
    stored = {("n", "note"): "a record"}
    check_owners(logs, {("s", "session")}, stored.get)
    check_owners([], set(), stored.get)
    with pytest.raises(StorageNotFoundError) as refusal:
        check_owners(logs, {("n", "note")}, stored.get)
    assert refusal.value.details == {"id": "s", "type": "session", "log_id": "events/s"}
