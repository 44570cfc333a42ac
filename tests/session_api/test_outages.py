"""The service while its database is gone, hangs, or holds something that a request waits for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines import private_server
from tests.places import engines, place_on
from tests.servers import Server
from tests.session_api.processes import running
from unified_storage import open_storage

SERVERS = ("postgresql", "mysql", "redis")
IN_TIME = 25.0
"""Seconds in which a request has its answer: a storage waits ten of them for a database to come back."""
SHORT = "3"
"""Seconds that a request may take, where its time is to be up."""
BACK = 60.0
"""Seconds after which a database that is back is used again."""
SECRET = "hunter2"
REQUESTS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/sessions", None),
    ("POST", "/sessions", {"session_id": "other"}),
    ("DELETE", "/sessions", {"session_ids": ["kept"], "session_types": ["agent"]}),
    ("GET", "/sessions/kept", None),
    ("PATCH", "/sessions/kept", {"session_state": {"n": 2}}),
    ("DELETE", "/sessions/kept", None),
    ("POST", "/sessions/kept/rename", {"session_name": "N"}),
    ("GET", "/sessions/kept/runs", None),
    ("GET", "/sessions/kept/run-previews", None),
    ("GET", "/sessions/kept/runs/r", None),
)


@pytest.fixture(params=engines(*SERVERS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of the test's own."""
    with private_server(request.param) as started:
        yield started


@asynccontextmanager
async def client_of_service(url: str, folder: Path, **settings: str) -> AsyncIterator[tuple[httpx.AsyncClient, Path]]:
    """A client of a service process on *url*, and where its log is."""
    with running(url, folder, **settings) as (address, _, log):
        async with httpx.AsyncClient(base_url=address, timeout=IN_TIME) as client:
            yield client, log


@contextmanager
def hanging(server: Server) -> Iterator[None]:
    """The server neither answers nor ends its connections."""
    family = [process for node in server.nodes for process in node.process.family()]
    for process in family:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in family:
            os.kill(process.pid, signal.SIGCONT)


async def until_ready(client: httpx.AsyncClient) -> None:
    end = time.monotonic() + BACK
    while (await client.get("/readyz")).status_code != 200:
        assert time.monotonic() < end, "the database is back, and nobody uses it"
        await asyncio.sleep(0.2)


async def assert_away(client: httpx.AsyncClient) -> list[str]:
    """Everything is 503 in time, but for what needs no database; the answers."""
    assert (await client.get("/healthz")).content == b'{"status":"ok"}'
    assert (await client.get("/readyz")).status_code == 503
    answers = await asyncio.gather(*(client.request(method, path, json=body) for method, path, body in REQUESTS))
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["detail"] for answer in answers} == {"The database is not available"}
    return [answer.text for answer in answers]


async def test_a_database_that_comes_back_is_used_again(server: Server, tmp_path: Path):
    """S4.2: requests are 503 meanwhile, what was acknowledged is there afterwards, and nobody restarts anything."""
    async with client_of_service(server.url, tmp_path) as (client, _):
        assert (await client.post("/sessions", json={"session_id": "kept"})).status_code == 201
        server.stop()
        await assert_away(client)
        server.start()
        await until_ready(client)
        assert (await client.get("/sessions/kept")).json()["session_id"] == "kept"
        assert (await client.get("/sessions/other")).status_code == 404
        assert (await client.post("/sessions", json={"session_id": "new"})).status_code == 201


async def test_a_service_that_starts_before_its_database(server: Server, tmp_path: Path):
    server.stop()
    async with client_of_service(server.url, tmp_path) as (client, _):
        await assert_away(client)
        server.start()
        await until_ready(client)
        assert (await client.post("/sessions", json={"session_id": "new"})).status_code == 201


async def test_a_database_that_hangs_keeps_nobody_waiting(server: Server, tmp_path: Path):
    """T4.15: requests end in time, and leave nothing behind for which later ones would wait."""
    async with client_of_service(server.url, tmp_path, SESSION_REQUEST_TIMEOUT=SHORT) as (client, _):
        await client.post("/sessions", json={"session_id": "kept", "session_state": {"n": 1}})
        with hanging(server):
            patch = {"session_state": {"n": 2}}
            began = time.monotonic()
            answers = await asyncio.gather(*(client.patch("/sessions/kept", json=patch) for _ in range(8)))
            assert time.monotonic() - began < IN_TIME
            assert {answer.status_code for answer in answers} <= {503, 504}
            assert (await client.get("/healthz")).status_code == 200
        await until_ready(client)
        assert (await client.patch("/sessions/kept", json={"session_state": {"n": 3}})).status_code == 200
        assert (await client.get("/sessions/kept")).json()["session_state"] == {"n": 3}


async def test_no_acknowledged_write_is_lost_when_the_database_dies(server: Server, tmp_path: Path):
    """As a power cut ends it, with writers at work."""
    done: set[str] = set()
    statuses: set[int] = set()
    async with client_of_service(server.url, tmp_path) as (client, _):

        async def write(worker: int) -> None:
            for n in range(40):
                answer = await client.post("/sessions", json={"session_id": f"{worker}-{n}"})
                statuses.add(answer.status_code)
                if answer.status_code == 201:
                    done.add(f"{worker}-{n}")
                await asyncio.sleep(0.02)

        writers = [asyncio.create_task(write(worker)) for worker in range(4)]
        while len(done) < 20 and not all(writer.done() for writer in writers):
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.start)
        await asyncio.gather(*writers)
        await until_ready(client)
        listed = (await client.get("/sessions", params={"limit": 1000})).json()["data"]
    assert done <= {item["session_id"] for item in listed}
    assert statuses <= {201, 409, 503}  # 409: it had been made when the connection broke, and was made again


