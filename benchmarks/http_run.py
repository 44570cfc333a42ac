"""Our service beside AgentOS: the same requests to both by turns, then what was acknowledged is looked for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.engines import engine_url, facts_of
from benchmarks.http_data import LONG_USER, Stock, long_id, new_session, session_id, state
from benchmarks.http_load import Measured, loaded, request
from benchmarks.http_services import CONNECTIONS, OURS, SERVICES, Service, fill, started
from benchmarks.measuring import Cell, Metric, Sizes, interleaved
from benchmarks.places import drop_orphans, place_on
from benchmarks.results import Results
from benchmarks.stage import Found

ENGINES = ("sqlite", "postgresql")
PROCESSOR = "{}, processor time"
WATCHED = "sqlite"
"""Where the memory of our service is watched: there all that is done is done in its own process."""
MEMORY = "memory after {:,} requests"
_MEMORY_STEPS = 10
_FIRST_POSTED = 500_000
"""The sessions made while it is measured are numbered from here."""


@dataclass(frozen=True, slots=True)
class Scope:
    """How much is done.

    Attributes:
        share: of the requests of each repetition.
        memory: requests over which memory is watched.
    """

    stock: Stock
    share: float
    memory: int
    sizes: Sizes


FULL = Scope(Stock(1_000, 20, 100), 1.0, 100_000, Sizes(repetitions=5, operations=0, seconds=60.0, is_full=True))
QUICK = Scope(Stock(100, 20, 10), 0.1, 1_000, Sizes(repetitions=2, operations=0, seconds=20.0, is_full=False))


@dataclass
class Visited:
    """A service, and what it has acknowledged.

    Attributes:
        states: by session: what its state was set to last.
        latencies: of all measured repetitions by workload, in seconds.
        worked: how long the service's processor took for them, in seconds.
    """

    service: Service
    states: dict[str, Any] = field(default_factory=dict)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    worked: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request.

    Attributes:
        count: of one repetition.
        asked: the number of the repetition and how many requests -> those, each with the session whose state it sets.
    """

    name: str
    count: int
    asked: Callable[[Stock, int, int], Iterator[tuple[bytes, str | None, Any]]]


def _reading(path: Callable[[int], str]) -> Callable[[Stock, int, int], Iterator[tuple[bytes, str | None, Any]]]:
    def asked(stock: Stock, repetition: int, count: int) -> Iterator[tuple[bytes, str | None, Any]]:
        numbers = islice(cycle(range(stock.sessions)), repetition * count, (repetition + 1) * count)
        return ((request("GET", path(number)), None, None) for number in numbers)

    return asked


def _posts(stock: Stock, repetition: int, count: int) -> Iterator[tuple[bytes, str | None, Any]]:
    for number in range(count):
        id = session_id(_FIRST_POSTED + repetition * count + number)
        body = new_session(id, number)
        yield request("POST", "/sessions", body), id, body["session_state"]


def _patches(stock: Stock, repetition: int, count: int) -> Iterator[tuple[bytes, str | None, Any]]:
    for number in range(min(count, stock.sessions)):  # each session once: which of two came last nobody could tell
        id, changed = session_id(number), state(repetition * 10_000 + number)
        yield request("PATCH", f"/sessions/{id}?type=agent", {"session_state": changed}), id, changed


def _renames(stock: Stock, repetition: int, count: int) -> Iterator[tuple[bytes, str | None, Any]]:
    for number in range(count):
        path = f"/sessions/{session_id(number % stock.sessions)}/rename?type=agent"
        yield request("POST", path, {"session_name": f"Order {repetition}"}), None, None


WORKLOADS = (
    Workload("health", 800, _reading(lambda _: "/health")),
    Workload("get a session", 400, _reading(lambda number: f"/sessions/{session_id(number)}?type=agent")),
    Workload("list of 20", 200, _reading(lambda _: "/sessions?type=agent&limit=20")),
    Workload("list of 20 of a user", 200, _reading(lambda number: f"/sessions?user_id=user-{number % 50}&limit=20")),
    Workload("list of 20 with long histories", 30, _reading(lambda _: f"/sessions?user_id={LONG_USER}&limit=20")),
    Workload("post a session", 200, _posts),
    Workload("patch its state", 200, _patches),
    Workload("rename it", 200, _renames),
    Workload("get a session with a long history", 30, _reading(lambda number: f"/sessions/{long_id(number % 20)}")),
)


async def measure(engines: Sequence[str], scope: Scope, results: Results, say: Callable[[str], None]) -> None:
    """Measure on each of *engines* what is not finished yet."""
    for engine in engines:
        if results.has(f"{engine}/http", SERVICES):
            continue
        url = engine_url(engine)
        await drop_orphans(engine, url)
        results.content["engines"][engine] = asdict(await facts_of(engine, url))
        results.note_load(f"{engine}/http")
        results.add(engine, "http", SERVICES, await _measured(engine, url, scope, partial(_told, say, engine)), {})


