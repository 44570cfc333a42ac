"""Python pickles read as data: nothing is imported, nothing is called, no object is made.

The opcodes run on a stack that holds data and, for what a pickle names or builds, the two stand-ins below. A class is
its name and no more. Instances of the models of ADK, its SDK and FastAPI become mappings of their fields, members of
their enums their values; of other classes only the plain ones that :mod:`legacy.stores.peers.pickled_values` reads by
hand are known. Everything else is refused, and so is what is torn, or would grow out of all proportion.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from legacy.stores.peers.pickled_values import SCALARS, BadValueError, is_hashable, made_of, shown_duration, uuid_of
from unified_storage.values import MAX_DEPTH

MAX_BYTES = 15 << 20
"""Of a pickle, and of all texts together that it comes to: what is named in it twice is there twice afterwards."""
MAX_VALUES = 1_000_000
_MAX_NAME = 200
_MAX_BITS = 14_285  # an integer of 4 300 digits, which is what a storage keeps
_MAX_PROTOCOL = 5
_FRAME_HEAD = 9
_MODELS = re.compile(r"(?:google\.adk|google\.genai|fastapi)(?:\.\w+)*", re.ASCII)
_CLASS = re.compile(r"[A-Z]\w*(?:\.[A-Z]\w*)*", re.ASCII)
_MOST_ARGUMENTS = 3
_UUID = ("uuid", "UUID")
_MODEL_STATE = frozenset({"__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__"})


class Refused(ValueError):
    """A pickle that is torn, or holds what is no data; the message says what and where, and nothing of its contents."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name that a pickle asks for: nothing stands behind it."""

    module: str
    name: str

    @property
    def is_model(self) -> bool:
        """Whether it is a class among those whose instances are read as mappings."""
        return bool(_MODELS.fullmatch(self.module) and _CLASS.fullmatch(self.name))

    @property
    def pair(self) -> tuple[str, str]:
        return self.module, self.name


@dataclass(slots=True, eq=False)
class Instance:
    """What a pickle makes of a class without calling it, and fills afterwards."""

    of: Name
    fields: dict[Any, Any] | None = None
    extra: dict[Any, Any] | None = None
    places: list[int] = field(default_factory=list)


class _Mark:
    pass


_MARK: Final = _Mark()


def read_pickle(content: bytes) -> Any:
    """The data in *content*, a pickle of protocol 2 to 5.

    Returns:
        JSON types, ``bytes``, ``datetime``, ``date``, ``Decimal``, ``UUID``, ``tuple`` and ``set``; a ``timedelta`` is
        its ISO 8601 text. Nothing in it is shared.
    Raises:
        Refused: it holds anything else, is no whole pickle, or is too large.
    """
    if len(content) > MAX_BYTES:
        raise Refused(f"{len(content)} bytes are too many")
    machine = _Machine(len(content))
    try:
        for opcode, argument, position in pickletools.genops(content):
            machine.at = position or 0
            machine.run(opcode.name, argument)
    except Refused:
        raise
    except BadValueError as error:
        raise Refused(f"{error} at byte {machine.at}") from error
    except (ValueError, OverflowError, IndexError, EOFError) as error:
        raise Refused(f"torn behind byte {machine.at}") from error
    return _Plain().plain(machine.result())


