"""W2: append one event to a session that has so many."""

from __future__ import annotations

from functools import partial

from benchmarks import data
from benchmarks.measuring import Cell, Metric, Repetition, Sizes, latency
from benchmarks.stage import Found, Stage
from benchmarks.system import System
from benchmarks.systems import OURS
from benchmarks.workloads import Part, counted

SHORT = 10
"""Up to here every append goes to a session of its own, which would be longer otherwise."""

LENGTHS = {"full": (1_000, 10_000), "quick": (10_000,)}


def parts(sizes: Sizes) -> list[Part]:
    lengths = [0, *(sizes.scaled(length, least=SHORT + 1) for length in LENGTHS[sizes.kind])]
    longest = sizes.scaled(100_000 if sizes.is_full else 20_000, least=SHORT + 1)
    w2 = frozenset({"W2"})
    return [
        *(Part(f"append-at-{length}", w2, partial(_run, lengths=(length,))) for length in lengths),
        Part("append-growth", w2, partial(_run, lengths=(SHORT, longest)), takes=OURS.__contains__),
    ]


async def _run(stage: Stage, lengths: tuple[int, ...]) -> Found:
    async def prepared(system: System) -> None:
        for length in lengths:
            if length > SHORT:
                await system.create(data.session(length, "long"))
                await system.lengthen(_long(length), data.events(_long(length), length))

    stores = await stage.stores(prepared)
    return await stage.measured(
        *(Metric(f"append at {counted(length)}", "us", stores, _appended(stage.sizes, length)) for length in lengths)
    )


def _appended(sizes: Sizes, length: int) -> Repetition:
    return partial(_to_fresh if length <= SHORT else _to_long, sizes, length)


async def _to_long(sizes: Sizes, length: int, system: System, cell: Cell, number: int) -> float:
    id, start = _long(length), length + number * sizes.operations
    appends = (partial(system.append, id, event) for event in data.events(id, sizes.operations, start=start))
    return await latency(cell, appends, sizes.slice)


async def _to_fresh(sizes: Sizes, length: int, system: System, cell: Cell, number: int) -> float:
    fresh = data.sessions(sizes.operations, f"of{length}-", start=number * sizes.operations)
    for session in fresh:
        await system.create(session)
        if length:
            await system.lengthen(session.id, data.events(session.id, length))
    return await latency(
        cell, (partial(system.append, session.id, data.event(session.id, length)) for session in fresh), sizes.slice
    )


def _long(length: int) -> str:
    return data.session(length, "long").id
