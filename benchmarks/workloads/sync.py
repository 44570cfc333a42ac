"""What the old synchronous interface costs on top of the asynchronous call that it makes."""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial

from benchmarks import data
from benchmarks.measuring import Cell, Metric, Sizes, latency
from benchmarks.places import place_on
from benchmarks.stage import Found, Stage
from benchmarks.workloads import Part
from legacy import LegacySessionStoreAdapter
from session_adapter import SessionStorageAdapter
from unified_storage import open_storage

SYNC = "ours (sync)"


def parts(_sizes: Sizes) -> list[Part]:
    return [Part("sync", frozenset({"sync"}), _run, engines=("sqlite",), takes="ours (sessions)".__eq__)]


async def _run(stage: Stage) -> Found:
    url = f"sqlite:///{await stage.stack.enter_async_context(place_on('sqlite', ''))}/sync.db"
    sessions = SessionStorageAdapter(await stage.stack.enter_async_context(open_storage(url)))
    store = stage.stack.enter_context(LegacySessionStoreAdapter(url, strict=True))
    there = data.sessions(stage.sizes.operations)
    for session in there:
        await sessions.save_session(session.id, {"state": session.state})
    ids = [session.id for session in there]

    async def got(_store: object, cell: Cell, _number: int) -> float:
        return await latency(cell, (partial(sessions.get_session, id) for id in ids), stage.sizes.slice)

    async def got_in_a_thread(_store: object, _cell: Cell, _number: int) -> float:
        return await asyncio.to_thread(_sync_latency, store, ids)

    return await stage.measured(
        Metric("get_session", "us", {"ours (sessions)": None}, got),
        Metric("get_session", "us", {SYNC: None}, got_in_a_thread),
    )


def _sync_latency(store: LegacySessionStoreAdapter, ids: list[str]) -> float:
    taken = []
    for id in ids:
        begun = time.perf_counter_ns()
        store.get_session(id)
        taken.append(time.perf_counter_ns() - begun)
    return statistics.median(taken) / 1000
