"""Storages in front of a storage: one writes down what it is asked, one fails where it is told to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from unified_storage import IUnifiedStorage
from unified_storage.delegate import Delegate
from unified_storage.values import encode

T = TypeVar("T")


class Spy(Delegate):
    """Writes down the verbs it is asked for, also inside transactions, and what is written and read."""

    def __init__(self, inner: IUnifiedStorage, seen: Spy | None = None) -> None:
        super().__init__(inner)
        first = seen or self
        self.verbs: list[str] = first.verbs if seen else []
        self.numbers: dict[str, int] = first.numbers if seen else {}

    def forget(self) -> None:
        self.verbs.clear()
        self.numbers.clear()

    async def _call(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        self.verbs.append(verb)
        return await super()._call(verb, call)

    def _add(self, name: str, number: int) -> None:
        self.numbers[name] = self.numbers.get(name, 0) + number

    async def save(self, data: Mapping[str, Any], *, expected_version: int | None = None) -> str:
        self._add("bytes", len(encode(data["data"])) + len(encode(data.get("metadata"))))
        return await super().save(data, expected_version=expected_version)

    async def append(self, log_id: str, entries: Iterable[Mapping[str, Any]], **options: Any) -> list[int]:
        given = list(entries)
        self._add("appended", len(given))
        self._add("bytes", sum(len(encode(entry["body"])) for entry in given))
        return await super().append(log_id, given, **options)

    async def rewrite(self, log_id: str, entries: Iterable[Mapping[str, Any]], **options: Any) -> list[int]:
        given = list(entries)
        self._add("rewritten", len(given))
        return await super().rewrite(log_id, given, **options)

    async def read(self, log_id: str, **bounds: Any) -> list[dict[str, Any]]:
        found = await super().read(log_id, **bounds)
        self._add("read", len(found))
        return found

    async def atomically(self, fn: Callable[[IUnifiedStorage], Awaitable[T]], *, attempts: int = 5) -> T:
        return await self._inner.atomically(lambda tx: fn(Spy(tx, self)), attempts=attempts)


class Failing(Delegate):
    """Raises *failure* instead of doing one of *verbs*, also inside transactions; no verbs named means all."""

    def __init__(self, inner: IUnifiedStorage, failure: BaseException, *verbs: str) -> None:
        super().__init__(inner)
        self._failure, self._verbs = failure, verbs

    async def _call(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        if not self._verbs or verb in self._verbs:
            raise self._failure
        return await super()._call(verb, call)

    async def atomically(self, fn: Callable[[IUnifiedStorage], Awaitable[T]], *, attempts: int = 5) -> T:
        def failing(tx: IUnifiedStorage) -> Awaitable[T]:
            return fn(Failing(tx, self._failure, *self._verbs))

        return await self._inner.atomically(failing, attempts=attempts)


class Meddling(Delegate):
    """Lets somebody else in between two reads: runs *meddle* before *verb*, so many *times*."""

    def __init__(self, inner: IUnifiedStorage, verb: str, meddle: Callable[[], Awaitable[object]], times: int) -> None:
        super().__init__(inner)
        self._verb, self._meddle, self.left = verb, meddle, times

    async def _call(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        if verb == self._verb and self.left > 0:
            self.left -= 1
            await self._meddle()
        return await super()._call(verb, call)
