"""SQLite: how many statements a verb takes, and what becomes of each of those that share a transaction."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from unified_storage import open_storage
from unified_storage.backends.sql import sqlite_groups
from unified_storage.errors import (
    StorageAlreadyExistsError,
    StorageConflictError,
    StorageConnectionError,
    StorageNotFoundError,
    StorageTimeoutError,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture
async def storage(file: Path) -> AsyncIterator[Any]:
    """A hundred sessions with an event each; one reader."""
    async with open_storage(f"sqlite:///{file}?pool_size=1") as opened:
        await opened.batch_save([session(n) for n in range(100)])
        await asyncio.gather(*(opened.append(f"events/s{n}", [{"body": "first"}]) for n in range(100)))
        await opened.count()  # the reader is there from here on
        yield opened


def session(n: int) -> dict[str, Any]:
    return {"id": f"s{n}", "type": "session", "data": {}, "metadata": {"user_id": f"u{n % 3}"}}


class Traced:
    """The statements that a file's writer and its reader carry out, as they are run, one a row of values."""

    def __init__(self, storage: Any) -> None:
        served = storage._engine._file
        self._connections = [thread._connection._sqlite for thread in (served._writer, *served._readers)]
        self.statements: list[str] = []

    def __enter__(self) -> list[str]:
        for connection in self._connections:
            connection.set_trace_callback(self.statements.append)
        return self.statements

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.set_trace_callback(None)


def first_words(statements: list[str]) -> Counter[str]:
    """How often each kind of statement is among them."""
    return Counter(text.split()[0] for text in statements)


@asynccontextmanager
async def waiting(storage: Any, *verbs: Awaitable[Any]) -> AsyncIterator[list[Any]]:
    """The outcomes of *verbs*, which have waited together until the block is over."""
    outcomes: list[Any] = []
    async with storage.transaction():
        together = asyncio.gather(*verbs, return_exceptions=True)
        await asyncio.sleep(0.05)
    outcomes += await together
    yield outcomes


# -- alone -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [{"body": {"role": "user"}}, {"body": "x", "key": "k"}], ids=["plain", "keyed"])
async def test_an_append_takes_one_look_three_changes_and_a_commit(storage: Any, entry: dict[str, Any]) -> None:
    with Traced(storage) as statements:
        assert await storage.append("events/s1", [entry]) == [2]
    assert first_words(statements) == {"BEGIN": 1, "WITH": 1, "INSERT": 1, "UPDATE": 2, "COMMIT": 1}


READS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "load": lambda storage: storage.load("s1", type="session"),
    "load by id alone": lambda storage: storage.load("s1"),
    "exists": lambda storage: storage.exists("s1", type="session"),
    "last entries": lambda storage: storage.read("events/s1", last=20),
    "entries in bounds": lambda storage: storage.read("events/s1", after=0, before=5, limit=3),
    "log_info": lambda storage: storage.log_info("events/s1"),
    "page": lambda storage: storage.page({"type": "session", "metadata.user_id": "u1"}),
    "page of a type": lambda storage: storage.page({"type": "session"}, order_by="-created_at"),
    "list": lambda storage: storage.list({"type": "session"}, limit=20),
    "count": lambda storage: storage.count({"type": "session"}),
}


@pytest.mark.parametrize("verb", READS)
async def test_a_read_is_one_statement_without_a_transaction_around_it(storage: Any, verb: str) -> None:
    with Traced(storage) as statements:
        assert await READS[verb](storage)
    assert first_words(statements) == {"SELECT": 1}


# -- together ----------------------------------------------------------------------------------------------------


async def test_appends_to_many_sessions_that_wait_are_looked_up_at_once(storage: Any) -> None:
    with Traced(storage) as statements:
        appends = (storage.append(f"events/s{n}", [{"body": n}]) for n in range(64))
        async with waiting(storage, *appends) as outcomes:
            assert outcomes == [[2]] * 64
    together = statements[statements.index("COMMIT") + 1 :]
    assert first_words(together) == {"BEGIN": 1, "WITH": 1, "INSERT": 64, "UPDATE": 128, "COMMIT": 1}
    for n in range(64):
        assert [entry["body"] for entry in await storage.read(f"events/s{n}")] == ["first", n]
        assert (await storage.load(f"s{n}", type="session"))["version"] == 3


