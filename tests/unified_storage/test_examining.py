"""Looking a store over: damage planted by raw commands is found and mended, and nothing else is touched."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.places import ON_DISK, SQL, Place, engines
from tests.unified_storage.planting import Planter, planter_at
from unified_storage import (
    Finding,
    IUnifiedStorage,
    StorageClosedError,
    StorageTransactionError,
    open_storage,
)
from unified_storage.backends.redis import examining as redis_examining
from unified_storage.backends.sql import damage, examining
from unified_storage.layers import Cache, Metrics

ON_SQL = pytest.mark.parametrize("engine", engines(*SQL))
INDEXED = {"note": ["data.tag", "metadata.n", "updated_at"], "thread": ["data.n"]}
NOBODY = 900_000_000
"""The number of no row."""


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[IUnifiedStorage]:
    """A store with some of everything."""
    async with place.open(indexed=INDEXED) as storage:
        await fill(storage)
        yield storage


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "_TIME_TO_FILL", 0.05)


@pytest.fixture
async def planter(place: Place) -> AsyncIterator[Planter]:
    async with planter_at(place) as found:
        yield found


async def fill(storage: IUnifiedStorage) -> None:
    for name in ("a", "deleted", "b", "ü/🙂"):
        metadata = {"status": "active", "user_id": f"user {name}", "name": "x" * 600}
        await storage.save({"id": name, "type": "session", "data": {"n": 1}, "metadata": metadata})
        await storage.save({"id": name, "type": "note", "data": {"tag": [1, name], "n": 2}, "session_id": name})
        await storage.append(f"history/{name}", [{"body": {"n": n}, "key": f"k{n}"} for n in range(5)])
        await storage.append(f"track:x@note/{name}", [{"body": "x"}] * 4, keep_last=2)
    await storage.pop("history/b")
    await storage.rewrite("history/b", [])
    await storage.append("track:y@note/b", [{"body": "y"}])
    for type in ("session", "note"):  # among the numbers of logs that leaves a gap of two and one of one
        await storage.delete("deleted", type=type)
    await storage.delete("ü/🙂", type="note")
    await storage.save({"id": "sys", "type": "_copy", "data": {}})
    gone = {"id": "gone", "type": "session", "data": {}, "expires_at": datetime(2001, 1, 1, tzinfo=UTC)}
    await storage.restore([gone], [{"log_id": "history/gone", "last_seq": 7, "entries": []}])


async def found_by(storage: IUnifiedStorage, *, repair: bool = False) -> list[Finding]:
    return [finding async for batch in storage.examine(repair=repair) for finding in batch]


# -- kinds of damage ---------------------------------------------------------------------------------------------

Plant = Callable[[Planter], Awaitable[list[Finding]]]
"""Plants damage; what has to be found."""


async def wrong_key(planter: Planter) -> list[Finding]:
    row, slot = await planter.row_of("a"), await planter.slot_of("metadata.status")
    await planter.run(f"UPDATE {{records}} SET {slot} = ? WHERE n = ?", b"\x30gone", row)
    return [Finding("index_key_differs", "a", "session", True, detail="metadata.status")]


async def missing_keys(planter: Planter) -> list[Finding]:
    for id in ("a", "ü/🙂"):
        status, user = await planter.slot_of("metadata.status"), await planter.slot_of("metadata.user_id")
        await planter.run(
            f"UPDATE {{records}} SET {status} = NULL, {user} = NULL WHERE n = ?", await planter.row_of(id)
        )
    return [
        Finding("index_key_differs", id, "session", True, detail="metadata.status, metadata.user_id")
        for id in ("a", "ü/🙂")
    ]


async def key_too_many(planter: Planter) -> list[Finding]:
    await planter.run("UPDATE {records} SET k11 = ? WHERE n = ?", b"\x30x", await planter.row_of("b", "note"))
    return [Finding("index_key_differs", "b", "note", True, detail="unused k11")]


async def key_of_a_document(planter: Planter) -> list[Finding]:
    slot = await planter.slot_of("data.tag", "note")
    await planter.run(f"UPDATE {{records}} SET {slot} = ? WHERE n = ?", b"", await planter.row_of("b", "note"))
    return [Finding("index_key_differs", "b", "note", True, detail="data.tag")]


async def document_too_many(planter: Planter) -> list[Finding]:
    await planter.run("INSERT INTO {documents} (n, data) VALUES (?, ?)", NOBODY, "{}")
    return [Finding("document_orphaned", repairable=True, detail=f"row {NOBODY}")]


async def log(planter: Planter, log_id: str, owner: int) -> None:
    (log_id,) = planter.texts(log_id)
    await planter.run(
        "INSERT INTO {logs} (n, log_id, owner, last_seq, count) VALUES (?, ?, ?, 2, 2)", NOBODY, log_id, owner
    )
    for seq in (1, 2):
        await planter.run("INSERT INTO {entries} (log, seq, created_at, body) VALUES (?, ?, 0, '1')", NOBODY, seq)


async def log_of_nobody(planter: Planter) -> list[Finding]:
    await log(planter, "history@note/nobody", NOBODY)
    return [Finding("log_orphaned", "nobody", "note", True, detail="history@note/nobody")]


async def log_of_a_stranger(planter: Planter) -> list[Finding]:
    await log(planter, "history/nobody", await planter.row_of("a"))
    return [Finding("log_orphaned", "nobody", "session", True, detail="history/nobody")]


async def log_of_no_name(planter: Planter) -> list[Finding]:
    await log(planter, "hi%73tory/a", NOBODY)
    return [Finding("log_orphaned", "", "", True, detail="hi%73tory/a")]


async def logs_that_lost_their_owners(planter: Planter) -> list[Finding]:
    a, b = planter.texts("history/a", "history/b")
    await planter.run("UPDATE {logs} SET owner = ? WHERE log_id = ?", NOBODY, a)
    await planter.run("UPDATE {logs} SET owner = ? WHERE log_id = ?", await planter.row_of("b", "note"), b)
    return [Finding("log_orphaned", id, "session", True, detail=f"history/{id}") for id in ("a", "b")]


async def entries_of_nothing(planter: Planter) -> list[Finding]:
    (lowest, highest), *_ = await planter.run("SELECT min(n), max(n) FROM {logs}")
    there = {number for (number,) in await planter.run("SELECT n FROM {logs}")}
    between = [number for number in range(lowest, highest) if number not in there]
    numbers = [*between, highest + 2, highest + 3, NOBODY + 1]
    assert len(between) >= 3
    for number in numbers:
        for seq in (1, 2, 9):
            await planter.run("INSERT INTO {entries} (log, seq, created_at, body) VALUES (?, ?, 0, '')", number, seq)
    return [Finding("entry_orphaned", repairable=True, detail=f"log {number}") for number in numbers]


async def wrong_count(planter: Planter) -> list[Finding]:
    a, note = planter.texts("history/a", "track:x@note/b")
    await planter.run("UPDATE {logs} SET count = 4 WHERE log_id = ?", a)
    await planter.run("UPDATE {logs} SET count = 3 WHERE log_id = ?", note)
    return [
        Finding("log_count_differs", "a", "session", True, detail="history/a"),
        Finding("log_count_differs", "b", "note", True, detail="track:x@note/b"),
    ]


async def number_to_be_given_again(planter: Planter) -> list[Finding]:
    (a,) = planter.texts("history/a")
    await planter.run("UPDATE {logs} SET last_seq = 4 WHERE log_id = ?", a)
    return [Finding("log_count_differs", "a", "session", True, detail="history/a")]


async def indexes_missing(planter: Planter) -> list[Finding]:
    names = ["by_created", "by_id", "by_k0", "by_key", "by_session_id"]
    for name in names:
        await planter.drop_index(name, "entries" if name == "by_key" else "records")
    return [Finding("schema_index_missing", repairable=True, detail=planter.prefix + name) for name in names]


async def paths_unfilled(planter: Planter) -> list[Finding]:
    status, user = await planter.slot_of("metadata.status"), await planter.slot_of("metadata.user_id")
    await planter.run("UPDATE {paths} SET filled = 0 WHERE path IN (?, ?)", *planter.texts("metadata.status", "data.n"))
    await planter.run(f"UPDATE {{records}} SET {status} = NULL WHERE n = ?", await planter.row_of("a"))
    await planter.run("UPDATE {paths} SET filled = 0 WHERE path = ?", *planter.texts("metadata.user_id"))
    await planter.run(f"UPDATE {{records}} SET {user} = ? WHERE n = ?", b"\x30gone", await planter.row_of("a"))
    return [
        Finding("path_unfilled", "", "session", True, detail="metadata.status"),
        Finding("path_unfilled", "", "session", True, detail="metadata.user_id"),
        Finding("path_unfilled", "", "thread", True, detail="data.n"),
    ]


MENDABLE: list[Plant] = [
    *(wrong_key, missing_keys, key_too_many, key_of_a_document, document_too_many),
    *(log_of_nobody, log_of_a_stranger, log_of_no_name, logs_that_lost_their_owners, entries_of_nothing),
    *(wrong_count, number_to_be_given_again, indexes_missing, paths_unfilled),
]


@ON_SQL
async def test_a_healthy_store_has_no_findings_and_is_not_touched(storage: IUnifiedStorage, planter: Planter) -> None:
    before = await planter.dump()
    assert await found_by(storage) == []
    assert await found_by(storage, repair=True) == []
    assert await planter.dump() == before


@ON_SQL
@pytest.mark.parametrize("plant", MENDABLE)
async def test_planted_damage_is_found_and_mended_and_nothing_else_changes(
    storage: IUnifiedStorage, planter: Planter, plant: Plant
) -> None:
    """S2.43: a second look finds nothing, and every byte is what it was before the damage."""
    whole = await planter.dump()
    expected = await plant(planter)
    damaged = await planter.dump()
    assert by_detail(await found_by(storage)) == by_detail(expected)
    assert await planter.dump() == damaged
    mended = await found_by(storage, repair=True)
    assert by_detail(mended) == by_detail([replace(finding, repaired=True) for finding in expected])
    assert await planter.dump() == whole
    assert await found_by(storage) == []


def by_detail(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: (finding.kind, finding.detail or "", finding.id))


@ON_SQL
async def test_all_damage_at_once_is_mended_in_one_go(storage: IUnifiedStorage, planter: Planter) -> None:
    whole = await planter.dump()
    plants = [entries_of_nothing, wrong_key, key_too_many, document_too_many, log_of_nobody]
    plants += [logs_that_lost_their_owners, indexes_missing]
    expected = [finding for plant in plants for finding in await plant(planter)]
    assert len(expected) >= 14
    mended = await found_by(storage, repair=True)
    assert by_detail(mended) == by_detail([replace(finding, repaired=True) for finding in expected])
    assert await planter.dump() == whole
    assert await found_by(storage) == []


@ON_SQL
async def test_more_damage_than_is_looked_at_at_once_is_found_whole(
    storage: IUnifiedStorage, planter: Planter, monkeypatch
) -> None:
    whole = await planter.dump()
    monkeypatch.setattr(damage, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(damage, "_DOCUMENTS_AT_ONCE", 1)
    monkeypatch.setattr(damage, "_ENTRIES_AT_ONCE", 6)
    monkeypatch.setattr(damage, "_GAPS_AT_ONCE", 2)
    await planter.run("UPDATE {records} SET k11 = ? WHERE type = ?", b"x", *planter.texts("note"))
    await planter.run("UPDATE {logs} SET count = count + 1")
    for number in range(NOBODY, NOBODY + 7):
        await planter.run("INSERT INTO {documents} (n, data) VALUES (?, '')", number)
        await planter.run("INSERT INTO {entries} (log, seq, created_at, body) VALUES (?, 1, 0, '')", number)
    batches = [batch async for batch in storage.examine()]
    assert all(1 <= len(batch) <= 2 for batch in batches)
    look = [finding for batch in batches for finding in batch]
    kinds = [finding.kind for finding in look]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "document_orphaned": 7,
        "index_key_differs": 2,
        "entry_orphaned": 7,
        "log_count_differs": 7,
    }
    assert await found_by(storage, repair=True) == [replace(finding, repaired=True) for finding in look]
    assert await planter.dump() == whole


# -- what cannot be mended ---------------------------------------------------------------------------------------


async def document_missing(planter: Planter) -> list[Finding]:
    await planter.run("DELETE FROM {documents} WHERE n = ?", await planter.row_of("a"))
    return [Finding("document_missing", "a", "session")]


async def metadata_unreadable(planter: Planter) -> list[Finding]:
    await planter.run("UPDATE {records} SET metadata = ? WHERE n = ?", "{", await planter.row_of("b"))
    return [Finding("unreadable_record", "b", "session", detail="STORAGE_INTEGRITY_ERROR")]


async def log_of_no_name_that_goes_with_a_record(planter: Planter) -> list[Finding]:
    await log(planter, "history", await planter.row_of("a"))
    return [Finding("log_orphaned", "", "", detail="history")]


async def twins(planter: Planter) -> list[Finding]:
    await planter.drop_index("by_key", "entries")
    number = await planter.value("SELECT n FROM {logs} WHERE log_id = ?", *planter.texts("history/a"))
    await planter.run("UPDATE {logs} SET count = 6, last_seq = 6 WHERE n = ?", number)
    twin = "SELECT log, 6, 'k1', created_at, body FROM {entries} WHERE seq = 1 AND log = ?"
    await planter.run(f"INSERT INTO {{entries}} {twin}", number)
    return [Finding("schema_index_missing", detail=f"{planter.prefix}by_key")]


@ON_SQL
@pytest.mark.parametrize(
    "plant", [document_missing, metadata_unreadable, log_of_no_name_that_goes_with_a_record, twins]
)
async def test_what_cannot_be_mended_is_named_and_left(
    storage: IUnifiedStorage, planter: Planter, plant: Plant
) -> None:
    expected = await plant(planter)
    damaged = await planter.dump()
    assert await found_by(storage) == expected
    assert await found_by(storage, repair=True) == expected
    assert await planter.dump() == damaged


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_text_that_is_not_utf8_costs_its_own_record_alone(storage: IUnifiedStorage, planter: Planter) -> None:
    await planter.run("UPDATE {records} SET metadata = CAST(X'7BFF7D' AS TEXT) WHERE n = ?", await planter.row_of("b"))
    row = await planter.row_of("a", "note")
    await planter.run("UPDATE {documents} SET data = CAST(X'7BFF7D' AS TEXT) WHERE n = ?", row)
    assert await found_by(storage) == [
        Finding("unreadable_record", "a", "note", detail="STORAGE_INTEGRITY_ERROR"),
        Finding("unreadable_record", "b", "session", detail="STORAGE_INTEGRITY_ERROR"),
    ]


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_key_that_is_no_bytes_is_damage(storage: IUnifiedStorage, planter: Planter) -> None:
    """SQLite takes any kind of value in any column, and no text equals bytes."""
    slot = await planter.slot_of("metadata.status")
    await planter.run(f"UPDATE {{records}} SET {slot} = CAST({slot} AS TEXT) WHERE n = ?", await planter.row_of("a"))
    assert [finding.id for finding in await found_by(storage, repair=True)] == ["a"]
    assert await found_by(storage) == []


# -- beside others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", engines(*ON_DISK))
@pytest.mark.timeout(120)
async def test_a_store_under_load_has_no_findings_and_loses_no_write(
    place: Place, storage: IUnifiedStorage, scaled: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (examining, redis_examining):
        monkeypatch.setattr(module, "_TIME_TO_FILL", 20.0)
    rounds, ended = scaled(1000, minimum=20), asyncio.Event()

    async def looked_over() -> int:
        looks = 0
        while not ended.is_set() or looks < 3:
            assert await found_by(storage, repair=True) == []
            looks += 1
        return looks

    looking = asyncio.create_task(looked_over())
    async with asyncio.TaskGroup() as writers:
        written = [writers.create_task(written_by(storage, f"w{number}", rounds)) for number in range(4)]
        indexing = writers.create_task(further_paths(place))
    ended.set()
    assert await looking >= 3
    for writer in written:
        records, logs = writer.result()
        for id, data in records.items():
            record = await storage.load(id, type="note")
            assert (record and record["data"]) == data
        for log_id, bodies in logs.items():
            assert [entry["body"] for entry in await storage.read(log_id)] == bodies
    assert indexing.result() == []
    assert await found_by(storage) == []


async def written_by(storage: IUnifiedStorage, name: str, rounds: int) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Write at random under ids of its own; what has to be there afterwards."""
    chance = random.Random(name)
    records: dict[str, Any] = {}
    logs: dict[str, list[int]] = {}
    for step in range(rounds):
        id = f"{name}/{chance.randrange(6)}"
        log_id = f"steps@note/{id}"
        data = {"tag": f"t{chance.randrange(9)}", "step": step}
        match chance.randrange(6) if id in records else 0:
            case 0:
                await storage.save({"id": id, "type": "note", "data": data, "metadata": {"n": step}})
                records[id] = data
                logs.setdefault(log_id, [])
            case 1:
                await storage.update(id, {"data": data}, type="note")
                records[id] = data
            case 2:
                await storage.append(log_id, [{"body": step}] * 3, keep_last=20)
                logs[log_id] = [*logs[log_id], *[step] * 3][-20:]
            case 3:
                await storage.delete(id, type="note")
                records[id], logs[log_id] = None, []
                del records[id]
            case 4:
                await storage.rewrite(log_id, [{"body": step}])
                logs[log_id] = [step]
            case 5:
                async with storage.transaction() as tx:
                    await tx.append(log_id, [{"body": step}])
                    await tx.save({"id": id, "type": "note", "data": data})
                    await asyncio.sleep(0)
                    await tx.append(log_id, [{"body": -step}])
                records[id] = data
                logs[log_id] += [step, -step]
    return records, logs


