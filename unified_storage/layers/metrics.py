"""Measuring a storage: how often each verb is called, how long it takes, how it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol, TypeVar

from unified_storage.delegate import Delegate
from unified_storage.errors import StorageError
from unified_storage.interface import IUnifiedStorage, TransactionCall

T = TypeVar("T")


class Recorder(Protocol):
    """Takes what was measured somewhere; called once a verb, on the task that called it."""

    def record(self, verb: str, seconds: float, error: str | None) -> None:
        """*error* is the stable code of a storage error, the class's name of another one, None for success."""


@dataclass(slots=True)
class VerbCounts:
    """What was measured of one verb."""

    calls: int = 0
    errors: int = 0
    seconds: float = 0.0
    slowest: float = 0.0

    def to_dict(self) -> dict[str, float]:
        return {"calls": self.calls, "errors": self.errors, "seconds": self.seconds, "slowest": self.slowest}


class Metrics(Delegate):
    """Measures every verb, and hands each measurement to the *recorders*; :meth:`snapshot` sums them up."""

    def __init__(self, inner: IUnifiedStorage, recorders: Iterable[Recorder] = ()) -> None:
        super().__init__(inner)
        self._recorders = tuple(recorders)
        self._guard = threading.Lock()
        self._counts: dict[str, VerbCounts] = {}

    def snapshot(self) -> dict[str, dict[str, float]]:
        """By verb: ``calls``, ``errors``, ``seconds`` in all, and the ``slowest`` one's seconds."""
        with self._guard:
            return {verb: counts.to_dict() for verb, counts in sorted(self._counts.items())}

    async def _call(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        begun = time.perf_counter()
        error: BaseException | None = None
        try:
            return await call()
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.measured(verb, time.perf_counter() - begun, error)

    def measured(self, verb: str, seconds: float, error: BaseException | None) -> None:
        with self._guard:
            counts = self._counts.setdefault(verb, VerbCounts())
            counts.calls += 1
            counts.errors += error is not None
            counts.seconds += seconds
            counts.slowest = max(counts.slowest, seconds)
        code = None if error is None else _code(error)
        for recorder in self._recorders:
            recorder.record(verb, seconds, code)

    def transaction(
        self, operations: Sequence[Mapping[str, Any]] | None = None, *, timeout: float = 30
    ) -> TransactionCall:
        return _MeasuredTransaction(self, self._inner.transaction(operations, timeout=timeout))


def _code(error: BaseException) -> str:
    return error.error_code if isinstance(error, StorageError) else type(error).__name__


class _MeasuredTransaction:
    """A transaction of the storage behind, measured from its beginning to its end."""

    def __init__(self, metrics: Metrics, inner: TransactionCall) -> None:
        self._metrics = metrics
        self._inner = inner
        self._begun = time.perf_counter()

    def __await__(self) -> Any:
        return self._metrics._call("transaction", self._run).__await__()

    async def _run(self) -> Any:
        return await self._inner

    async def __aenter__(self) -> IUnifiedStorage:
        self._begun = time.perf_counter()
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self._inner.__aexit__(kind, error, trace)
        except BaseException as failed:
            error = failed
            raise
        finally:
            self._metrics.measured("transaction", time.perf_counter() - self._begun, error)


class PrometheusRecorder:
    """Counts and times verbs in a Prometheus registry; needs the extra ``telemetry``."""

    def __init__(self, registry: Any = None, prefix: str = "unified_storage") -> None:
        prometheus: Any = import_module("prometheus_client")
        registry = registry or prometheus.REGISTRY
        self._seconds = prometheus.Histogram(
            f"{prefix}_verb_seconds", "Seconds that a storage verb took", ["verb"], registry=registry
        )
        self._errors = prometheus.Counter(
            f"{prefix}_verb_errors", "Storage verbs that raised", ["verb", "error"], registry=registry
        )

    def record(self, verb: str, seconds: float, error: str | None) -> None:
        self._seconds.labels(verb).observe(seconds)
        if error is not None:
            self._errors.labels(verb, error).inc()


class OpenTelemetryRecorder:
    """Records verbs with the OpenTelemetry API; needs the extra ``telemetry``."""

    def __init__(self, meter: Any = None) -> None:
        metrics: Any = import_module("opentelemetry.metrics")
        meter = meter or metrics.get_meter("unified_storage")
        self._seconds = meter.create_histogram("unified_storage.verb.duration", unit="s")

    def record(self, verb: str, seconds: float, error: str | None) -> None:
        attributes = {"verb": verb} if error is None else {"verb": verb, "error.type": error}
        self._seconds.record(seconds, attributes)
