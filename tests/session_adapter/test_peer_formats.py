"""The forms of other frameworks: every sample is read and written back as it was, every event can be said in them."""

from __future__ import annotations

import contextlib
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_adapter.entries import events_of
from session_adapter.formats import FORMATS, PeerFormat, entry_body
from session_adapter.formats.calls import calls_of
from session_adapter.formats.msgpack_data import NotMessagePack, read_msgpack
from session_adapter.formats.trpc_agent import TRPC_V2, arranged, nanoseconds
from unified_storage.values import decode, encode

PEERS = {format.name: format for format in FORMATS if isinstance(format, PeerFormat)}
SAMPLES = sorted(
    path for path in (Path(__file__).parent.parent / "samples").glob("*/*.json") if path.parent.name in PEERS
)
WRITTEN = [name for name, format in PEERS.items() if format.writes]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
IDS = st.text("abc-_:0123", min_size=1, max_size=8)
ARGUMENTS = st.dictionaries(IDS, st.none() | st.booleans() | st.integers(-9, 9) | TEXTS, max_size=3)
CALLS = st.lists(st.tuples(IDS, IDS, ARGUMENTS), min_size=1, max_size=3)


def shown_call(id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


EVENTS = st.one_of(
    st.fixed_dictionaries({"role": st.just("user"), "content": TEXTS}),
    st.fixed_dictionaries({"role": st.just("assistant"), "content": TEXTS.filter(bool)}),
    st.fixed_dictionaries(
        {
            "role": st.just("assistant"),
            "content": st.none(),
            "tool_calls": CALLS.map(lambda calls: [shown_call(*call) for call in calls[:1]]),
        }
    ),
    st.fixed_dictionaries({"role": st.just("tool"), "content": TEXTS, "tool_call_id": IDS, "name": IDS}),
)
"""What every form can say: a text, a call, or an answer to one."""


def sample(path: Path) -> tuple[PeerFormat, dict[str, Any]]:
    document = decode(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return PEERS[path.parent.name], document


def said(event: dict[str, Any]) -> tuple[Any, ...]:
    calls = [(call.id, call.name, call.arguments_value) for call in calls_of(event)]
    return event["role"], event.get("content") or "", calls, event.get("tool_call_id")


@pytest.mark.parametrize("name", PEERS)
def test_every_form_has_a_sample(name: str) -> None:
    assert [path for path in SAMPLES if path.parent.name == name]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_read_is_written_back_as_it_was(path: Path) -> None:
    format, document = sample(path)
    before = deepcopy(document)
    written = format.write(format.read(document))
    assert encode(written) == encode(before), "order of keys included"
    assert encode(document) == encode(before), "what is given stays as it is"


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_reading_entries_changes_none_of_them(path: Path) -> None:
    format, document = sample(path)
    entries = format.read(document).entries
    before = encode(entries)
    for entry in entries:
        events = events_of(entry_body(format, entry))
        assert all(isinstance(event["role"], str) for event in events)
        assert format.entry_key(entry) is None or isinstance(format.entry_key(entry), str)
    assert encode(entries) == before
    keys = [key for entry in entries if (key := format.entry_key(entry)) is not None]
    assert len(keys) == len(set(keys)), "a key names one entry of a session"


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_field_that_is_changed_alone_is_another(path: Path) -> None:
    format, document = sample(path)
    bundle = format.read(document)
    place = format.own_places.get("updated_at")
    if place is None or "updated_at" not in bundle.session:
        pytest.skip("such documents have no time of the last change")
    bundle.session["updated_at"] = format.written_time(bundle.session["updated_at"].replace(year=2031))
    again = format.read(format.write(bundle))
    assert again.session["updated_at"].year == 2031
    assert encode({**again.session, "updated_at": 0}) == encode({**bundle.session, "updated_at": 0})
    assert encode(again.entries) == encode(bundle.entries)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_when_an_entry_was_said_is_what_its_event_says(path: Path) -> None:
    format, document = sample(path)
    if format.said_at is None:
        pytest.skip("its events are asked")
    told = [(format.said_at(entry), format.to_event(entry)) for entry in format.read(document).entries]
    assert all(event is None or event["timestamp"] == time for time, event in told)


@pytest.mark.parametrize("name", WRITTEN)
@given(event=EVENTS)
def test_an_event_keeps_what_it_says(name: str, event: dict[str, Any]) -> None:
    before = deepcopy(event)
    shown = PEERS[name].to_event(PEERS[name].from_event(event))
    assert event == before
    assert shown is not None
    assert said(shown) == said(event)


@pytest.mark.parametrize("name", PEERS)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "role",
                        "content",
                        "type",
                        "data",
                        "event",
                        "choices",
                        "message",
                        "parts",
                        "tool_calls",
                        "event_data",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_nothing_that_stands_in_a_history_makes_a_form_stumble(name: str, value: Any) -> None:
    format = PEERS[name]
    events = events_of(entry_body(format, value))
    assert all(isinstance(event.get("role"), str) for event in events)
    assert format.entry_key(value) is None or isinstance(format.entry_key(value), str)


# tRPC-Agent-Go


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 3)), max_size=8), st.integers(0, 8))
def test_new_events_keep_their_order_and_have_ids_of_their_own(told: list[tuple[str, int]], old: int) -> None:
    elements = [
        TRPC_V2.from_event({"role": "user", "content": "x", "id": id, "timestamp": f"2024-05-15T20:00:0{second}Z"})
        for id, second in told
    ]
    first = arranged(elements[:old])
    whole = arranged([*first, *elements[old:]])
    assert whole[: len(first)] == first, "what stands there already stays"
    times = [nanoseconds(element["event"]["timestamp"]) for element in whole]
    assert times == sorted(times, key=lambda time: time or 0)
    assert len({element["score"] for element in whole}) == len({*times}) == len(whole)
    assert len({element["event"]["id"] for element in whole}) == len(whole)


# MessagePack


def test_messagepack_is_read_as_data() -> None:
    content = bytes.fromhex("85a161ccffa162cb3ff8000000000000a163c403000102a16493c0c2c3a165d1ff00")
    told = read_msgpack(content, lambda *_: None)
    assert told == {"a": 255, "b": 1.5, "c": b"\0\1\2", "d": [None, False, True], "e": -256}


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xffx", b"\xa2\xff\xfe"),
        *(b"\x91" * 300 + b"\xc0", b"\x91" * 9000, b"\x01\x02", b"\xc9\xff\xff\xff\xff\x05", b"\x81\x01"),
    ],
)
def test_what_is_no_messagepack_is_refused_at_once(content: bytes) -> None:
    with pytest.raises(NotMessagePack):
        read_msgpack(content, lambda *_: None)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(NotMessagePack):
        read_msgpack(content, lambda *_: None)
