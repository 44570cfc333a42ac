"""Tables are made before the first request: by a service that starts, and by what runs before it in a cluster."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import Place, engines, place_on
from tests.session_api.processes import free_port, running
from unified_storage import StorageError, open_storage


def prepared(**told: str) -> subprocess.CompletedProcess[str]:
    """What ``python -m session_api.prepare`` says where nothing but *told* names a database."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("AGNO_", "DATABASE_"))}
    command = [sys.executable, "-m", "session_api.prepare"]
    return subprocess.run(command, env=bare | told, capture_output=True, text=True, timeout=120, check=False)


async def is_made(place: Place) -> bool:
    """Whether *place* has its tables."""
    try:
        async with place.open(create=False) as storage:
            return await storage.count() == 0
    except StorageError:
        return False


@pytest.mark.parametrize("engine", engines("sqlite", "postgresql", "mysql"))
async def test_it_makes_the_tables_and_may_be_run_again(engine: str, tmp_path: Path):
    async with place_on(engine, tmp_path) as place:
        assert not await is_made(place)
        for _ in range(2):
            done = await asyncio.to_thread(prepared, AGNO_PG_DSN=place.address)
            assert done.returncode == 0, done.stderr
            assert await is_made(place)


@pytest.mark.parametrize("engine", engines("sqlite", "postgresql"))
async def test_a_service_makes_them_when_it_starts(engine: str, tmp_path: Path):
    async with place_on(engine, tmp_path) as place:
        assert not await is_made(place)
        with running(place.address, tmp_path):
            assert await is_made(place)


def test_all_of_several_databases_are_prepared(tmp_path: Path):
    urls = {name: f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two")}
    done = prepared(AGNO_SESSION_DSN_MAP=json.dumps(urls))
    assert done.returncode == 0
    assert all((tmp_path / f"{name}.db").exists() for name in urls)
    assert [json.loads(line)["database"] for line in done.stderr.splitlines()] == ["one", "two"]


def test_one_that_cannot_be_prepared_fails_without_telling_its_password(tmp_path: Path):
    away = f"postgresql://ann:hunter2@127.0.0.1:{free_port()}/none?connect_timeout=1"
    done = prepared(AGNO_SESSION_DSN_MAP=json.dumps({"here": f"sqlite:///{tmp_path}/here.db", "away": away}))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("session service: ")
    assert "hunter2" not in done.stdout + done.stderr


async def test_what_somebody_else_made_stays_as_it_is(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/s.db"
    async with open_storage(url) as storage:
        await storage.save({"id": "a", "type": "session", "data": {}})
    assert (await asyncio.to_thread(prepared, DATABASE_URL=url)).returncode == 0
    async with open_storage(url) as storage:
        assert await storage.exists("a")


def test_it_has_to_be_told_a_database():
    done = prepared()
    assert done.returncode == 1
    assert "AGNO_PG_DSN" in done.stderr