async def test_appends_to_one_session_that_wait_move_it_once_for_all(storage: Any) -> None:
    before = await storage.load("s1", type="session")
    with Traced(storage) as statements:
        async with waiting(storage, *(storage.append("events/s1", [{"body": n}]) for n in range(16))) as outcomes:
            assert outcomes == [[n] for n in range(2, 18)]
    together = statements[statements.index("COMMIT") + 1 :]
    assert first_words(together) == {"BEGIN": 1, "WITH": 1, "INSERT": 16, "UPDATE": 2, "COMMIT": 1}
    after = await storage.load("s1", type="session")
    assert after["version"] == before["version"] + 16
    assert after["updated_at"] > before["updated_at"]
    assert await storage.log_info("events/s1") == {"first_seq": 1, "last_seq": 17, "count": 17}


async def test_a_new_log_of_several_that_wait_begins_once(storage: Any) -> None:
    async with waiting(storage, *(storage.append("notes/s1", [{"body": n}, {"body": n}]) for n in range(8))) as got:
        assert got == [[2 * n + 1, 2 * n + 2] for n in range(8)]
    assert [entry["body"] for entry in await storage.read("notes/s1")] == [n // 2 for n in range(16)]


async def test_what_is_refused_among_others_takes_no_number_and_no_savepoint(storage: Any) -> None:
    await storage.append("events/s2", [{"body": 0, "key": "there"}])
    with Traced(storage) as statements:
        async with waiting(
            storage,
            storage.append("events/s2", [{"body": 1}]),
            storage.append("events/nobody", [{"body": 2}]),
            storage.append("events/s2", [{"body": 3, "key": "there"}]),
            storage.append("events/s2", [{"body": 4, "key": "twice"}]),
            storage.append("events/s2", [{"body": 5, "key": "twice"}]),
            storage.append("events/s2", [{"body": 6, "key": "twice"}], on_duplicate="skip"),
            storage.append("events/s2", [{"body": 7}], expected_version=5),
            storage.append("events/s2", [{"body": 8}], expected_version=5),
            storage.append("events/s2", []),
        ) as outcomes:
            refused = [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
            numbers = [outcome for outcome in outcomes if isinstance(outcome, list)]
    assert refused == [
        StorageNotFoundError,
        StorageAlreadyExistsError,
        StorageAlreadyExistsError,
        StorageConflictError,
    ]
    assert numbers == [[3], [4], [4], [5], []]
    assert [entry["body"] for entry in await storage.read("events/s2")] == ["first", 0, 1, 4, 7]
    assert not [text for text in statements if text.startswith("SAVEPOINT")]


async def test_logs_of_one_owner_move_its_version_together(storage: Any) -> None:
    before = await storage.load("s1", type="session")
    names = ["events/s1", "runs/s1", "events/s1", "notes/s1"]
    async with waiting(storage, *(storage.append(name, [{"body": 1}]) for name in names)) as outcomes:
        assert outcomes == [[2], [1], [3], [1]]
    assert (await storage.load("s1", type="session"))["version"] == before["version"] + 4


async def test_a_write_sees_the_appends_before_it_and_not_those_behind(storage: Any) -> None:
    async with waiting(
        storage,
        storage.append("events/s1", [{"body": "a"}]),
        storage.update("s1", {"data": {"n": 1}}, type="session", expected_version=3),
        storage.append("events/s1", [{"body": "b"}], expected_version=4),
        storage.pop("events/s1"),
        storage.append("events/s1", [{"body": "c"}]),
    ) as outcomes:
        assert outcomes[:3] == [[2], True, [3]]
        assert outcomes[3]["body"] == "b"
        assert outcomes[4] == [4]
    assert [entry["seq"] for entry in await storage.read("events/s1")] == [1, 2, 4]


async def test_one_that_fails_half_way_is_undone_alone_and_the_others_are_stored_once(storage: Any) -> None:
    """It writes a record before it finds that nobody owns its log."""
    record = {"id": "s50", "type": "session", "data": {"is": "restored"}}
    with Traced(storage) as statements:
        async with waiting(
            storage,
            *(storage.append(f"events/s{n}", [{"body": "before"}]) for n in range(10)),
            storage.restore([record], [{"log_id": "events/nobody", "last_seq": 0, "entries": []}]),
            *(storage.append(f"events/s{n}", [{"body": "after"}]) for n in range(10)),
        ) as outcomes:
            assert isinstance(outcomes.pop(10), StorageNotFoundError)
            assert outcomes == [[2]] * 10 + [[3]] * 10
    assert [text for text in statements if text.startswith("ROLLBACK TO")]
    assert (await storage.load("s50", type="session"))["data"] != record["data"]
    for n in range(10):
        assert [entry["body"] for entry in await storage.read(f"events/s{n}")] == ["first", "before", "after"]


async def test_one_that_cannot_be_carried_out_with_others_is_carried_out_apart(storage: Any, file: Path) -> None:
    """A version that is no number is a damage that only the statement for one append gets over."""
    with sqlite3.connect(file) as other:
        other.execute("UPDATE unified_records SET version = 'damaged' WHERE id = 's3'")
    other.close()
    async with waiting(storage, *(storage.append(f"events/s{n}", [{"body": n}]) for n in range(6))) as outcomes:
        assert outcomes == [[2]] * 6
    for n in range(6):
        assert [entry["body"] for entry in await storage.read(f"events/s{n}")] == ["first", n]


async def test_namespaces_in_one_file_wait_together_and_keep_apart(file: Path) -> None:
    async with (
        open_storage(f"sqlite:///{file}?namespace=a") as one,
        open_storage(f"sqlite:///{file}?namespace=b") as two,
    ):
        for each in (one, two):
            await each.save(session(1))
        appends = (each.append("events/s1", [{"body": n}]) for n in range(5) for each in (one, two))
        async with waiting(one, *appends) as outcomes:
            assert outcomes == [[n // 2 + 1] for n in range(10)]
        assert len(await one.read("events/s1")) == len(await two.read("events/s1")) == 5


async def test_one_that_is_withdrawn_while_it_waits_leaves_no_gap(storage: Any) -> None:
    tasks = [asyncio.create_task(storage.append("events/s1", [{"body": n}])) for n in range(9)]
    async with storage.transaction():
        await asyncio.sleep(0.05)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    done = [outcome for outcome in outcomes if isinstance(outcome, list)]
    stored = [entry["seq"] for entry in await storage.read("events/s1")]
    assert stored == [1, *(seq for (seq,) in done)] == [*range(1, len(done) + 2)]
    assert len(done) <= 8


async def test_verbs_whose_task_is_cancelled_at_the_moment_they_give_up_waiting_all_end(file: Path) -> None:
    """The same moment for both: which of them comes first, and in which turn of the loop, differs from verb to verb."""

    async with open_storage(f"sqlite:///{file}?statement_timeout=0.2") as opened:

        async def append(n: int) -> None:
            async with asyncio.timeout(0.2):
                await opened.append("events/s1", [{"body": n}])

        await opened.save(session(1))
        async with opened.transaction(timeout=30):
            tasks = [asyncio.create_task(append(n)) for n in range(50)]
            ended, still = await asyncio.wait(tasks, timeout=5)
        assert not still
        assert {type(task.exception()) for task in ended} <= {TimeoutError, StorageTimeoutError}
        assert await opened.log_info("events/s1") is None


async def test_a_failure_of_all_is_told_to_each_as_its_own(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever raises an error adds to it: the place, and what was being dealt with."""
    connection = storage._engine._file._writer._connection

    def refused(jobs: list[Any]) -> Any:
        connection.rollback()  # as SQLite does by itself where a file can be written no more
        raise StorageConnectionError("the disk is gone")

    monkeypatch.setattr(sqlite_groups, "append_together", refused)
    async with waiting(storage, *(storage.append(f"events/s{n}", [{"body": n}]) for n in range(4))) as outcomes:
        pass
    assert [str(outcome) for outcome in outcomes] == ["the disk is gone"] * 4
    assert len({id(outcome) for outcome in outcomes}) == 4
    assert all(outcome.__cause__ is None for outcome in outcomes)
