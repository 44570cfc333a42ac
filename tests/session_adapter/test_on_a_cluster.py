"""Sessions on a Redis Cluster: several in one step where one partition holds them all, and else none."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_adapter import SessionKey, SessionStorageAdapter
from tests.places import engines, place_on
from unified_storage import StorageUnsupportedError

pytestmark = pytest.mark.parametrize("engine", engines("redis-cluster"))


@pytest.fixture
async def sessions(engine: str, tmp_path: Path) -> AsyncIterator[SessionStorageAdapter]:
    async with place_on(engine, tmp_path) as place, place.open() as storage:
        yield SessionStorageAdapter(storage)


async def test_sessions_of_one_user_are_saved_and_deleted_together(sessions: SessionStorageAdapter) -> None:
    keys = [SessionKey("app", "ann", f"s{number}") for number in range(12)]
    await sessions.batch_save_sessions({key: {"user_data": {"n": key.session_id}} for key in keys})
    assert [(await sessions.require_session(key))["user_data"]["n"] for key in keys] == [f"s{n}" for n in range(12)]
    await sessions.batch_delete_sessions(keys)
    assert [await sessions.get_session(key) for key in keys] == [None] * 12


async def test_sessions_of_several_partitions_are_not_written_together_nor_any_of_them(
    sessions: SessionStorageAdapter,
) -> None:
    names = [f"s{number}" for number in range(12)]
    with pytest.raises(StorageUnsupportedError):
        await sessions.batch_save_sessions({name: {"n": 1} for name in names})
    assert [await sessions.get_session(name) for name in names] == [None] * 12
    for name in names:
        await sessions.save_session(name, {"n": 1})
    with pytest.raises(StorageUnsupportedError):
        await sessions.batch_delete_sessions(names)
    assert None not in [await sessions.get_session(name) for name in names]
