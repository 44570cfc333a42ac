"""agno's stores in all their states: upgraded, renamed, damaged, old and large."""

from __future__ import annotations

import json
import sqlite3
import tracemalloc
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from legacy.migration import CopyReport, copy_store
from legacy.stores.parcels import Item
from legacy.stores.peers.registry import open_to_read, opening_of
from session_adapter import SessionStorageAdapter
from session_adapter.formats import by_name
from tests.legacy.peers.agno_stores import agno1, agno2, agno3, run, run_row, twice
from tests.support import scaled
from unified_storage import StorageConfigurationError, StorageUnsupportedError, open_storage

BOMB = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agno.db"


async def copied(url: str, tmp_path: Path) -> CopyReport:
    return await copy_store(url, f"sqlite:///{tmp_path}/ours.db")


async def said(tmp_path: Path, id: str = "s1") -> list[Any]:
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        return [event["content"] for event in await SessionStorageAdapter(storage).events.read(id)]


async def written_back(tmp_path: Path, form: str = "agno3") -> Path:
    report = await copy_store(f"sqlite:///{tmp_path}/ours.db", f"{form}+sqlite:///{tmp_path}/back.db")
    assert report.ledger.verified == report.ledger.read, [*report.items]
    return tmp_path / "back.db"


def selected(path: Path, select: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(select).fetchall()


def reasons(report: CopyReport) -> dict[str | None, tuple[str, ...]]:
    return {item.id: item.reasons for item in report.items if item.reasons}


# upgraded stores


async def test_an_upgraded_store_is_read_by_its_rows_and_the_copy_behind_them(path: Path, tmp_path: Path) -> None:
    """A row of a run counts before the copy that an upgrade left, and what has no row yet is there all the same."""
    older = [run("a", "old a"), run("b", "old b"), run("c", "old c"), {"messages": []}]
    url = agno3(
        path,
        [{"runs": twice(older)}],
        [run_row(run("b", "new b"), 1), run_row(run("d", "d"), 3), run_row(run("a", "new a"), 0)],
        upgraded=True,
    )
    report = await copied(url, tmp_path)
    assert await said(tmp_path) == ["new a", "new b", "old c", "d"]
    assert reasons(report) == {"s1": ("run_without_id",)}
    back = await written_back(tmp_path)
    assert selected(back, "SELECT run_id, run_index FROM agno_runs ORDER BY 2") == [
        ("a", 0),
        ("b", 1),
        ("c", 2),
        ("d", 3),
    ]


async def test_an_upgraded_store_is_written_without_the_old_copy(path: Path, tmp_path: Path) -> None:
    await copied(agno3(path, [{}], [run_row(run("a", "a"))]), tmp_path)
    target = tmp_path / "upgraded.db"
    agno3(target, [{"runs": twice([run("z", "frozen")])}], upgraded=True)
    report = await copy_store(f"sqlite:///{tmp_path}/ours.db", f"agno+sqlite:///{target}", overwrite_conflicts=True)
    assert report.ledger.verified == 1, [*report.items]
    assert selected(target, "SELECT runs FROM agno_sessions") == [(None,)]


async def test_rows_without_an_index_keep_their_place(path: Path, tmp_path: Path) -> None:
    rows = [
        run_row(run("b", "2"), None, created_at=2),
        run_row(run("a", "1"), None, created_at=1),
        run_row(run("c", "3"), 0),
    ]
    await copied(agno3(path, [{}], rows), tmp_path)
    assert await said(tmp_path) == ["1", "2", "3"]
    back = await written_back(tmp_path)
    order = "SELECT run_id, run_index FROM agno_runs ORDER BY run_index, created_at"
    assert selected(back, order) == [("a", None), ("b", None), ("c", 0)]


async def test_a_new_run_gives_all_of_them_an_index(path: Path, tmp_path: Path) -> None:
    rows = [run_row(run("a", "1"), None, created_at=1), run_row(run("b", "2"), None, created_at=2)]
    await copied(agno3(path, [{}], rows), tmp_path)
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        await SessionStorageAdapter(storage).events.append("s1", {"role": "user", "content": "3", "run_id": "c"})
    back = await written_back(tmp_path)
    assert selected(back, "SELECT run_id, run_index FROM agno_runs ORDER BY 2") == [("a", 0), ("b", 1), ("s1/c", 2)]


async def test_a_window_knows_the_runs_that_were_imported(path: Path, tmp_path: Path) -> None:
    """A message that stands in an imported run is told once, however little of the history is read."""
    await copied(agno3(path, [{}], [run_row(run(id, "x", "y"), at) for at, id in enumerate("ab")]), tmp_path)
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        events = SessionStorageAdapter(storage).events
        await events.append("s1", {"role": "user", "content": "x", "id": "a-0", "run_id": "a"})
        assert [event["id"] for event in await events.read("s1", last=1)] == ["b-1"]


# columns


async def test_how_a_column_is_encoded_is_kept(path: Path, tmp_path: Path) -> None:
    """2.x encodes twice on SQLite; what is encoded once, null or no JSON stays so."""
    columns = {
        "session_data": twice({"session_name": "N", "session_state": {"a": "ü"}}),
        "agent_data": '{"name": "once"}',
        "summary": "null",
        "metadata": "{torn",
        "runs": twice([run("a", "Hello")]),
    }
    report = await copied(agno2(path, [columns]), tmp_path)
    assert reasons(report) == {"s1": ("metadata_invalid_json",)}
    back = await written_back(tmp_path, "agno2")
    assert selected(back, f"SELECT {', '.join(columns)} FROM agno_sessions") == [tuple(columns.values())]


async def test_what_is_written_to_2_is_encoded_twice_and_to_3_once(tmp_path: Path) -> None:
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        await SessionStorageAdapter(storage).save_session("s1", {"session_id": "s1", "state": {"a": 1}})
    for form, times in (("agno2", 2), ("agno3", 1)):
        await copy_store(f"sqlite:///{tmp_path}/ours.db", f"{form}+sqlite:///{tmp_path}/{form}.db")
        [(stored,)] = selected(tmp_path / f"{form}.db", "SELECT session_data FROM agno_sessions")
        for _ in range(times):
            stored = json.loads(stored)
        assert stored == {"session_state": {"a": 1}}


async def test_times_are_whole_seconds(path: Path, tmp_path: Path) -> None:
    await copied(agno3(path, [{}], [run_row(run("a", "x"))]), tmp_path)
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        record = await storage.load("s1")
        [entry] = await storage.read("history/s1")
    assert record is not None
    times = [record["created_at"], entry["created_at"], record["updated_at"]]
    assert [moment.timestamp() for moment in times] == [1715803200, 1715803210, 1715803260]


async def test_what_the_row_says_of_the_session_is_in_the_document(path: Path, tmp_path: Path) -> None:
    row = {
        "session_type": "team",
        "agent_id": None,
        "team_id": "t",
        "user_id": "ann",
        "session_data": '{"session_name": "N", "session_state": {"x": 1}, "session_metrics": {"total_tokens": 5}}',
        "team_data": '{"mode": "route"}',
        "metadata": '{"app_name": "shop", "tag": 1}',
        "summary": '{"summary": "Short", "topics": ["a"]}',
    }
    await copied(agno3(path, [row]), tmp_path)
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        sessions = SessionStorageAdapter(storage)
        document = await sessions.get_session("s1")
        [listed] = (await sessions.page_sessions({"user_id": "ann", "kind": "team", "app_name": "shop"})).items
    assert document is not None
    assert {
        name: document[name] for name in ("kind", "team_id", "user_id", "name", "state", "team_data", "metrics")
    } == {
        "kind": "team",
        "team_id": "t",
        "user_id": "ann",
        "name": "N",
        "state": {"x": 1},
        "team_data": {"mode": "route"},
        "metrics": {"total_tokens": 5},
    }
    assert document["summary"] == {"summary": "Short", "topics": ["a"]}
    assert listed["session_id"] == "s1"


# tables


async def test_tables_of_other_names_are_found(path: Path, tmp_path: Path) -> None:
    await copied(agno3(path, [{}], [run_row(run("a", "x"))], tables=("mine", "my_runs")), tmp_path)
    assert await said(tmp_path) == ["x"]


async def test_of_several_tables_one_has_to_be_named(path: Path, tmp_path: Path) -> None:
    url = agno3(path, [{}], [run_row(run("a", "x"))], tables=("one", "one_runs"))
    agno3(path, [{"session_id": "other"}], tables=("two", "two_runs"))
    with pytest.raises(StorageConfigurationError, match="one, two"):
        await copied(url, tmp_path)
    with pytest.raises(StorageConfigurationError, match="one_runs, two_runs"):
        await copied(f"{url}?tables=one", tmp_path)
    with pytest.raises(StorageConfigurationError, match="no table 'three'"):
        await copied(f"{url}?tables=three", tmp_path)
    await copied(f"{url}?tables=one,one_runs", tmp_path)
    assert await said(tmp_path) == ["x"]


async def test_new_tables_are_made_by_their_names(path: Path, tmp_path: Path) -> None:
    await copied(agno3(path, [{}], [run_row(run("a", "x"))]), tmp_path)
    target = tmp_path / "named.db"
    await copy_store(f"sqlite:///{tmp_path}/ours.db", f"agno+sqlite:///{target}?tables=mine,my_runs")
    assert selected(target, "SELECT session_id, run_id FROM my_runs JOIN mine USING (session_id)") == [("s1", "a")]


async def test_the_table_of_runs_may_be_missing(path: Path, tmp_path: Path) -> None:
    """agno makes it with the first run."""
    url = agno3(path, [{}])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE agno_runs")
    report = await copied(url, tmp_path)
    assert (report.ledger.copied, report.ledger.verified) == (1, 1)
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        await SessionStorageAdapter(storage).events.append("s1", {"role": "user", "content": "Hello"})
    again = await copy_store(f"sqlite:///{tmp_path}/ours.db", url, overwrite_conflicts=True)
    assert again.ledger.verified == 1, [*again.items]
    assert selected(path, "SELECT session_id, run_index FROM agno_runs") == [("s1", 0)]


async def test_a_form_is_not_written_into_the_tables_of_another(path: Path, tmp_path: Path) -> None:
    await copied(agno3(path, [{}]), tmp_path)
    with pytest.raises(StorageConfigurationError, match="agno3, not agno2"):
        await copy_store(f"sqlite:///{tmp_path}/ours.db", f"agno2+sqlite:///{path}")


async def test_a_database_of_something_else_is_none(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.execute("CREATE TABLE agno_sessions (a, b)")
    with pytest.raises(StorageConfigurationError, match="no tables of agno"):
        await copied(f"agno+sqlite:///{tmp_path}/x.db", tmp_path)


# 1.x


def older(*said: str) -> dict[str, Any]:
    """A run as the older memory keeps it."""
    return {"message": {"role": "user", "content": said[0]}, "response": run(f"run of {said[0]}", *said)}


async def test_each_kind_of_1_has_a_table_of_its_own(path: Path, tmp_path: Path) -> None:
    memory = {"runs": [run("a", "Hello")], "summaries": {"ann": {"s1": {"summary": "Short"}}}}
    row = {"user_id": "ann", "agent_id": "a", "memory": json.dumps(memory), "extra_data": '{"app_name": "shop"}'}
    flow = {"session_id": "s2", "workflow_id": "w", "runs": json.dumps([{**run("b", "Go"), "workflow_id": "w"}])}
    report = await copied(agno1(path, agent=[row], workflow=[flow, {"session_id": "s1"}]), tmp_path)
    assert reasons(report) == {"s1": ("duplicate",)}
    assert (await said(tmp_path, "s1"), await said(tmp_path, "s2")) == (["Hello"], ["Go"])
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        first, second = [await SessionStorageAdapter(storage).get_session(id) for id in ("s1", "s2")]
    assert first is not None
    assert second is not None
    names = ("kind", "user_id", "agent_id", "summary")
    assert [first.get(name) for name in names] == ["agent", "ann", "a", {"summary": "Short"}]
    assert first["metadata"]["app_name"] == "shop"
    assert (second["kind"], second["workflow_id"]) == ("workflow", "w")


async def test_an_older_memory_is_read_once(path: Path, tmp_path: Path) -> None:
    """It keeps a flat copy of all messages beside its runs."""
    memory = {"messages": [{"role": "user", "content": "Hello"}], "runs": [older("Hello", "again")]}
    await copied(agno1(path, team=[{"memory": json.dumps(memory)}]), tmp_path)
    assert await said(tmp_path) == ["Hello", "again"]
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        runs = await SessionStorageAdapter(storage).runs.read("s1")
    assert runs == [{"run_id": "run of Hello", **older("Hello", "again")}]


@pytest.mark.parametrize("memory", [None, "{torn", "[]", '{"runs": null}', '{"runs": [1, null, {}]}'])
async def test_a_memory_without_runs_is_a_session_without_events(
    path: Path, tmp_path: Path, memory: str | None
) -> None:
    report = await copied(agno1(path, agent=[{"memory": memory}]), tmp_path)
    assert report.ledger.copied == 1
    assert await said(tmp_path) == []


async def test_1_is_only_read(path: Path, tmp_path: Path) -> None:
    url = agno1(path, agent=[{}])
    await copied(url, tmp_path)
    with pytest.raises(StorageUnsupportedError, match="only read"):
        await copy_store(f"sqlite:///{tmp_path}/ours.db", f"agno1+sqlite:///{tmp_path}/new.db")
    with pytest.raises(StorageConfigurationError, match="agno1"):
        await copy_store(f"sqlite:///{tmp_path}/ours.db", url)


async def test_beside_later_tables_those_of_1_are_read_by_name(path: Path, tmp_path: Path) -> None:
    """agno's own upgrade to 2.x leaves the old tables where they are."""
    url = agno1(path, agent=[{"memory": json.dumps({"runs": [run("a", "old")]})}])
    agno2(path, [{"runs": twice([run("b", "new")])}])
    await copied(url, tmp_path)
    assert await said(tmp_path) == ["new"]
    await copy_store(f"agno1+sqlite:///{path}", f"sqlite:///{tmp_path}/other.db")
    async with open_storage(f"sqlite:///{tmp_path}/other.db") as storage:
        [event] = await SessionStorageAdapter(storage).events.read("s1")
    assert event["content"] == "old"


# damage


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("{torn", ("run_invalid_json", "run_unreadable")),
        (BOMB, ("run_nesting_too_deep", "run_unreadable")),
        ("[1, 2]", ("run_unreadable",)),
        ('{"run_id": "another"}', ("run_unreadable",)),
        ('{"a": ' + "9" * 5000 + "}", ("run_number_too_long", "run_unreadable")),
    ],
)
async def test_a_damaged_run_is_kept_as_its_text(
    path: Path, tmp_path: Path, text: str, warnings: tuple[str, ...]
) -> None:
    rows = [run_row(run("a", "before")), run_row(text, 1, run_id="torn"), run_row(run("b", "after"), 2)]
    report = await copied(agno3(path, [{}], rows), tmp_path)
    assert reasons(report) == {"s1": warnings}
    assert await said(tmp_path) == ["before", "after"]
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        assert await SessionStorageAdapter(storage).runs.get("s1", "torn") == {"run_id": "torn", "run_data": text}
    back = await written_back(tmp_path)
    assert selected(back, "SELECT run_data FROM agno_runs WHERE run_id = 'torn'") == [(text,)]


