"""Pickles are read as data: what is no data is refused, and nothing of it ever runs."""

from __future__ import annotations

import os
import pickle
import pickletools
import random
import sqlite3
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legacy.stores.peers.pickled import MAX_BYTES, Refused, read_pickle
from legacy.stores.peers.pickled_values import shown_duration
from tests.legacy.peers.fixture_stores import FixtureStore

PROTOCOLS = (2, 3, 4, 5)
TRACE = "PICKLE_RAN"


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every pickle of these tests that runs leaves a trace in the environment."""
    monkeypatch.delenv(TRACE, raising=False)
    yield
    assert TRACE not in os.environ


def text(value: str) -> bytes:
    """*value* as an opcode that pushes it."""
    encoded = value.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def proto(body: bytes, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + b"(" + b"".join(arguments) + b"tR"


def model(state: bytes, module: str = "google.adk.events.event_actions", of: str = "EventActions") -> bytes:
    """An instance of a model whose ``__dict__`` is *state*."""
    return name(module, of) + b")\x81" + b"}" + text("__dict__") + state + b"s" + b"b"


PUT_TRACE = text("os.environ.__setitem__('" + TRACE + "', '1')")

HOSTILE: dict[str, bytes] = {
    # the ones that a store may really hold
    "os.system by REDUCE": proto(call("os", "system", text(f"export {TRACE}=1"))),
    "posix.system by REDUCE": proto(call("posix", "system", text("true"))),
    "os.system by GLOBAL": b"\x80\x02cos\nsystem\n" + text("true") + b"\x85R.",
    "os.system by INST": b"(S'true'\nios\nsystem\n.",
    "os.system by INST of protocol 2": b"\x80\x02(" + text("true") + b"ios\nsystem\n.",
    "os.system by OBJ": b"\x80\x02(cos\nsystem\n" + text("true") + b"o.",
    "eval nested in the state": proto(model(b"}" + text("state_delta") + call("builtins", "eval", PUT_TRACE) + b"s")),
    "exec of protocol 2": proto(call("__builtin__", "exec", PUT_TRACE), 2),
    "PERSID": b"\x80\x02Pabc\n.",
    "BINPERSID": proto(text("abc") + b"Q"),
    "EXT1": proto(b"\x82\x01"),
    "EXT2": proto(b"\x83\x01\x01"),
    "EXT4": proto(b"\x84\x01\x01\x01\x01"),
    "truncated": proto(model(b"}"))[:-7],
    "without its end": proto(model(b"}"))[:-1],
    "an oversized frame": b"\x80\x04\x95\xff\xff\xff\x00\x00\x00\x00\x00}.",
    "a frame without end": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
    "a bare function": proto(name("os", "system")),
    "a bare function among the values": proto(b"}" + text("f") + name("builtins", "print") + b"s"),
    "a bare model class": proto(name("google.adk.events.event_actions", "EventActions")),
    # further ones
    "a function of ADK": proto(call("google.adk.cli.cli_deploy", "to_cloud_run", text("x"))),
    "a model of ADK that is called": proto(call("google.adk.events.event_actions", "EventActions")),
    "an enum with a mapping": proto(call("google.genai.types", "FinishReason", b"}")),
    "a class of another package": proto(name("subprocess", "Popen") + b")\x81"),
    "a package whose name begins alike": proto(name("google.adk_evil", "Model") + b")\x81"),
    "a model of a sibling package": proto(name("google.cloud.storage", "Client") + b")\x81"),
    "a dotted way out of a model": proto(name("google.adk.events", "os.system") + b")\x81"),
    "a line break in a module": proto(name("google.adk\nos", "System") + b")\x81"),
    "arguments for an instance": proto(name("google.adk.a", "Model") + text("x") + b"\x85\x81"),
    "named arguments for an instance": proto(name("google.adk.a", "Model") + b")}" + text("a") + b"Ns\x92"),
    "a state that is no mapping": proto(name("google.adk.a", "Model") + b")\x81" + text("x") + b"b"),
    "slots beside a state": proto(name("google.adk.a", "Model") + b")\x81}}\x86b"),
    "a state with further parts": proto(name("google.adk.a", "Model") + b")\x81}" + text("__class__") + b"Nsb"),
    "a state for a mapping": proto(b"}}b"),
    "a state given twice": proto(model(b"}") + b"}" + text("__dict__") + b"}sb"),
    "an instance that was never filled": proto(name("google.adk.a", "Model") + b")\x81"),
    "a call of what was called": proto(call("uuid", "UUID", text("x")) + b")R"),
    "a call of a text": proto(text("os.system") + text("true") + b"\x85R"),
    "a name made of numbers": proto(b"K\x01K\x02\x93"),
    "getattr": proto(call("builtins", "getattr", name("os", "environ"), text("clear"))),
    "copyreg": proto(call("copyreg", "_reconstructor", name("builtins", "object"), name("builtins", "object"), b"N")),
    "operator.attrgetter": proto(call("operator", "attrgetter", text("system"))),
    "a codec that imports": proto(call("_codecs", "encode", text("x"), text("zlib"))),
    "a codec that is looked up": proto(call("_codecs", "lookup", text("rot13"))),
    "bytes of that many zeros": proto(call("builtins", "bytes", b"J\xff\xff\xff\x7f")),
    "bytearray of that many zeros": proto(call("builtins", "bytearray", b"J\xff\xff\xff\x7f")),
    "a date that is none": proto(call("datetime", "date", b"C\x04\x07\xe8\x0d\x01")),
    "a datetime that is none": proto(call("datetime", "datetime", b"C\x0a\x07\xe8\x02\x1f\x00\x00\x00\x00\x00\x00")),
    "a datetime by numbers": proto(call("datetime", "datetime", b"M\xe8\x07", b"K\x01", b"K\x01")),
    "a zone that a package makes": proto(
        call("datetime", "datetime", b"C\x0a\x07\xe8\x02\x01\x00\x00\x00\x00\x00\x00", call("zoneinfo", "ZoneInfo"))
    ),
    "a zone alone": proto(call("datetime", "timezone", call("datetime", "timedelta", b"K\x01", b"K\x00", b"K\x00"))),
    "a timedelta too far": proto(call("datetime", "timedelta", b"J\xff\xff\xff\x7f", b"K\x00", b"K\x00")),
    "a Decimal that is none": proto(call("decimal", "Decimal", text("1x"))),
    "a Decimal from a list": proto(call("decimal", "Decimal", b"]")),
    "a UUID that is too large": proto(
        name("uuid", "UUID") + b")\x81}" + text("int") + b"\x8a\x11" + b"\x7f" * 17 + b"sb"
    ),
    "a UUID with more": proto(name("uuid", "UUID") + b")\x81}(" + text("int") + b"K\x01" + text("hex") + b"K\x01ub"),
    "a set of lists": proto(call("builtins", "set", b"(]l")),
    "a list as key": proto(b"}]Ns"),
    "a list as member": proto(b"\x8f(]\x90"),
    "a name as key": proto(b"}" + name("os", "system") + b"Ns"),
    "a mark as value": proto(b"("),
    "a mark that is not there": proto(b"t"),
    "a key without a value": proto(b"}(" + text("a") + b"u"),
    "a value for what is no list": proto(b"}Na"),
    "what nobody remembered": proto(b"h\x05"),
    "nothing": b"",
    "only an end": b".",
    "two values": proto(b"NN"),
    "more behind the end": proto(b"N") + b"N.",
    "a later protocol": proto(b"N", 6),
    "protocol 0": pickle.dumps({"a": 1}, 0),
    "protocol 1": pickle.dumps({"a": 1}, 1),
    "a text of Python 2": b"\x80\x02U\x01a.",
    "out-of-band buffers": proto(b"\x97", 5),
    "a read-only buffer": proto(b"C\x01a\x98", 5),
    "an unknown opcode": proto(b"\xff"),
    "an OrderedDict": pickle.dumps(OrderedDict(a=1)),
    "a complex number": pickle.dumps(1j),
    "a Path": pickle.dumps(Path("/")),
    "a range": pickle.dumps(range(3)),
    "a function": pickle.dumps(os.getcwd),
    "a value inside itself": b"\x80\x04]\x94h\x00a.",
    "too many levels": proto(b"]" * 300 + b"a" * 299),
    "an integer of too many digits": pickle.dumps(10**4301),
    "a name that is too long": proto(name("a" * 300, "B")),
    "no pickle": b'{"state_delta": {}}',
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_data_is_refused(case: str) -> None:
    modules = {*sys.modules}
    with pytest.raises(Refused):
        read_pickle(HOSTILE[case])
    assert {*sys.modules} == modules


def doubled(levels: int) -> bytes:
    """A list that holds the one before it twice, and so on: 2 ** levels values from a few bytes."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value, value]
    return pickle.dumps(value)


