"""Filters on sessions: one meaning in both classes (S2.10, T2.15)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from session_adapter import SessionService, SessionStorageAdapter
from unified_storage import IUnifiedStorage, StorageValidationError, open_storage
from unified_storage.testing.clock import NOON, ManualClock

SESSIONS: dict[Any, Any] = {
    "a": {"metadata": {"status": "active", "user_id": "ann", "tags": ["x", "y"], "workflow_config_path": "p.yaml"}},
    "b": {"metadata": {"status": "idle", "user_id": 42, "tags": ["y"], "created_at": "2024-05-01T00:00:00Z"}},
    "c": {"session_id": "c", "user_id": "top", "metadata": {"user_id": "below", "status": None, "a.b": 1, "~": "t"}},
    "d": {"settings": {"x": {"y": 5}}},
    "e": {"context": {"user_id": "ann", "status": "done"}, "interactions": []},
}


@pytest.fixture(params=[SessionService, SessionStorageAdapter])
async def service(request: pytest.FixtureRequest, storage: IUnifiedStorage) -> SessionService:
    made: SessionService = request.param(storage)
    await SessionStorageAdapter(storage).batch_save_sessions(
        {name: document | {"label": name} for name, document in SESSIONS.items()}
    )
    return made


async def found(service: SessionService, filters: dict[str, Any] | None) -> str:
    """The labels of the sessions that match, in the order of the alphabet."""
    return "".join(sorted(session["label"] for session in await service.list_sessions(filters)))


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        (None, "abcde"),
        ({}, "abcde"),
        ({"status": "active"}, "a"),
        ({"status": {"$in": ["active", "done"]}}, "ae"),
        ({"user_id": "ann"}, "ae"),
        ({"user_id": "42"}, "b"),
        ({"user_id": "top"}, "c"),
        ({"user_id": "ann", "status": "active"}, "a"),
        ({"tags": {"$contains": "y"}}, "ab"),
        ({"workflow_config_path": {"$like": "%.yaml"}}, "a"),
        ({"session_id": "d"}, "d"),
        ({"status": None}, "c"),
        ({"status": {"$exists": False}}, "d"),
        ({"data.metadata.user_id": 42}, "b"),
        ({"data.metadata.user_id": "below"}, "c"),
        ({"metadata.user_id": "below"}, ""),
        ({"metadata.tags": {"$contains": "x"}}, "a"),
        ({"data.metadata.tags": {"$contains": "x"}}, "a"),
        ({"data.settings.x.y": 5}, "d"),
        ({r"a\.b": 1}, "c"),
        ({"~": "t"}, "c"),
        ({"type": "session"}, ""),
        ({"$or": [{"status": "active"}, {"user_id": "top"}]}, "ac"),
        ({"$and": [{"user_id": "ann"}, {"$not": {"status": "active"}}]}, "e"),
        ({"created_at": "2024-05-01T00:00:00Z"}, "b"),
        ({"created_at": {"$lte": datetime(2024, 5, 1, tzinfo=UTC)}}, "b"),
        ({"metadata.created_at": {"$lt": "2024-05-02T00:00:00+02:00"}}, "b"),
        ({"data.metadata.created_at": {"$in": ["2024-05-01T02:00:00+02:00"]}}, "b"),
        ({"updated_at": {"$gt": "2024-05-02T00:00:00+00:00"}}, "abcde"),
        ({"expires_at": None}, "abcde"),
        ({"expires_at": {"$exists": True}}, "abcde"),
    ],
    ids=repr,
)
async def test_a_filter_finds(service: SessionService, filters: dict[str, Any] | None, wanted: str) -> None:
    assert await found(service, filters) == wanted


@pytest.mark.parametrize(
    "filters",
    [
        {"status": {"$near": 1}},
        {"created_at": "2024-05-01T00:00:00"},
        {"created_at": "yesterday"},
        {"updated_at": {"$gt": "2024-05-01"}},
        {"updated_at": {"$in": ["now"]}},
        {"created_at": datetime(2024, 5, 1)},
        {"nowhere.x": 1},
        {"status' OR 1=1 --.x": 1},
        {5: "a"},
        {"$or": []},
        {"$or": {"status": 1}},
        {"$not": [1]},
        {"$nor": [{"status": 1}]},
        {"status": {}},
        ["status"],
        "status",
    ],
    ids=repr,
)
async def test_a_filter_that_means_nothing_is_refused(service: SessionService, filters: Any) -> None:
    """T2.16, T0.5: never ignored, never part of a statement."""
    with pytest.raises(StorageValidationError):
        await service.list_sessions(filters)
    with pytest.raises(StorageValidationError):
        await service.list_sessions(filters, limit=1)


async def test_time_ranges_use_the_records_times() -> None:
    """S2.10, S2.39."""
    clock = ManualClock(NOON)
    async with open_storage("memory://", clock=clock) as storage:
        service = SessionService(storage)
        for session_id in "abc":
            await service.save_session(session_id, {"id": session_id, "metadata": {"updated_at": "1999-01-01"}})
            clock.advance(hours=1)
        between = {"updated_at": {"$gte": "2024-05-15T13:00:00Z", "$lt": "2024-05-15T14:00:00Z"}}
        assert [session["id"] for session in await service.list_sessions(between)] == ["b"]
