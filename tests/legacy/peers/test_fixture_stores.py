"""Every store that a real library wrote is copied whole: counts and conversations are those of its manifest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from legacy.migration import copy_store, inspect_place, verify_stores
from legacy.stores.peers.registry import peer_formats
from session_adapter import ScopedSessionService, SessionKey, SessionStorageAdapter, UserKey, record_id
from session_adapter.identity import visible_id
from session_adapter.timestamps import read_time
from tests.legacy.peers.fixture_stores import FixtureStore, canonical
from tests.places import Place, engines, place_on
from unified_storage import IUnifiedStorage


@pytest.fixture(params=engines("sqlite", "postgresql", "mysql", "redis"))
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_on(request.param, tmp_path) as place:
        yield place


def expected_hash(conversation: dict[str, Any]) -> str:
    """Of what the library itself can read back, where that is less than what it was given."""
    found: str = conversation.get("sha256_read_back") or conversation["sha256"]
    return found


async def test_a_store_is_copied_whole(fixture_store: FixtureStore, store_url: str, target: Place) -> None:
    told = zone_of(fixture_store)
    report = await copy_store(store_url, target.address, **told)
    assert report.ledger.copied == report.ledger.verified == fixture_store.manifest["sessions"], [*report.items]
    again = await copy_store(store_url, target.address, **told)
    assert again.ledger.equal == fixture_store.manifest["sessions"], [*again.items]
    async with target.open() as storage:
        assert await hashes(storage) == {id: expected_hash(one) for id, one in fixture_store.conversations.items()}
        for id, conversation in fixture_store.conversations.items():
            expected = wanted(conversation)
            assert await found(storage, id, expected) == expected, id
    verified = await verify_stores(store_url, target.address)
    assert (verified.equal, verified.different, verified.missing) == (verified.compared, 0, 0)


def zone_of(store: FixtureStore) -> dict[str, Any]:
    """What a copy has to be told of the times in *store*."""
    return {"source_timezone": store.manifest["timezone_of_writer"]} if "v0" in store.name else {}


async def hashes(storage: IUnifiedStorage) -> dict[str, str]:
    """The hash of each conversation as its events show it, by session id."""
    of = canonical().canon_sha
    events = SessionStorageAdapter(storage).events
    found: dict[str, str] = {}
    for record in await storage.list({"type": "session"}):
        key = visible_id(record)
        found[key.session_id if isinstance(key, SessionKey) else key] = of(await events.read(key))
    return found


# what a manifest says beside the messages


def wanted(told: Mapping[str, Any]) -> dict[str, Any]:
    """What *told*, a conversation of a manifest, says of whose it is, of states, logs and times; by our names."""
    names = {"app_name": "app_name", "user_id": "user_id", "type": "kind", "runs": "runs", "state": "state"}
    names |= {"first_timestamp": "first", "last_timestamp": "last", "tracks": "tracks", "summaries": "summaries"}
    facts = {ours: told[theirs] for theirs, ours in names.items() if theirs in told}
    facts |= {name: _to_the_microsecond(told[name]) for name in ("created_at", "updated_at") if name in told}
    counts = [told[name] for name in ("events_read_back", "events", "messages") if name in told]
    return facts | {"events": counts[0]}


def _to_the_microsecond(text: str) -> datetime:
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


async def found(storage: IUnifiedStorage, session_id: str, names: Iterable[str]) -> dict[str, Any]:
    """What is stored of a session, by *names*; its state with that of its app and its user among it."""
    [key] = await SessionStorageAdapter(storage).session_keys(session_id)
    record = await storage.load(record_id(key), type="session")
    assert record is not None
    events = await SessionStorageAdapter(storage).events.read(key)
    logs = [log async for ids in storage.logs() for log in ids if log.endswith(f"/{record['id']}")]
    times = [moment for event in events if (moment := read_time(event["timestamp"]).moment) is not None]
    facts = {
        **record["data"],
        **{name: record[name] for name in ("created_at", "updated_at")},
        "events": len(events),
        "runs": len({event["seq"] for event in events}),
        "tracks": sum(log.startswith("track:") for log in logs),
        "summaries": int(bool(record["data"].get("summary"))),
        "first": times[0].timestamp() if times else None,
        "last": times[-1].timestamp() if times else None,
    }
    if isinstance(key, SessionKey):
        service = ScopedSessionService(storage)
        shared = {f"app:{name}": value for name, value in (await service.list_app_states(key.app_name)).items()}
        user = await service.list_user_states(UserKey(key.app_name, key.user_id))
        shared |= {f"user:{name}": value for name, value in user.items()}
        facts["state"] = {**record["data"]["state"], **shared}
    return {name: facts.get(name) for name in names}


async def test_looking_tells_what_it_is(fixture_store: FixtureStore, store_url: str) -> None:
    facts = await inspect_place(store_url)
    assert facts.sessions == fixture_store.manifest["sessions"]
    assert facts.kind in {format.name for format in peer_formats() if format.family == fixture_store.family}


async def test_the_source_stays_as_it_is(
    fixture_store: FixtureStore, store_url: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if fixture_store.lives_on not in ("sqlite", "file"):
        pytest.skip("a server's store has no bytes to compare; see the command log")
    before = digests(tmp_path)
    await inspect_place(store_url)
    target = f"sqlite:///{tmp_path_factory.mktemp('ours')}/ours.db"
    report = await copy_store(store_url, target, **zone_of(fixture_store))
    await verify_stores(store_url, target)
    assert report.ledger.copied == fixture_store.manifest["sessions"]
    assert digests(tmp_path) == before


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
