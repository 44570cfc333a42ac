"""`verify`: record by record, as the copy was told, and nothing is written."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from legacy.migration import inspect_place, verify_stores
from session_adapter import SessionStorageAdapter
from tests.legacy.folders import contents_of, document, left_with_journal, parsed, write
from tests.legacy.test_copy import NEW_YORK, copied, counts, saved_again
from tests.legacy.test_copy_between_stores import fill
from unified_storage import StorageConfigurationError, StorageValidationError, open_storage


@pytest.fixture
def target(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/target.db"


@pytest.fixture
async def source(tmp_path: Path, target: str) -> Path:
    folder = tmp_path / "source"
    naive = "2024-05-15T12:00:00"
    for id in ("a", "b", "c", "d"):
        write(folder, document(id, created_at=naive, updated_at=naive))
    (folder / "broken.json").write_text("{")
    await copied(folder, target, source_timezone=NEW_YORK)
    return folder


async def verified(source: object, target: object, **switches: Any) -> dict[str, Any]:
    report = await verify_stores(source, target, **switches)  # type: ignore[arg-type]
    facts = report.to_dict()
    report.close()
    return facts


def kinds(facts: dict[str, Any]) -> dict[str, list[str]]:
    return {item["id"]: item["reasons"] for item in facts["differences"]}


async def test_a_fresh_copy_is_equal_in_the_zone_it_was_told(source: Path, target: str) -> None:
    before = await contents_of(target)
    facts = await verified(source, target)
    assert (facts["equal"], facts["not_compared"], facts["only_in_target"]) == (4, 1, 0)
    assert facts["told"]["source_timezone"] == NEW_YORK
    assert facts["exit_code"] == 0
    assert await contents_of(target) == before
    elsewhere = await verified(source, target, source_timezone="UTC")
    assert kinds(elsewhere)["a"] == ["created_at"]


async def test_saving_unchanged_changes_nothing(source: Path, target: str) -> None:
    await saved_again(target)
    assert (await verified(source, target))["equal"] == 4


async def test_each_difference_is_named(source: Path, target: str) -> None:
    async with open_storage(target) as storage:
        sessions = SessionStorageAdapter(storage)
        await sessions.update_session("a", {"settings": {"n": 2}})
        await sessions.events.append("b", {"role": "user", "content": "more"})
        await sessions.delete_session("c")
        await sessions.save_session("own", {"note": 1})
    facts = await verified(source, target)
    assert kinds(facts) == {"a": ["document"], "b": ["history"], "c": ["missing"]}
    assert (facts["compared"], facts["equal"], facts["different"], facts["missing"]) == (4, 1, 2, 1)
    assert facts["only_in_target"] == 1
    assert facts["exit_code"] == 3


async def test_it_goes_on_behind_an_id(source: Path, target: str) -> None:
    facts = await verified(source, target, resume="b")
    assert (facts["compared"], facts["last_id"]) == (2, "d")


async def test_a_sample_is_the_same_each_time(tmp_path: Path, target: str) -> None:
    for number in range(200):
        write(tmp_path / "many", document(f"s{number}"))
    await copied(tmp_path / "many", target)
    first = await verified(tmp_path / "many", target, sample=25)
    assert 20 <= first["compared"] <= 80
    assert (await verified(tmp_path / "many", target, sample=25))["compared"] == first["compared"]
    with pytest.raises(StorageValidationError):
        await verified(tmp_path / "many", target, sample=0)


async def test_two_stores_and_an_archive_are_compared_whole(tmp_path: Path) -> None:
    first, second = f"sqlite:///{tmp_path}/first.db", f"sqlite:///{tmp_path}/second.db"
    archive = f"jsonl://{tmp_path}/archive.jsonl"
    async with open_storage(first) as storage:
        await fill(storage)
    await copied(first, second)
    await copied(first, archive)
    for one, other in ((first, second), (first, archive), (archive, second)):
        facts = await verified(one, other)
        assert (facts["equal"], facts["differences"]) == (5, []), (one, other)
    async with open_storage(second) as storage:
        await storage.update("note", {"data": {"zero": 0.0}, "thread_id": None}, type="note")
        await storage.append("track:main/listed", [{"body": 1}])
    assert kinds(await verified(first, second)) == {"note": ["data", "thread_id"], "listed": ["log track:main"]}


async def test_a_folder_is_compared_document_by_document(source: Path, target: str, tmp_path: Path) -> None:
    folder = tmp_path / "back"
    await copied(target, f"legacy+file://{folder}")
    assert (await verified(target, f"legacy+file://{folder}"))["equal"] == 4
    changed = parsed(folder)["a.json"]
    changed["settings"]["n"] = 1.0
    write(folder, changed)
    (folder / "b.json").unlink()
    (folder / "c.json").write_text("{")
    facts = await verified(target, f"legacy+file://{folder}")
    assert kinds(facts) == {"a": ["document"], "b": ["missing"], "c": ["storage_integrity_error"]}


async def test_a_place_that_is_not_there_or_the_same_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageConfigurationError):
        await verified(source, f"sqlite:///{tmp_path}/no.db")
    assert not (tmp_path / "no.db").exists()
    with pytest.raises(StorageConfigurationError):
        await verified(source, source)


async def test_saving_unchanged_is_no_difference_between_two_stores_either(target: str, tmp_path: Path) -> None:
    first, second = f"sqlite:///{tmp_path}/first.db", f"sqlite:///{tmp_path}/second.db"
    async with open_storage(first) as storage:
        await SessionStorageAdapter(storage).save_session("a", document("a"))
    await copied(first, second)
    await saved_again(second)
    assert counts(await copied(first, second), "equal") == (1,)
    async with open_storage(first) as one, open_storage(second) as other:
        times = [(await storage.list({"type": "session"}))[0]["updated_at"] for storage in (one, other)]
    assert times[0] != times[1], "the test needs a target that was saved later"
    assert (await verified(first, second))["exit_code"] == 0


async def test_it_goes_on_among_ids_that_begin_with_a_tilde(target: str, tmp_path: Path) -> None:
    for id in ("~a", "~b", "~c"):
        write(tmp_path / "tildes", document(id))
    await copied(tmp_path / "tildes", target)
    last = (await verified(tmp_path / "tildes", target))["last_id"]
    assert last.endswith("~c")
    facts = await verified(tmp_path / "tildes", target, resume=last.removesuffix("c") + "a")
    assert (facts["compared"], facts["last_id"]) == (2, last)


@pytest.mark.parametrize("look", [verify_stores, inspect_place])
async def test_looking_leaves_a_store_with_a_journal_byte_identical(
    look: Callable[..., Awaitable[object]], source: Path, target: str, tmp_path: Path
) -> None:
    files = left_with_journal(tmp_path / "target.db")
    before = [file.read_bytes() for file in files]
    await (look(source, target) if look is verify_stores else look(target))
    assert [file.read_bytes() for file in files] == before
