"""The goals, and whether a run held them: computed from its numbers alone.

A finding is held, missed, or not told by this run, because a system or a size was not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.measuring import times_the_work

Cells = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""The cells of a run by engine, metric and system."""
OURS, SESSIONS, SCOPED, RAW = "ours", "ours (sessions)", "ours (scoped)", "raw"
ALCHEMY = {"sqlite": "openai-agents (sqlalchemy)", "postgresql": "openai-agents", "mysql": "openai-agents"}
"""openai-agents on its SQLAlchemy session, engine by engine."""
AGENTS_ON_OURS, ADK_ON_OURS = "openai-agents on ours", "adk on ours"
OWN, ONE, STATE = "64 tasks, own sessions", "16 tasks, one session", "16 tasks, keys of one state"
IMPORT = "import of sessions with 10 events"
ADK_MIGRATION = "adk migrate session"
ONE_TASK = r"load|append at .*|last 20 of .*|page by (user|metadata) among [\d ]+"
LENGTHS = (0, 1_000, 10_000)
Measured = float | str | None
"""A figure; what ours failed with, which is a goal missed; or None, where the run does not tell."""


@dataclass(frozen=True, slots=True)
class Finding:
    goal: str
    """P1, P2 ..."""
    what: str
    engine: str
    wanted: str
    measured: str
    held: bool | None


def findings(cells: Cells) -> list[Finding]:
    """Every goal on every engine that was measured, in the order of the goals."""
    found: list[Finding] = []
    for check in (_p1, _p2, _p3, _p4, _p5, _p6, _p7, _p8, _p9, _p10, _p11, _p12, _start, _bridges):
        found += check(cells)
    return found


def work(cells: Cells, engine: str, metric: str, name: str, other: str) -> Measured:
    """How many times the work of *other* a system does, above 1 is slower."""
    of_metric = cells.get(engine, {}).get(metric, {})
    return _failure(of_metric, name) or _failure(of_metric, other) or times_the_work(of_metric, name, other)


def _median(cells: Cells, engine: str, metric: str, name: str) -> float | None:
    value = cells.get(engine, {}).get(metric, {}).get(name, {}).get("median")
    return None if value is None else float(value)


def _failure(of_metric: Mapping[str, Mapping[str, Any]], name: str) -> str | None:
    """What ours failed with; that a peer fails is no failure of a goal."""
    cell = of_metric.get(name, {})
    note = str(cell.get("note", ""))
    return (
        note
        if name in (OURS, SESSIONS, SCOPED, AGENTS_ON_OURS, ADK_ON_OURS)
        and "median" not in cell
        and note.startswith("fails")
        else None
    )


def _at_most(goal: str, what: str, engine: str, limit: float, measured: Measured, unit: str) -> Finding:
    held = measured <= limit if isinstance(measured, float | int) else _untold(measured)
    return Finding(goal, what, engine, f"at most {_figure(limit)}{unit}", _shown(measured, unit), held)


def _at_least(goal: str, what: str, engine: str, limit: float, measured: Measured, unit: str) -> Finding:
    held = measured >= limit if isinstance(measured, float | int) else _untold(measured)
    return Finding(goal, what, engine, f"at least {_figure(limit)}{unit}", _shown(measured, unit), held)


def _untold(measured: str | None) -> bool | None:
    return None if measured is None else False


def _shown(measured: Measured, unit: str) -> str:
    if measured is None or isinstance(measured, str):
        return measured or ""
    return f"{_figure(measured)}{unit}"