def shared(value: bytes, times: int, use: bytes) -> bytes:
    """*value* remembered once and used *times* times, each as ``use`` says, in one list."""
    return proto(b"]" + value + b"\x940(" + (b"h\x00" + use) * times + b"e")


BOMBS: dict[str, Callable[[], bytes]] = {
    "doubled values": lambda: doubled(60),
    "one long text, often": lambda: shared(text("x" * 1_000_000), 200_000, b""),
    "a long list made a set, often": lambda: proto(
        b"](" + b"K\x01" * 100_000 + b"l\x940(" + (name("builtins", "set") + b"h\x00\x85R") * 20_000 + b"e"
    ),
    "a state with many keys, often": lambda: proto(
        b"]}(" + b"".join(text(str(at)) + b"N" for at in range(20_000)) + b"u\x940"
        b"(" + (name("google.adk.a", "B") + b")\x81h\x00b") * 20_000 + b"e"
    ),
    "too large": lambda: b"\x80\x04" + b"N0" * (MAX_BYTES // 2) + b"N.",
    "a text longer than the pickle": lambda: b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"abc.",
    "bytes longer than the pickle": lambda: b"\x80\x04B\xff\xff\xff\xff.",
    "an integer longer than the pickle": lambda: b"\x80\x04\x8b\xff\xff\xff\x7f.",
}


@pytest.mark.parametrize("case", BOMBS)
def test_what_grows_out_of_proportion_is_refused_at_once(case: str) -> None:
    content = BOMBS[case]()
    begun = time.process_time()
    with pytest.raises(Refused):
        read_pickle(content)
    assert time.process_time() - begun < 30  # a second or two; hours, where it is not refused


VALUES: dict[str, Any] = {
    "naive": datetime(2024, 5, 15, 1, 2, 3, 4),
    "aware": datetime(2024, 5, 15, tzinfo=timezone(timedelta(hours=-2, minutes=-30))),
    "utc": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "date": date(2020, 2, 29),
    "set": {1, "x", (1, 2), None},
    "tuple": (1, [2], ()),
    "decimal": [Decimal("1.50"), Decimal("NaN").is_nan(), Decimal("-1E+400")],
    "uuid": [UUID(int=7)] * 2,
    "uuid key": {UUID(int=2**128 - 1).hex: 1},
    "bytes": [b"\0\xff", b"", b"x" * 300],
    "numbers": [0, -1, 255, 256, 65536, 2**31, -(2**70), 10**4299, 1.5, float("inf"), True, False],
    "text": ["", "z\u00f6", "\ud800", "x" * 300, "\U0001f600"],
    "mapping": {"a": {"b": []}},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", VALUES)
def test_data_of_each_protocol_is_read(case: str, protocol: int) -> None:
    value = VALUES[case]
    found = read_pickle(pickle.dumps(value, protocol))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_kinds_of_data_become_those_that_are_stored(protocol: int) -> None:
    value = {"f": frozenset({1}), "b": bytearray(b"xy"), "t": timedelta(days=1, microseconds=5)}
    found = read_pickle(pickle.dumps(value, protocol))
    assert found == {"f": {1}, "b": b"xy", "t": "P1DT0.000005S"}
    assert type(found["b"]) is bytes


@pytest.mark.parametrize(
    ("took", "shown"),
    [
        (timedelta(), "PT0S"),
        (timedelta(seconds=1.5), "PT1.5S"),
        (timedelta(hours=25, minutes=1), "P1DT1H1M"),
        (timedelta(days=-1), "-P1D"),
        (-timedelta(seconds=90), "-PT1M30S"),
    ],
)
def test_a_timedelta_is_its_iso_text(took: timedelta, shown: str) -> None:
    assert shown_duration(took) == shown


def test_what_is_named_twice_is_there_twice() -> None:
    one: list[Any] = []
    found = read_pickle(pickle.dumps([one, one]))
    assert found == [[], []]
    assert found[0] is not found[1]


def test_models_are_mappings_and_members_of_enums_their_values() -> None:
    inner = model(b"}" + text("code") + call("google.genai.types", "FinishReason", text("STOP")) + b"s")
    whole = model(b"}(" + text("state_delta") + b"}" + text("inner") + inner + text("none") + b"Nu")
    assert read_pickle(proto(whole)) == {"state_delta": {}, "inner": {"code": "STOP"}, "none": None}


def test_extra_fields_of_a_model_are_kept() -> None:
    state = b"}(" + text("__dict__") + b"}" + text("a") + b"K\x01s" + text("__pydantic_extra__")
    state += b"}" + text("b") + b"K\x02s" + text("__pydantic_private__") + b"Nu"
    assert read_pickle(proto(name("fastapi.openapi.models", "APIKey") + b")\x81" + state + b"b")) == {"a": 1, "b": 2}


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.dates()
    | st.decimals(allow_nan=False) | st.uuids() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)
    | st.sets(st.text() | st.integers()),
    max_leaves=20,
)  # fmt: skip


