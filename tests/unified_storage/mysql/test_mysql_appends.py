"""Appends on MySQL and MariaDB: one round trip for one entry, two for several and for appends that come together."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from asyncmy.errors import OperationalError

from unified_storage import open_storage
from unified_storage.backends.sql.mysql_connection import MySQLConnection
from unified_storage.errors import (
    StorageAlreadyExistsError,
    StorageConflictError,
    StorageConnectionError,
    StorageNotFoundError,
)

pytestmark = pytest.mark.servers
NASTY = ["'; DROP TABLE x; --", "\\' OR 1", "\0a\x1a\n", "🦉 ß \ud800", "x'41'", "?", "%s"]


@pytest.fixture
async def storage(home: dict[str, Any]) -> AsyncIterator[Any]:
    async with open_storage(**home) as storage:
        await storage.batch_save([{"id": f"n{n}", "type": "note", "data": {}} for n in range(64)])
        yield storage


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the connections are asked to do from here on."""
    told: list[str] = []
    for name in ("run", "begin", "begin_with", "finish_with", "commit", "rollback"):
        _note_calls(monkeypatch, name, told)
    return told


def _note_calls(monkeypatch: pytest.MonkeyPatch, name: str, told: list[str]) -> None:
    inner = getattr(MySQLConnection, name)

    async def noting(self: MySQLConnection, *given: Any) -> Any:
        told.append(name)
        return await inner(self, *given)

    monkeypatch.setattr(MySQLConnection, name, noting)


def log(n: int) -> str:
    return f"log@note/n{n}"


async def test_one_entry_is_one_round_trip_from_the_first_on_and_several_are_two(storage: Any, sent: list[str]) -> None:
    assert await storage.append(log(0), [{"body": 1, "key": "k"}]) == [1]
    assert await storage.append(log(0), [{"body": 2}]) == [2]
    assert await storage.append(log(0), [{"body": 3}, {"body": 4}]) == [3, 4]
    assert sent == ["finish_with", "finish_with", "begin_with", "finish_with"]
    record = await storage.load("n0")
    assert record["version"] == 4
    assert record["updated_at"] > record["created_at"]
    assert await storage.log_info(log(0)) == {"first_seq": 1, "last_seq": 4, "count": 4}


async def test_one_entry_that_expects_a_version_is_one_round_trip_too(storage: Any, sent: list[str]) -> None:
    for version in range(1, 6):
        assert await storage.append(log(0), [{"body": version, "key": f"k{version}"}], expected_version=version)
    assert sent == ["finish_with"] * 5
    with pytest.raises(StorageConflictError) as caught:
        await storage.append(log(0), [{"body": 0}], expected_version=5)
    assert (caught.value.expected, caught.value.found) == (5, 6)
    assert await storage.append(log(0), [{"body": 0, "key": "k2"}], expected_version=2, on_duplicate="skip") == [2]
    assert [entry["body"] for entry in await storage.read(log(0))] == [1, 2, 3, 4, 5]


async def test_of_many_that_expect_one_version_one_is_taken(storage: Any) -> None:
    for version in range(1, 6):
        appends = (storage.append(log(0), [{"body": n}], expected_version=version) for n in range(16))
        told = await asyncio.gather(*appends, return_exceptions=True)
        assert sorted(type(each).__name__ for each in told) == ["StorageConflictError"] * 15 + ["list"]
    assert len(await storage.read(log(0))) == 5


async def test_one_entry_that_cannot_go_the_short_way_leaves_nothing_half_done(storage: Any, sent: list[str]) -> None:
    await storage.append(log(0), [{"body": 1, "key": "k"}])
    await storage.save({"id": "gone", "type": "note", "data": {}, "expires_at": storage.clock()})
    before = await storage.load("n0")
    with pytest.raises(StorageAlreadyExistsError):
        await storage.append(log(0), [{"body": 2, "key": "k"}])
    for nobody in ("log@note/nobody", "log@note/gone", "log@other/n0"):
        with pytest.raises(StorageNotFoundError):
            await storage.append(nobody, [{"body": 1}])
    assert await storage.load("n0") == before
    assert [entry["body"] for entry in await storage.read(log(0))] == [1]
    assert await storage.append(log(0), [{"body": 2}]) == [2]


async def test_one_entry_after_others_were_withdrawn_gets_a_number_of_its_own(storage: Any) -> None:
    await storage.append(log(0), [{"body": 1}, {"body": 2}])
    await storage.pop(log(0))
    assert await storage.append(log(0), [{"body": 3}]) == [3]
    await storage.rewrite(log(0), [])
    assert await storage.append(log(0), [{"body": 4}]) == [4]
    assert await storage.log_info(log(0)) == {"first_seq": 4, "last_seq": 4, "count": 1}


async def test_many_appends_share_a_few_transactions(storage: Any, sent: list[str]) -> None:
    numbers = await asyncio.gather(*(storage.append(log(n % 40), [{"body": n}]) for n in range(64)))
    assert sorted(numbers) == [[1]] * 40 + [[2]] * 24
    assert len(sent) <= 12
    assert [len(await storage.read(log(n))) for n in range(40)] == [2] * 24 + [1] * 16


