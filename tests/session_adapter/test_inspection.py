"""What an importer is told about a legacy document, on our own cases and on the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from session_adapter.formats import BARE, CANONICAL, G0, G3, detect
from session_adapter.formats.inspection import Findings, findings
from session_adapter.timestamps import render
from tests.session_adapter.documents import DOCUMENTS, SAMPLE_FORMATS, sample

ZONE = "America/New_York"
TIMES = {"created_at": "2024-05-15T20:00:00Z", "updated_at": "2024-05-15T21:30:00Z"}

# What only the reader of the file's bytes can tell, or what needs the other files.
READER_REASONS = {
    *("invalid_json", "encoding", "empty_file", "utf8_bom", "encoding_utf-16", "duplicate_key", "non_standard_number"),
    *("lone_surrogate", "nesting_too_deep", "hidden_file", "duplicate_session_id", "duplicate_session_id_conflict"),
    *("identical_duplicate", "stray_tmp", "not_a_session_file", "directory"),
}


def session_data(metadata: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    known = {"session_id": "s1", "status": "active", **TIMES}
    return {
        "metadata": known | (metadata or {}),
        "thread_configs": {},
        "workflow_state": {"messages": []},
        "settings": {},
    } | more


def warnings_of(document: object, stem: str | None = "s1") -> tuple[str, ...]:
    found = findings(document, stem=stem, source_timezone=ZONE)
    assert found.refusal is None
    return found.warnings


def test_nothing_is_said_about_an_ordinary_document() -> None:
    found = findings(session_data(), stem="s1")
    assert (found.format, found.id, found.refusal, found.warnings) == (G0, "s1", None, ())
    assert found.time_unknown == []


@pytest.mark.parametrize("name", ["g0", "g2", "g3"])
def test_nothing_is_said_about_the_whole_samples(name: str) -> None:
    found = findings(sample(name), source_timezone=ZONE)
    assert (found.format, found.warnings) == (SAMPLE_FORMATS[name], ())


@pytest.mark.parametrize("document", [None, [], "text", 7, True, {"metadata": []}, {"metadata": "x"}, {"metadata": 0}])
def test_what_is_no_session_is_refused(document: object) -> None:
    assert findings(document, stem="s1").refusal == "invalid_shape"


@pytest.mark.parametrize(
    "session_id",
    [
        True,
        False,
        0.0,
        1.5,
        [],
        ["a"],
        {},
        " ",
        "\u3000\t",
        "nul\0inside",
        "del\x7f",
        "c1\x85",
        "half\ud800",
        "x" * 1001,
        "é" * 501,
        10**1000,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_an_unusable_id_is_refused(session_id: Any) -> None:
    """S2.49"""
    assert findings(session_data({"session_id": session_id}), stem="s1") == Findings(G0, refusal="invalid_session_id")


@pytest.mark.parametrize(
    "session_id", ["../../etc/passwd", "/abs", " lead-and-trail ", "会话-😀", "~x", "x" * 1000, "a\u200b"]
)
def test_an_odd_id_is_data(session_id: str) -> None:
    """S2.49"""
    found = findings(session_data({"session_id": session_id}), stem=session_id)
    assert (found.id, found.warnings) == (session_id, ())


@pytest.mark.parametrize("session_id", [None, ""])
def test_without_an_id_the_files_name_counts(session_id: str | None) -> None:
    found = findings(session_data({"session_id": session_id}), stem="from-the-name")
    assert (found.id, found.warnings) == ("from-the-name", ("missing_id",))
    assert findings(session_data({"session_id": session_id})).refusal == "invalid_session_id"
    assert findings(session_data({"session_id": session_id}), stem="half\udc80").refusal == "invalid_session_id"


def test_an_integer_id_is_its_decimal_text() -> None:
    found = findings(session_data({"session_id": 20240515}), stem="20240515")
    assert (found.id, found.warnings) == ("20240515", ("non_string_id",))


def test_a_files_name_may_say_another_id() -> None:
    assert warnings_of(session_data(), stem="other") == ("filename_mismatch",)
    assert warnings_of(session_data(), stem=None) == ()


def test_missing_metadata_is_named_where_the_format_has_it() -> None:
    lacking: dict[str, Any] = {"thread_configs": {}, "settings": {}, "workflow_state": {"messages": []}}
    expected = ("missing_metadata", "missing_id", "missing_timestamp")
    assert warnings_of(lacking) == warnings_of(lacking | {"metadata": None}) == expected
    assert "missing_metadata" in warnings_of({})
    assert warnings_of({"session_id": "s1"}) == ("missing_timestamp",)


@pytest.mark.parametrize("status", ["ARCHIVED", "", 5, [], {}, True])
def test_a_status_outside_the_vocabulary_is_named(status: Any) -> None:
    """S2.36"""
    assert warnings_of(session_data({"status": status})) == ("unknown_status",)
    assert warnings_of(session_data({"status": None})) == ()


@pytest.mark.parametrize(
    "document",
    [
        session_data({"tags": "vip,airline"}),
        session_data({"tags": None}),
        session_data({"tags": ["a", 1]}),
        session_data({"user_id": 42}),
        session_data({"user_id": False}),
        session_data(thread_configs=[]),
        session_data(settings=None),
        session_data(workflow_state={"messages": [{"type": "AIMessage", "content": 42}]}),
        session_data(workflow_state={"messages": [{"type": "AIMessage", "content": {}}]}),
        {"session_id": "s1", "user_id": 42, "metadata": TIMES},
    ],
)
def test_a_wrong_typed_field_is_named_once(document: dict[str, Any]) -> None:
    assert warnings_of(document) == ("field_type",)


def test_a_bare_documents_own_keys_have_no_type() -> None:
    assert warnings_of({"settings": 5, "metadata": TIMES}) == ("missing_id",)


@pytest.mark.parametrize(
    ("created", "updated", "expected"),
    [
        ("2024-05-15T20:00:00", "2024-05-15T21:30:00", ()),
        ("2024-05-15T20:00:00", "2024-05-16T21:30:00Z", ("mixed_timestamp_zones",)),
        (1715803200, "2024-05-15T21:30:00Z", ("epoch_timestamp",)),
        ("2024-05-15T21:30:00Z", "2024-05-15T20:00:00Z", ("updated_before_created",)),
        ("yesterday", "2024-05-15T20:00:00", ("bad_timestamp",)),
        (None, None, ("missing_timestamp",)),
        ("2024-03-10T02:30:00", "2024-05-15T20:00:00", ("nonexistent_local_time",)),
        ("2024-11-03T01:30:00", "2024-11-03T03:00:00", ("ambiguous_local_time",)),
        ("2024-05-15", "9999-12-31T00:00:00", ("date_only", "implausible_timestamp")),
    ],
)
def test_odd_times_are_named(created: Any, updated: Any, expected: tuple[str, ...]) -> None:
    assert warnings_of(session_data({"created_at": created, "updated_at": updated})) == expected


def test_an_unknown_time_is_told_apart_from_a_known_one() -> None:
    found = findings(session_data({"created_at": "yesterday"}), stem="s1")
    assert found.time_unknown == ["created_at"]
    assert found.updated_at is not None


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, "no_messages"),
        (None, "no_messages"),
        ({"messages": None}, "no_messages"),
        ([], "unknown_state_shape"),
        ("text", "unknown_state_shape"),
        ({"messages": "text"}, "unknown_state_shape"),
        ({"messages": {}}, "unknown_state_shape"),
    ],
)
def test_a_state_without_a_history_is_named(state: Any, expected: str) -> None:
    assert warnings_of(session_data(workflow_state=state)) == (expected,)
    assert warnings_of({"metadata": {"session_id": "s1", **TIMES}, "state": state}) == (expected,)


def test_an_odd_element_is_named() -> None:
    def with_messages(*messages: Any) -> dict[str, Any]:
        return session_data(workflow_state={"messages": list(messages)})

    assert warnings_of(with_messages("not an object", None)) == ("bad_event",)
    assert warnings_of(with_messages({"type": "FunctionMessage", "content": "x"})) == ("unknown_message_type",)
    assert warnings_of(sample("g1"), stem=None) == ("unknown_message_type",)
    interactions = sample("g3")
    interactions["interactions"][1]["timestamp"] = "soon"
    assert warnings_of(interactions, stem=None) == ("bad_event",)


def test_two_generations_in_one_document_are_named() -> None:
    assert warnings_of(session_data(state={})) == ("mixed_shapes",)
    assert warnings_of(session_data(context={"session_id": "z"})) == ("mixed_shapes",)
    assert warnings_of(session_data(context={"page": 3})) == ()
    assert warnings_of(sample("g3") | {"state": {}}, stem=None) == ("mixed_shapes",)
    assert warnings_of({"session_id": "s1", "state": {}, "workflow_state": {}, "metadata": TIMES}) == ()


@given(DOCUMENTS)
def test_every_document_is_inspected_without_an_error(document: dict[str, Any]) -> None:
    found = findings(document, stem="s1", source_timezone=ZONE)
    assert (found.id is None) == (found.refusal is not None)
    assert len(set(found.warnings)) == len(found.warnings)


def test_formats_without_a_list_have_none_to_miss() -> None:
    """T2.29: a session service's file tells its times, though it has no metadata."""
    assert findings({}, stem="s1").format is BARE
    assert findings({"session_id": "s1", "metadata": TIMES}, stem="s1") == Findings(
        CANONICAL, "s1", None, (), *(findings(session_data()).created_at, findings(session_data()).updated_at)
    )
    assert findings(sample("g3")).format is G3
    assert findings(sample("g3")).time_unknown == []


