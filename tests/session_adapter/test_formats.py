"""Documents of every form are recognised, read, and written back as they were."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given

from session_adapter.formats import (
    BARE,
    CANONICAL,
    FORMATS,
    G0,
    G1,
    G2,
    G3,
    Format,
    SessionBundle,
    by_name,
    detect,
)
from tests.session_adapter.documents import DOCUMENTS, SAMPLE_FORMATS, sample
from unified_storage.errors import StorageValidationError


def spelled(document: object) -> str:
    """Text that also tells the order of keys, 1 from True and 0.0 from -0.0."""
    return json.dumps(document)


# which format


@pytest.mark.parametrize("name", SAMPLE_FORMATS)
def test_every_sample_is_recognised(name: str) -> None:
    assert detect(sample(name)) is SAMPLE_FORMATS[name]


@pytest.mark.parametrize(
    ("document", "format"),
    [
        ({"session_id": "a", "workflow_state": {}, "metadata": {"session_id": "b"}}, CANONICAL),
        ({"session_id": None}, CANONICAL),
        ({"context": {}, "interactions": []}, G3),
        ({"context": {}, "interactions": [], "metadata": {"session_id": "a"}, "state": {}}, G3),
        ({"context": {}, "interactions": [], "workflow_state": {}}, G0),
        ({"context": [], "interactions": []}, BARE),
        ({"context": {}, "interactions": {}}, BARE),
        ({"workflow_state": None}, G0),
        ({"workflow_state": {}, "metadata": {"workflow_summary": {}}}, G0),
        ({"thread_configs": [], "settings": None}, G0),
        ({"thread_configs": {}}, BARE),
        ({"metadata": {"workflow_summary": {}}, "state": {}}, G2),
        ({"metadata": {"workflow_summary": {}, "session_id": "a"}}, G2),
        ({"metadata": {}, "state": {}}, G1),
        ({"metadata": None, "workflow_config": {}}, G1),
        ({"metadata": {"session_id": "a"}, "workflow_config": {}}, G1),
        ({"metadata": {"session_id": "a"}}, G0),
        ({"metadata": {"status": "active", "user_id": "ann"}, "settings": {}}, BARE),
        ({"metadata": "session_id workflow_summary"}, BARE),
        ({"state": {"messages": []}}, BARE),
        ({}, BARE),
    ],
)
def test_the_first_rule_that_fits_names_the_format(document: dict[str, Any], format: Format) -> None:
    assert detect(document) is format


def test_formats_of_documents_are_asked_in_their_order() -> None:
    assert [format.name for format in FORMATS if format.recognises] == [
        *("canonical", "legacy-g3", "legacy-g0", "legacy-g2", "legacy-g1", "bare")
    ]


def test_formats_are_found_by_name() -> None:
    assert all(by_name(format.name) is format for format in FORMATS)
    with pytest.raises(StorageValidationError, match="legacy-g0"):
        by_name("legacy-g9")


# documents there and back


def assert_comes_back(format: Format, document: dict[str, Any], **arguments: Any) -> None:
    before = spelled(document)
    bundle = format.read(document, **arguments)
    assert spelled(format.write(bundle)) == before
    assert spelled(format.with_history(bundle.raw, bundle.entries)) == before
    assert spelled(document) == before


@pytest.mark.parametrize("name", SAMPLE_FORMATS)
def test_write_undoes_read_on_every_sample(name: str) -> None:
    """S2.48"""
    for zone in (None, "UTC", "America/New_York"):
        assert_comes_back(SAMPLE_FORMATS[name], sample(name), source_timezone=zone, id="an-id-from-elsewhere")


@given(DOCUMENTS)
def test_write_undoes_read_on_every_document(document: dict[str, Any]) -> None:
    """S2.48"""
    assert_comes_back(detect(document), document, source_timezone="America/New_York")
    for format in FORMATS:
        assert_comes_back(format, document)


@given(DOCUMENTS)
def test_what_a_read_hands_out_shares_no_state_with_the_document(document: dict[str, Any]) -> None:
    before = spelled(document)
    bundle = detect(document).read(document)
    for value in bundle.session.values():
        if isinstance(value, dict):
            value["scribble"] = 1
    bundle.entries.append("scribble")
    assert spelled(document) == before


def test_the_neutral_model_of_session_data() -> None:
    bundle = G0.read(sample("g0"), source_timezone="America/New_York")
    assert bundle.session == {
        "id": "bakery-250301-081500-a1b2c3",
        "user_id": "ann",
        "metadata": sample("g0")["metadata"],
        "state": {key: value for key, value in sample("g0")["workflow_state"].items() if key != "messages"},
        "created_at": datetime(2025, 3, 1, 13, 15, tzinfo=UTC),
        "updated_at": datetime(2025, 3, 1, 13, 19, 42, 250_000, tzinfo=UTC),
    }
    assert bundle.entries == sample("g0")["workflow_state"]["messages"]
    assert bundle.raw["workflow_state"]["messages"] == []


def test_the_neutral_model_of_the_others() -> None:
    g1 = G1.read(sample("g1"), source_timezone="UTC").session
    assert (g1["workflow_id"], g1["state"]) == ("wf_bakery", {"workflow_name": "bakery", "max_iterations": 10})
    assert "user_id" not in g1
    g2 = G2.read(sample("g2"), source_timezone="UTC").session
    assert (g2["workflow_id"], g2["state"]) == ("wf_oven", {"errors": ["thermometer gone"]})
    g3 = G3.read(sample("g3"), source_timezone="UTC").session
    assert (g3["id"], g3["user_id"]) == ("bakery-240229-070000-c0ffee", "ben")
    assert g3["metadata"] == {"request_id": "request_07"}
    assert g3["updated_at"] == datetime(2024, 2, 29, 7, 1, 30, 500_000, tzinfo=UTC)
    canonical = CANONICAL.read(sample("canonical")).session
    assert (canonical["user_id"], canonical["team_id"], canonical["kind"]) == ("ann", "mornings", "agent")
    assert canonical["state"] == {"cart": ["rye"], "messages": "a key like any other"}
    assert BARE.read(sample("bare"), id="b1").session["id"] == "b1"


def changed(format: Format, document: dict[str, Any], **fields: Any) -> dict[str, Any]:
    bundle = format.read(document, source_timezone="UTC")
    bundle.session |= fields
    return format.write(bundle)


def test_only_the_changed_field_is_written_and_at_its_place() -> None:
    document = sample("g3")
    expected = sample("g3")
    expected["context"]["user_id"] = "zoe"
    assert spelled(changed(G3, document, user_id="zoe")) == spelled(expected)

    expected = sample("g0")
    expected["workflow_state"]["current_step"] = "wait"
    state = {**G0.read(sample("g0")).session["state"], "current_step": "wait"}
    assert changed(G0, sample("g0"), state=state) == expected

    expected = sample("g2")
    expected["metadata"]["workflow_summary"]["workflow_id"] = "wf_new"
    assert spelled(changed(G2, sample("g2"), workflow_id="wf_new")) == spelled(expected)

    expected = sample("g3")
    expected["context"]["updated_at"] = "2024-03-01T00:00:00.000000+00:00"
    assert spelled(changed(G3, sample("g3"), updated_at=datetime(2024, 3, 1, tzinfo=UTC))) == spelled(expected)


def test_a_change_of_type_alone_is_a_change() -> None:
    document = {"metadata": {"session_id": "a"}, "workflow_state": {"flag": 1}}
    assert changed(G0, document, state={"flag": True})["workflow_state"]["flag"] is True


def test_what_a_format_has_no_place_for_becomes_a_top_level_key_and_is_read_from_there() -> None:
    written = changed(G0, sample("g0"), agent_id="baker", name="Rye", app_name=None, mood="fresh")
    assert {key: written[key] for key in written.keys() - sample("g0").keys()} == {
        "agent_id": "baker",
        "name": "Rye",
        "mood": "fresh",
    }
    session = G0.read(written).session
    assert (session["agent_id"], session["name"]) == ("baker", "Rye")
    assert G0.derived(written)["agent_id"] == "baker"
    assert G1.read(changed(G1, sample("g1"), user_id="cid")).session["user_id"] == "cid"


def test_a_wrong_typed_field_is_left_out_and_never_overwritten() -> None:
    document = {
        "metadata": {"session_id": True, "user_id": [1], "created_at": "yesterday", "tags": "x"},
        "workflow_state": ["kept whole"],
    }
    bundle = G0.read(document)
    assert bundle.session.keys() == {"metadata"}
    bundle.session |= {"state": {"a": 1}, "user_id": "ann", "created_at": datetime(2024, 1, 1, tzinfo=UTC), "id": "s"}
    assert G0.write(bundle) == document


def test_a_session_from_nowhere_becomes_a_document() -> None:
    entries = [G0.from_event({"role": "user", "content": "Hello"})]
    session = {
        "id": "s1",
        "user_id": "ann",
        "state": {"cart": []},
        "metadata": {"status": "active"},
        "created_at": datetime(2024, 5, 15, tzinfo=UTC),
    }
    assert G0.write(SessionBundle(session, entries)) == {
        "metadata": {
            "status": "active",
            "session_id": "s1",
            "user_id": "ann",
            "created_at": "2024-05-15T00:00:00.000000+00:00",
        },
        "workflow_state": {
            "cart": [],
            "messages": [{"type": "HumanMessage", "content": "Hello", "additional_kwargs": {}}],
        },
    }
    assert CANONICAL.write(SessionBundle({"id": "s1", "state": {}}, [])) == {"state": {}, "session_id": "s1"}


# the message list


@pytest.mark.parametrize("name", ["g0", "g1", "g2", "g3"])
def test_a_message_list_is_split_off_and_put_back(name: str) -> None:
    format, document = SAMPLE_FORMATS[name], sample(name)
    history = format.history(document)
    assert history
    rest = format.without_history(document)
    assert format.history(rest) == []
    assert format.with_history(rest, history) == document == sample(name)


@pytest.mark.parametrize("name", ["bare", "canonical"])
def test_a_format_without_a_message_list_has_none(name: str) -> None:
    format, document = SAMPLE_FORMATS[name], sample(name)
    assert format.history_path is None
    assert format.history(document) is None
    assert format.with_history(document, [{"role": "user"}]) == format.without_history(document) == document


def test_a_list_is_made_where_there_was_none_and_only_for_elements() -> None:
    for document in (
        {"metadata": {"session_id": "a"}},
        {"workflow_state": None},
        {"workflow_state": {"messages": None}},
    ):
        assert G0.with_history(document, []) == document
        assert G0.with_history(document, [1])["workflow_state"]["messages"] == [1]


@pytest.mark.parametrize("state", [["a list"], "text", {"messages": "text"}, {"messages": {}}])
def test_a_list_never_replaces_what_stands_in_its_place(state: Any) -> None:
    document = {"metadata": {"session_id": "a"}, "workflow_state": state}
    assert G0.history(document) is None
    assert G0.with_history(document, []) == document
    with pytest.raises(StorageValidationError):
        G0.with_history(document, [1])


def test_a_state_cannot_bring_a_history_of_its_own() -> None:
    with pytest.raises(StorageValidationError, match="history"):
        changed(G0, sample("g0"), state={"messages": ["mine"]})


# derived metadata, times, ids


def test_derived_names_are_text_as_each_format_finds_them() -> None:
    assert G0.derived(sample("g0")) == {"user_id": "ann", "status": "active"}
    assert G1.derived(sample("g1")) == {"workflow_id": "wf_bakery", "status": "completed"}
    assert G2.derived(sample("g2")) == {"workflow_id": "wf_oven", "status": "failed"}
    assert G3.derived(sample("g3")) == {"user_id": "ben", "status": "active"}
    assert BARE.derived(sample("bare")) == {"user_id": "42", "status": "active"}


def test_in_the_canonical_form_the_top_level_wins_where_its_key_is_there() -> None:
    assert CANONICAL.derived(sample("canonical")) == {
        "app_name": "bakery",
        "user_id": "ann",
        "agent_id": "baker",
        "team_id": "mornings",
        "kind": "agent",
        "name": "Rye for Ann",
        "status": "active",
    }
    nobody = {"session_id": "s", "user_id": None, "status": "top", "metadata": {"user_id": "ann", "status": "inner"}}
    assert CANONICAL.derived(nobody) == {"user_id": None, "status": "inner"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(42, "42"), (-7, "-7"), (2**70, str(2**70)), (True, None), (1.5, None), ([1], None), ({}, None), (None, None)],
)
def test_a_derived_name_is_text_or_null(value: Any, text: str | None) -> None:
    assert G0.derived({"workflow_state": {}, "metadata": {"user_id": value}}) == {"user_id": text}


@given(DOCUMENTS)
def test_every_document_can_be_asked_everything(document: dict[str, Any]) -> None:
    for format in FORMATS:
        derived = format.derived(document)
        assert all(value is None or isinstance(value, str) for value in derived.values())
        format.document_id(document)
        format.created_at(document)
        format.updated_at(document)


def test_ids_and_times_are_told_as_found() -> None:
    assert G0.document_id({"metadata": {"session_id": 7}}) == 7
    assert CANONICAL.document_id({"session_id": "a", "metadata": {"session_id": "b"}}) == "a"
    assert BARE.document_id({"metadata": None}) is None
    assert G0.created_at(sample("g0")) == "2025-03-01T08:15:00"
    assert BARE.created_at({"metadata": {"created_at": 1715803200}}) == 1715803200
    document = sample("g3")
    document["context"] |= {"created_at": None, "updated_at": "inner"}
    document |= {"created_at": "outer", "updated_at": "outer"}
    assert (G3.created_at(document), G3.updated_at(document)) == ("outer", "inner")


# the real files


def test_every_clean_file_is_written_back_as_it_was(clean: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for case, document in clean:
        format = detect(document)
        assert_comes_back(format, document, source_timezone="America/New_York")
        assert format.derived(document).get("user_id") == case["user_id"], case["file"]
