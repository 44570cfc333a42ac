"""The names of logs: how an id is made of a name and an owner, and read again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_storage import StorageValidationError, log_id
from unified_storage.logs import names_system_logs, parse_log_id

names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
types = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)


@given(names, ids, types)
def test_a_log_id_is_read_as_it_was_made(name: str, owner: str, type: str) -> None:
    made = log_id(name, owner, type)
    parsed = parse_log_id(made)
    assert (parsed.name, parsed.owner_id, parsed.owner_type) == (name, owner, type)
    assert parsed.log_id == made


@given(names, ids)
def test_the_owner_is_a_session_unless_a_type_is_named(name: str, owner: str) -> None:
    parsed = parse_log_id(log_id(name, owner))
    assert (parsed.owner_type, parsed.owner_id) == ("session", owner)
    assert "@" not in log_id(name, owner).partition("/")[0]


@given(names, ids, types, names, ids, types)
def test_two_logs_never_share_an_id(name, owner, type, other_name, other_owner, other_type) -> None:
    same = (name, owner, type) == (other_name, other_owner, other_type)
    assert (log_id(name, owner, type) == log_id(other_name, other_owner, other_type)) is same


@pytest.mark.parametrize(
    ("text", "name", "type", "owner"),
    [
        ("history/s", "history", "session", "s"),
        ("history/a/b@c/d", "history", "session", "a/b@c/d"),
        ("state@thread/t", "state", "thread", "t"),
        ("a%2Fb%40c@note/x", "a/b@c", "note", "x"),
        ("100%25/s", "100%", "session", "s"),
        ("track:audio/s", "track:audio", "session", "s"),
        ("raw@_copy/s", "raw", "_copy", "s"),
    ],
)
def test_a_log_id_is_split_at_the_first_slash(text: str, name: str, type: str, owner: str) -> None:
    parsed = parse_log_id(text)
    assert (parsed.name, parsed.owner_type, parsed.owner_id) == (name, type, owner)
    assert parsed.log_id == text


def test_two_spellings_of_one_name_are_one_log() -> None:
    assert parse_log_id("%61%2Fb/s").log_id == parse_log_id("a%2fb/s").log_id == "a%2Fb/s"


@pytest.mark.parametrize(
    "text", ["", "a", "/s", "a/", "@note/s", "a@/s", "a@b c/s", "a\n/s", "a/\x00", "a/" + "x" * 1025, None]
)
def test_what_is_no_log_id_is_refused(text) -> None:
    with pytest.raises(StorageValidationError) as refusal:
        parse_log_id(text)
    assert refusal.value.path == "log_id"


@pytest.mark.parametrize(
    ("prefix", "named"), [("", False), ("a", False), ("a@note/", False), ("a@_copy/", True), ("a/x@_copy", False)]
)
def test_a_prefix_names_a_system_type_before_its_slash(prefix: str, named: bool) -> None:
    assert names_system_logs(prefix) is named
