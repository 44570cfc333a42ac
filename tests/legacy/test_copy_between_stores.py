"""`copy` between stores of ours, into archives and folders: everything, exactly, and what does not fit is said."""

import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from legacy.stores import ours
from legacy.stores.ours import read_logs
from legacy.stores.parcels import Parcel
from session_adapter import SessionKey, SessionStorageAdapter, record_id
from tests.legacy.folders import contents, document, parsed, write
from tests.legacy.test_copy import copied, counts
from unified_storage import StorageConflictError, open_storage
from unified_storage.interface import IUnifiedStorage

EXPIRES = datetime(2100, 1, 1, tzinfo=UTC)
ODD = {
    "bytes": b"\x00\xff",
    "when": datetime(2024, 1, 1, 12, tzinfo=UTC),
    "amount": Decimal("1.10"),
    "pair": (1, 2),
    "set": {1, 2},
    "nan": float("nan"),
    "zero": -0.0,
    "big": 2**70,
    "text": "a\0b \ud800 \U0001f600",
    "tag": {"$type": "bytes", "value": "no bytes"},
    "": {"a.b": None},
}


@pytest.fixture
def first(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/first.db"


@pytest.fixture
def second(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/second.db"


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"d": value}
    return value


async def fill(storage: IUnifiedStorage) -> None:
    """Records of several types, logs of several names, expiry, gaps, and every kind of value."""
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("listed", document("listed", messages=5))
    await sessions.events.pop("listed")
    await sessions.events.append("listed", {"id": "e1", "role": "user", "content": ODD["text"]})
    await sessions.save_session(
        "canonical", {"session_id": "canonical", "state": {"k": 1}, "metadata": {"user_id": "u"}}
    )
    await sessions.events.append(
        "canonical", [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    )
    await storage.save({"id": "note", "type": "note", "data": ODD, "metadata": {"k": (1,)}, "thread_id": "t1"})
    await storage.save({"id": "deep", "type": "note", "data": deep(256), "expires_at": EXPIRES})
    await storage.save({"id": "listed", "type": "note", "data": {"shares": "an id"}, "session_id": "listed"})
    await storage.append("state@note/note", [{"body": ODD, "key": "k"}, {"body": None}, {"body": [deep(250)]}])
    await storage.append("track:main/listed", [{"body": {"n": 1}}])
    await storage.append("raw/canonical", [{"body": "row"}], keep_last=0)


def comparable(contents: dict[str, Any], *, times: bool = True) -> dict[str, Any]:
    """What two stores must have in common: all but versions and system records."""
    left_out = {"version"} if times else {"version", "updated_at"}
    records = {
        key: {name: value for name, value in record.items() if name not in left_out}
        for key, record in contents["records"].items()
        if not key[1].startswith("_")
    }
    return {"records": repr(sorted(records.items())), "logs": repr(sorted(contents["logs"].items()))}


async def everything(url: str) -> dict[str, Any]:
    async with open_storage(url) as storage:
        return comparable(await contents(storage))


@pytest.fixture
async def filled(first: str) -> dict[str, Any]:
    async with open_storage(first) as storage:
        await fill(storage)
    return await everything(first)


async def test_every_type_log_and_expiry_is_copied(first: str, second: str, filled: dict[str, Any]) -> None:
    facts = await copied(first, second)
    assert counts(facts, "copied", "verified", "mismatched") == (2, 2, 0)
    assert (facts["others"]["copied"], facts["others"]["verified"]) == (3, 3)
    assert facts["exit_code"] == 0
    assert await everything(second) == filled
    again = await copied(first, second)
    assert counts(again, "equal") == (2,)
    assert again["others"]["equal"] == 3


async def test_an_archive_gives_everything_back(
    first: str, second: str, filled: dict[str, Any], tmp_path: Path
) -> None:
    archive = tmp_path / "archive.jsonl"
    facts = await copied(first, f"jsonl://{archive}")
    assert counts(facts, "copied", "verified", "mismatched") == (2, 2, 0)
    facts = await copied(archive, second)
    assert counts(facts, "copied", "verified") == (2, 2)
    assert await everything(second) == filled


async def test_system_records_are_not_copied(first: str, second: str, tmp_path: Path) -> None:
    write(tmp_path / "source", document("a"))
    await copied(tmp_path / "source", first)
    await copied(first, second)
    async with open_storage(first) as one, open_storage(second) as other:
        [before], [after] = await one.list({"type": "_copy"}), await other.list({"type": "_copy"})
    assert before["data"].keys().isdisjoint(after["data"])


async def test_changes_of_any_part_are_seen(first: str, second: str, filled: dict[str, Any]) -> None:
    await copied(first, second)
    async with open_storage(first) as storage:
        await storage.update("note", {"metadata": {"new": 1}}, type="note")
        await storage.append("track:main/listed", [{"body": {"n": 2}}])
        await storage.update("deep", {"expires_at": EXPIRES + timedelta(days=1)}, type="note")
    facts = await copied(first, second)
    assert counts(facts, "copied", "equal") == (1, 1)
    assert (facts["others"]["copied"], facts["others"]["equal"]) == (2, 1)
    assert await everything(second) == await everything(first)


async def test_a_log_that_only_the_target_has_is_a_change_of_the_target(
    first: str, second: str, filled: dict[str, Any]
) -> None:
    await copied(first, second)
    async with open_storage(second) as storage:
        await storage.append("branch:x/listed", [{"body": 1}])
    assert counts(await copied(first, second), "conflict", "equal") == (1, 1)
    facts = await copied(first, second, overwrite_conflicts=True)
    assert counts(facts, "copied", "mismatched") == (1, 0)
    async with open_storage(second) as storage:
        assert await storage.read("branch:x/listed") == []
    assert counts(await copied(first, second), "equal") == (2,)


async def test_expired_records_are_not_copied(second: str, tmp_path: Path) -> None:
    first = f"sqlite:///{tmp_path}/first.db"
    async with open_storage(first) as storage:
        await storage.save({"id": "old", "type": "note", "data": {}, "expires_at": datetime(2020, 1, 1, tzinfo=UTC)})
        await storage.save({"id": "new", "type": "note", "data": {}})
    await copied(first, second)
    async with open_storage(second) as storage:
        assert [record["id"] for record in await storage.list()] == ["new"]


async def test_a_long_log_is_copied_whole(first: str, second: str) -> None:
    async with open_storage(first) as storage:
        await storage.save({"id": "s", "type": "session", "data": {}})
        for start in range(0, 5_000, 1_000):
            await storage.append("history/s", [{"body": {"n": start + place}} for place in range(1_000)])
        await storage.append("history/s", [{"body": {"n": 5_000}}], keep_last=4_500)
    await copied(first, second)
    async with open_storage(second) as storage:
        assert await storage.log_info("history/s") == {"first_seq": 502, "last_seq": 5_001, "count": 4_500}


# into a folder of session files


async def test_a_canonical_session_becomes_a_document_with_its_history(first: str, tmp_path: Path) -> None:
    async with open_storage(first) as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.save_session("c", {"session_id": "c", "state": {"k": 1}, "user_id": "ann", "extra": [1]})
        call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        await sessions.events.append(
            "c", [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call]}]
        )
        wanted = await sessions.events.read("c")
    await copied(first, f"legacy+file://{tmp_path}/folder")
    [found] = parsed(tmp_path / "folder").values()
    assert found["metadata"]["session_id"] == "c"
    assert found["metadata"]["user_id"] == "ann"
    assert found["workflow_state"]["k"] == 1
    assert found["extra"] == [1]
    assert {"thread_configs", "settings"} <= found.keys()
    assert [message["type"] for message in found["workflow_state"]["messages"]] == ["HumanMessage", "AIMessage"]
    async with open_storage("memory://") as storage:
        await copied(tmp_path / "folder", storage)
        read = await SessionStorageAdapter(storage).events.read("c")
    shown = ("role", "content", "tool_calls")
    assert [{name: event[name] for name in shown} for event in read] == [
        {name: event[name] for name in shown} for event in wanted
    ]


