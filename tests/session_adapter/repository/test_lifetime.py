"""Who opens and closes the storage under a repository, and what its errors are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from session_adapter import Session, SessionNotFoundError, SessionRepository
from tests.session_adapter.delegates import Failing
from tests.support import REPOSITORY
from unified_storage import (
    StorageClosedError,
    StorageConfigurationError,
    StorageConnectionError,
    StorageError,
    StorageNotFoundError,
    open_storage,
)


async def test_a_storage_that_it_was_given_stays_open() -> None:
    """S0.20."""
    async with open_storage("memory://") as storage:
        async with SessionRepository(storage) as repository:
            assert repository.storage is storage
            await repository.create(Session(session_id="s1"))
        with pytest.raises(StorageClosedError):
            await repository.get("s1")
        assert await storage.exists("s1", type="session")


@pytest.mark.parametrize("place", [None, "memory://"])
async def test_one_in_memory_is_gone_when_it_is_closed(place: str | None) -> None:
    """S0.20, T0.8."""
    repository = SessionRepository(place)
    await repository.create(Session(session_id="s1"))
    await repository.close()
    with pytest.raises(StorageClosedError):
        await repository.create(Session(session_id="s1"))
    with pytest.raises(StorageClosedError):
        await repository.storage.count()


async def test_what_another_process_wrote_is_there(tmp_path: Path) -> None:
    """S0.27."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    program = (
        "import asyncio, sys\n"
        "from session_adapter import Session, SessionRepository\n"
        "async def main():\n"
        "    async with SessionRepository(sys.argv[1]) as repository:\n"
        "        await repository.create(Session(session_id='s1', state={'from': 'elsewhere'}))\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program, url], cwd=REPOSITORY, check=True, env=dict(os.environ))
    async with SessionRepository(url) as repository:
        assert (await repository.get("s1")).state == {"from": "elsewhere"}


@pytest.mark.parametrize("wrong", [5, b"memory://", "nowhere://"])
def test_what_is_no_storage_is_refused(wrong: Any) -> None:
    with pytest.raises(StorageConfigurationError):
        SessionRepository(wrong)


async def test_a_missing_session_is_a_kind_of_missing_record() -> None:
    """S0.21, T0.9."""
    repository = SessionRepository()
    with pytest.raises(StorageNotFoundError) as raised:
        await repository.get("s1")
    assert isinstance(raised.value, SessionNotFoundError)
    assert isinstance(raised.value, StorageError)
    assert raised.value.session_id == "s1"
    await repository.close()


@pytest.mark.parametrize("failure", [StorageConnectionError("gone"), ZeroDivisionError("a bug below")])
async def test_a_failure_of_the_storage_is_never_an_answer(failure: Exception) -> None:
    async with open_storage("memory://") as storage:
        session = await SessionRepository(storage).create(Session(session_id="s1"))
        repository = SessionRepository(Failing(storage, failure))
        new = Session(session_id="s2")
        calls = [
            repository.get("s1"),
            repository.list(),
            repository.page(),
            repository.create(new),
            repository.create(new, if_exists="error"),
            repository.update(session),
            repository.delete("s1"),
        ]
        for call in calls:
            with pytest.raises(StorageError) as raised:
                await call
            assert failure in (raised.value, raised.value.__cause__)


@pytest.mark.parametrize("wrong", [None, True, "skip", "ERROR"])
async def test_if_exists_has_two_values(wrong: Any) -> None:
    async with SessionRepository() as repository:
        with pytest.raises(StorageError) as raised:
            await repository.create(Session(session_id="s1"), if_exists=wrong)
        assert raised.value.details["path"] == "if_exists"


@pytest.mark.parametrize("wrong", [None, {"session_id": "s1"}, "s1"])
async def test_only_sessions_are_stored(wrong: Any) -> None:
    async with SessionRepository() as repository:
        for write in (repository.create, repository.update):
            with pytest.raises(StorageError) as raised:
                await write(wrong)
            assert raised.value.details["path"] == "session"
