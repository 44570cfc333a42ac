"""A verified copy of a folder of session files, beside a loop that reads, parses, dumps and writes them.

Beside it stands what `adk migrate session` does with as many sessions of a database of ADK before 1.22.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from benchmarks import data
from benchmarks.goals import ADK_MIGRATION
from benchmarks.measuring import Cell, Metric, Sizes, stopwatch
from benchmarks.places import place_on
from benchmarks.stage import Found, Stage
from benchmarks.system import Session
from benchmarks.workloads import Part, counted
from legacy.migration import copy_store

MESSAGES = 10


def parts(_sizes: Sizes) -> list[Part]:
    w = frozenset({"copy"})
    return [
        Part("copy", w, _copy, engines=("sqlite",), takes="ours".__eq__),
        Part("migration-of-adk", w, _migration_of_adk, engines=("sqlite",), takes="adk".__eq__),
    ]


async def _copy(stage: Stage) -> Found:
    folder = Path(await stage.stack.enter_async_context(place_on("sqlite", "")))
    count = _count(stage)
    source = await asyncio.to_thread(_written, folder / "source", count)

    async def looped(_store: object, cell: Cell, number: int) -> float:
        with stopwatch(cell) as seconds:
            await asyncio.to_thread(_loop, source, folder / f"plain-{number}")
        await asyncio.to_thread(shutil.rmtree, folder / f"plain-{number}")
        return count / seconds()

    async def copied(_store: object, cell: Cell, number: int) -> float:
        with stopwatch(cell) as seconds:
            report = await copy_store(str(source), f"sqlite:///{folder}/copy-{number}.db")
        cell.checked += count
        cell.lost += count - report.ledger.verified
        return count / seconds()

    name = f"copy of {counted(count)} session files"
    return await stage.measured(
        Metric(name, "per_s", {"raw": None}, looped), Metric(name, "per_s", {"ours": None}, copied)
    )


async def _migration_of_adk(stage: Stage) -> Found:
    from benchmarks.systems import adk_migration  # ADK is installed where this part is asked for

    folder = Path(await stage.stack.enter_async_context(place_on("sqlite", "")))
    count, source = _count(stage), folder / "v0.db"
    sessions = [(session, data.events(session.id, MESSAGES)) for session in data.sessions(count)]
    await asyncio.to_thread(adk_migration.write_old_database, source, sessions)

    async def migrated(_store: object, cell: Cell, number: int) -> float:
        target = folder / f"v1-{number}.db"
        with stopwatch(cell) as seconds:
            await asyncio.to_thread(adk_migration.migrate, source, target)
        cell.checked += count * MESSAGES
        cell.lost += count * MESSAGES - adk_migration.count_of_events(target)
        return count / seconds()

    return await stage.measured(Metric(f"{ADK_MIGRATION}, {counted(count)}", "per_s", {"adk": None}, migrated))


def _count(stage: Stage) -> int:
    return stage.sizes.scaled(2_000 if stage.sizes.is_full else 200, least=10)


def _written(folder: Path, count: int) -> Path:
    folder.mkdir()
    for session in data.sessions(count):
        text = json.dumps(_document(session), ensure_ascii=False, indent=2)
        (folder / f"{session.id}.json").write_text(text, encoding="utf-8")
    return folder


def _document(session: Session) -> dict[str, object]:
    """As programs on the old interface wrote it."""
    messages = [
        {"type": "HumanMessage", "content": event.body["content"], "additional_kwargs": {}}
        for event in data.events(session.id, MESSAGES)
    ]
    times = {"created_at": "2024-05-15T16:37:00+00:00", "updated_at": "2024-05-15T17:00:00+00:00"}
    return {
        "metadata": {"session_id": session.id, "user_id": session.user, "status": "active", **times},
        "thread_configs": {},
        "workflow_state": {"messages": messages, "current_step": "order"},
        "settings": {"step": session.state["step"]},
    }


def _loop(source: Path, target: Path) -> None:
    target.mkdir()
    for file in source.iterdir():
        document = json.loads(file.read_text(encoding="utf-8"))
        (target / file.name).write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf-8")