async def further_paths(place: Place) -> list[Finding]:
    """Open the store again and again, each time with one more path to be filled, and look it over there too."""
    found = []
    for number in range(4):
        async with place.open(indexed={"note": [f"data.more{number}"]}) as other:
            found += await found_by(other, repair=True)
    return found


@ON_SQL
async def test_an_orphaned_log_whose_owner_is_being_made_keeps_what_is_written_to_it(
    storage: IUnifiedStorage, planter: Planter
) -> None:
    """The owner is not to be seen yet when the look comes by: what its maker appended must not go with the log."""
    await log(planter, "history/nobody", NOBODY)
    async with storage.transaction() as tx:
        await tx.save({"id": "nobody", "type": "session", "data": {}})
        looking = asyncio.create_task(found_by(storage, repair=True))
        await asyncio.sleep(0.2)
        await tx.append("history/nobody", [{"body": "new"}])
        await asyncio.sleep(0.2)
        assert not looking.done()
    assert [(one.kind, one.repaired) for one in await looking] == [("log_orphaned", True)]
    assert [entry["body"] for entry in await storage.read("history/nobody")] == [1, 1, "new"]
    assert await found_by(storage) == []


@ON_SQL
async def test_what_a_writer_sets_right_meanwhile_is_no_finding_and_not_overwritten(
    storage: IUnifiedStorage, planter: Planter
) -> None:
    await wrong_key(planter)
    await wrong_count(planter)
    async with storage.transaction() as tx:
        await tx.update("a", {"metadata": {"status": "done"}}, type="session")
        await tx.delete("b", type="note")
        looking = asyncio.create_task(found_by(storage, repair=True))
        await asyncio.sleep(0.3)
        assert not looking.done()
    assert [(one.kind, one.id, one.repaired) for one in await looking] == [("log_count_differs", "a", True)]
    done = await storage.list({"type": "session", "metadata.status": "done"})
    assert [record["id"] for record in done] == ["a"]
    assert await found_by(storage) == []