async def test_what_a_folder_cannot_hold_is_said(first: str, filled: dict[str, Any], tmp_path: Path) -> None:
    facts = await copied(first, f"legacy+file://{tmp_path}/folder")
    assert facts["lossy"] == {"type note": 3, "log track:main": 1}
    assert facts["others"]["ignored"] == 3
    assert sorted(parsed(tmp_path / "folder")) == ["canonical.json", "listed.json"]


async def test_a_second_session_of_one_visible_id_is_quarantined(first: str, tmp_path: Path) -> None:
    key = SessionKey("shop", "ann", "s1")
    async with open_storage(first) as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.save_session("s1", {"metadata": {"session_id": "s1", "n": 1}})
        await sessions.save_session(key, {"metadata": {"session_id": "s1", "n": 2}})
        assert await storage.exists(record_id(key), type="session")
    for _ in range(2):
        facts = await copied(first, f"legacy+file://{tmp_path}/folder")
        assert [item["reasons"] for item in facts["items"] if item["outcome"] == "quarantined"] == [["id_collision"]]
        assert facts["exit_code"] == 3
    assert [found["metadata"]["n"] for found in parsed(tmp_path / "folder").values()] == [1]


async def test_values_that_json_has_not_are_quarantined_for_a_folder(first: str, tmp_path: Path) -> None:
    async with open_storage(first) as storage:
        await SessionStorageAdapter(storage).save_session("s", {"settings": {"b": b"\0"}})
    facts = await copied(first, f"legacy+file://{tmp_path}/folder")
    assert [(item["outcome"], item["reasons"]) for item in facts["items"]] == [("quarantined", ["not_storable"])]
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize("id", ["../../etc/passwd", "~tilde", "x" * 900, "dot.", ".hidden", "a/b", "%2F"])
async def test_any_id_goes_into_a_folder_and_back(id: str, first: str, second: str, tmp_path: Path) -> None:
    async with open_storage(first) as storage:
        await SessionStorageAdapter(storage).save_session(id, {"note": 1})
    await copied(first, f"legacy+file://{tmp_path}/folder")
    assert len(parsed(tmp_path / "folder")) == 1
    facts = await copied(tmp_path / "folder", second)
    assert [item["id"] for item in facts["items"]] == [id]
    async with open_storage(second) as storage:
        assert await SessionStorageAdapter(storage).session_exists(id)


