"""Values come back as they went in, or are refused with their path; reading damaged text is safe."""

import json
import math
import random
import struct
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, localcontext
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support import scaled
from unified_storage import values
from unified_storage.errors import StorageCapacityError, StorageIntegrityError, StorageValidationError
from unified_storage.testing.naming import named
from unified_storage.text import exact_text
from unified_storage.values import MAX_DEPTH, MAX_ENCODED, copied, decode, encode, equal

INDIA = timezone(timedelta(hours=5, minutes=30))
ODD_ZONE = timezone(-timedelta(hours=1, minutes=2, seconds=3, microseconds=4))
NAN = float("nan")
SPLIT_PAIR = "\ud83d" + "\ude00"  # two characters; side by side in JSON they would read back as one


def same(one: Any, other: Any) -> bool:
    """Equality to the type, the bit and the order of keys, written without the codec."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set):
        return len(one) == len(other) and all(any(same(item, its) for its in other) for item in one)
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, datetime):
        fold = one.fold == other.fold or one.tzinfo is not None
        return fold and one.utcoffset() == other.utcoffset() and one.replace(tzinfo=None) == other.replace(tzinfo=None)
    return bool(one == other)


def nested(depth: int, wrap: Callable[[Any], Any], innermost: Any) -> Any:
    """*innermost* within *depth* containers."""
    value = innermost
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS: dict[str, Callable[[Any], Any]] = {
    "list": lambda value: [value],
    "dict": lambda value: {"a": value},
    "tuple": lambda value: (value,),
    "dict with $type": lambda value: {"$type": value},
    "dict with a split pair": lambda value: {SPLIT_PAIR: value},
}

STORABLE: list[Any] = [
    *(None, True, False, 0, -1, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**30, 10**4299, -(10**4300) + 1),
    *(0.0, -0.0, 1.0, 0.1, 0.30000000000000004, 1e16, 1e22, 5e-324, 1.7976931348623157e308, -2.5e-8),
    *(NAN, math.inf, -math.inf),
    *(
        "",
        "é😀",
        "\0",
        "a\0b",
        "\x1f\x7f\x80",
        "\u2028",
        "\\ud800",
        '"$type":',
        "1e5",
        "NaN",
        "\ufeff",
        "\uffff",
        "[{" * 300,
    ),
    *("\ud800", "x\udc00y", "\udc00\ud800", SPLIT_PAIR, f"a{SPLIT_PAIR}{SPLIT_PAIR}b", "\ud83d😀\ude00", "\ud800é\0"),
    *(b"", b"\0\xff", b"zh-CN", bytes(range(256))),
    *([], {}, (), set(), [()], ({},), [[], {}], {"": {"": ""}}),
    *({"\0": 1, "\ud800": 2, "é": 3, "a.b": 4}, {SPLIT_PAIR: {"$type": SPLIT_PAIR}, "😀": 2}),
    *((1, (2.0, [True]), "x"), {1, "x", None, 2.5, b"x", (1, ("a", -0.0)), NAN, UUID(int=1)}, {Decimal("NaN")}),
    *(date(1, 1, 1), date(9999, 12, 31)),
    *(datetime(2026, 3, 1, 12), datetime(2026, 10, 25, 2, 30, fold=1), datetime.min, datetime.max),
    *(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, 1, 2, 3, 4, INDIA), datetime(1, 1, 1, tzinfo=ODD_ZONE)),
    *(datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=offset))) for offset in (1, -1, 999_999, -999_999)),
    *(datetime.max.replace(tzinfo=timezone(timedelta(hours=-23, minutes=-59))),),
    *map(
        Decimal, ["0", "-0", "0E+3", "1.10", "1E+400", "1E-400", "NaN", "-sNaN123", "Infinity", "-Infinity", "9" * 99]
    ),
    *(UUID(int=0), UUID("12345678-1234-5678-1234-567812345678")),
]
LIKE_OUR_TAGS: list[Any] = [
    {"$type": "bytes", "value": "AP8="},
    {"$type": "dict", "value": {"$type": "dict", "value": {"$type": 1}}},
    {"$type": "tuple", "value": [{"$type": "tuple", "value": []}]},
    {"$type": "items", "value": [["a", 1]]},
    {"$type": "unknown"},
    {"$type": {"$type": [{"$type": (1, b"x")}]}},
    {"value": 1, "$type": None, "other": {"a": {"$type": "set", "value": {"$type"}}}},
]


@pytest.mark.parametrize("value", [*STORABLE, *LIKE_OUR_TAGS], ids=named)
@pytest.mark.parametrize("within", [lambda value: value, lambda value: {"a": [0, value]}, lambda value: (value,)])
def test_a_value_comes_back_with_its_type_and_content(value: Any, within: Callable[[Any], Any]) -> None:
    given_value = within(value)
    text = encode(given_value)
    assert same(decode(text), given_value)
    assert same(decode(text.encode("utf-8")), given_value)
    assert equal(decode(text), given_value)
    json.loads(text, parse_constant=pytest.fail)


def test_an_aware_datetime_keeps_instant_and_offset_and_loses_its_zones_name() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    for fold, hours in ((0, 2), (1, 1)):
        twice_that_day = datetime(2026, 10, 25, 2, 30, 0, 7, berlin, fold=fold)
        kept = decode(encode(twice_that_day))
        assert kept == datetime(2026, 10, 25, 2, 30, 0, 7, timezone(timedelta(hours=hours)))
        assert kept.tzinfo == timezone(timedelta(hours=hours))
        assert kept.fold == 0
    assert decode(encode(datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/London")))).tzinfo is UTC


def test_the_tagged_forms_can_be_read_by_people() -> None:
    document = {"raw": b"\0\xff", "at": datetime(2026, 1, 2, tzinfo=INDIA), "$type": "mine", "t": (1,), "s": {"b", "a"}}
    assert json.loads(encode(document)) == {
        "$type": "dict",
        "value": {
            "raw": {"$type": "bytes", "value": "AP8="},
            "at": {"$type": "datetime", "value": "2026-01-02T00:00:00.000000+05:30"},
            "$type": "mine",
            "t": {"$type": "tuple", "value": [1]},
            "s": {"$type": "set", "value": ["a", "b"]},
        },
    }
    assert encode({"é": [1, 2.5, None]}) == '{"é":[1,2.5,null]}'


def test_a_decimal_has_one_text_whatever_the_threads_context() -> None:
    text = encode(Decimal("1E+30"))
    with localcontext(Context(prec=2, capitals=0, traps=[])):
        assert encode(Decimal("1E+30")) == text
        assert same(decode(encode(Decimal("1.2345E+30"))), Decimal("1.2345E+30"))
        with pytest.raises(StorageIntegrityError):
            decode('{"$type":"decimal","value":"damaged"}')


# --- refused, with the path


class Level(IntEnum):
    LOW = 1


class Colour(StrEnum):
    RED = "red"


class Stamp(datetime):
    """Like the timestamps of data frames."""


class NoOffset(tzinfo):
    def utcoffset(self, when: datetime | None) -> None:
        return None

    dst = utcoffset

    def tzname(self, when: datetime | None) -> str:
        return "nowhere"


def _holding_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


UNSTORABLE: list[Any] = [
    *(Level.LOW, Colour.RED, OrderedDict(a=1), defaultdict(list), type("Text", (str,), {})("x")),
    *(frozenset({1}), bytearray(b"x"), memoryview(b"x"), 1j, object(), int, range(3), time(1), timedelta(1), Path("x")),
    *(Stamp(2026, 1, 1), datetime(2026, 1, 1, tzinfo=NoOffset()), type("Pair", (tuple,), {})((1, 2))),
    *(10**4300, -(10**4300), _holding_itself()),
]


@pytest.mark.parametrize("value", UNSTORABLE, ids=lambda value: type(value).__name__)
def test_what_cannot_be_kept_exactly_is_refused_with_its_path(value: Any) -> None:
    for document, path in (
        (value, "data"),
        ({"items": [0, {"when": value}]}, "data.items[1].when"),
        ({"we.ird": {"": (1, value)}}, 'data["we.ird"][""][1]'),
        ({"$type": {SPLIT_PAIR: value}}, r'data.$type["\ud83d\ude00"]'),
    ):
        with pytest.raises(StorageValidationError) as caught:
            encode(document)
        # A list that holds itself is found out where it is met again.
        assert caught.value.path == path + ("[0]" if type(value) is list else "")
        assert str(caught.value).startswith(caught.value.path)


@pytest.mark.parametrize("key", [1, None, True, 1.5, (1, 2), b"k", Colour.RED], ids=repr)
def test_a_key_that_is_no_plain_string_is_refused(key: Any) -> None:
    with pytest.raises(StorageValidationError) as caught:
        encode({"red": 1, "a": [{"b": 1, key: 2}]}, path="metadata")
    assert caught.value.path == f"metadata.a[0][{key!r}]"


def test_an_element_of_a_set_is_refused_by_the_sets_path() -> None:
    with pytest.raises(StorageValidationError) as caught:
        encode({"tags": {(1, frozenset())}})
    assert caught.value.path == "data.tags{}[1]"


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS.keys())
def test_256_levels_are_kept_and_257_are_refused(wrap: Callable[[Any], Any]) -> None:
    for innermost in (1, b"x", SPLIT_PAIR):
        deepest = nested(MAX_DEPTH, wrap, innermost)
        assert same(decode(encode(deepest)), deepest)
    one_more: list[Any] = [[], {}, (), set(), {1}, [1], nested(5000, wrap, b"x")]
    for too_deep in (nested(MAX_DEPTH, wrap, inner) for inner in one_more):
        with pytest.raises(StorageValidationError, match="deeper than 256 levels"):
            encode(too_deep)


def test_a_set_and_the_tuples_in_it_count_as_levels() -> None:
    deepest = {nested(MAX_DEPTH - 1, WRAPS["tuple"], 1)}
    assert same(decode(encode(deepest)), deepest)
    with pytest.raises(StorageValidationError, match="deeper than 256 levels"):
        encode([deepest])


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS.keys())
def test_depth_does_not_depend_on_how_deep_in_calls_the_caller_is(wrap: Callable[[Any], Any]) -> None:
    value = nested(MAX_DEPTH, wrap, -0.0)
    text = encode(value)

    def far_down(calls: int) -> tuple[str, Any]:
        return far_down(calls - 1) if calls else (encode(value), decode(text))

    written, read = far_down(sys.getrecursionlimit() - 150 - _calls_so_far())
    assert written == text
    assert same(read, value)


def _calls_so_far() -> int:
    frame, count = sys._getframe(), 0
    while frame.f_back:
        frame, count = frame.f_back, count + 1
    return count


def test_values_that_hold_each_other_are_refused_however_many_they_are() -> None:
    parent: dict[str, Any] = {"children": []}
    parent["children"] = [{"parent": parent, "name": str(number)} for number in range(100)]
    with pytest.raises(StorageValidationError) as caught:
        encode(parent)
    assert caught.value.path == "data.children[0].parent"
    with pytest.raises(StorageValidationError) as caught:
        encode([b"not plain", (parent,)])
    assert caught.value.path == "data[1][0].children[0].parent"


def test_a_small_object_that_spells_out_huge_is_over_the_limit_before_any_of_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(values, "exact_text", lambda *_: pytest.fail("it was written"))
    huge = nested(200, lambda value: [value, value], 1)
    for document in (huge, [b"", huge], nested(100, lambda value: (value, {"a": value}), None)):
        with pytest.raises(StorageCapacityError):
            encode(document)


def test_a_mapping_that_holds_another_too_many_times_is_refused_unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = dict.fromkeys(map(str, range(4_000)), 1)
    outer = dict.fromkeys(map(str, range(4_000)), inner)  # 16 million values, of 8 000 in memory

    def written(_: object) -> bytes:
        raise AssertionError("this would take its memory first")

    monkeypatch.setattr("msgspec.json.encode", written)
    with pytest.raises(StorageCapacityError):
        encode(outer)


def test_a_value_that_appears_twice_comes_back_twice() -> None:
    shared = [1, 2]
    assert decode(encode([shared, shared])) == [[1, 2], [1, 2]]


def test_the_limit_counts_bytes_of_utf8() -> None:
    fits = "é" * (MAX_ENCODED // 2 - 1)
    for largest in (fits, (MAX_ENCODED - 2) * "x"):
        assert len(encode(largest).encode()) == MAX_ENCODED
    for over in (fits + "x", ["", fits[2:]], (fits[8:], b""), b"x" * MAX_ENCODED, [0] * MAX_ENCODED):
        with pytest.raises(StorageCapacityError) as caught:
            encode(over, path="body")
        assert caught.value.details["limit"] == MAX_ENCODED
        assert caught.value.details["path"] == "body"


@pytest.mark.parametrize("limit", [640, 0, 10_000])
def test_what_is_written_under_another_limit_for_digits_can_be_read_under_pythons_own(limit: int) -> None:
    large, fine = 10**4300, 10**500
    long_text = "9" * 4301
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(limit)
    try:
        texts = encode(fine), encode(-fine)
        with pytest.raises(StorageValidationError):
            encode({"n": large})
        with pytest.raises(StorageIntegrityError):
            decode(long_text)
    finally:
        sys.set_int_max_str_digits(before)
    assert [decode(text) for text in texts] == [fine, -fine]


# --- copies and equality


def test_a_copy_shares_nothing_with_the_original() -> None:
    mine: dict[str, Any] = {"tags": ["x"], "pair": ([1],)}
    kept = copied(mine)
    mine["tags"].append("y")
    mine["pair"][0].append(2)
    assert kept == {"tags": ["x"], "pair": ([1],)}


DISTINCT: list[Any] = [
    *(None, True, 1, 1.0, "1", b"1", Decimal(1), Decimal("1.0"), 0, 0.0, -0.0, False, NAN, Decimal("NaN"), math.inf),
    *([], (), {}, set(), [1], (1,), {1}, {1.0}, {True}, {"1": 1}, {"1": 1.0}, {"1": True}, {"2": 1}, [1, 2], [2, 1]),
    *(UUID(int=1), date(2026, 1, 1), datetime(2026, 1, 1), datetime(2026, 1, 1, fold=1)),
    *(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 5, 30, tzinfo=INDIA)),
]


def test_equal_tells_every_type_and_content_apart() -> None:
    for one_at, one in enumerate(DISTINCT):
        for other_at, other in enumerate(DISTINCT):
            assert equal(one, copied(other)) is (one_at == other_at), (one, other)
            assert equal({"a": [one]}, {"a": [copied(other)]}) is (one_at == other_at)


def test_equal_ignores_the_order_of_keys_and_a_zones_name() -> None:
    assert equal({"a": 1, "b": [2]}, {"b": [2], "a": 1})
    assert equal(datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Kolkata")), datetime(2026, 1, 1, tzinfo=INDIA))
    assert equal(nested(MAX_DEPTH, WRAPS["list"], 1), nested(MAX_DEPTH, WRAPS["list"], 1))
    assert not equal({"a": 1}, {"a": 1, "b": 1})


# --- reading what is not ours


DAMAGED = [
    *("", " ", "{", "[1,]", "{'a':1}", "nul", "NaN", "[Infinity]", "-Infinity", "1e400", "-1e400", "01", '"\t"', "1 2"),
    *(
        '"\ud800"',
        "\ufeff1",
        "9" * 4301,
        "-" + "9" * 4301,
        '"\\ud800',
        "[" * 100_000,
        '{"a":' * 100_000,
        '["\\"' * 50_000,
    ),
    *(
        '["' + "x" * 20_000 + '",' + "[" * 256 + "]" * 257,
        "[" * 257 + "]" * 257,
        "[" * 800 + "]" * 800,
        '["\\ud800",' + "[" * 256 + "]" * 257,
    ),
    *('{"$type":"tuple","value":[' * 257 + "]}" * 257, '{"$type":"dict","value":{"$type":' * 257 + "1" + "}}" * 257),
    *("[" * 5000 + "]" * 5000, '["\\ud800",' + "[" * 900 + "]" * 901, '"' + '\\"' * 100_000),
    *(b"\xff", b'"\xed\xa0\x80"', b"\x80\x04K\x01.", "[1]".encode("utf-16"), b"\xef\xbb\xbf1", b"\0"),
]
MISSHAPEN: list[Any] = [
    *({"$type": "exec", "value": "1"}, {"$type": None, "value": 1}, {"$type": ["bytes"]}, {"$type": {}}, {"$type": 1}),
    *({"$type": "bytes"}, {"$type": "bytes", "value": "AP8=", "x": 1}, {"$type": "bytes", "valu": "AP8="}),
    {"$type": "dict", "value": {"$type": {"$type": "nothing"}}},
]
BAD_INSIDE: dict[str, list[Any]] = {
    "bytes": ["AP8", "AP9=", "A P8=", "é", 1, None, []],
    "datetime": ["", "2026", "2026-01-01T00:00:00Z", "2026-13-01T00:00:00.000000", "2026-01-01T00:00:00.000000+99:00"]
    + [f"2026-01-01T00:00:00.000000{zone}" for zone in ("Z", "+", "+00", "+0000", "-00:00", "*01:00", "+01:00+01:00")],
    "folded-datetime": ["2026-01-01T00:00:00.000000+01:00", "x"],
    "date": ["20260101", "2026-02-30", "2026-01-01T00:00:00", 5],
    "decimal": ["", "1_0", " 1", "1e5", "x", "1E+99999999999999999999", 1],
    "uuid": ["", f"{{{UUID(int=1)}}}", "1" * 32, {}],
    "float": ["1.5", "NaN", "infinity", 1.5, None],
    "tuple": [None, "ab", {"a": 1}, 1],
    "set": [[1, 1], [1, True], [[]], [{}], "ab", [{"$type": "tuple", "value": [[]]}]],
    "str": ["x", [], ["x"], ["a", "b"], [1, 2], ["\ud83d\ude00"], [["\ud83d"], "\ude00"]],
    "items": [{}, [1], [[1, 2]], [["a"]], [["a", 1], ["a", 2]], [[None, 1]], ["ab"]],
    "dict": [1, [], {}, {"a": 1}],
}
MALFORMED = MISSHAPEN + [{"$type": tag, "value": inner} for tag, bad in BAD_INSIDE.items() for inner in bad]


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: ascii(text)[:30])
def test_unreadable_text_is_an_integrity_error(text: str | bytes) -> None:
    with pytest.raises(StorageIntegrityError):
        decode(text)


@pytest.mark.parametrize("form", MALFORMED, ids=lambda form: ascii(form)[:50])
@pytest.mark.parametrize("within", [lambda form: form, lambda form: {"a": [form]}])
def test_unknown_and_malformed_tags_are_integrity_errors(form: Any, within: Callable[[Any], Any]) -> None:
    with pytest.raises(StorageIntegrityError):
        decode(json.dumps(within(form)))


def test_a_tag_spelled_with_escapes_is_a_tag() -> None:
    assert decode('{"\\u0024\\u0074ype":"bytes","value":"AP8="}') == b"\0\xff"


# --- the traps by name


@pytest.mark.parametrize(
    "value", [datetime(2026, 1, 1, tzinfo=UTC), UUID(int=5), {"a", "b"}, b"\xff", NAN, math.inf, (1, 2)], ids=named
)
def test_t2_22_no_value_turns_into_text_that_never_turns_back(value: Any) -> None:
    document = {"value": value}
    naive = json.loads(json.dumps(document, default=str).replace("NaN", "null").replace("Infinity", "null"))
    assert not same(naive, document)
    assert same(decode(encode(document)), document)


def test_t2_22_keys_that_are_no_strings_are_refused_not_rewritten() -> None:
    assert json.loads(json.dumps({1: "x"})) == {"1": "x"}
    with pytest.raises(StorageValidationError) as caught:
        encode({"by_number": {1: "x"}})
    assert caught.value.path == "data.by_number[1]"


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x\udfff", SPLIT_PAIR, "\ude00\ud83d"], ids=ascii)
def test_t2_23_nul_and_lone_surrogates_are_stored_reversibly(text: str) -> None:
    document = {text: [text, {"deep": text}]}
    stored = encode(document).encode("utf-8")
    assert b"\0" not in stored
    assert same(decode(stored), document)
    if text == SPLIT_PAIR:
        assert json.loads(json.dumps(text)) != text


# --- properties

odd_text = st.text(st.sampled_from('\ud83d\ude00\udc00\0\x7f$té😀\\".')) | st.text(max_size=8)
hashable = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), odd_text, st.binary(max_size=8), st.decimals(allow_nan=False),
    st.uuids(), st.dates(), st.datetimes(), st.datetimes(timezones=st.timezones()), st.integers(2**62, 2**66),
)  # fmt: skip
odd_keys = odd_text | st.sampled_from(["$type", "value", "a"])
documents = st.recursive(
    hashable | st.sets(hashable, max_size=4) | st.decimals(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(odd_keys, inner, max_size=4),
    ),
    max_leaves=20,
)
plain_documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5).filter("$type".__ne__), inner, max_size=4)
    ),
)


@given(documents)
@example({"a": [NAN, {"$type": {"$type": "dict"}}], SPLIT_PAIR: (SPLIT_PAIR, {"$type": -0.0})})
def test_any_document_round_trips_and_has_one_text(document: Any) -> None:
    text = encode(document)
    read = decode(text.encode("utf-8"))
    assert same(read, document)
    assert encode(read) == text
    assert equal(read, document)


@given(plain_documents)
def test_both_ways_of_writing_give_the_same_text(document: Any) -> None:
    assert exact_text(document, "data") == encode(document)
    assert json.loads(encode(document)) == document


@given(st.lists(documents, max_size=5))
def test_an_element_has_the_same_text_alone_and_inside(document: list[Any]) -> None:
    assert encode(document) == f"[{','.join(map(encode, document))}]"


# --- the counts

LEAVES: list[Callable[[random.Random], Any]] = [
    lambda rng: rng.choice([None, True, False, "", "plain text", "\0", "\ud800", SPLIT_PAIR, "é😀", "$type", b"\xff"]),
    lambda rng: rng.choice([-0.0, 0.0, 1e22, 5e-324, NAN, math.inf, -math.inf, 0.1, 1.0, rng.uniform(-1e9, 1e9)]),
    lambda rng: struct.unpack("<d", rng.randbytes(8))[0],
    lambda rng: rng.randint(-(10 ** rng.randrange(1, 60)), 10 ** rng.randrange(1, 60)),
    lambda rng: rng.choice([1, -1]) * (10 ** rng.choice([4299, 400, 20, 19, 18]) + rng.randrange(9)),
    lambda rng: "".join(map(chr, rng.choices([0, 92, 233, 0xD83D, 0xDE00, rng.randrange(0x110000)], k=8))),
    lambda rng: rng.randbytes(rng.randrange(20)),
    lambda rng: datetime.min + timedelta(microseconds=rng.randrange(10**17)),
    lambda rng: datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=rng.randrange(-(10**10), 10**10)))),
    lambda rng: Decimal((rng.randrange(2), tuple(rng.choices(range(10), k=rng.randrange(40))), rng.randint(-99, 99))),
    lambda rng: Decimal(rng.choice(["NaN", "sNaN7", "-Infinity", "-0.00"])),
    lambda rng: UUID(int=rng.getrandbits(128)),
    lambda rng: {rng.randrange(9), str(rng.random()), (rng.random(), None)},
]  # fmt: skip


def generated(rng: random.Random, room: int) -> Any:
    """A storable value of random shape, at most *room* containers deep."""
    if room == 0 or rng.random() < 0.3:
        return rng.choice(LEAVES)(rng)
    children = [generated(rng, room - 1) for _ in range(rng.randrange(5))]
    match rng.randrange(3):
        case 0:
            return children
        case 1:
            return tuple(children)
        case _:
            return {
                rng.choice(["a", "b.c", "$type", "value", "\0", SPLIT_PAIR, str(at)]): it
                for at, it in enumerate(children)
            }


def generated_document(rng: random.Random) -> dict[str, Any]:
    document = {"id": "x", "value": generated(rng, 5)}
    if rng.random() < 0.05:
        document["deep"] = nested(200, rng.choice(list(WRAPS.values())), generated(rng, 3))
    return document


def planted(rng: random.Random, fault: Any) -> tuple[Any, str]:
    """*fault* somewhere among storable values, and the path to it."""
    value, path = fault, "[0]" if type(fault) is list else ""  # the list that holds itself
    for _ in range(rng.randrange(8)):
        before = [generated(rng, 1) for _ in range(rng.randrange(3))]
        if rng.random() < 0.5:
            value, path = rng.choice([list, tuple])([*before, value, 1]), f"[{len(before)}]{path}"
        else:
            key, step = rng.choice([("a", ".a"), ("b.c", '["b.c"]'), ("$type", ".$type"), ("", '[""]'), ("é", ".é")])
            value, path = {"first": before, key: value, "last": 1}, step + path
    return value, path


@pytest.mark.scaled
def test_generated_documents_round_trip_or_are_refused_with_their_path() -> None:
    for seed in range(scaled(20_000, minimum=400)):
        rng = random.Random(seed)
        document = generated_document(rng)
        assert same(decode(encode(document)), document), seed
        broken, path = planted(rng, rng.choice(UNSTORABLE))
        with pytest.raises(StorageValidationError) as caught:
            encode(document | {"more": broken})
        assert caught.value.path == f"data.more{path}", seed


WATCHED = {"exec", "compile", "import", "open", "os.system", "subprocess.Popen", "pickle.find_class", "ctypes.dlopen"}
_seen: list[str] | None = None


def _note(event: str, _: object) -> None:
    if _seen is not None and event in WATCHED:
        _seen.append(event)


@contextmanager
def nothing_executed() -> Iterator[None]:
    """Fails when code is compiled, run or imported, or a file opened, inside the block."""
    global _seen
    if not getattr(sys, "_values_audited", False):
        sys.addaudithook(_note)  # there is no way to take one out again, so one for the process
        sys._values_audited = True  # type: ignore[attr-defined]
    _seen = []
    try:
        yield
        assert _seen == []
    finally:
        _seen = None


def mutated(rng: random.Random, text: bytes) -> bytes:
    damaged = bytearray(text)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(damaged) + 1)
        piece = rng.choice([rng.randbytes(1), b'"', b"[", b"}", b'"$type"', b"\\ud800", b"NaN", b"9" * 30, b"e", b""])
        damaged[at : at + rng.randrange(8)] = piece
    return bytes(damaged)


@pytest.mark.scaled
def test_fuzzed_bytes_never_crash_the_reader_or_execute_anything() -> None:
    outcomes = {"read": 0, "refused": 0}
    for seed in range(scaled(20_000, minimum=400)):
        rng = random.Random(seed)
        damaged = mutated(rng, encode(generated(rng, 4)).encode())
        with nothing_executed():
            try:
                read = decode(damaged)
            except StorageIntegrityError:
                outcomes["refused"] += 1
                continue
        outcomes["read"] += 1
        assert same(decode(encode(read)), read), seed
    assert min(outcomes.values()) > 0


def test_what_is_no_plain_json_costs_by_its_size_and_not_by_the_depth_there_could_be() -> None:
    value, calls = {"blob": b"x", "tags": ("a",)}, 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    encode(value)
    sys.setprofile(count)
    try:
        encode(value)
    finally:
        sys.setprofile(None)
    assert 0 < calls < MAX_DEPTH / 2


def test_the_public_names_are_these() -> None:
    assert set(values.__all__) == {"MAX_DEPTH", "MAX_ENCODED", "Value", "copied", "decode", "encode", "equal"}