@pytest.mark.parametrize(
    ("session", "reason"),
    [
        ({"runs": '"{torn"'}, "runs_unreadable"),
        ({"runs": '{"no": "list"}'}, "runs_unreadable"),
        ({"metadata": b'{"a": "\xff"}'}, "encoding"),
        ({"session_id": "line\nbreak"}, "invalid_session_id"),
        ({"session_id": "x" * 2000}, "invalid_session_id"),
        ({"session_id": ""}, "no_session_id"),
        ({"metadata": json.dumps({"a": "x" * (16 << 20)})}, "too_large"),
    ],
)
async def test_a_damaged_session_is_quarantined_and_the_others_copied(
    path: Path, tmp_path: Path, session: dict[str, Any], reason: str
) -> None:
    url = agno2(path, [{"session_id": "bad"} | session, {"session_id": "good", "runs": twice([run("a", "Hello")])}])
    report = await copied(url, tmp_path)
    assert (report.ledger.copied, report.ledger.quarantined) == (1, 1)
    assert [item.reasons for item in report.items if item.outcome == "quarantined"] == [(reason,)]
    assert await said(tmp_path, "good") == ["Hello"]


@pytest.mark.parametrize("id", ["a:b", "a/b", "{tag}", "../x", "~x", "né🙂", "x" * 255, "id with spaces", "'; DROP"])
async def test_odd_ids_come_back_as_they_are(path: Path, tmp_path: Path, id: str) -> None:
    row = run_row(run(f"run of {id}", "Hello", session_id=id), session_id=id)
    await copied(agno3(path, [{"session_id": id}], [row]), tmp_path)
    assert await said(tmp_path, id) == ["Hello"]
    back = await written_back(tmp_path)
    assert selected(back, "SELECT session_id, run_id FROM agno_runs") == [(id, f"run of {id}")]


