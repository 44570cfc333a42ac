"""W1: create a session; load it by its id."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from benchmarks import data
from benchmarks.measuring import Cell, Metric, Sizes, latency
from benchmarks.stage import Found, Stage
from benchmarks.system import NotOffered, System
from benchmarks.workloads import Part

THERE = 50
"""Sessions that are there before, and that are loaded."""


def parts(_sizes: Sizes) -> list[Part]:
    return [Part("create-and-load", frozenset({"W1"}), _run)]


async def _run(stage: Stage) -> Found:
    sizes, there = stage.sizes, stage.sizes.scaled(THERE, least=10)

    async def prepared(system: System) -> None:
        await system.grow(data.sessions(there))
        if not system.stores_empty:
            for session in data.sessions(there):
                await system.append(session.id, data.event(session.id, 0))

    async def created(system: System, cell: Cell, number: int) -> float:
        if not system.stores_empty:
            raise NotOffered("a session begins with its first event")
        fresh = data.sessions(sizes.operations, "c", start=number * sizes.operations)
        return await latency(cell, (partial(system.create, session) for session in fresh), sizes.slice)

    async def loaded(system: System, cell: Cell, number: int) -> float:
        chosen = random.Random(number).choices(data.sessions(there), k=sizes.operations)
        return await latency(cell, _loads(system, [session.id for session in chosen]), sizes.slice)

    stores = await stage.stores(prepared)
    return await stage.measured(
        Metric("create", "us", stores, created),
        Metric("load", "us", stores, loaded),
    )


def _loads(system: System, ids: list[str]) -> Iterator[Callable[[], Awaitable[Any]]]:
    return (partial(system.load, id) for id in ids)
