"""W5: bring in many sessions of ten events each, and delete some of them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import data
from benchmarks.measuring import Cell, Metric, Sizes, stopwatch
from benchmarks.stage import Found, Stage
from benchmarks.system import Event, Session, System
from benchmarks.workloads import Part

EVENTS = 10
TRIAL = 20
"""Sessions that show how fast a system is."""


def parts(_sizes: Sizes) -> list[Part]:
    return [Part("import-and-delete", frozenset({"W5"}), _run)]


async def _run(stage: Stage) -> Found:
    imports = _Imports(stage.sizes)
    stores = await stage.stores()
    imported = await stage.measured(Metric("import of sessions with 10 events", "per_s", stores, imports.brought_in))
    deleted = await stage.measured(Metric("delete of sessions with 10 events", "per_s", stores, imports.deleted))
    return {**imported, **deleted}


class _Imports:
    """What has been brought into each store, in as many sessions at once as fit one repetition."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        whole = sizes.scaled(10_000 if sizes.is_full else 2_000, least=TRIAL)
        self._most = max(TRIAL, whole // sizes.repetitions)
        self._next: dict[System, int] = {}
        self._there: dict[System, list[str]] = {}
        self._fitting: dict[System, int] = {}

    async def brought_in(self, system: System, cell: Cell, number: int) -> float:
        start = self._next.get(system, 0)
        batch = _batch(start, TRIAL if number == 0 else self._fitting[system])
        with stopwatch(cell) as seconds:
            await system.import_all(batch)
        speed = len(batch) / seconds()
        self._next[system] = start + len(batch)
        self._there.setdefault(system, []).extend(session.id for session, _ in batch)
        self._fitting[system] = max(1, min(self._most, int(speed * self._sizes.slice)))
        await self._look_for(system, cell, batch)
        return speed

    async def deleted(self, system: System, cell: Cell, number: int) -> float:
        there = self._there.get(system, [])
        if number == 0 and not there:
            batch = _batch(0, TRIAL * 5)
            await system.import_all(batch)
            there = self._there[system] = [session.id for session, _ in batch]
        count = min(max(1, self._most // 10), max(1, len(there) // (self._sizes.repetitions + 1 - number)))
        if len(there) <= count:
            raise RuntimeError("nothing left to delete")
        gone, self._there[system] = there[:count], there[count:]
        with stopwatch(cell) as seconds:
            await system.delete_all(gone)
        return count / seconds()

    async def _look_for(self, system: System, cell: Cell, batch: Sequence[tuple[Session, Sequence[Event]]]) -> None:
        for session, events in (batch[0], batch[-1]):
            keys = await system.keys(session.id)
            cell.checked += len(events)
            cell.lost += len({event.key for event in events} - set(keys))


def _batch(start: int, count: int) -> list[tuple[Session, list[Event]]]:
    return [(session, data.events(session.id, EVENTS)) for session in data.sessions(count, "i", start=start)]
