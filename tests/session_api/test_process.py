"""The service as a process: how it starts, what it says, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.places import Place, engines, place_on
from tests.session_api.processes import running


@pytest.mark.parametrize("engine", engines("sqlite", "postgresql", "mysql", "redis"))
async def test_the_end_loses_no_write_that_was_answered(engine: str, tmp_path: Path):
    """S4.18: SIGTERM under load: what was told to be done is there afterwards, and it ends in 10 s."""
    async with place_on(engine, tmp_path) as place:
        done = await _written_until_the_end(place, tmp_path)
        async with place.open() as storage:
            there = {record["id"] for record in await storage.list({"type": "session"}, with_data=False)}
        assert {*done} <= there


async def _written_until_the_end(place: Place, tmp_path: Path) -> list[str]:
    """The ids that the service said it made before its end, which came in time."""
    done: list[str] = []
    enough = asyncio.Event()

    async def write(client: httpx.AsyncClient, worker: int) -> None:
        for n in range(100_000):
            try:
                answer = await client.post("/sessions", json={"session_id": f"{worker}-{n}"})
            except httpx.TransportError:
                return
            assert answer.status_code == 201
            done.append(f"{worker}-{n}")
            if len(done) >= 40:
                enough.set()

    with running(place.address, tmp_path) as (url, process, log):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            writers = [asyncio.create_task(write(client, worker)) for worker in range(4)]
            await enough.wait()
            told = time.monotonic()
            process.send_signal(signal.SIGTERM)
            await asyncio.gather(*writers)
            code = await asyncio.to_thread(process.wait, 30)
            took = time.monotonic() - told
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert took < 10
    assert code in (0, -signal.SIGTERM)
    assert any(line["message"] == f"session service listening on :{url.rpartition(':')[2]}" for line in lines)
    return done


async def test_a_request_under_way_is_finished_before_the_end(tmp_path: Path):
    """S4.18: its body is still coming when the signal does."""
    with running(f"sqlite:///{tmp_path}/s.db", tmp_path) as (url, process, _):
        body = json.dumps({"session_id": "late"}).encode()

        async def slowly():
            yield body[:5]
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(1)
            yield body[5:]

        async with httpx.AsyncClient(timeout=60) as client:
            headers = {"content-type": "application/json", "content-length": str(len(body))}
            answer = await client.post(f"{url}/sessions", content=slowly(), headers=headers)
        assert answer.status_code == 201
        await asyncio.to_thread(process.wait, 30)


def test_the_service_of_a_container_has_to_be_told_where_sessions_are(tmp_path: Path):
    """S4.12."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("AGNO_", "DATABASE_"))}
    program = [sys.executable, "-m", "session_api"]
    done = subprocess.run(program, env=bare, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    for name in ("AGNO_PG_DSN", "DATABASE_URL", "AGNO_SESSION_DSN_MAP"):
        assert name in done.stderr


def test_a_key_is_in_no_line_of_the_log(tmp_path: Path):
    """Neither what was set nor what was tried."""
    with running(f"sqlite:///{tmp_path}/s.db", tmp_path, OS_SECURITY_KEY="hunter2") as (url, _, log):
        tried = httpx.get(f"{url}/sessions", params={"user_id": "query"}, headers={"authorization": "Bearer wrong-one"})
        right = httpx.get(f"{url}/sessions", headers={"authorization": "Bearer hunter2"})
        assert (tried.status_code, right.status_code) == (401, 200)
    text = log.read_text()
    assert "/sessions" in text
    assert not [word for word in ("hunter2", "wrong-one", "query") if word in text]


@pytest.mark.parametrize(("proxies", "client"), [("", "127.0.0.1"), ("127.0.0.0/8", "1.2.3.4")])
def test_only_trusted_proxies_tell_the_log_who_the_client_is(tmp_path: Path, proxies: str, client: str):
    """S4.17, T4.14: whatever headers say that somebody forged."""
    forged = {"x-forwarded-for": "1.2.3.4", "forwarded": "for=5.6.7.8", "x-real-ip": "5.6.7.8"}
    with running(f"sqlite:///{tmp_path}/s.db", tmp_path, SESSION_TRUSTED_PROXIES=proxies) as (url, _, log):
        with httpx.Client(base_url=url) as one:  # a line is written once its answer is out, and before the next one
            one.get("/sessions", headers=forged)
            one.get("/healthz")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["client"] for line in lines if line.get("path") == "/sessions"] == [client]