class _Machine:
    """The stack, and what was remembered for later."""

    def __init__(self, size: int) -> None:
        self.at = 0
        self._size = size
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._is_done = False
        self._value: Any = None
        self._called_with = 0

    def run(self, opcode: str, argument: Any) -> None:
        if self.at == 0 and opcode != "PROTO":
            raise Refused("protocol 0 or 1, or no pickle at all")
        if opcode in _PUSHED:
            self._stack.append(argument)
        elif opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode]())
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        else:
            raise Refused(f"{opcode} at byte {self.at}")

    def result(self) -> Any:
        if not self._is_done or self._stack:
            raise Refused("no single value")
        return self._value

    # the stack

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise Refused(f"a mark for a value at byte {self.at}")
        return value

    def _pop_to_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while at >= 0 and self._stack[at] is not _MARK:
            at -= 1
        if at < 0:
            raise Refused(f"no mark at byte {self.at}")
        values = self._stack[at + 1 :]
        del self._stack[at:]
        return values

    def _top(self, kind: type) -> Any:
        if not self._stack or type(self._stack[-1]) is not kind:
            raise Refused(f"no {kind.__name__} to fill at byte {self.at}")
        return self._stack[-1]

    def _name(self, kind: str) -> Name:
        """The name under the arguments of what would be a call."""
        name = self._pop()
        if not isinstance(name, Name):
            raise Refused(f"{kind} of what is no name at byte {self.at}")
        return name

    # single steps

    def begin(self, protocol: Any) -> None:
        if not 2 <= protocol <= _MAX_PROTOCOL:
            raise Refused(f"protocol {protocol}")

    def frame(self, length: Any) -> None:
        if length > self._size - self.at - _FRAME_HEAD:
            raise Refused(f"a frame that is longer than the pickle at byte {self.at}")

    def stop(self, _: Any) -> None:
        if self.at + 1 != self._size:
            raise Refused(f"more behind its end at byte {self.at}")
        self._value = self._pop()
        self._is_done = True

    def mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def pop(self, _: Any) -> None:
        self._stack.pop()

    def pop_mark(self, _: Any) -> None:
        self._pop_to_mark()

    def memoize(self, _: Any) -> None:
        self._remember(len(self._memo))

    def remember(self, place: Any) -> None:
        self._remember(place)

    def _remember(self, place: int) -> None:
        if not self._stack or self._stack[-1] is _MARK:
            raise Refused(f"nothing to remember at byte {self.at}")
        self._memo[place] = top = self._stack[-1]
        if type(top) is Instance:
            top.places.append(place)

    def recall(self, place: Any) -> None:
        if place not in self._memo:
            raise Refused(f"nothing was remembered for byte {self.at}")
        self._stack.append(self._memo[place])

    # containers

    def tuple_of(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._stack.append(tuple(reversed(values)))

    def tuple_to_mark(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def frozenset_to_mark(self, _: Any) -> None:
        self._stack.append(frozenset(map(self._hashable, self._pop_to_mark())))

    def append(self, _: Any) -> None:
        value = self._pop()
        self._top(list).append(value)

    def extend(self, _: Any) -> None:
        values = self._pop_to_mark()
        self._top(list).extend(values)

    def add(self, _: Any) -> None:
        values = self._pop_to_mark()
        self._top(set).update(map(self._hashable, values))

    def set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._top(dict)[self._hashable(key)] = value

    def set_items(self, _: Any) -> None:
        values = self._pop_to_mark()
        if len(values) % 2:
            raise Refused(f"a key without a value at byte {self.at}")
        self._top(dict).update(zip(map(self._hashable, values[::2]), values[1::2], strict=True))

    def _hashable(self, value: Any) -> Hashable:
        if not is_hashable(value):
            raise Refused(f"a {type(value).__name__} as key or member at byte {self.at}")
        hashable: Hashable = value
        return hashable

    # classes

    def named(self, argument: Any) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._named(module, name))

    def named_by_stack(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise Refused(f"a name that is no text at byte {self.at}")
        self._stack.append(self._named(module, name))

    def _named(self, module: str, name: str) -> Name:
        if len(module) > _MAX_NAME or len(name) > _MAX_NAME:
            raise Refused(f"a name that is too long at byte {self.at}")
        return Name(module, name)

    def new(self, _: Any) -> None:
        arguments = self._pop()
        self._make(arguments, {})

    def new_by_name(self, _: Any) -> None:
        named, arguments = self._pop(), self._pop()
        self._make(arguments, named)

    def _make(self, arguments: Any, named: Any) -> None:
        name = self._name("an instance")
        if arguments != () or named != {} or not (name.is_model or name.pair == _UUID):
            raise Refused(f"an instance of {_shown(name)} at byte {self.at}")
        self._stack.append(Instance(name))

    def build(self, _: Any) -> None:
        state = self._pop()
        instance = self._top(Instance)
        if type(state) is not dict or instance.fields is not None:
            raise Refused(f"a state of {_shown(instance.of)} at byte {self.at}")
        if instance.of.pair == _UUID:
            self._become(instance, uuid_of(state))
        else:
            self._fill(instance, state)

    def _become(self, instance: Instance, value: Any) -> None:
        """Put *value* where *instance* stands, also where it was remembered before it was filled."""
        self._stack[-1] = value
        for place in instance.places:
            if self._memo[place] is instance:
                self._memo[place] = value

    def _fill(self, instance: Instance, state: dict[Any, Any]) -> None:
        own, extra = state.get("__dict__"), state.get("__pydantic_extra__")
        is_known = len(state) <= len(_MODEL_STATE) and not state.keys() - _MODEL_STATE
        if not is_known or type(own) is not dict or (extra is not None and type(extra) is not dict):
            raise Refused(f"a state that no model has at byte {self.at}")
        instance.fields, instance.extra = own, extra

    def called(self, _: Any) -> None:
        """What would be a call: the plain values are read by hand, a member of an enum is its value."""
        arguments, name = self._pop(), self._name("a call")
        if type(arguments) is not tuple or len(arguments) > _MOST_ARGUMENTS:
            raise Refused(f"a call without arguments at byte {self.at}")
        # What is remembered may be asked for again and again.
        self._called_with += sum(len(one) for one in arguments if isinstance(one, str | bytes | list | tuple))
        if self._called_with > MAX_BYTES:
            raise Refused(f"too much is made of little at byte {self.at}")
        if name.is_model and len(arguments) == 1 and type(arguments[0]) in (str, int):
            self._stack.append(arguments[0])
            return
        made = made_of(name.pair, arguments)
        if made is NotImplemented:
            raise Refused(f"a call of {_shown(name)} at byte {self.at}")
        self._stack.append(made)


def _shown(name: Name) -> str:
    """A name for people: short, and printable."""
    return ascii(f"{name.module}.{name.name}"[:80])


_PUSHED = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    )
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.begin,
    "FRAME": _Machine.frame,
    "STOP": _Machine.stop,
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "MEMOIZE": _Machine.memoize,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "TUPLE": _Machine.tuple_to_mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "FROZENSET": _Machine.frozenset_to_mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.extend,
    "ADDITEMS": _Machine.add,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "BYTEARRAY8": lambda machine, argument: machine.run("BINBYTES8", bytes(argument)),
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.named_by_stack,
    "NEWOBJ": _Machine.new,
    "NEWOBJ_EX": _Machine.new_by_name,
    "BUILD": _Machine.build,
    "REDUCE": _Machine.called,
}