@pytest.mark.servers
async def test_a_request_that_waits_for_a_lock_leaves_no_open_transaction(tmp_path: Path):
    """T4.15: its time is up, or its client goes away; PostgreSQL itself says that nothing is open then."""
    async with (
        place_on("postgresql", tmp_path) as place,
        client_of_service(place.address, tmp_path, SESSION_REQUEST_TIMEOUT=SHORT) as (client, _),
    ):
        await client.post("/sessions", json={"session_id": "s", "session_state": {"n": 1}})
        async with open_storage(place.url, namespace=place.namespace) as other, other.transaction() as tx:
            await tx.update("s", {"data": {"state": {"m": 1}}}, type="session")
            late = await client.patch("/sessions/s", json={"session_state": {"n": 2}})
            assert late.status_code in (503, 504)
            with pytest.raises(httpx.ReadTimeout):
                await client.patch("/sessions/s", json={"session_state": {"n": 3}}, timeout=0.3)
            await asyncio.sleep(4)  # what the client left has to end by itself
            assert await _open_transactions(place.url, place.namespace) == 1  # that of this very test
        assert await _eventually(lambda: _open_transactions(place.url, place.namespace), 0)
        assert (await client.patch("/sessions/s", json={"metadata": {"x": 1}})).status_code == 200
        assert (await client.get("/sessions/s")).json()["session_state"] == {"n": 1, "m": 1}


async def _open_transactions(url: str, namespace: str) -> int:
    """Those that wrote, or wait for who writes, the tables of *namespace*."""
    from tests.namespaces import postgresql_connection

    async with postgresql_connection(url) as connection:
        found: int = await connection.fetchval(
            "SELECT count(DISTINCT a.pid) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid "
            "JOIN pg_class c ON c.oid = l.relation "
            "WHERE a.state <> 'idle' AND a.pid <> pg_backend_pid() AND c.relname LIKE '%' || $1 || '%'",
            namespace,
        )
        return found


async def _eventually(found: Callable[[], Awaitable[int]], wanted: int) -> bool:
    for _ in range(100):
        if await found() == wanted:
            return True
        await asyncio.sleep(0.1)
    return False


# no secret anywhere


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@127.0.0.1:1/db",
        f"postgresql://user@127.0.0.1:1/db?password={SECRET}",
        f"mysql://user:{SECRET}@127.0.0.1:1/db",
        f"redis://:{SECRET}@127.0.0.1:1/0",
    ],
    ids=["postgresql", "postgresql-query", "mysql", "redis"],
)
async def test_no_answer_and_no_line_holds_a_password(url: str, tmp_path: Path):
    """T4.10: whatever is asked of a database that cannot be reached."""
    async with client_of_service(url, tmp_path) as (client, log):
        told = await assert_away(client)
        told += [(await client.get(path)).text for path in ("/readyz", "/metrics", "/openapi.json", "/nosuch")]
        told += [(await client.post("/sessions", content=b"{")).text]
        lines = log.read_text()
    assert_silent("\n".join(told))
    assert_silent(lines)
    assert all(json.loads(line)["message"] for line in lines.splitlines())


def test_what_cannot_be_opened_is_told_without_its_words(tmp_path: Path):
    """The service ends at once, and its log tells where it failed."""
    (tmp_path / "s.db").write_bytes(b"no database " * 1000)
    with pytest.raises(AssertionError) as ended, running(f"sqlite:///{tmp_path}/s.db", tmp_path):
        pass
    log = (tmp_path / "service.log").read_text()
    assert log in str(ended.value)
    assert_silent(log)
    assert "file is not a database" not in log
    assert any("places" in json.loads(line) for line in log.splitlines())


@pytest.mark.servers
async def test_no_answer_and_no_line_holds_a_statement(tmp_path: Path):
    """T4.10: a database that refuses the statements themselves."""
    async with place_on("postgresql", tmp_path) as place, client_of_service(place.address, tmp_path) as (client, log):
        await client.post("/sessions", json={"session_id": "kept"})
        await _spoil(place.url, place.namespace)
        told = []
        for method, path, body in REQUESTS:
            answer = await client.request(method, path, json=body)
            assert answer.status_code in (500, 503), (method, path, answer.text)
            told.append(answer.text)
        lines = log.read_text()
    assert_silent("\n".join(told))
    assert_silent(lines)
    assert place.namespace not in "\n".join(told)


async def _spoil(url: str, namespace: str) -> None:
    """Take the tables of *namespace* away."""
    from tests.namespaces import postgresql_connection

    async with postgresql_connection(url) as connection:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE tablename LIKE '%' || $1 || '%'", namespace
        )
        for table in tables:
            await connection.execute(f'DROP TABLE "{table["tablename"]}" CASCADE')


def assert_silent(text: str) -> None:
    """Neither the password nor a word of SQL stands in *text*."""
    found = [
        word for word in (SECRET, "SELECT ", "INSERT ", "UPDATE ", " WHERE ", "relation ", "Traceback") if word in text
    ]
    assert not found, text
