"""W3: the last 20 of a session's events, and all of them."""

from __future__ import annotations

from functools import partial

from benchmarks import data
from benchmarks.measuring import Cell, Metric, Repetition, Sizes, latency
from benchmarks.stage import Found, Stage
from benchmarks.system import System
from benchmarks.workloads import Part, counted

LAST = 20


def parts(_sizes: Sizes) -> list[Part]:
    return [Part("last-and-all", frozenset({"W3"}), _run)]


async def _run(stage: Stage) -> Found:
    sizes = stage.sizes
    shorter, longer = (sizes.scaled(length, least=2 * LAST) for length in (1_000, 10_000))

    async def prepared(system: System) -> None:
        for length in (shorter, longer):
            session = data.session(length)
            await system.create(session)
            await system.lengthen(session.id, data.events(session.id, length))

    stores = await stage.stores(prepared)
    return await stage.measured(
        Metric(f"last 20 of {counted(shorter)}", "us", stores, _reads(sizes, shorter, LAST)),
        Metric(f"last 20 of {counted(longer)}", "us", stores, _reads(sizes, longer, LAST)),
        Metric(f"all {counted(shorter)}", "us", stores, _reads(sizes, shorter, shorter)),
    )


def _reads(sizes: Sizes, length: int, count: int) -> Repetition:
    id = data.session(length).id

    async def repeated(system: System, cell: Cell, number: int) -> float:
        if number == 0 and len(await system.last(id, count)) != count:
            raise AssertionError(f"not {count} events")
        return await latency(cell, [partial(system.last, id, count)] * sizes.operations, sizes.slice)

    return repeated