async def test_runs_without_their_session_are_told(path: Path, tmp_path: Path) -> None:
    rows = [run_row(run("a", "x")), *(run_row(run(id, "x"), session_id="gone") for id in ("b", "c"))]
    report = await copied(agno3(path, [{}], rows), tmp_path)
    assert reasons(report) == {"gone": ("runs_without_session",)}
    assert report.ledger.copied == 1


async def test_a_run_that_is_there_twice_is_read_twice(path: Path, tmp_path: Path) -> None:
    await copied(agno2(path, [{"runs": twice([run("a", "1"), run("a", "2"), None, "odd"])}]), tmp_path)
    assert await said(tmp_path) == ["1", "2"]
    back = await written_back(tmp_path, "agno2")
    assert selected(back, "SELECT runs FROM agno_sessions") == selected(path, "SELECT runs FROM agno_sessions")
    report = await copy_store(f"sqlite:///{tmp_path}/ours.db", f"agno3+sqlite:///{tmp_path}/three.db")
    assert [(item.outcome, item.reasons) for item in report.items] == [("quarantined", ("run_without_id",))]


# what cannot be written


async def test_the_run_of_another_session_is_never_overwritten(path: Path, tmp_path: Path) -> None:
    """In 3.x a run's id names one row, whatever its session; in 2.x it does not."""
    ids = {"s1": "same", "s2": "same", "s3": "own"}
    sessions = [{"session_id": id, "runs": twice([run(name, id)])} for id, name in ids.items()]
    await copied(agno2(path, sessions), tmp_path)
    report = await copy_store(f"sqlite:///{tmp_path}/ours.db", f"agno3+sqlite:///{tmp_path}/back.db")
    assert {item.id: (item.outcome, item.detail) for item in report.items if item.outcome == "quarantined"} == {
        "s2": ("quarantined", "runs.run_id")
    }
    assert (report.ledger.copied, report.ledger.verified) == (2, 2)
    rows = selected(tmp_path / "back.db", "SELECT run_id, session_id FROM agno_runs ORDER BY 2")
    assert rows == [("same", "s1"), ("own", "s3")]