@pytest.mark.parametrize(
    "broken", ["unified_documents SET data = '{' WHERE n", "unified_entries SET body = '{' WHERE log"]
)
async def test_what_cannot_be_read_back_costs_itself_and_not_the_others(tmp_path: Path, broken: str) -> None:
    source = f"sqlite:///{tmp_path}/damaged.db"
    async with open_storage(source) as storage:
        for name in "abc":
            await storage.save({"id": name, "type": "session", "data": {"n": name}})
            await storage.append(f"history/{name}", [{"body": name}])
    connection = sqlite3.connect(tmp_path / "damaged.db", isolation_level=None)
    connection.execute(f"UPDATE {broken} = 2")
    connection.close()
    facts = await copied(source, f"sqlite:///{tmp_path}/sound.db")
    assert counts(facts, "copied", "quarantined") == (2, 1)
    assert [(item["id"], item["reasons"]) for item in facts["items"] if item["outcome"] == "quarantined"] == [
        ("b", ["unreadable"])
    ]


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    "broken",
    [
        "unified_documents SET data = '{' WHERE n = (SELECT n FROM unified_records WHERE type || id = 'sessionb')",
        "unified_entries SET body = '{' WHERE log = 2",
    ],
)
async def test_what_cannot_be_read_back_in_the_target_costs_itself_and_not_the_others(
    tmp_path: Path, first: str, second: str, broken: str, dry_run: bool
) -> None:
    async with open_storage(first) as storage:
        for name in "abcd":
            await storage.save({"id": name, "type": "session", "data": {"n": name}})
            await storage.append(f"history/{name}", [{"body": name}])
    await copied(first, second)
    async with open_storage(second) as target:
        await target.delete("c", type="session")
    async with open_storage(first) as storage:
        await storage.save({"id": "e", "type": "session", "data": {}})
    connection = sqlite3.connect(tmp_path / "second.db", isolation_level=None)
    (changed,) = connection.execute(f"UPDATE {broken} RETURNING 1").fetchone()
    assert changed
    connection.close()
    facts = await copied(first, second, dry_run=dry_run)
    assert {item["id"]: (item["outcome"], item["reasons"]) for item in facts["items"]} == {
        "a": ("equal", []),
        "b": ("quarantined", ["unreadable_target"]),
        "c": ("conflict", ["deleted_in_target"]),
        "d": ("equal", []),
        "e": ("copied", []),
    }
    assert facts["exit_code"] == 3


class _Meddling:
    """Reads logs for a source while somebody else changes the record ``a`` just before, *times* over."""

    def __init__(self, storage: IUnifiedStorage, times: int, *, anew: bool = False) -> None:
        self._storage = storage
        self._left = times
        self._anew = anew

    async def read_logs(self, storage: IUnifiedStorage, ids: list[str]) -> list[Any]:
        if self._left:
            self._left -= 1
            if self._anew:
                await self._storage.delete("a", type="session")
            await self._storage.save({"id": "a", "type": "session", "data": {"left": self._left}})
            await self._storage.append("history/a", [{"body": self._left}])
        return await read_logs(storage, ids)


async def _meddled(monkeypatch: pytest.MonkeyPatch, times: int, *, anew: bool = False) -> list[tuple[Any, list[Any]]]:
    """The record ``a`` and its history as a source gives them while they are changed, or made anew, *times* over."""
    async with open_storage("memory://") as storage:
        await storage.save({"id": "a", "type": "session", "data": {"left": times}})
        await storage.append("history/a", [{"body": times}])
        monkeypatch.setattr(ours, "read_logs", _Meddling(storage, times, anew=anew).read_logs)
        source = ours.OurStorage(storage, "")
        await source.survey()
        found = [one async for batch in source.batches() for one in batch]
        await source.close()
    return [
        (one.record["data"], [entry["body"] for log in one.logs for entry in log["entries"]])
        for one in found
        if isinstance(one, Parcel)
    ]


async def test_a_record_that_changes_while_it_is_read_comes_as_it_was_at_one_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await _meddled(monkeypatch, 2) == [({"left": 0}, [2, 1, 0])]


async def test_a_record_that_is_made_anew_while_it_is_read_comes_with_its_own_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its version is again what it was before."""
    assert await _meddled(monkeypatch, 1, anew=True) == [({"left": 0}, [0])]


async def test_a_record_that_changes_all_the_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageConflictError, match="changes too often"):
        await _meddled(monkeypatch, 100)
