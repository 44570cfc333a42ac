"""W4: the newest 20 sessions of a user, and of those with a metadata field, among many; and with long histories."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks import data
from benchmarks.measuring import Cell, Metric, Repetition, Sizes, latency
from benchmarks.stage import Found, Stage
from benchmarks.system import Session, System
from benchmarks.systems import OURS
from benchmarks.workloads import Part, counted

PAGE = 20
ASKING = 10
"""Users whose pages are asked for, however many there are: as many as the smallest store has."""
SHORT = 10
"""Events of a session that is not long."""
LEAST = 1_000
"""Sessions of a small run."""


def parts(sizes: Sizes) -> list[Part]:
    among = [sizes.scaled(count, least=LEAST) for count in (1_000, 100_000 if sizes.is_full else 10_000)]
    return [
        *(Part(f"page-among-{count}", frozenset({"W4"}), partial(_run, count=count)) for count in among),
        Part("page-of-long-sessions", frozenset({"W4"}), _of_long, takes=OURS.__contains__),
    ]


async def _run(stage: Stage, count: int) -> Found:
    stores = await stage.stores(partial(filled, count=count))
    return await stage.measured(*metrics(stage.sizes, count, stores))


async def _of_long(stage: Stage) -> Found:
    """A page reads no history, so that it may not matter how long the sessions on it are."""
    sizes = stage.sizes
    there = data.sessions(2 * PAGE, users=1)
    metrics = []
    for length in (SHORT, sizes.scaled(1_000, least=SHORT + 1)):
        stores = await stage.stores(partial(_lengthened, there, length))
        metrics.append(Metric(f"page of 20 with {counted(length)} events each", "us", stores, _pages_of_one(sizes)))
    return await stage.measured(*metrics)


async def _lengthened(sessions: Sequence[Session], length: int, system: System) -> None:
    await system.grow(sessions)
    for session in sessions:
        await system.lengthen(session.id, data.events(session.id, length))


def _pages_of_one(sizes: Sizes) -> Repetition:
    async def repeated(system: System, cell: Cell, _number: int) -> float:
        return await latency(cell, [partial(_full, system.page_by_user, "user-0")] * sizes.operations, sizes.slice)

    return repeated


async def filled(system: System, count: int) -> None:
    """Give a store *count* sessions, in steps that need no memory for all of them."""
    step, users = 10_000, data.users_of(count)
    for start in range(0, count, step):
        await system.grow(data.sessions(min(step, count - start), start=start, users=users))


def metrics(sizes: Sizes, count: int, stores: Mapping[str, System]) -> list[Metric]:
    async def by_user(system: System, cell: Cell, number: int) -> float:
        users = (f"user-{one}" for one in _chosen(number, count, sizes))
        return await latency(cell, (partial(_full, system.page_by_user, user) for user in users), sizes.slice)

    async def by_topic(system: System, cell: Cell, number: int) -> float:
        topics = (f"topic-{one}" for one in _chosen(number, count, sizes))
        return await latency(cell, (partial(_full, system.page_by_topic, topic) for topic in topics), sizes.slice)

    return [
        Metric(f"page by user among {counted(count)}", "us", stores, by_user),
        Metric(f"page by metadata among {counted(count)}", "us", stores, by_topic),
    ]


def _chosen(number: int, count: int, sizes: Sizes) -> list[int]:
    """Users (or topics) whose pages are asked for again and again, so that a large store is not a cold one."""
    return random.Random(number).choices(range(min(ASKING, data.users_of(count))), k=sizes.operations)


async def _full(page: Callable[[str, int], Awaitable[Sequence[Any]]], whose: str) -> None:
    """One page; looking at its length costs nothing beside it."""
    if len(found := await page(whose, PAGE)) != PAGE:
        raise AssertionError(f"a page of {len(found)}")
