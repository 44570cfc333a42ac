"""Objects as plain data and back (S3.23)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, Flag
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from session_adapter.comparing import same
from session_adapter.workflow import PlainData, SessionState, StateTypes
from session_adapter.workflow.structured import from_stored, to_stored
from tests.places import place_on
from tests.session_adapter.workflow.models import (
    Checked,
    Color,
    Measured,
    Names,
    Open,
    Order,
    Point,
    Profile,
    Twice,
    UserInfo,
)
from unified_storage.errors import StorageValidationError
from unified_storage.values import decode, encode

TYPES = StateTypes([Checked, Color, Measured, Names, Open, Order, Point, Profile, Twice, UserInfo])
NOTHING = StateTypes()
HERE = "tests.session_adapter.workflow.models"


def profile() -> Profile:
    made = Profile(fullName="Ann", friends=[UserInfo("Ben", 2, ("x",))])
    made._seen = 7
    return made


VALUES: dict[str, Any] = {
    "dataclass": UserInfo("Ann", 3, ("x", "y")),
    "frozen with slots": Point(-0.0, float("nan")),
    "nested": Order(UserInfo("Ann"), Color.BLUE, [Point(0, 1.0)]),
    "model": profile(),
    "model with extras": Open.model_validate({"n": 1, "more": {"a": (1,)}}),
    "model that changes itself": Twice(n=2),
    "root model": Names(["a", "b"]),
    "pydantic dataclass": Checked(1, [UserInfo("Ann")]),
    "model with a cached property": Measured(n=1),
    "enum": [Color.RED],
    "integer keys": {1: UserInfo("Ann"), (2, 3): {"a": 1}, "1": 2},
    "sets": [{1, "a"}, {(1, 2)}, frozenset({frozenset({1}), Color.RED})],
    "leaves": [None, True, 1, 1.0, b"\xff", datetime(2024, 5, 1, tzinfo=UTC), (1, [2])],
    "what looks like an object": [{"$class": "dict", "items": [[1, 2]]}, {"$class": f"{HERE}.UserInfo", "fields": {}}],
}


@pytest.mark.parametrize("name", VALUES)
def test_what_is_stored_comes_back_the_same(name: str) -> None:
    """S3.23."""
    stored = decode(encode(to_stored(VALUES[name], TYPES, path="k")))
    assert same(from_stored(stored, TYPES), VALUES[name])


async def test_structured_values_survive_sqlite(tmp_path: Path) -> None:
    """S3.23."""
    async with place_on("sqlite", tmp_path) as place:
        async with place.open() as storage:
            stored = {name: to_stored(value, TYPES, path=name) for name, value in VALUES.items()}
            await storage.save({"id": "a", "type": "note", "data": stored})
        async with place.open() as storage:
            record = await storage.load("a")
    assert record is not None
    assert same({name: from_stored(item, TYPES) for name, item in record["data"].items()}, VALUES)


def test_structured_values_survive_in_memory() -> None:
    """S3.23."""
    assert same(SessionState(VALUES).clone().get_all(), VALUES)


def test_an_unknown_type_comes_back_as_plain_data_with_a_marker() -> None:
    """S3.23: and as an object again where the type is known, though it was stored in between."""
    stored = to_stored(profile(), TYPES, path="k")
    plain = from_stored(stored, StateTypes([UserInfo]))
    assert type(plain) is PlainData
    assert plain.type_name == f"{HERE}.Profile"
    assert plain == {"name": "Ann", "level": 1, "friends": [UserInfo("Ben", 2, ("x",))]}
    kept = SessionState({"k": plain})["k"]
    assert same(kept, plain)
    assert encode(to_stored(kept, NOTHING, path="k")) == encode(stored)
    assert same(from_stored(to_stored(kept, NOTHING, path="k"), TYPES), profile())
    kept["name"] = "Eve"
    assert from_stored(to_stored(kept, NOTHING, path="k"), TYPES).name == "Eve"


def test_an_object_with_an_unknown_part_is_no_half_an_object() -> None:
    """S3.23."""
    stored = to_stored(VALUES["nested"], TYPES, path="k")
    plain = from_stored([stored, to_stored(Color.RED, TYPES, path="k")], StateTypes([Order, Color, UserInfo]))
    assert [type(item) for item in plain] == [PlainData, Color]
    assert type(plain[0]["at"][0]) is PlainData
    assert plain[0]["user"] == UserInfo("Ann")


def test_reading_runs_no_code() -> None:
    """S3.23: nothing is imported, called or made from what the data says."""
    module = "tests.session_adapter.workflow.never_imported"
    for name in (f"{module}.Thing", "os.system", "builtins.eval", "dict", "set"):
        for stored in ({"$class": name, "fields": {"name": "x"}}, {"$class": name, "fields": {}, "private": {}}):
            assert type(from_stored(stored, NOTHING)) is PlainData
    assert module not in sys.modules


def test_objects_are_built_without_running_their_code() -> None:
    """S3.23: neither ``__init__`` nor validators, which could turn a value into another one."""
    stored = to_stored(Twice(n=2), TYPES, path="k")
    assert stored == {"$class": f"{HERE}.Twice", "fields": {"n": 4}}
    assert from_stored(stored, TYPES).n == 4


@dataclass
class Newer:
    name: str
    age: int = 5
    tags: list[str] = field(default_factory=list)


class NewerModel(BaseModel):
    name: str
    tags: list[str] = []
    _private: int = 3


def test_new_fields_with_a_default_are_added() -> None:
    """S3.23: a class may have grown since."""
    for kind in (Newer, NewerModel):
        made = from_stored({"$class": "x", "fields": {"name": "Ann"}}, StateTypes({"x": kind}))
        assert made == kind(name="Ann")
        made.tags.append("own")
        assert from_stored({"$class": "x", "fields": {"name": "Ann"}}, StateTypes({"x": kind})).tags == []


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (Newer, {"fields": {"age": 1}}),
        (Newer, {"fields": {"name": "Ann", "left": 1}}),
        (Newer, {"fields": {"name": "Ann"}, "extra": {"a": 1}}),
        (NewerModel, {"fields": {"tags": []}}),
        (NewerModel, {"fields": {"name": "Ann", "left": 1}}),
        (NewerModel, {"fields": {"name": "Ann"}, "extra": {"a": 1}}),
        (Color, {"fields": {"name": "GREEN", "value": "green"}}),
    ],
)
def test_what_no_longer_fits_its_type_is_plain_data(kind: type, stored: dict[str, Any]) -> None:
    """S3.23."""
    found = from_stored({"$class": "x", **stored}, StateTypes({"x": kind}))
    assert type(found) is PlainData
    assert to_stored(found, NOTHING, path="k") == {"$class": "x", **stored}


def test_a_type_may_have_a_name_of_its_own() -> None:
    """S3.23: then it may be moved."""
    stored = to_stored(UserInfo("Ann"), StateTypes({"user": UserInfo}), path="k")
    assert stored == {"$class": "user", "fields": {"name": "Ann", "age": 0, "tags": ()}}
    assert from_stored(stored, StateTypes({"user": Newer})) == Newer("Ann", 0, ())  # type: ignore[arg-type]


@pytest.mark.parametrize("types", [[int], {"a": dict}, [lambda: 1], {"set": UserInfo}, {"frozenset": UserInfo}])
def test_only_structured_types_can_be_registered(types: Any) -> None:
    with pytest.raises(StorageValidationError) as refusal:
        StateTypes(types)
    assert refusal.value.path == "types"


def test_two_types_of_one_name_are_refused() -> None:
    def made() -> type:
        @dataclass
        class Local:
            pass

        return Local

    local = made()
    StateTypes([local, local])
    with pytest.raises(StorageValidationError, match="names another type already"):
        StateTypes([local, made()])


class Pair(NamedTuple):
    a: int


class Bits(Flag):
    A = 1
    B = 2


class Text(str):
    pass


@dataclass
class Lists(list[int]):
    n: int = 0


@dataclass
class Cached:
    n: int

    @cached_property
    def double(self) -> int:
        return self.n * 2


class Number(int, Enum):
    ONE = 1


def beside() -> UserInfo:
    user = UserInfo("Ann")
    user.other = 1  # type: ignore[attr-defined]
    return user


def without() -> Point:
    return Point.__new__(Point)


def itself() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (object(), "k"),
        ([1, {"a": object()}], "k[1].a"),
        ({1: {2: object()}}, "k[1][2]"),
        (Order(UserInfo(object()), Color.RED), "k.fields.user.fields.name"),  # type: ignore[arg-type]
        (Pair(1), "k"),
        (Bits.A | Bits.B, "k"),
        (Text("a"), "k"),
        (Lists(), "k"),
        (beside(), "k"),
        (without(), "k"),
        (UserInfo, "k"),
        (len, "k"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(value: Any, place: str) -> None:
    """S3.23."""
    with pytest.raises(StorageValidationError) as refusal:
        to_stored(value, TYPES, path="k")
    assert refusal.value.path == place


def test_what_contains_itself_is_refused() -> None:
    with pytest.raises(StorageValidationError, match="contains itself"):
        to_stored(itself(), TYPES, path="k")


def test_what_can_be_computed_again_is_left_out() -> None:
    for cached in (Cached(2), Measured(n=2)):
        assert cached.double == 4
        assert to_stored(cached, NOTHING, path="k")["fields"] == {"n": 2}


def test_an_enum_of_numbers_is_an_enum() -> None:
    types = StateTypes([Number])
    assert from_stored(to_stored(Number.ONE, types, path="k"), types) is Number.ONE


def test_other_programs_data_is_left_as_it_is() -> None:
    for theirs in ({"$class": 1}, {"$class": "x"}, {"$class": "x", "fields": []}, {"$class": "dict", "items": 1}):
        assert from_stored(theirs, TYPES) == theirs
        assert type(from_stored(theirs, TYPES)) is dict
