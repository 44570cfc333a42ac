"""From every form into every other, through our store: what is lost is what the list of formats says, and is told."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from legacy.stores import known_formats
from legacy.stores.peers.registry import peer_formats
from session_adapter import SessionKey, SessionStorageAdapter
from session_adapter.documents import format_of, stored_document
from session_adapter.formats import G0
from session_adapter.formats.peer import LOSSES
from session_adapter.identity import session_id_of, visible_id
from tests.legacy.peers.fixture_stores import FixtureStore, canonical, load_dump
from tests.legacy.test_copy import copied, counts
from tests.support import fixtures_folder
from unified_storage import IUnifiedStorage, open_storage

SOURCES = {
    "agno3": "agno3",
    "adk-v1": "adk_v1",
    "openai-sqlite": "openai_sqlite",
    "langchain-sql": "langchain_sql",
    "trpc-v2": "trpc_hashidx",
    "agno-go": "agnogo_sqlite",
    "legacy": "",
}
"""Format -> the store from which its sessions come; the session files of old stand in a folder of their own."""
LEGACY_LOSES = (
    *("app", "expires_at", "further_logs", "further_fields", "user_state", "app_state", "bytes"),
    *("event_ids", "event_times", "runs", "authors", "usage", "state_deltas"),
)
"""What a folder of session files has no place for; see ``unified-storage formats``."""
KEPT = 3
ZONE = "America/New_York"
SCOPED = ("adk-v1", "trpc-v2")
MAPPED = {"app": "shop", "user": "ann"}
PAIRS = [*itertools.permutations(SOURCES, 2)]


def loses(name: str) -> frozenset[str]:
    told = {format.name: format.loses for format in peer_formats()}
    return frozenset(told.get(name, LEGACY_LOSES))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> dict[str, Path]:
    """Files that :func:`a_copy` fills: format -> a store of ours with some sessions that came from it."""
    return {}


async def some_of(name: str, imported: dict[str, Path], folder: Path, client: redis.Redis, server: str) -> Path:
    """A store of ours with a few sessions from one of that format; made once, and copied."""
    if name not in imported:
        file = folder / "imported.db"
        told = {"source_timezone": ZONE} if name == "legacy" else {}
        await copied(source_of(name, folder, client, server), f"sqlite:///{file}", **told)
        async with open_storage(f"sqlite:///{file}") as storage:
            await keep_some(storage, name)
        imported[name] = file
    return Path(shutil.copy(imported[name], folder / "ours.db"))


def source_of(name: str, folder: Path, client: redis.Redis, server: str) -> str:
    if name == "legacy":
        return f"legacy+file://{fixtures_folder() / 'legacy_files'}"
    store = FixtureStore(SOURCES[name])
    if store.lives_on == "redis":
        load_dump(client, store.dump())
        return f"{name}+{server}"
    return f"{name}+sqlite:///{store.copied_to(folder)}"


async def keep_some(storage: IUnifiedStorage, name: str) -> None:
    records = await storage.list({"type": "session"})
    if name == "legacy":
        wanted = [record for record in records if format_of(record) is G0]
    else:
        wanted = [record for record in records if record["data"].get("summary")] or records
    kept = {record["id"] for record in wanted[:KEPT]}
    for record in records:
        if record["id"] not in kept:
            await storage.delete(record["id"], type="session", cascade=True)


def target_of(name: str, folder: Path, server: str) -> str:
    if name == "legacy":
        return f"legacy+file://{folder}/files"
    return f"{name}+{server}?prefix=target" if name.startswith("trpc") else f"{name}+sqlite:///{folder}/target.db"


Facts = dict[str, Any]


async def facts_of(storage: IUnifiedStorage) -> dict[str, Facts]:
    """Session id -> what a user sees of it, by the words of ``LOSSES``."""
    found: dict[str, Facts] = {}
    for record in await storage.list({"type": "session"}):
        key = visible_id(record)
        events = await SessionStorageAdapter(storage).events.read(key)
        fields = format_of(record).read(stored_document(record)).session
        found[session_id_of(key)] = {
            "said": canonical().canon_sha(events),
            "user": fields.get("user_id"),
            "app": key.app_name if isinstance(key, SessionKey) else fields.get("app_name"),
            "participants": [fields.get(name) for name in ("agent_id", "team_id", "workflow_id")],
            **{name: fields.get(name) for name in ("name", "metadata", "state")},
            "summary": text_of(fields.get("summary")),
            **{name: record[name].timestamp() for name in ("created_at", "updated_at")},
            "event_ids": [event["id"] for event in events],
            "event_times": [event["timestamp"] for event in events],
            "runs": [event["run_id"] for event in events],
            "authors": [event["author"] for event in events],
            "usage": [event["usage"] for event in events],
            "state_deltas": [event["state_delta"] for event in events],
        }
    return found


def text_of(summary: Any) -> Any:
    return summary.get("summary", summary.get("content")) if isinstance(summary, Mapping) else summary


def lost(before: Facts, after: Facts) -> Iterator[str]:
    """The words for what was there and is there no more."""
    for word, value in before.items():
        if _is_anything(value) and not _stays(word, value, after.get(word)):
            yield word


def _is_anything(value: Any) -> bool:
    return any(map(_is_anything, value)) if isinstance(value, list) else value not in (None, {}, "")


def _stays(word: str, value: Any, after: Any) -> bool:
    """Whether what was said is still said: a name is the same, a time to the second, all else is there."""
    if word in ("created_at", "updated_at"):
        return after is not None and abs(value - after) <= 1
    if word in ("said", "user", "app", "name", "summary", "participants"):
        return bool(value == after)
    if isinstance(value, list):
        return isinstance(after, list) and all(
            _is_anything(new) for old, new in zip(value, after, strict=False) if _is_anything(old)
        )
    if isinstance(value, Mapping):
        return isinstance(after, Mapping) and value.keys() <= after.keys()
    return _is_anything(after)


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda name: name)
async def test_nothing_is_lost_that_is_not_told(
    source: str,
    target: str,
    imported: dict[str, Path],
    tmp_path: Path,
    empty_redis: redis.Redis,
    redis_server: str,
) -> None:
    ours = f"sqlite:///{await some_of(source, imported, tmp_path, empty_redis, redis_server)}"
    url, back = target_of(target, tmp_path, redis_server), f"sqlite:///{tmp_path}/back.db"
    mapping = MAPPED if target in SCOPED else None
    dry = await copied(ours, url, mapping=mapping, dry_run=True)
    facts = await copied(ours, url, mapping=mapping)
    assert counts(facts, "copied", "mismatched", "quarantined", "conflict") == (KEPT, 0, 0, 0), facts["items"]
    assert dry["lossy"] == facts["lossy"], "a dry run warns of the same"
    told = {"source_timezone": "UTC"} if target == "legacy" else {}
    returned = await copied(url, back, **told)
    assert counts(returned, "copied", "quarantined") == (KEPT, 0), returned["items"]
    async with open_storage(ours) as storage:
        before = await facts_of(storage)
    async with open_storage(back) as storage:
        after = await facts_of(storage)
    assert before.keys() == after.keys()
    missing = {word for id, had in before.items() for word in lost(had, after[id])}
    assert "said" not in missing, "the conversation itself"
    assert missing <= loses(target), "what the form has no place for"
    assert missing <= {*facts["lossy"]} | _of_the_folder(target), "and the copy said so"


def _of_the_folder(target: str) -> frozenset[str]:
    return loses(target) if target == "legacy" else frozenset()


def test_the_list_of_formats_says_what_each_of_them_loses() -> None:
    listed = {format.name: format.lossy for format in known_formats()}
    for format in peer_formats():
        assert all(LOSSES[word] in listed[format.name] for word in format.loses)
        assert bool(format.loses) == bool(listed[format.name])