def _told(say: Callable[[str], None], engine: str, what: str) -> None:
    say(f"{engine}: {what}")


async def _measured(engine: str, url: str, scope: Scope, say: Callable[[str], None]) -> Found:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        visited = {}
        for name in SERVICES:
            say(f"{name}: starting and filling")
            place = await stack.enter_async_context(place_on(engine, url))
            service = stack.enter_context(started(name, engine, place, folder, scope.stock))
            await fill(service, scope.stock)
            visited[name] = Visited(service)
        say(" | ".join(workload.name for workload in WORKLOADS))
        found = await interleaved([_metric(workload, visited, scope) for workload in WORKLOADS], scope.sizes)
        say("looking for what was acknowledged")
        for name, one in visited.items():
            await _look_for(one, found["post a session"][name], found["patch its state"][name])
        found |= _told_by_all(visited)
        if engine == WATCHED:
            say(f"memory over {scope.memory} requests")
            found |= await _memory(visited[OURS].service, scope)
        return found


def _metric(workload: Workload, visited: dict[str, Visited], scope: Scope) -> Metric:
    async def repeat(one: Visited, cell: Cell, number: int) -> float:
        count = max(CONNECTIONS, round(workload.count * scope.share))
        asked = [*workload.asked(scope.stock, number, count)]

        def answered(at: int, status: int, body: bytes) -> None:
            _, session, written = asked[at]
            if session is not None and 200 <= status < 300:
                one.states[session] = written

        before = one.service.worked()
        measured = await loaded(one.service.port, [sent for sent, _, _ in asked], CONNECTIONS, answered)
        _note(workload, one, cell, number, measured, one.service.worked() - before)
        return measured.rate

    return Metric(workload.name, "per_s", visited, repeat)


def _note(workload: Workload, one: Visited, cell: Cell, number: int, measured: Measured, worked: float) -> None:
    cell.busy += measured.seconds
    cell.errors += measured.failures
    if number > 0:  # the first repetition only warms up
        one.latencies.setdefault(workload.name, []).extend(measured.latencies)
        one.worked[workload.name] = one.worked.get(workload.name, 0.0) + worked


async def _look_for(one: Visited, posted: Cell, patched: Cell) -> None:
    """Count in the cells what was acknowledged and is not there."""
    sessions = [*one.states]
    there: dict[str, Any] = {}

    def answered(at: int, status: int, body: bytes) -> None:
        if status == 200:
            there[sessions[at]] = json.loads(body).get("session_state")

    await loaded(one.service.port, [request("GET", f"/sessions/{id}") for id in sessions], CONNECTIONS, answered)
    for id in sessions:
        cell = posted if id >= session_id(_FIRST_POSTED) else patched
        cell.checked += 1
        cell.lost += there.get(id) != one.states[id]


def _told_by_all(visited: dict[str, Visited]) -> Found:
    """What half of the requests take at most, what 99 of 100 do, and the processor's time for one, of all repetitions.

    The last is what a busy machine does not change: one worker answers as many requests as fit into a second of it.
    """
    found: Found = {}
    for workload in WORKLOADS:
        worked = found.setdefault(PROCESSOR.format(workload.name), {})
        for name, one in visited.items():
            count = len(one.latencies.get(workload.name, []))
            worked[name] = Cell("ms", [one.worked[workload.name] / count * 1000] if count else [])
        for told, share in (("p50", 0.5), ("p99", 0.99)):
            cells = found.setdefault(f"{workload.name}, {told}", {})
            for name, one in visited.items():
                latencies = one.latencies.get(workload.name, [])
                cells[name] = Cell("ms", [Measured(latencies=latencies).quantile(share)] if latencies else [])
    return found


async def _memory(service: Service, scope: Scope) -> Found:
    """What our process holds while it answers all kinds of requests, each tenth of them."""
    found: Found = {}
    each = scope.memory // _MEMORY_STEPS
    for step in range(_MEMORY_STEPS):
        sent = [one for number in range(each // 5) for one in _mixed(scope.stock, step * each + number)]
        measured = await loaded(service.port, sent, CONNECTIONS)
        cell = Cell("MiB", [round(service.memory(), 1)], errors=measured.failures)
        found[MEMORY.format((step + 1) * each)] = {service.name: cell}
    return found


def _mixed(stock: Stock, number: int) -> list[bytes]:
    """Five requests of all kinds; the last one deletes what an earlier such number made."""
    id, made = session_id(number % stock.sessions), f"m{number}"
    return [
        request("GET", f"/sessions/{id}?type=agent"),
        request("GET", f"/sessions?user_id=user-{number % 50}&limit=20"),
        request("PATCH", f"/sessions/{id}", {"session_state": state(number)}),
        request("POST", "/sessions", new_session(made, number)),
        request("DELETE", f"/sessions/m{number - CONNECTIONS}"),
    ]