def _figure(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"


def _one_task(cells: Cells, goal: str, name: str, limit: float) -> Iterator[Finding]:
    for engine, metrics in cells.items():
        for metric in metrics:
            if re.fullmatch(ONE_TASK, metric):
                what = metric if name != SCOPED else f"{metric}, {SCOPED}"
                yield _at_most(goal, what, engine, limit, work(cells, engine, metric, name, RAW), " x raw")


def _p1(cells: Cells) -> Iterator[Finding]:
    return _one_task(cells, "P1", OURS, 1.5)


def _p2(cells: Cells) -> Iterator[Finding]:
    yield from _one_task(cells, "P2", SESSIONS, 2.0)
    offered = {
        engine: {metric: of for metric, of in metrics.items() if not _is_not_offered(of.get(SCOPED))}
        for engine, metrics in cells.items()
    }
    yield from _one_task(offered, "P2", SCOPED, 2.0)


def _is_not_offered(cell: Mapping[str, Any] | None) -> bool:
    """Whether a system lacks an operation, or was not measured."""
    return cell is None or str(cell.get("note", "")).startswith("not offered")


def _p3(cells: Cells) -> Iterator[Finding]:
    for engine, limit in {"sqlite": 2.5, "postgresql": 3.0, "redis": 1.6, "mysql": 1.3}.items():
        if OWN in cells.get(engine, {}):
            yield _at_least("P3", OWN, engine, limit, work(cells, engine, OWN, RAW, OURS), " x raw")


def _p4(cells: Cells) -> Iterator[Finding]:
    for engine, limit in {"sqlite": 4.0, "postgresql": 3.0}.items():
        if ONE in cells.get(engine, {}):
            yield _at_least("P4", ONE, engine, limit, work(cells, engine, ONE, RAW, OURS), " x raw")
    for engine, metrics in cells.items():
        cell = metrics.get(ONE, {}).get(OURS, {})
        if cell.get("checked"):
            faults = cell["lost"] + cell["gaps"]
            yield _at_most("P4", f"{ONE}: lost and gaps", engine, 0, faults, f" of {cell['checked']}")


def _p5(cells: Cells) -> Iterator[Finding]:
    for length in LENGTHS:
        metric = f"append at {length:,}".replace(",", " ")
        for engine in ("sqlite", "postgresql", "mysql"):
            for peer in ("agno", "adk", ALCHEMY[engine]):
                beside_raw = work(cells, engine, metric, peer, RAW)
                if isinstance(beside_raw, float):
                    yield _against("P5", cells, engine, metric, peer, min(10.0, 0.67 * beside_raw))
    yield from _against_there("P5", cells, "redis", "append at 0", "agno", 3)
    yield from _against_there("P5", cells, "redis", "append at 10 000", "agno", 1_000)
    for length in LENGTHS:
        metric = f"append at {length:,}".replace(",", " ")
        yield from _against_there("P5", cells, "sqlite", metric, "openai-agents", 0.8)
    yield from _against_there("P5", cells, "sqlite", OWN, "openai-agents", 5)
    for engine in cells:
        yield from _against_there("P5", cells, engine, "append at 10 000", "langgraph", 100)


def _p6(cells: Cells) -> Iterator[Finding]:
    wanted = {"agno": (50.0, 50.0), "langgraph": (50.0, 50.0), "adk": (7.0, 1_000.0)}
    for engine in cells:
        for peer, (by_user, by_metadata) in wanted.items():
            yield from _against_there("P6", cells, engine, "page by user among 100 000", peer, by_user)
            yield from _against_there("P6", cells, engine, "page by metadata among 100 000", peer, by_metadata)


def _p7(cells: Cells) -> Iterator[Finding]:
    for engine, metrics in cells.items():
        if IMPORT in metrics:
            yield _at_least("P7", IMPORT, engine, 0.6, work(cells, engine, IMPORT, RAW, OURS), " x raw")
            yield from _against_there("P7", cells, engine, IMPORT, "agno", 50)
            yield from _against_there("P7", cells, engine, IMPORT, "adk", 50)


def _p8(cells: Cells) -> Iterator[Finding]:
    grown = [("append at 100 000", "append at 10", 1.2), ("last 20 of 10 000", "last 20 of 1 000", 1.2)]
    grown.append(("page of 20 with 1 000 events each", "page of 20 with 10 events each", 1.2))
    for by in ("user", "metadata"):
        many, few = f"page by {by} among 1 000 000 (growth)", f"page by {by} among 1 000 (growth)"
        grown.append((many, few, 1.5))
    for engine, metrics in cells.items():
        for more, less, limit in grown:
            if more in metrics:
                large, small = _median(cells, engine, more, OURS), _median(cells, engine, less, OURS)
                measured = large / small if large and small else None
                yield _at_most("P8", more, engine, limit, measured, f" x {less}")


def _p9(cells: Cells) -> Iterator[Finding]:
    more, less = "memory of a walk over 1 000 000", "memory of a walk over 10 000"
    for engine, metrics in cells.items():
        if more in metrics:
            large, small = _median(cells, engine, more, OURS), _median(cells, engine, less, OURS)
            measured = None if large is None or small is None else large - small
            yield _at_most("P9", more, engine, 16, measured, f" MiB above {less.rpartition(' over ')[2]}")


def _p10(cells: Cells) -> Iterator[Finding]:
    for engine, metrics in cells.items():
        for metric in (OWN, ONE, STATE):
            for name in (OURS, SESSIONS, SCOPED):
                cell = metrics.get(metric, {}).get(name)
                if cell is not None:
                    faults: Measured = _failure(metrics[metric], name)
                    if "checked" in cell:
                        faults = cell["lost"] + cell.get("errors", 0)
                    what = f"{metric}, {name}: lost and errors"
                    yield _at_most("P10", what, engine, 0, faults, f" of {cell.get('checked', 0)}")


def _p11(cells: Cells) -> Iterator[Finding]:
    for engine, metrics in cells.items():
        if "get_session" in metrics:
            sync = _median(cells, engine, "get_session", "ours (sync)")
            asynchronous = _median(cells, engine, "get_session", SESSIONS)
            measured = None if sync is None or asynchronous is None else sync - asynchronous
            yield _at_most("P11", "the sync wrapper", engine, 100, measured, " µs on top")


def _p12(cells: Cells) -> Iterator[Finding]:
    for engine, metrics in cells.items():
        for metric in metrics:
            if metric.startswith("copy of "):
                measured = work(cells, engine, metric, RAW, OURS)
                yield _at_least("P12", f"verified {metric}", engine, 0.5, measured, " x a plain loop")
                yield from _beside_adk(metrics, metric, engine)


def _beside_adk(metrics: Mapping[str, Any], metric: str, engine: str) -> Iterator[Finding]:
    """Ours copies session files, ADK's command its own old databases: as many sessions of as many messages."""
    theirs: Mapping[str, Any] = next((cells for name, cells in metrics.items() if name.startswith(ADK_MIGRATION)), {})
    if "adk" in theirs:
        rates = {OURS: metrics[metric].get(OURS, {}), "adk": theirs["adk"]}
        measured = _failure(rates, OURS) or times_the_work(rates, "adk", OURS)
        yield _at_least("P12", f"verified {metric}", engine, 20, measured, " x `adk migrate session`")


def _start(cells: Cells) -> Iterator[Finding]:
    for engine, metrics in cells.items():
        if "import beside pydantic" in metrics:
            measured = _median(cells, engine, "import beside pydantic", OURS)
            yield _at_most("start", "import beside pydantic", engine, 60, measured, " ms")
        if "--help" in metrics:
            yield _at_most("start", "--help", engine, 500, _median(cells, engine, "--help", OURS), " ms")


def _bridges(cells: Cells) -> Iterator[Finding]:
    """A framework on this storage, beside itself on its SQLAlchemy store."""
    for engine, newest in {"sqlite": 3.0, "postgresql": 2.5}.items():
        appends = {f"append at {length:,}".replace(",", " "): 5.0 for length in LENGTHS}
        newest_events = {"last 20 of 1 000": newest, "last 20 of 10 000": newest}
        lists = {"page by user among 1 000": 5.0, "page by user among 100 000": 5.0}
        for name, peer, wanted in (
            (AGENTS_ON_OURS, ALCHEMY[engine], appends | newest_events),
            (ADK_ON_OURS, "adk", appends | lists),
        ):
            for metric, limit in wanted.items():
                if name in cells.get(engine, {}).get(metric, {}):
                    measured = work(cells, engine, metric, peer, name)
                    yield _at_least("bridges", f"{metric}, {name}", engine, limit, measured, f" x faster than {peer}")


def _against(goal: str, cells: Cells, engine: str, metric: str, peer: str, limit: float) -> Finding:
    return _at_least(goal, metric, engine, limit, work(cells, engine, metric, peer, OURS), f" x faster than {peer}")


def _against_there(goal: str, cells: Cells, engine: str, metric: str, peer: str, limit: float) -> Iterator[Finding]:
    """A finding where the run has this peer at all."""
    if peer in cells.get(engine, {}).get(metric, {}):
        yield _against(goal, cells, engine, metric, peer, limit)
