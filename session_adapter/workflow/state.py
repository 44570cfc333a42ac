"""``SessionState``: the values that the steps of a workflow hand on, each reader with copies of his own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from typing import Any, Literal, TypeVar

from session_adapter.comparing import same
from session_adapter.workflow.errors import StateCopyError
from session_adapter.workflow.sizes import size_of
from session_adapter.workflow.typed import typed
from unified_storage.errors import StorageCapacityError, StorageValidationError

T = TypeVar("T")
OnUncopyable = Literal["error", "share"]

_BY_IDENTITY = (
    asyncio.Barrier,
    asyncio.Condition,
    asyncio.Event,
    asyncio.Lock,
    asyncio.Queue,
    asyncio.Semaphore,
)
"""What Python copies without a word, though a copy is of no use: others wait for the original."""


class Held:
    """A value in a state.

    Attributes:
        own: a copy that the state made, which nobody can reach and nobody changes, so that states may share it; else
            the very object that was given.
    """

    def __init__(self, value: Any, *, own: bool) -> None:
        self.value = value
        self.own = own

    @cached_property
    def size(self) -> int:
        """About the bytes that it takes."""
        return size_of(self.value)

    def same_as(self, other: Held) -> bool:
        """Whether both have the same type and content."""
        return self is other or same(self.value, other.value)


@dataclass(frozen=True)
class Rules:
    """What a state does with values that cannot be copied or are too large."""

    share: frozenset[str] = frozenset()
    on_uncopyable: OnUncopyable = "error"
    max_value_bytes: int | None = None
    max_total_bytes: int | None = None

    def with_sharing(self, share: Iterable[str], on_uncopyable: OnUncopyable | None) -> Rules:
        """These, with more keys to share; *on_uncopyable* stays as it is where it is None."""
        if isinstance(share, str):
            message = "share is a list of keys, not one text"
            raise StorageValidationError(message, details={"path": "share"})
        if on_uncopyable not in (None, "error", "share"):
            message = f"on_uncopyable is 'error' or 'share', not {on_uncopyable!r}"
            raise StorageValidationError(message, details={"path": "on_uncopyable"})
        return replace(self, share=self.share.union(share), on_uncopyable=on_uncopyable or self.on_uncopyable)


class SessionState:
    """Values by key, for any number of threads and tasks at once.

    What is put in is copied, and so is what is handed out: changing either changes nothing here until it is ``set``
    again. Copies keep all types. Mapping access works too: ``state["k"]``, ``state["k"] = v``, ``del state["k"]``,
    ``"k" in state``, ``len(state)``, iteration over the keys, ``dict(state)``.

    Args:
        values: what it begins with; copied.
        share: keys whose values are not copied: all who read them get the object itself, also through clones.
        on_uncopyable: ``error`` refuses to hand out a value that cannot be copied (a lock, an open file); ``share``
            hands out the object itself. :attr:`shared` lists what is shared.
        max_value_bytes: the most that one value may take (see :func:`~session_adapter.workflow.sizes.size_of`).
        max_total_bytes: the most that all keys and values may take together.
    Raises:
        StorageCapacityError: (every method that puts something in) a limit is exceeded; nothing was changed.
    """

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        share: Iterable[str] = (),
        on_uncopyable: OnUncopyable = "error",
        max_value_bytes: int | None = None,
        max_total_bytes: int | None = None,
    ) -> None:
        limits = Rules(max_value_bytes=max_value_bytes, max_total_bytes=max_total_bytes)
        self._rules = limits.with_sharing(share, on_uncopyable)
        self._held: dict[str, Held] = {}
        self._size = 0
        self._lock = Lock()
        if values is not None:
            self.apply({key: self._taken(key, value) for key, value in values.items()})

    def set(self, key: str, value: Any) -> None:
        """Put a copy of *value*, of any type, under *key*.

        One that cannot be copied is kept as it is; reading it raises ``StateCopyError`` unless it is shared.
        """
        self.apply({key: self._taken(key, value)})

    def get(self, key: str) -> tuple[Any, bool]:
        """A copy of the value and True; ``(None, False)`` where there is none.

        Raises:
            StateCopyError: the value cannot be copied, and is not shared.
        """
        held = self._held.get(key)
        return (None, False) if held is None else (self._read(key, held), True)

    def get_value(self, key: str, default: Any = None) -> Any:
        """A copy of the value; *default* where there is none."""
        value, exists = self.get(key)
        return value if exists else default

    def get_typed(self, key: str, type: type[T]) -> T:
        """The value as a *type*: itself where it is one, else what a stored mapping says of a model or dataclass.

        Raises:
            KeyError: there is no such key.
            StateTypeError: it is something else.
        """
        return typed(key, self[key], type)

    def get_all(self) -> dict[str, Any]:
        """A copy of everything.

        Raises:
            StateCopyError: a value cannot be copied, and is not shared.
        """
        return {key: self._read(key, held) for key, held in self.snapshot().items()}

    def delete(self, key: str) -> bool:
        """Delete one key; whether it was there."""
        with self._lock:
            held = self._held.pop(key, None)
            if held is not None:
                self._size -= self._counted(key, held)
            return held is not None

    def clear(self) -> None:
        """Delete all keys."""
        with self._lock:
            self._held, self._size = {}, 0

    def clone(self, *, share: Iterable[str] = (), on_uncopyable: OnUncopyable | None = None) -> SessionState:
        """A deep copy with the same rules, which never sees what happens to this state, nor the other way round.

        It costs as much as there are keys: what neither state can change is not copied before it is read.

        Args:
            share: further keys that the clone shares.
            on_uncopyable: what the clone does; as this state where it is None.
        Raises:
            StateCopyError: a value cannot be copied, and is not shared.
        """
        clone = SessionState()
        clone._rules = self._rules.with_sharing(share, on_uncopyable)
        clone.apply({key: clone._given(key, held) for key, held in self.snapshot().items()})
        return clone

    def merge_from(self, other: SessionState | Mapping[str, Any] | None) -> None:
        """Put everything of *other* in, which wins key by key and is not changed. None changes nothing."""
        if other is None:
            return
        # The other's lock is free again before ours is taken: two states may merge into each other at once.
        self.apply(other.snapshot() if isinstance(other, SessionState) else SessionState(other).snapshot())

    @property
    def shared(self) -> list[str]:
        """The keys whose values are handed out themselves, not as copies."""
        return [key for key, held in self.snapshot().items() if self._is_shared(key, held)]

    # for merges and for saving

    def snapshot(self) -> dict[str, Held]:
        """What it holds now, uncopied."""
        with self._lock:
            return dict(self._held)

    def apply(self, changes: Mapping[str, Held | None]) -> None:
        """Put *changes* in, in one step; None deletes."""
        for key, held in changes.items():
            self._check(key, held)
        added = sum(self._counted(key, held) for key, held in changes.items())
        with self._lock:
            size = self._size + added - sum(self._counted(key, self._held.get(key)) for key in changes)
            self._check_total(size)
            self._size = size
            for key, held in changes.items():
                if held is None:
                    self._held.pop(key, None)
                else:
                    self._held[key] = held

    # mapping access

    def __getitem__(self, key: str) -> Any:
        value, exists = self.get(key)
        if not exists:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._held)

    def keys(self) -> list[str]:
        """The keys, in the order in which they came."""
        return list(self.snapshot())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionState):
            return NotImplemented
        mine, theirs = self.snapshot(), other.snapshot()
        return mine.keys() == theirs.keys() and all(held.same_as(theirs[key]) for key, held in mine.items())

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __deepcopy__(self, _: dict[int, Any]) -> SessionState:
        return self.clone()

    def __repr__(self) -> str:
        return f"SessionState({', '.join(map(repr, self.keys()))})"

    def _taken(self, key: str, value: Any) -> Held:
        if key in self._rules.share:
            return Held(value, own=False)
        try:
            return Held(copied(key, value), own=True)
        except StateCopyError:
            return Held(value, own=False)

    def _given(self, key: str, held: Held) -> Held:
        """What a clone holds for *held*."""
        return held if held.own or self._is_shared(key, held) else Held(copied(key, held.value), own=True)

    def _is_shared(self, key: str, held: Held) -> bool:
        return key in self._rules.share or (self._rules.on_uncopyable == "share" and not held.own)

    def _read(self, key: str, held: Held) -> Any:
        return held.value if self._is_shared(key, held) else copied(key, held.value)

    def _check(self, key: str, held: Held | None) -> None:
        if type(key) is not str:
            message = f"a state's key is a text, not {type(key).__name__}"
            raise StorageValidationError(message, details={"path": "key"})
        limit = self._rules.max_value_bytes
        if held is not None and limit is not None and held.size > limit:
            raise _too_large(f"the value of {key!r}", limit, held.size, {"key": key})

    def _counted(self, key: str, held: Held | None) -> int:
        return 0 if held is None or self._rules.max_total_bytes is None else size_of(key) + held.size

    def _check_total(self, size: int) -> None:
        limit = self._rules.max_total_bytes
        if limit is not None and size > limit:
            raise _too_large("the state", limit, size, {})


def copied(key: str, value: Any) -> Any:
    """A deep copy of *value*, types kept; ``StateCopyError`` where there can be none."""
    made: dict[int, Any] = {}
    try:
        copy = deepcopy(value, made)
    except Exception as error:
        raise _uncopyable(key, value) from error
    if any(_is_by_identity(item) for item in made.values()):
        raise _uncopyable(key, value)
    return copy


def _is_by_identity(item: object) -> bool:
    return isinstance(item, _BY_IDENTITY) or type(item) is object


def _uncopyable(key: str, value: Any) -> StateCopyError:
    kind = type(value).__name__
    message = f"the value of {key!r} ({kind}) cannot be copied; share it with share=[{key!r}] or on_uncopyable='share'"
    return StateCopyError(message, details={"key": key, "type": kind})


def _too_large(what: str, limit: int, size: int, details: dict[str, Any]) -> StorageCapacityError:
    message = f"{what} takes about {size} bytes, and {limit} is the limit; store a reference to it instead"
    return StorageCapacityError(message, details={**details, "limit": limit, "size": size})
