"""What every promise of the conformance suite stands on: a storage, its clock, and the skills it declares to lack."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from unified_storage.errors import StorageTransactionError, StorageUnsupportedError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.clock import ManualClock

OpenStore = Callable[..., IUnifiedStorage]
"""``open_store(*, clock=..., indexed=...)``: an unopened storage on the one store of the running test."""

SKILLS = {
    "persistence": "what was stored is there when the store is opened again",
    "transactions over partitions": "one transaction over records that have nothing to do with each other",
    "batches over partitions": "batch_save and batch_delete of such records in one step",
}
"""What a storage may lack, when it says so in ``missing``: it must then refuse out loud."""


class Harness:
    """The fixtures of a suite; a subclass gives ``open_store``, or at least ``storage``."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.asyncio]

    missing: ClassVar[frozenset[str]] = frozenset()
    """The names of :data:`SKILLS` that this storage lacks."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        unknown = cls.missing - SKILLS.keys()
        if unknown:
            raise TypeError(f"{cls.__name__}.missing names no skill: {sorted(unknown)}; known: {sorted(SKILLS)}")
        for name in {name for kind in cls.__mro__ for name in vars(kind) if name.startswith("test")}:
            homes = [kind.__name__ for kind in cls.__mro__ if name in vars(kind)]
            if len(homes) > 1:
                raise TypeError(f"{name} of {homes[-1]} is a promise: {homes[0]} must not redefine it")

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """A function ``(*, clock=None, indexed=None)`` that opens this test's store, each time the same one."""
        pytest.skip(f"{type(self).__name__} has no fixture `open_store`, so time and reopening are not tested")

    @pytest_asyncio.fixture
    async def storage(self, open_store: OpenStore) -> AsyncIterator[IUnifiedStorage]:
        """An open, empty storage."""
        async with open_store() as storage:
            yield storage

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The clock of ``timed``."""
        return ManualClock()

    @pytest_asyncio.fixture
    async def timed(self, open_store: OpenStore, clock: ManualClock) -> AsyncIterator[IUnifiedStorage]:
        """An open, empty storage whose time is ``clock``."""
        async with open_store(clock=clock) as storage:
            yield storage

    @contextmanager
    def promised(self, skill: str) -> Iterator[None]:
        """What needs *skill*: a storage without it has to raise ``StorageUnsupportedError`` in the block."""
        if skill not in self.missing:
            yield
            return
        with pytest.raises((StorageUnsupportedError, StorageTransactionError)) as refusal:
            yield
        # a list of operations wraps what one of them raised
        assert StorageUnsupportedError in (refusal.type, type(refusal.value.__cause__))