async def test_runs_that_others_named_are_kept_apart(tmp_path: Path) -> None:
    """Others name runs within a session: the sessions of both ``inv-1`` are written."""
    uuid = "0b7cbc0e-6a4e-4a0b-9a53-2f6a7a3e9d11"
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        for id, name in (("s1", "inv-1"), ("s2", "inv-1"), ("s3", uuid)):
            await SessionStorageAdapter(storage).save_session(id, {"session_id": id})
            await SessionStorageAdapter(storage).events.append(id, {"role": "user", "content": "x", "run_id": name})
    back = await written_back(tmp_path)
    rows = selected(back, "SELECT session_id, run_id, run_data ->> 'run_id' FROM agno_runs ORDER BY 1")
    assert rows == [("s1", "s1/inv-1", "s1/inv-1"), ("s2", "s2/inv-1", "s2/inv-1"), ("s3", uuid, uuid)]
    again = await copy_store(f"sqlite:///{tmp_path}/ours.db", f"agno3+sqlite:///{back}")
    assert again.ledger.equal == 3


@pytest.mark.parametrize("form", ["agno3", "agno2", "agno-go"])
async def test_what_json_has_no_place_for_is_refused_and_the_rest_written(tmp_path: Path, form: str) -> None:
    async with open_storage(f"sqlite:///{tmp_path}/ours.db") as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.save_session("bad", {"session_id": "bad", "state": {"x": date(2024, 5, 15)}})
        await sessions.save_session("good", {"session_id": "good", "state": {"x": float("inf")}})
    report = await copy_store(f"sqlite:///{tmp_path}/ours.db", f"{form}+sqlite:///{tmp_path}/back.db")
    assert {item.id: item.reasons for item in report.items if item.outcome == "quarantined"} == {"bad": ("not_json",)}
    assert report.ledger.verified == 1


# size


@pytest.mark.parametrize("sessions", [scaled(1000), scaled(20_000)])
async def test_reading_takes_the_same_memory_for_any_number_of_sessions(path: Path, sessions: int) -> None:
    url = agno3(
        path,
        ({"session_id": f"s{at}"} for at in range(sessions)),
        (run_row(run(f"r{at}", "x" * 500), session_id=f"s{at}") for at in range(sessions)),
    )
    store = await open_to_read(opening_of(url))
    tracemalloc.start()
    try:
        found = 0
        async for units in store.units():
            for at in range(0, len(units), 50):
                some = [unit for unit in units[at : at + 50] if not isinstance(unit, Item)]
                found += len(await store.read(some))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await store.close()
    assert found == sessions
    assert peak < 6 << 20


def test_formats_say_what_they_are() -> None:
    assert [by_name(name).name for name in ("agno3", "agno2", "agno1", "agno-go", "agno-go-service")]
    assert not by_name("agno1").writes  # type: ignore[attr-defined]  # a format of others
