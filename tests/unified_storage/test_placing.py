"""Which number an appended entry gets, what is replaced and what is dropped: the rule that every backend follows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_storage import StorageAlreadyExistsError
from unified_storage.logs import EntryDraft, LogName
from unified_storage.placing import placed

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
    written = found.replaced | found.fresh
    made = [(n, key, written[n].body if n in written else body) for n, key, body in log]
    made += [(n, one.key, one.body) for n, one in found.fresh.items()]
    kept = expected if keep_last is None else expected[max(0, len(expected) - keep_last) :]
    assert found.numbers == numbers
    assert made == expected
    assert (found.last_seq, found.count) == (len(expected), len(expected))
    assert made[found.dropped :] == kept
    assert found.left == len(kept)
    assert found.changes == (expected != log or kept != log or (on_duplicate == "replace" and bool(drafts)))


def _once(keys: list[str | None]) -> list[str | None]:
    return [key for place, key in enumerate(keys) if key is None or key not in keys[:place]]
