"""Documents taken apart and put together, imported and hashed; metadata and times beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_adapter import SessionKey, SessionService
from session_adapter.documents import Snapshot, content_hash, exported, imported, rendered, visible_id, with_own_times
from session_adapter.entries import history_of
from session_adapter.formats import detect
from session_adapter.metadata import derived_metadata, users_metadata
from tests.session_adapter.documents import DOCUMENTS, SAMPLE_FORMATS, sample
from unified_storage import IUnifiedStorage, StorageValidationError
from unified_storage.values import MAX_DEPTH, encode

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


@given(DOCUMENTS)
def test_a_document_taken_apart_and_put_together_is_the_same(document: dict[str, Any]) -> None:
    text = encode(document)
    record, log = imported(document, key="s1", created_at=NOON, updated_at=LATER, now=LATER)
    assert encode(document) == text
    assert encode(exported(record, log["entries"] if log else [])) == text
    split = Snapshot.of(document).split()
    assert split.format is detect(document)
    assert (split.texts is None) == (split.format.history(document) is None)


@given(DOCUMENTS)
def test_times_rendered_into_a_document_are_taken_out_again(document: dict[str, Any]) -> None:
    record = {"id": "s1", "data": document, "created_at": NOON, "updated_at": LATER}
    shown = rendered(document, record)
    if not isinstance(document.get("metadata"), dict | None):
        assert shown == document
    else:
        assert shown["metadata"]["created_at"] == "2024-05-15T12:00:00.000000+00:00"
        assert shown["metadata"]["updated_at"] == "2024-05-15T13:00:00.000000+00:00"
    assert encode(with_own_times(shown, record)) == encode(document)


def test_a_time_given_otherwise_is_stored_as_given() -> None:
    record = {"data": {"metadata": {"created_at": "once"}}, "created_at": NOON, "updated_at": LATER}
    given_times = {"metadata": {"created_at": "2024-05-15T12:00:00+00:00", "updated_at": None}}
    assert with_own_times(given_times, record) == given_times


async def test_an_import_stores_what_a_save_would_have_stored(storage: IUnifiedStorage) -> None:
    service = SessionService(storage)
    for name in SAMPLE_FORMATS:
        document = sample(name)
        await service.save_session(f"saved-{name}", document)
        record, log = imported(document, key=f"saved-{name}", created_at=NOON, updated_at=LATER, now=LATER)
        stored = await storage.load(f"saved-{name}")
        assert stored is not None
        assert record.keys() == stored.keys()
        for field in ("id", "type", "data", "metadata", "session_id", "thread_id", "expires_at"):
            assert encode(record[field]) == encode(stored[field]), field
        entries = await storage.read(history_of(record["id"]))
        assert [entry["body"] for entry in (log or {"entries": []})["entries"]] == [entry["body"] for entry in entries]
        await storage.restore([record], [log] if log else [])
        shown = await service.get_session(f"saved-{name}")
        assert shown is not None
        assert shown["metadata"]["created_at"] == "2024-05-15T12:00:00.000000+00:00"
        await service.save_session(f"saved-{name}", shown)  # as if it had been saved here all the time
        again = await storage.load(f"saved-{name}")
        assert again is not None
        assert encode(again["data"]) == encode(stored["data"])


def test_an_import_keeps_what_it_was_told_about_times() -> None:
    record, log = imported(
        sample("g3"),
        key=SessionKey("shop", "ann", "s1"),
        created_at=NOON,
        updated_at=LATER,
        source_timezone="America/New_York",
        time_unknown=["created_at"],
        now=LATER,
    )
    assert record["metadata"]["~"]["time_unknown"] == ["created_at"]
    assert (record["created_at"], record["updated_at"], record["version"]) == (NOON, LATER, 1)
    assert visible_id(record) == SessionKey("shop", "ann", "s1")
    assert log is not None
    assert [entry["seq"] for entry in log["entries"]] == [*range(1, log["last_seq"] + 1)]
    assert all(entry["created_at"].utcoffset() is not None for entry in log["entries"])


def test_a_document_without_a_list_has_no_log_and_an_empty_list_an_empty_one() -> None:
    assert imported({"settings": {}}, key="s1", created_at=NOON, updated_at=NOON, now=NOON)[1] is None
    empty = imported({"metadata": {}, "state": {"messages": []}}, key="s1", created_at=NOON, updated_at=NOON, now=NOON)
    assert empty[1] == {"log_id": "history/s1", "last_seq": 0, "entries": []}


@pytest.mark.parametrize("bad", [None, 5, "text", [1], [("a", 1)]], ids=repr)
def test_what_is_no_document_is_refused(bad: Any) -> None:
    with pytest.raises(StorageValidationError):
        Snapshot.of(bad)


def test_a_value_that_cannot_be_kept_is_refused_with_its_path() -> None:
    with pytest.raises(StorageValidationError) as raised:
        Snapshot.of({"metadata": {}, "state": {"messages": [{"content": "a"}, {"content": {"x": object()}}]}})
    assert raised.value.path is not None
    assert raised.value.path.startswith("data.state.messages[1].content.x")
    with pytest.raises(StorageValidationError) as raised:
        Snapshot.of({"settings": {5: "a"}})
    assert raised.value.path is not None
    assert raised.value.path.startswith("data.settings")


def test_a_message_may_be_as_deep_as_its_document_allows() -> None:
    def document(depth: int) -> dict[str, Any]:
        message: Any = 1
        for _ in range(depth):
            message = [message]
        return {"metadata": {}, "state": {"messages": ["first", message]}}

    assert Snapshot.of(document(MAX_DEPTH - 3)).split().document == {"metadata": {}, "state": {"messages": []}}
    for depth in (MAX_DEPTH - 2, MAX_DEPTH, MAX_DEPTH + 1, 5000):
        with pytest.raises(StorageValidationError) as raised:
            Snapshot.of(document(depth))
        assert raised.value.path is not None
        assert raised.value.path.startswith("data.state.messages[1]")


def test_a_snapshot_shares_nothing_with_what_it_was_taken_of() -> None:
    document = sample("g1")
    before = deepcopy(document)
    snapshot = Snapshot.of(document)
    document["state"]["messages"][0]["content"] = "changed"
    document["metadata"]["status"] = "changed"
    split = snapshot.split()
    assert split.document["metadata"] == before["metadata"]
    assert split.texts is not None
    assert [json.loads(text) for text in split.texts] == before["state"]["messages"]


# metadata


def derived(document: dict[str, Any]) -> dict[str, Any]:
    return users_metadata({"metadata": derived_metadata(document, "s1", detect(document), {"format": "x"})})


def test_metadata_is_derived_from_the_document() -> None:
    """T2.30: the document is the source, the record's metadata follows in the same write."""
    assert derived({"metadata": {"status": "active", "user_id": 42, "tags": ["x"], "session_id": "other"}}) == {
        "status": "active",
        "user_id": "42",
        "tags": ["x"],
        "session_id": "s1",
    }
    top = {"session_id": "s1", "user_id": "top", "kind": "agent", "status": "no", "metadata": {"user_id": "below"}}
    assert derived(top) == {"session_id": "s1", "user_id": "top", "kind": "agent"}
    assert derived({"session_id": "s1", "metadata": {"name": "n", "status": 1.5}}) == {
        "session_id": "s1",
        "name": "n",
        "status": None,
    }
    for odd in (None, 5, [1], "text"):
        assert derived({"metadata": odd}) == {"session_id": "s1"}


