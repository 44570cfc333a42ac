"""Classes whose objects stand in states."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

from pydantic import BaseModel, Field, PrivateAttr, RootModel
from pydantic.dataclasses import dataclass as pydantic_dataclass


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class UserInfo:
    name: str
    age: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float


@dataclass
class Order:
    user: UserInfo
    color: Color
    at: list[Point] = field(default_factory=list)
    total: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.total = len(self.at)


class Profile(BaseModel):
    name: str = Field(alias="fullName")
    level: int = 1
    friends: list[UserInfo] = []
    _seen: int = PrivateAttr(default=0)


class Open(BaseModel, extra="allow"):
    n: int


class Names(RootModel[list[str]]):
    pass


@pydantic_dataclass
class Checked:
    n: int
    users: list[UserInfo] = field(default_factory=list)


class Measured(BaseModel):
    n: int

    @cached_property
    def double(self) -> int:
        return self.n * 2


class Twice(BaseModel):
    """Validating it again would change it."""

    n: int

    def model_post_init(self, _: Any) -> None:
        self.n *= 2