@given(plain, st.sampled_from(PROTOCOLS))
def test_any_data_comes_back(value: Any, protocol: int) -> None:
    assert read_pickle(pickle.dumps(value, protocol)) == value


SEEDS = [proto(model(b"}" + text("state_delta") + b"}s")), *(pickle.dumps(value, 4) for value in VALUES.values())]
SEEDS += [content for content in HOSTILE.values() if content]


@pytest.mark.parametrize("seed", range(20))
def test_damaged_pickles_are_read_or_refused_and_never_run(seed: int) -> None:
    """No other exception leaves the reader, whatever the bytes."""
    chance = random.Random(seed)
    opcodes = bytes(ord(opcode.code) for opcode in pickletools.opcodes)
    for _ in range(200):
        content = bytearray(chance.choice(SEEDS))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(content) + 1)
            match chance.randrange(4):
                case 0:
                    content[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    content[at:at] = bytes([chance.choice(opcodes)])
                case 2:
                    del content[at : at + chance.randint(1, 5)]
                case _:
                    content[at:at] = chance.choice(SEEDS)[2:20]
        try:
            read_pickle(bytes(content))
        except Refused:
            continue


@pytest.mark.parametrize("store", ["adk_v0_1_3", "adk_v0_1_21"])
def test_every_row_that_adk_wrote_is_read(store: str) -> None:
    count = 0
    with closing(sqlite3.connect(f"file:{FixtureStore(store).database()}?mode=ro&immutable=1", uri=True)) as connection:
        for (content,) in connection.execute("SELECT actions FROM events"):
            actions = read_pickle(content)
            assert {"state_delta", "artifact_delta", "requested_auth_configs"} <= actions.keys()
            count += 1
    assert count == FixtureStore(store).manifest["events"]