# -- the verb ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory://", "sqlite:///:memory:"])
async def test_inside_a_transaction_a_store_is_not_examined(url: str) -> None:
    async with open_storage(url) as storage:
        with pytest.raises(StorageTransactionError):
            async with storage.transaction() as tx:
                with pytest.raises(StorageTransactionError):
                    await found_by(tx)
                with pytest.raises(StorageTransactionError):
                    await found_by(storage)
        assert await found_by(storage) == []


@pytest.mark.parametrize("url", ["memory://", "sqlite:///:memory:"])
async def test_a_closed_storage_is_not_examined(url: str) -> None:
    async with open_storage(url) as storage:
        pass
    with pytest.raises(StorageClosedError):
        await found_by(storage)


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize("layer", [Cache, Metrics])
async def test_layers_pass_an_examination_on(storage: IUnifiedStorage, planter: Planter, layer: Any) -> None:
    expected = await wrong_key(planter)
    assert await found_by(layer(storage)) == expected
    assert await found_by(layer(storage), repair=True) == [replace(expected[0], repaired=True)]
    assert await found_by(storage) == []


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_look_that_is_given_up_leaves_nothing_open(place: Place, planter: Planter) -> None:
    async with place.open() as storage:
        await fill(storage)
        await planter.run("UPDATE {records} SET k11 = X'30'")
        await planter.run("UPDATE {logs} SET count = 99")
        async for findings in storage.examine(repair=True):
            assert findings
            break
        await storage.save({"id": "new", "type": "note", "data": {}})