@pytest.mark.parametrize("text", NASTY)
async def test_no_value_is_taken_for_a_part_of_the_statement(storage: Any, text: str) -> None:
    named = text.encode("utf-8", "replace").decode().replace("\0", "").replace("\x1a", "").replace("\n", "")
    await storage.save({"id": named, "type": "note", "data": {}})
    assert await storage.append(f"log@note/{named}", [{"body": {"text": text}, "key": named}]) == [1]
    (entry,) = await storage.read(f"log@note/{named}")
    assert (entry["body"], entry["key"]) == ({"text": text}, named)


async def test_a_key_that_is_there_undoes_the_whole_and_each_goes_alone(storage: Any, sent: list[str]) -> None:
    await storage.append(log(5), [{"body": "old", "key": "k"}])
    outcomes = await asyncio.gather(
        *(storage.append(log(n), [{"body": n, "key": "k"}]) for n in range(10)), return_exceptions=True
    )
    assert isinstance(outcomes.pop(5), StorageAlreadyExistsError)
    assert outcomes == [[1]] * 9
    assert "rollback" in sent
    assert [entry["body"] for entry in await storage.read(log(5))] == ["old"]


async def test_a_server_that_leaves_out_no_locked_rows_is_asked_step_by_step(
    storage: Any, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MariaDB before 10.6."""
    (_, connection), *_ = next(iter(storage._engine._pool._by_loop.values()))._idle
    monkeypatch.setattr(connection, "session", replace(connection.session, skips_locked=False))
    assert await storage.append(log(0), [{"body": 1}]) == [1]
    assert "begin_with" not in sent


async def test_what_fits_in_no_packet_goes_step_by_step(
    storage: Any, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, connection), *_ = next(iter(storage._engine._pool._by_loop.values()))._idle
    monkeypatch.setattr(connection, "session", replace(connection.session, largest_packet=40_000))
    assert await storage.append(log(0), [{"body": "x" * 25_000}]) == [1]
    assert "begin_with" not in sent
    assert await storage.append(log(0), [{"body": "ü" * 12_000}]) == [2]
    assert "begin_with" not in sent
    assert await storage.append(log(0), [{"body": "ü" * 6_000}] * 2) == [3, 4]
    assert "begin_with" in sent
    assert "finish_with" not in sent
    assert [len(entry["body"]) for entry in await storage.read(log(0))] == [25_000, 12_000, 6_000, 6_000]


async def test_a_connection_lost_in_the_end_leaves_an_unknown_outcome_and_one_lost_before_none(
    storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: list[str] = []

    def breaking(name: str) -> None:
        inner = getattr(MySQLConnection, name)

        async def cut(self: MySQLConnection, *given: Any) -> Any:
            if name not in broken:
                broken.append(name)
                self._wire._transport.abort()
            return await inner(self, *given)

        monkeypatch.setattr(MySQLConnection, name, cut)

    breaking("begin_with")
    assert await storage.append(log(0), [{"body": 1}, {"body": 2}]) == [1, 2]
    breaking("finish_with")
    with pytest.raises(StorageConnectionError) as failure:
        await storage.append(log(1), [{"body": 1}])
    assert failure.value.details["outcome"] == "unknown"
    assert not failure.value.retryable
    assert broken == ["begin_with", "finish_with"]
    assert await storage.read(log(1)) == []


async def test_one_entry_whose_connection_is_lost_on_its_way_is_there_wholly_or_not_at_all(
    storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = MySQLConnection.finish_with

    async def cut_off(self: MySQLConnection, writes: str) -> Any:
        # After the record was changed nobody listens; that the log was is the first that the server cannot tell.
        asyncio.get_running_loop().call_later(0.1, self._wire._transport.abort)
        changed, begun, added = writes.split(" WHERE n = @owner")
        return await inner(
            self, f"{changed} WHERE n = @owner AND SLEEP(0.3) = 0{begun} WHERE n = @owner AND SLEEP(0.1) = 0{added}"
        )

    monkeypatch.setattr(MySQLConnection, "finish_with", cut_off)
    with pytest.raises(StorageConnectionError):
        await storage.append(log(0), [{"body": "lost"}])
    monkeypatch.undo()
    await asyncio.sleep(0.6)
    await storage.append(log(0), [{"body": "after"}])
    entries = await storage.read(log(0))
    assert [entry["seq"] for entry in entries] == [*range(1, len(entries) + 1)]
    assert (await storage.load("n0"))["version"] == 1 + len(entries)


@pytest.mark.parametrize("code", [1290, 1836])
async def test_a_primary_that_takes_no_writes_any_more_is_asked_again(
    storage: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """It has said so, and done nothing: nobody is told of an unknown outcome."""
    inner = MySQLConnection.finish_with
    refused: list[int] = []

    async def finish_with(self: MySQLConnection, *given: Any) -> Any:
        if not refused:
            refused.append(code)
            self.terminate()
            raise OperationalError(code, "running with the --read-only option")
        return await inner(self, *given)

    monkeypatch.setattr(MySQLConnection, "finish_with", finish_with)
    assert await storage.append(log(0), [{"body": 1}]) == [1]
    assert refused