class _Plain:
    """A copy of what the stack held, in which nothing is left but data."""

    def __init__(self) -> None:
        self._count = 0
        self._length = 0

    def plain(self, value: Any, depth: int = 0) -> Any:
        self._count += 1
        if self._count > MAX_VALUES or self._length > MAX_BYTES:
            raise Refused("it comes to too much")
        if depth > MAX_DEPTH:
            raise Refused(f"more than {MAX_DEPTH} levels")
        return self._scalar(value) if type(value) in SCALARS else self._container(value, depth + 1)

    def _scalar(self, value: Any) -> Any:
        if isinstance(value, str | bytes):
            self._length += len(value)
        if type(value) is int and value.bit_length() > _MAX_BITS:
            raise Refused(f"an integer of {value.bit_length()} bits")
        return value

    def _container(self, value: Any, depth: int) -> Any:
        match value:
            case dict():
                return {self.plain(key, depth): self.plain(one, depth) for key, one in value.items()}
            case list():
                return [self.plain(one, depth) for one in value]
            case tuple():
                return tuple([self.plain(one, depth) for one in value])
            case set() | frozenset():
                return {self.plain(one, depth) for one in value}
            case timedelta():
                return shown_duration(value)
            case Instance(fields=dict() as fields):
                return self.plain(fields, depth) | self.plain(value.extra or {}, depth)
            case Name():
                raise Refused(f"{_shown(value)} among the values")
        raise Refused(f"a {type(value).__name__} among the values")