async def test_a_session_service_file_lists_with_its_status_and_dates(storage: IUnifiedStorage) -> None:
    """T2.29: what the old listing did not find stands in the context."""
    service = SessionService(storage, source_timezone="America/New_York")
    document = sample("g3")
    await service.save_session("s1", document)
    record = await storage.load("s1")
    assert record is not None
    assert record["metadata"]["status"] == document["context"]["status"]
    assert record["metadata"]["user_id"] == document["context"]["user_id"]
    assert record["created_at"].isoformat()[:10] == document["context"]["created_at"][:10]
    [found] = await service.list_sessions({"status": document["context"]["status"]})
    assert found["metadata"].keys() == {"created_at", "updated_at"}


# hashes


DIFFERENT: list[Any] = [
    None, True, False, 1, 0, 1.0, 0.0, -0.0, "1", "", b"1", [], {}, (), set(), [1], (1,), {1}, [[1]], [1, 1], {"a": 1},
    {"a": None}, float("nan"), float("inf"), Decimal(1), Decimal("1.0"), NOON, NOON.date(), "2024-05-15",
    {"$type": "bytes", "value": "MQ=="}, [{"$type": "bytes", "value": "MQ=="}], [b"1"], "\ud800", {"b": {"a": 1}},
    {"$type": "dict", "value": {"$type": "bytes", "value": "MQ=="}}, [None], "null", ["null"], {"a": "1"},
]  # fmt: skip


def test_the_content_hash_tells_types_and_values_apart() -> None:
    hashes = [content_hash({"x": value}) for value in DIFFERENT] + [content_hash({"y": None}), content_hash({})]
    assert len(set(hashes)) == len(hashes)


@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_the_content_hash_does_not_know_the_order_of_keys(document: dict[str, Any], random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            random.shuffle(keys)
            return {key: shuffled(value[key]) for key in keys}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    assert content_hash(shuffled(document)) == content_hash(document)


def test_the_content_hash_is_the_same_in_every_process() -> None:
    program = (
        "from session_adapter.documents import content_hash\n"
        "print(content_hash({'tags': {'b', 'a', 'c'}, 'n': 1.5, 'deep': [{'x': float('nan')}]}))"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1


def test_a_document_larger_than_a_record_has_a_hash() -> None:
    large = "x" * (1 << 20)
    assert content_hash({"state": {"messages": [large] * 16}}) != content_hash({"state": {"messages": [large] * 17}})


def test_what_cannot_be_kept_has_no_hash() -> None:
    for document in ({5: 1}, {"a": object()}, {"a": [{"b": {6: 1}}]}):
        with pytest.raises(StorageValidationError):
            content_hash(document)  # type: ignore[arg-type]
