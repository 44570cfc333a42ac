"""A copy that is killed, that shares its target with another one, or that is very long."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from legacy.migration import AnotherRunError, copy_store, exit_code_of
from legacy.migration.lease import STALE_AFTER, Lease
from session_adapter import SessionStorageAdapter
from tests.legacy.folders import contents, contents_of, document, parsed, write, write_many
from tests.legacy.test_copy import copied, counts
from tests.support import REPOSITORY
from unified_storage import StorageConfigurationError, StorageConnectionError, StorageValidationError, open_storage
from unified_storage.interface import IUnifiedStorage

DRIVER = """
import asyncio, json, resource, sys
from legacy.migration import copy_store
report = asyncio.run(copy_store(sys.argv[1], sys.argv[2], max_rate=float(sys.argv[3]) if len(sys.argv) > 3 else None))
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({**report.ledger.to_dict(), "kibibytes": memory, "exit_code": report.exit_code}))
"""


def started(source: object, target: object, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, str(source), str(target), *more]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], timeout: float = 600) -> dict[str, Any]:
    """What the process printed; it must have ended well."""
    out, errors = process.communicate(timeout=timeout)
    assert process.returncode == 0, errors
    result: dict[str, Any] = json.loads(out)
    return result


@pytest.mark.parametrize("kind", ["sqlite", "jsonl", "legacy+file"])
def test_a_killed_copy_is_finished_by_running_it_again(tmp_path: Path, scaled: Callable[..., int], kind: str) -> None:
    """S2.52: 20 000 files and 30 kills in full."""
    files, kills = scaled(20_000, minimum=300), scaled(30 if kind == "sqlite" else 6, minimum=3)
    source = tmp_path / "source"
    write_many(source, files)
    target = f"{kind}:///{tmp_path.relative_to('/')}/target" + (".db" if kind == "sqlite" else "")
    target = target.replace("sqlite:///", "sqlite:////")
    whole = _seconds(started(source, target.replace("target", "measured")))
    for _ in range(kills):
        process = started(source, target)
        time.sleep(random.uniform(0.1, whole))
        process.kill()
        process.communicate()
    ledger = ended(started(source, target))
    assert ledger["read"] == files
    assert ledger["copied"] + ledger["equal"] == ledger["verified"] == files
    assert ended(started(source, target))["equal"] == files
    asyncio.run(_check_complete(source, target, files))
    assert {path.name for path in tmp_path.iterdir() if "part" in path.name} == set(), "nothing unfinished is left"


def _seconds(process: subprocess.Popen[str]) -> float:
    begun = time.monotonic()
    ended(process)
    return time.monotonic() - begun


async def _check_complete(source: Path, target: str, files: int) -> None:
    """The target holds what the source holds, once."""
    if target.startswith("legacy"):
        assert parsed(Path(target.partition("://")[2])) == parsed(source)
        return
    if target.startswith("jsonl"):
        async with open_storage("memory://") as storage:
            await copied(target, storage)
            assert await storage.count({"type": "session"}) == files
        return
    async with open_storage(target) as storage:
        assert await storage.count({"type": "session"}) == await storage.count({"type": "_copy"}) == files
        assert not await storage.exists("copy", type="_copy_run")
        sessions = SessionStorageAdapter(storage)
        for name, wanted in parsed(source).items():
            events = await sessions.events.read(name.removesuffix(".json"))
            assert [event["content"] for event in events] == [
                message["content"] for message in wanted["workflow_state"]["messages"]
            ]
    with sqlite3.connect(target.removeprefix("sqlite:///")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_memory_does_not_grow_with_the_number_of_sessions(tmp_path: Path, scaled: Callable[..., int]) -> None:
    """Less than 32 MiB between 2 000 and 20 000 sessions."""
    sizes = [scaled(2_000, minimum=200), scaled(20_000, minimum=2_000)]
    used = []
    for size in sizes:
        write_many(tmp_path / f"source{size}", size)
        used.append(ended(started(tmp_path / f"source{size}", f"sqlite:///{tmp_path}/{size}.db"))["kibibytes"])
    assert used[1] - used[0] < 32 * 1024, used


async def test_a_second_copy_into_the_same_target_is_refused_while_one_runs(tmp_path: Path) -> None:
    write_many(tmp_path / "source", 60)
    target = f"sqlite:///{tmp_path}/target.db"
    first = started(tmp_path / "source", target, "10")
    try:
        await _until_held(target)
        with pytest.raises(AnotherRunError) as refusal:
            await copied(tmp_path / "source", target)
        assert exit_code_of(refusal.value) == 5
        first.kill()
        first.communicate()
        facts = await copied(tmp_path / "source", target)  # at once: the process is known to have ended
    finally:
        first.kill()
        first.communicate()
    assert counts(facts, "read", "verified") == (60, 60)
    async with open_storage(target) as storage:
        assert not await storage.exists("copy", type="_copy_run")


async def _until_held(target: str) -> None:
    for _ in range(1200):
        await asyncio.sleep(0.05)
        if Path(target.removeprefix("sqlite:///")).exists():
            async with open_storage(target) as storage:
                return await _until_taken(storage)
    raise AssertionError("the first copy never opened its target")


async def _until_taken(storage: IUnifiedStorage) -> None:
    for _ in range(1_000):
        if await storage.exists("copy", type="_copy_run"):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the first copy never wrote")


@pytest.mark.parametrize("place", ["jsonl://{}/target.jsonl", "legacy+file://{}/target"])
async def test_a_second_copy_into_the_same_files_is_refused_while_one_runs(tmp_path: Path, place: str) -> None:
    write_many(tmp_path / "source", 40)
    target = place.format(tmp_path)
    first = asyncio.create_task(copy_store(tmp_path / "source", target, max_rate=20))
    await asyncio.sleep(0.5)
    with pytest.raises(AnotherRunError):
        await copy_store(tmp_path / "source", target)
    report = await first
    assert report.ledger.verified == 40
    report.close()
    assert counts(await copied(tmp_path / "source", target), "equal") == (40,)


async def test_a_copy_with_nothing_to_write_needs_no_right_to_write(tmp_path: Path) -> None:
    write(tmp_path / "source", document("a"))
    async with open_storage("memory://") as storage:
        await copied(tmp_path / "source", storage)
        before = await contents(storage)
        await copied(tmp_path / "source", storage)
        assert await contents(storage) == before


async def test_a_silent_holder_elsewhere_is_followed_after_a_while_and_then_writes_no_more() -> None:
    now = [datetime(2024, 1, 1, tzinfo=UTC)]
    async with open_storage("memory://", clock=lambda: now[0]) as storage:
        first, second = Lease(storage), Lease(storage)
        async with storage.transaction() as tx:
            await first.hold(tx)
        first.settled()
        await storage.update("copy", {"data": {"process": {"host": "elsewhere"}}}, type="_copy_run")
        now[0] += STALE_AFTER / 2
        with pytest.raises(AnotherRunError):
            await second.check(storage)
        now[0] += STALE_AFTER
        async with storage.transaction() as tx:
            await second.hold(tx)
        async with storage.transaction() as tx:
            with pytest.raises(AnotherRunError):
                await first.hold(tx)


async def test_an_interrupted_copy_gives_its_right_back(tmp_path: Path) -> None:
    write_many(tmp_path / "source", 30)
    async with open_storage("memory://") as storage:
        running = asyncio.create_task(copy_store(tmp_path / "source", storage, max_rate=10))
        await _until_taken(storage)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not await storage.exists("copy", type="_copy_run")
        facts = await copied(tmp_path / "source", storage)
        assert counts(facts, "verified") == (30,)


def test_ctrl_c_ends_a_copy_and_running_it_again_finishes_it(tmp_path: Path) -> None:
    write_many(tmp_path / "source", 50)
    target = f"sqlite:///{tmp_path}/target.db"
    process = started(tmp_path / "source", target, "10")
    asyncio.run(_until_held(target))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert asyncio.run(contents_of(target))["records"].keys().isdisjoint({("copy", "_copy_run")})
    assert ended(started(tmp_path / "source", target))["verified"] == 50


def test_every_error_has_the_exit_code_of_the_contract() -> None:
    assert exit_code_of(StorageConfigurationError("")) == exit_code_of(StorageValidationError("")) == 1
    assert exit_code_of(StorageConnectionError("")) == exit_code_of(OSError()) == 4
    assert exit_code_of(AnotherRunError("")) == 5
    assert exit_code_of(KeyboardInterrupt()) == exit_code_of(asyncio.CancelledError()) == 130
    assert exit_code_of(AssertionError()) is None


def test_no_temporary_file_outlives_a_killed_copy(tmp_path: Path) -> None:
    write_many(tmp_path / "source", 60)
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "SQLITE_TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "source"), f"sqlite:///{tmp_path}/target.db", "10"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment)
    asyncio.run(_until_held(f"sqlite:///{tmp_path}/target.db"))
    process.kill()
    process.wait()
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_what_an_ended_run_left_is_cleared_by_one_with_nothing_to_write(tmp_path: Path) -> None:
    write(tmp_path / "source", document("a"))
    async with open_storage("memory://") as storage:
        await copied(tmp_path / "source", storage)
        async with storage.transaction() as tx:
            await Lease(storage).hold(tx)
        await storage.update("copy", {"data": {"process": {"started": "long ago"}}}, type="_copy_run")
        assert counts(await copied(tmp_path / "source", storage), "equal") == (1,)
        assert not await storage.exists("copy", type="_copy_run")


async def test_an_unfinished_archive_of_any_length_is_begun_anew(tmp_path: Path) -> None:
    write_many(tmp_path / "source", 20)
    (tmp_path / ".a.jsonl.part").write_bytes(b"x" * 100_000)
    facts = await copied(tmp_path / "source", f"jsonl://{tmp_path}/a.jsonl")
    assert counts(facts, "copied", "verified", "mismatched") == (20, 20, 0)
    assert b"x" * 1_000 not in (tmp_path / "a.jsonl").read_bytes()
