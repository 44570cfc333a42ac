"""W4: the newest 20 sessions of a user, and of those with a metadata field, among many."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks import data
from benchmarks.measuring import Cell, Metric, Sizes, latency
from benchmarks.stage import Found, Stage
from benchmarks.system import System
from benchmarks.workloads import Part, counted

PAGE = 20


def parts(sizes: Sizes) -> list[Part]:
    among = [sizes.scaled(count, least=PAGE * data.USERS) for count in (1_000, 100_000 if sizes.is_full else 10_000)]
    return [Part(f"page-among-{count}", frozenset({"W4"}), partial(_run, count=count)) for count in among]


async def _run(stage: Stage, count: int) -> Found:
    stores = await stage.stores(partial(filled, count=count))
    return await stage.measured(*metrics(stage.sizes, count, stores))


async def filled(system: System, count: int) -> None:
    """Give a store *count* sessions, in steps that need no memory for all of them."""
    step = 10_000
    for start in range(0, count, step):
        await system.grow(data.sessions(min(step, count - start), start=start))


def metrics(sizes: Sizes, count: int, stores: Mapping[str, System]) -> list[Metric]:
    async def by_user(system: System, cell: Cell, number: int) -> float:
        users = [f"user-{one}" for one in _chosen(number, sizes)]
        if number == 0:
            _check(await system.page_by_user(users[0], PAGE))
        return await latency(cell, (partial(system.page_by_user, user, PAGE) for user in users), sizes.slice)

    async def by_topic(system: System, cell: Cell, number: int) -> float:
        topics = [f"topic-{one}" for one in _chosen(number, sizes)]
        if number == 0:
            _check(await system.page_by_topic(topics[0], PAGE))
        return await latency(cell, (partial(system.page_by_topic, topic, PAGE) for topic in topics), sizes.slice)

    return [
        Metric(f"page by user among {counted(count)}", "us", stores, by_user),
        Metric(f"page by metadata among {counted(count)}", "us", stores, by_topic),
    ]


def _chosen(number: int, sizes: Sizes) -> list[int]:
    return random.Random(number).choices(range(data.USERS), k=sizes.operations)


def _check(page: Sequence[Any]) -> None:
    if len(page) != PAGE:
        raise AssertionError(f"a page of {len(page)}")
