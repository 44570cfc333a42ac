"""What a storage asks of an engine: to carry out steps, alone or in an open transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from unified_storage.backends.sql.dialect import Dialect
from unified_storage.backends.sql.statements import Steps
from unified_storage.backends.sql.store import Store
from unified_storage.placing import Append

T = TypeVar("T")
StepsOf = Callable[[], Steps[T]]


class EngineTransaction(Protocol):
    """One open transaction of an engine."""

    async def run(self, steps: StepsOf[T]) -> T: ...

    async def commit(self) -> None: ...

    async def rollback(self) -> None: ...


class Engine(Protocol):
    """Carries out steps; every error that leaves it is one of ours."""

    @property
    def dialect(self) -> Dialect: ...

    async def read(self, steps: StepsOf[T], timeout: float) -> T:
        """Run steps that change nothing, on one consistent state."""

    async def write(self, steps: StepsOf[T], timeout: float) -> T:
        """Run steps in a transaction of their own, committed when this returns."""

    async def append(self, store: Store, asked: Append, timeout: float) -> list[int]:
        """As :func:`logs.append` in a transaction of its own; those that wait may share one."""

    async def write_long(self, steps: StepsOf[T], timeout: float) -> T:
        """As :meth:`write`, where work may take any time: *timeout* bounds only the waits for others."""

    async def upgrade(self, steps: StepsOf[T], timeout: float) -> T:
        """As :meth:`write_long`, for schema steps: one program at a time, or each of them fit for being run again."""

    async def begin(self, before: StepsOf[None], timeout: float) -> EngineTransaction:
        """Open a transaction and run *before* in it; it ends by itself some time after *timeout* seconds."""

    async def facts(self) -> dict[str, Any]:
        """What a health check shows of the engine."""

    async def let_go(self) -> None:
        """Release what is open; the next call opens it again."""

    async def close(self) -> None: ...
