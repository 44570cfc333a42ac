"""`verify` where the target is the store of another framework, and a copy that is run again: all is found equal."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import run
from tests.legacy.peers.fixture_stores import FixtureStore
from tests.legacy.test_copy import copied, counts
from tests.legacy.test_verify import kinds, verified
from unified_storage import StorageUnsupportedError, StorageValidationError

NAMES = {"app": "shop", "user": "ann"}
TARGETS = {
    "adk-v1": "adk-v1+sqlite:///{}/target.db",
    "adk-sqlite": "adk-sqlite+sqlite:///{}/target.db",
    "agno3": "agno3+sqlite:///{}/target.db",
    "agno2": "agno2+sqlite:///{}/target.db",
    "agno-go": "agno-go+sqlite:///{}/target.db",
    "openai-sqlite": "openai-sqlite+sqlite:///{}/target.db",
    "openai-sqlalchemy": "openai-sqlalchemy+sqlite:///{}/target.db",
    "openai-advanced": "openai-advanced+sqlite:///{}/target.db",
    "langchain-sql": "langchain-sql+sqlite:///{}/target.db",
    "langchain-file": "langchain-file+file://{}/target",
    "legacy": "legacy+file://{}/target",
    "jsonl": "jsonl://{}/target.jsonl",
}
WITHOUT_TIMES = "langchain_sql"


def source_of(name: str, folder: Path) -> str:
    store = FixtureStore(name)
    return f"{store.family}+sqlite:///{store.copied_to(folder)}"


def names_for(target: str, source: str = "") -> dict[str, str] | None:
    return NAMES if target.startswith("adk") and not source.startswith("adk") else None


@pytest.mark.usefixtures("fixtures_dir")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", [WITHOUT_TIMES, "adk_v1", "agno3", "openai_sqlite", "agnogo_sqlite"])
async def test_what_was_copied_is_found_equal(source: str, target: str, tmp_path: Path) -> None:
    """Also where nothing tells when a session was, so that its times in the target are those of the first copy."""
    url, place, names = source_of(source, tmp_path), TARGETS[target].format(tmp_path), names_for(target, source)
    assert counts(await copied(url, place, mapping=names), "copied", "quarantined") == (20, 0)
    assert counts(await copied(url, place, mapping=names), "equal", "conflict") == (20, 0)
    facts = await verified(url, place, mapping=names)
    assert (facts["compared"], facts["different"], facts["missing"]) == (facts["equal"], 0, 0)
    assert facts["equal"] >= 20


@pytest.fixture
async def stores(fixtures_dir: Path, tmp_path: Path) -> tuple[str, str, Path]:
    """A store of LangChain's, the URL of a copy in a form that needs more, and the file of that."""
    url, place = source_of(WITHOUT_TIMES, tmp_path), TARGETS["adk-v1"].format(tmp_path)
    await copied(url, place, mapping=NAMES)
    return url, place, tmp_path / "target.db"


def changed(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def test_what_differs_there_is_named(stores: tuple[str, str, Path]) -> None:
    source, target, path = stores
    first, second, third = sorted(FixtureStore(WITHOUT_TIMES).conversations)[:3]
    changed(
        path,
        f"DELETE FROM events WHERE session_id = '{first}' AND rowid IN (SELECT max(rowid) FROM events"
        f" WHERE session_id = '{first}')",
        f"DELETE FROM sessions WHERE id = '{second}'",
        f"UPDATE sessions SET state = '{{torn' WHERE id = '{third}'",
    )
    before = path.read_bytes()
    facts = await verified(source, target, mapping=NAMES)
    assert kinds(facts) == {first: ["document"], second: ["missing"], third: ["unreadable"]}
    assert (facts["compared"], facts["equal"], facts["exit_code"]) == (20, 17, 3)
    assert facts["only_in_target"] is None, "nobody looked for that"
    assert path.read_bytes() == before


async def test_a_part_is_compared_or_what_is_left(stores: tuple[str, str, Path]) -> None:
    source, target, _ = stores
    ids = sorted(FixtureStore(WITHOUT_TIMES).conversations)
    assert (await verified(source, target, mapping=NAMES, resume=ids[14]))["equal"] == 5
    some = await verified(source, target, mapping=NAMES, sample=40)
    assert 0 < some["compared"] == some["equal"] < 20


@pytest.mark.usefixtures("fixtures_dir")
async def test_what_has_no_place_there_is_not_compared(tmp_path: Path) -> None:
    source, target = source_of("adk_v1", tmp_path), TARGETS["langchain-sql"].format(tmp_path)
    await copied(source, target)
    facts = await verified(source, target)
    assert (facts["equal"], facts["exit_code"]) == (20, 0)
    assert facts["not_compared"] > 0, "the states of users and apps"


@pytest.mark.usefixtures("fixtures_dir")
async def test_a_store_whose_form_is_only_read_is_refused(tmp_path: Path) -> None:
    source, target = source_of("agno3", tmp_path), f"agno+sqlite:///{FixtureStore('agno1').copied_to(tmp_path)}"
    with pytest.raises(StorageUnsupportedError, match="agno1 is only read"):
        await verified(source, target)


@pytest.mark.parametrize("names", [{"app": "shop"}, {"colour": "red"}])
async def test_names_that_mean_nothing_are_refused(names: dict[str, str], tmp_path: Path, fixtures_dir: Path) -> None:
    source, target = source_of(WITHOUT_TIMES, tmp_path), TARGETS["agno3"].format(tmp_path)
    await copied(source, target)
    with pytest.raises(StorageValidationError):
        await verified(source, target, mapping=names)


def test_the_command_takes_the_names_that_copy_was_told(
    fixtures_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = source_of(WITHOUT_TIMES, tmp_path), TARGETS["adk-v1"].format(tmp_path)
    told = ("--map", "app=shop,user=ann", "--json")
    assert run(capsys, "copy", source, target, *told).code == 0
    assert run(capsys, "verify", source, target, *told).code == 0
    without: Any = run(capsys, "verify", source, target, "--json")
    assert without.code == 1, "nobody knows whose they are"