# the real files


def cases(fixtures_dir: Path, folder: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each file of the manifest that is a session document for plain JSON."""
    manifest = json.loads((fixtures_dir / f"{folder}.MANIFEST.json").read_text(encoding="utf-8"))
    for case in manifest["files"]:
        if case["expect"] == "ignored" or case.get("reason") in {"encoding", "invalid_json", "empty_file"}:
            continue
        if case.get("reason") == "nesting_too_deep":
            continue
        encoding = "utf-16" if case.get("reason") == "encoding_utf-16" else "utf-8-sig"
        yield case, json.loads((fixtures_dir / folder / case["file"]).read_bytes().decode(encoding))


def z(moment: Any) -> str | None:
    return None if moment is None else render(moment).replace("+00:00", "Z")


def assert_as_the_manifest_says(case: dict[str, Any], document: Any) -> None:
    found = findings(document, stem=case["file"].removesuffix(".json"), source_timezone=ZONE)
    reason = case.get("reason")
    if case["expect"] == "quarantined" and reason not in READER_REASONS:
        assert found.refusal == reason
        return
    assert found.refusal is None
    assert found.id == case["session_id"]
    if case["expect"] == "imported_with_warnings" and reason not in READER_REASONS:
        assert reason in found.warnings
    for name in ("created_at", "updated_at"):
        if f"{name}_utc" in case:
            assert z(getattr(found, name)) == case[f"{name}_utc"]
    if "user_id" in case and case["user_id"] is not None:
        assert detect(document).derived(document)["user_id"] == case["user_id"]


def test_every_dirty_file_is_found_as_its_manifest_says(
    fixtures_dir: Path, canon_sha: Callable[[list[Any]], str]
) -> None:
    checked = 0
    for case, document in cases(fixtures_dir, "legacy_files_dirty"):
        try:
            assert_as_the_manifest_says(case, document)
            if "messages" in case:
                format = detect(document)
                read = [format.to_event(element) for element in format.history(document) or []]
                events = [event for event in read if event is not None]
                assert len(events) == case["messages"]
                assert canon_sha(events) == case.get("sha256", canon_sha(events))
        except AssertionError as error:
            error.add_note(case["file"])
            raise
        checked += 1
    assert checked == 84


def test_dirty_files_that_are_imported_have_only_warnings_that_are_true(fixtures_dir: Path) -> None:
    allowed = {"filename_mismatch", "updated_before_created"}
    for case, document in cases(fixtures_dir, "legacy_files_dirty"):
        if case["expect"] == "imported":
            found = findings(document, stem=case["file"].removesuffix(".json"), source_timezone=ZONE)
            assert set(found.warnings) <= allowed, case["file"]


def test_nothing_is_said_about_the_clean_files_and_their_times_are_right(fixtures_dir: Path) -> None:
    for case, document in cases(fixtures_dir, "legacy_files"):
        assert_as_the_manifest_says(case, document)
        found = findings(document, stem=case["file"].removesuffix(".json"), source_timezone=ZONE)
        assert found.warnings == (), case["file"]
