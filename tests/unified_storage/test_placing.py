"""Which number an appended entry gets, what is replaced and what is dropped: the rule that every backend follows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_storage import (
    StorageAlreadyExistsError,
    StorageConflictError,
    StorageNotFoundError,
    StorageValidationError,
)
from unified_storage.logs import EntryDraft, LogName, StoredEntry
from unified_storage.placing import checked_append, checked_rewrite, placed

LOG = LogName("events", "session", "s")
KEYS = st.sampled_from([None, "a", "b", "c", "d"])


def draft(body: str, key: str | None = None, created_at: int | None = None) -> EntryDraft:
    return EntryDraft(body, key, created_at)


def test_numbers_go_on_behind_the_last_one_ever_given() -> None:
    found = placed(LOG, [draft("x"), draft("y", "k")], {}, last_seq=7, count=2)
    assert found.numbers == [8, 9]
    assert found.fresh == {8: draft("x"), 9: draft("y", "k")}
    assert (found.last_seq, found.count, found.left, found.changes) == (9, 4, 4, True)


def test_nothing_to_append_changes_nothing_unless_something_is_dropped() -> None:
    assert not placed(LOG, [], {}, 3, 3).changes
    assert not placed(LOG, [], {}, 3, 3, keep_last=3).changes
    dropping = placed(LOG, [], {}, 3, 3, keep_last=1)
    assert (dropping.changes, dropping.dropped, dropping.left, dropping.last_seq) == (True, 2, 1, 3)


@pytest.mark.parametrize("known", [{"k": 2}, {"k": 2, "other": 1}])
def test_a_key_that_is_present_is_an_error_and_says_which(known) -> None:
    with pytest.raises(StorageAlreadyExistsError) as refusal:
        placed(LOG, [draft("x"), draft("y", "k"), draft("z", "other")], known, 2, 2)
    assert refusal.value.details == {"log_id": "events/s", "key": "k"}


def test_a_key_that_is_present_and_not_asked_for_is_no_error() -> None:
    assert placed(LOG, [draft("x"), draft("y", "new")], {"k": 2}, 2, 2).numbers == [3, 4]


def test_a_key_twice_among_the_drafts_is_decided_like_any_other() -> None:
    twice = [draft("first", "k"), draft("between"), draft("second", "k")]
    with pytest.raises(StorageAlreadyExistsError):
        placed(LOG, twice, {}, 0, 0)
    skipped = placed(LOG, twice, {}, 0, 0, on_duplicate="skip")
    assert (skipped.numbers, skipped.fresh[1].body, skipped.replaced) == ([1, 2, 1], "first", {})
    replacing = placed(LOG, twice, {}, 0, 0, on_duplicate="replace")
    assert (replacing.numbers, replacing.fresh[1].body, replacing.replaced) == ([1, 2, 1], "second", {})


def test_what_replaces_keeps_the_time_of_what_it_replaces_unless_it_has_one() -> None:
    drafts = [draft("one", "old", 50), draft("two", "old"), draft("three", "new", 60), draft("four", "new")]
    found = placed(LOG, drafts, {"old": 1}, 1, 1, on_duplicate="replace")
    assert found.replaced == {1: draft("two", "old", 50)}
    assert found.fresh == {2: draft("four", "new", 60)}
    assert placed(LOG, [draft("x", "old")], {"old": 1}, 1, 1, on_duplicate="replace").replaced[1].created_at is None


@pytest.mark.parametrize("on_duplicate", ["skip", "replace"])
def test_only_what_was_there_whole_is_a_retry(on_duplicate) -> None:
    known = {"a": 1, "b": 2}

    def is_retry(*drafts: EntryDraft) -> bool:
        return placed(LOG, drafts, known, 2, 2, on_duplicate=on_duplicate).is_retry

    assert is_retry(draft("x", "a"), draft("y", "b"))
    assert not is_retry(draft("x", "a"), draft("y"))
    assert not is_retry(draft("x", "a"), draft("y", "c"))
    assert not is_retry(draft("x", "c"), draft("y", "c"))
    assert not is_retry()


def test_an_honest_retry_under_skip_changes_nothing() -> None:
    assert not placed(LOG, [draft("x", "a")], {"a": 1}, 1, 1, on_duplicate="skip").changes
    assert placed(LOG, [draft("x", "a")], {"a": 1}, 1, 1, on_duplicate="replace").changes


@given(
    st.lists(KEYS, max_size=6),
    st.lists(KEYS, max_size=6),
    st.sampled_from(["skip", "replace"]),
    st.none() | st.integers(0, 8),
)
def test_it_places_like_a_list_that_is_written_one_by_one(before, added, on_duplicate, keep_last) -> None:
    """The rule in its plainest form: a list of entries, searched anew for every draft."""
    log = [(number, key, f"old {number}") for number, key in enumerate(_once(before), 1)]
    known = {key: number for number, key, _ in log if key is not None}
    drafts = [draft(f"new {place}", key) for place, key in enumerate(added)]
    found = placed(LOG, drafts, known, len(log), len(log), on_duplicate=on_duplicate, keep_last=keep_last)

    numbers, expected = [], list(log)
    for one in drafts:
        same = next((place for place, entry in enumerate(expected) if one.key and entry[1] == one.key), None)
        if same is None:
            expected.append((len(expected) + 1, one.key, one.body))
        elif on_duplicate == "replace":
            expected[same] = (expected[same][0], one.key, one.body)
        numbers.append(expected[len(expected) - 1 if same is None else same][0])
    made = found.applied_to([StoredEntry(number, key, 0, body) for number, key, body in log], now=5)
    kept = expected if keep_last is None else expected[max(0, len(expected) - keep_last) :]
    assert found.numbers == numbers
    assert [(entry.seq, entry.key, entry.body) for entry in made] == kept
    assert all(entry.created_at == (0 if entry.seq <= len(log) else 5) for entry in made)
    assert (found.last_seq, found.count, found.left) == (len(expected), len(expected), len(kept))
    assert found.changes == (expected != log or kept != log or (on_duplicate == "replace" and bool(drafts)))


def _once(keys: list[str | None]) -> list[str | None]:
    return [key for place, key in enumerate(keys) if key is None or key not in keys[:place]]


def test_a_rewrite_leaves_the_drafts_alone_and_numbers_go_on() -> None:
    stored = [StoredEntry(3, "k", 0, "old"), StoredEntry(4, None, 0, "old")]
    found = placed(LOG, [draft("new", "k"), draft("newer")], {"k": 3}, 6, 2, rewrites=True)
    assert (found.numbers, found.last_seq, found.left, found.is_retry, found.changes) == ([7, 8], 8, 2, False, True)
    assert found.applied_to(stored, now=5) == [StoredEntry(7, "k", 5, "new"), StoredEntry(8, None, 5, "newer")]


def test_a_rewrite_with_nothing_empties_the_log_and_is_a_change_all_the_same() -> None:
    found = placed(LOG, [], {"k": 3}, 6, 2, rewrites=True)
    assert (found.numbers, found.last_seq, found.left, found.changes) == ([], 6, 0, True)
    assert placed(LOG, [], {}, 0, 0, rewrites=True).changes


def test_a_rewrite_with_one_key_twice_is_refused() -> None:
    with pytest.raises(StorageAlreadyExistsError):
        placed(LOG, [draft("x", "k"), draft("y", "k")], {}, 0, 0, rewrites=True)


def test_an_append_without_an_owner_is_refused_before_anything_else() -> None:
    for call in (
        checked_append("events/s", [{"body": 1, "key": "k"}], "error", None, 7),
        checked_rewrite(LOG.log_id, [], 7),
    ):
        with pytest.raises(StorageNotFoundError):
            call.placed({"k": 1}, 1, 1, None)


@pytest.mark.parametrize("on_duplicate", ["skip", "replace"])
def test_an_honest_retry_is_not_asked_for_its_version(on_duplicate) -> None:
    entries = [{"body": 1, "key": "k"}]
    again = checked_append("events/s", entries, on_duplicate, None, 1)
    assert again.placed({"k": 1}, 1, 1, version=2).numbers == [1]
    with pytest.raises(StorageConflictError):
        again.placed({}, 1, 1, version=2)
    more = checked_append("events/s", [*entries, {"body": 2}], on_duplicate, None, 1)
    with pytest.raises(StorageConflictError):
        more.placed({"k": 1}, 1, 1, version=2)


def test_a_rewrite_is_always_asked_for_its_version() -> None:
    call = checked_rewrite("events/s", [{"body": 1, "key": "k"}], 1)
    assert call.placed({"k": 1}, 1, 1, version=1).numbers == [2]
    with pytest.raises(StorageConflictError) as conflict:
        call.placed({"k": 1}, 1, 1, version=2)
    assert (conflict.value.expected, conflict.value.found) == (1, 2)


@pytest.mark.parametrize(
    ("log_id", "entries", "on_duplicate", "keep_last", "expected"),
    [
        ("events", [], "error", None, None),
        ("events/s", [{}], "error", None, None),
        ("events/s", [], "ignore", None, None),
        ("events/s", [], "error", -1, None),
        ("events/s", [], "error", None, "1"),
    ],
)
def test_an_append_of_what_is_none_is_refused(log_id, entries, on_duplicate, keep_last, expected) -> None:
    with pytest.raises(StorageValidationError):
        checked_append(log_id, entries, on_duplicate, keep_last, expected)
