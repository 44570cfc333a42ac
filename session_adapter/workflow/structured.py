"""Values of classes as plain data that a storage keeps, and back.

An object is written as ``{"$class": name, "fields": {...}}``. Reading builds objects of registered classes only, from
their fields, as a copy is built: no ``__init__``, no validator and nothing named by the data is run. What else there
was comes back as :class:`PlainData`. Dicts with keys that are no texts, frozensets, and dicts that have a key
``$class`` themselves are written as ``{"$class": "dict", "items": [...]}``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from unified_storage.errors import StorageValidationError
from unified_storage.values import MAX_DEPTH

CLASS = "$class"
FIELDS = "fields"
_ITEMS = "items"
_BUILT_IN: Mapping[str, type] = {"dict": dict, "set": set, "frozenset": frozenset}
_LEAVES = frozenset({type(None), bool, int, float, str, bytes, datetime, date, Decimal, UUID})
_VALUES = (dict, list, tuple, set, frozenset, str, bytes, int, float)


class PlainData(dict[str, Any]):
    """The fields of an object whose class is not registered here, or has other fields by now.

    Stored again, it is what it was, so that a program which knows the class finds the object.

    Attributes:
        type_name: the marker: what the class was registered as, else its full name.
        more: what else was stored of it.
    """

    def __init__(self, type_name: str, fields: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> None:
        super().__init__(fields)
        self.type_name = type_name
        self.more = dict(more or {})


class StateTypes:
    """The classes whose objects come back as such: dataclasses, pydantic models, enums. Nested ones count too.

    Args:
        types: the classes, stored by their full names (``shop.orders.Order``), or a mapping of names to classes, which
            may then be moved and renamed.
    Raises:
        StorageValidationError: something else, or two of one name.
    """

    def __init__(self, types: Iterable[type] | Mapping[str, type] = ()) -> None:
        pairs = types.items() if isinstance(types, Mapping) else [(_full_name(kind), kind) for kind in types]
        self._classes: dict[str, type] = {}
        self._names: dict[type, str] = {}
        for name, kind in pairs:
            if not _is_structured(kind):
                message = f"{kind!r} is no dataclass, pydantic model or enum"
                raise StorageValidationError(message, details={"path": "types", "name": name})
            if name in _BUILT_IN or self._classes.get(name, kind) is not kind:
                message = f"{name!r} names another type already"
                raise StorageValidationError(message, details={"path": "types", "name": name})
            self._classes[name] = kind
            self._names[kind] = name

    def class_of(self, name: str) -> type | None:
        """The class registered as *name*."""
        return self._classes.get(name)

    def name_of(self, kind: type) -> str:
        """What objects of *kind* are stored as."""
        return self._names.get(kind) or _full_name(kind)


Types = Iterable[type] | Mapping[str, type] | StateTypes
"""Ways to name the classes whose objects come back as such."""


def state_types(types: Types) -> StateTypes:
    """The register of *types*."""
    return types if isinstance(types, StateTypes) else StateTypes(types)


def to_stored(value: Any, types: StateTypes, *, path: str) -> Any:
    """*value* as plain data for a storage, nothing of it lost.

    Args:
        path: what it is called in errors.
    Raises:
        StorageValidationError: something in it cannot be stored; ``error.path`` names the place.
    """
    return _Writer(types).form(value, path, 1)


def from_stored(stored: Any, types: StateTypes) -> Any:
    """The value that :func:`to_stored` gave *stored* for."""
    return _Reader(types).value(stored)


class _Writer:
    def __init__(self, types: StateTypes) -> None:
        self._types = types

    def form(self, value: Any, path: str, depth: int) -> Any:
        kind = type(value)
        if kind in _LEAVES:
            return value
        if depth > MAX_DEPTH:
            raise _unstorable(path, f"goes deeper than {MAX_DEPTH} levels, or contains itself")
        if kind is dict:
            return self._mapping(value, path, depth)
        if kind is list or kind is tuple:
            return kind(self._items(value, path, depth))
        if kind is set and all(type(item) in _LEAVES for item in value):
            return set(value)
        if kind is set or kind is frozenset:
            return {CLASS: kind.__name__, _ITEMS: self._items(value, path, depth)}
        if kind is PlainData:
            return {CLASS: value.type_name, **self._texts({FIELDS: dict(value), **value.more}, path, depth)}
        return {CLASS: self._types.name_of(kind), **self._object(value, path, depth)}

    def _mapping(self, value: dict[Any, Any], path: str, depth: int) -> dict[str, Any]:
        if CLASS not in value and all(type(key) is str for key in value):
            return self._texts(value, path, depth)
        pairs = [[self.form(key, f"{path}[{key!r}]", depth + 1), item] for key, item in value.items()]
        for pair, key in zip(pairs, value, strict=True):
            pair[1] = self.form(pair[1], f"{path}[{key!r}]", depth + 1)
        return {CLASS: "dict", _ITEMS: pairs}

    def _texts(self, value: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        return {key: self.form(item, f"{path}.{key}", depth + 1) for key, item in value.items()}

    def _items(self, values: Iterable[Any], path: str, depth: int) -> list[Any]:
        return [self.form(item, f"{path}[{at}]", depth + 1) for at, item in enumerate(values)]

    def _object(self, value: Any, path: str, depth: int) -> dict[str, Any]:
        if isinstance(value, Enum):
            if value.name not in type(value).__members__:
                raise _unstorable(path, f"is no single member of {type(value).__name__}")
            return {FIELDS: self._texts({"name": value.name, "value": value.value}, path, depth)}
        if not _is_structured(type(value)) or isinstance(value, _VALUES):
            kind = type(value).__qualname__
            raise _unstorable(path, f"is a {kind}: store plain values, dataclasses, pydantic models or enums instead")
        state = _state_of_model(value) if isinstance(value, BaseModel) else {FIELDS: _fields_of_dataclass(value, path)}
        return self._texts(state, path, depth)


def _state_of_model(value: BaseModel) -> dict[str, Any]:
    names = type(value).model_fields
    state: dict[str, Any] = {FIELDS: {name: item for name, item in value.__dict__.items() if name in names}}
    unset = [name for name in (*names, *(value.__pydantic_extra__ or ())) if name not in value.model_fields_set]
    more = {"extra": value.__pydantic_extra__, "private": value.__pydantic_private__, "unset": unset}
    return state | {name: item for name, item in more.items() if item}


def _fields_of_dataclass(value: Any, path: str) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(value)]
    missing = [name for name in names if not hasattr(value, name)]
    beside = [name for name in getattr(value, "__dict__", ()) if name not in names]
    odd = missing + [name for name in beside if not isinstance(getattr(type(value), name, None), cached_property)]
    if odd:
        raise _unstorable(path, f"is not what its fields say: {', '.join(odd)}")
    return {name: getattr(value, name) for name in names}


class _Reader:
    def __init__(self, types: StateTypes) -> None:
        self._types = types
        self._plain = 0

    def value(self, stored: Any) -> Any:
        kind = type(stored)
        if kind is list or kind is tuple:
            return kind(map(self.value, stored))
        if kind is not dict:
            return stored
        name = stored.get(CLASS)
        if type(name) is str:
            if name in _BUILT_IN and type(stored.get(_ITEMS)) is list:
                return _BUILT_IN[name](map(self.value, stored[_ITEMS]))
            if type(stored.get(FIELDS)) is dict:
                return self._object(name, stored)
        return {key: self.value(item) for key, item in stored.items()}

    def _object(self, name: str, stored: dict[str, Any]) -> Any:
        before = self._plain
        more = {key: self.value(item) for key, item in stored.items() if key != CLASS}
        fields = more.pop(FIELDS)
        kind = self._types.class_of(name)
        # An object with something else in the place of a part would be no such object.
        made = None if kind is None or self._plain > before else _built(kind, fields, more)
        if made is None:
            self._plain += 1
            return PlainData(name, fields, more)
        return made


def _built(kind: type, fields: dict[str, Any], more: dict[str, Any]) -> Any:
    """The object of *kind*; None where its fields are others."""
    if issubclass(kind, Enum):
        return kind.__members__.get(fields.get("name", ""))
    if issubclass(kind, BaseModel):
        return _built_model(kind, fields, more)
    return _built_dataclass(kind, fields) if dataclasses.is_dataclass(kind) and not more else None


def _built_dataclass(kind: Any, fields: dict[str, Any]) -> Any:
    known = {field.name: field for field in dataclasses.fields(kind)}
    added = {name: _default(field) for name, field in known.items() if name not in fields}
    if not fields.keys() <= known.keys() or any(value is dataclasses.MISSING for value in added.values()):
        return None
    made = kind.__new__(kind)
    for name, value in (fields | added).items():
        object.__setattr__(made, name, value)
    return made


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _built_model(kind: type[BaseModel], fields: dict[str, Any], more: dict[str, Any]) -> BaseModel | None:
    known = kind.model_fields
    added = [name for name in known if name not in fields]
    takes_extra = kind.model_config.get("extra") == "allow"
    if not fields.keys() <= known.keys() or any(known[name].is_required() for name in added):
        return None
    if more.get("extra") and not takes_extra:
        return None
    private = {name: attribute.get_default() for name, attribute in kind.__private_attributes__.items()}
    made = kind.__new__(kind)
    made.__setstate__(
        {
            "__dict__": {
                name: fields[name] if name in fields else known[name].get_default(call_default_factory=True)
                for name in known
            },
            "__pydantic_extra__": more.get("extra", {}) if takes_extra else None,
            "__pydantic_fields_set__": {*known, *more.get("extra", ())} - {*more.get("unset", ()), *added},
            "__pydantic_private__": (private | more.get("private", {})) if private else None,
        }
    )
    return made


def _is_structured(kind: object) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, BaseModel | Enum))


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _unstorable(path: str, why: str) -> StorageValidationError:
    return StorageValidationError(f"{path} {why}", details={"path": path})
