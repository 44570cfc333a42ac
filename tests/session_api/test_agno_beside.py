"""The service beside the real AgentOS on one database: each reads what the other writes, and nothing is altered."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.legacy.peers.libraries import PYTHON, need
from tests.legacy.peers.test_agno import agno_reads
from tests.places import engines
from tests.session_api.agno_places import own_database, rows_of
from tests.session_api.processes import free_port, running, wait_for

PROGRAM = Path(__file__).with_name("agent_os.py")
IDS = {"agent": "a1", "team": "t1", "workflow": "w1"}
OWNERS = {"agent": "agents", "team": "teams", "workflow": "workflows"}


@dataclass
class Both:
    """Clients of AgentOS and of the service on one database.

    Attributes:
        url: of the database.
        made: its tables, columns and indexes before the service began.
        log: of the service.
    """

    theirs: httpx.Client
    ours: httpx.Client
    url: str
    made: set[tuple[Any, ...]]
    log: Path

    def run(self, kind: str, said: str, session_id: str, **fields: str) -> None:
        """Have the agent, team or workflow of AgentOS answer."""
        body = {"message": said, "session_id": session_id, "stream": "false", **fields}
        answer = self.theirs.post(f"/{OWNERS[kind]}/{kind}/runs", data=body)
        assert answer.status_code == 200, answer.text

    def alike(self, path: str, **params: Any) -> Any:
        """What both answer to a request, which is the same."""
        theirs, ours = (client.get(path, params=params) for client in (self.theirs, self.ours))
        assert (ours.status_code, _without_duration(ours.json())) == (
            theirs.status_code,
            _without_duration(theirs.json()),
        ), path
        return ours.json()

    def all_alike(self) -> None:
        """Every answer about every session is the same."""
        by_id = {"sort_by": "session_id", "sort_order": "asc"}
        for item in self.alike("/sessions", **by_id)["data"]:
            path = f"/sessions/{item['session_id']}"
            for below in ("", "/runs", "/run-previews"):
                self.alike(path + below)
            for run in self.alike(f"{path}/runs"):
                self.alike(f"{path}/runs/{run['run_id']}")
            self.alike(path, user_id="ann")


def _without_duration(answer: Any) -> Any:
    if isinstance(answer, dict) and "meta" in answer:
        answer["meta"].pop("search_time_ms")
    return answer


@pytest.fixture(params=engines("sqlite", "postgresql"))
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Both]:
    need("agno.os")
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path}/agno.db"
        else:
            url = await stack.enter_async_context(own_database())
        theirs = stack.enter_context(httpx.Client(base_url=stack.enter_context(_agent_os(url, tmp_path)), timeout=60))
        assert theirs.get("/sessions").json()["data"] == []  # the tables are made for the first one who asks
        made = await _schema(url)
        place, _, log = stack.enter_context(running(url, tmp_path))
        ours = stack.enter_context(httpx.Client(base_url=place, timeout=60))
        yield Both(theirs, ours, url, made, log)


@contextmanager
def _agent_os(url: str, folder: Path) -> Iterator[str]:
    """AgentOS on a database: its address."""
    port, log = free_port(), folder / "agent_os.log"
    told = url.replace("postgresql://", "postgresql+psycopg://")
    with log.open("wb") as written:
        process = subprocess.Popen([PYTHON, PROGRAM, str(port), told], stdout=written, stderr=written, cwd=folder)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def _schema(url: str) -> set[tuple[Any, ...]]:
    """Every table with its columns, and every index."""
    if url.startswith("sqlite"):
        query = "SELECT type, name, sql FROM sqlite_master"
    else:
        query = (
            "SELECT table_schema AS at, table_name AS name, column_name AS col, data_type AS type, is_nullable AS empty"
            " FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
            " UNION ALL SELECT schemaname, tablename, indexname, indexdef, '' FROM pg_indexes"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
    async with rows_of(url) as rows:
        return {tuple(row.values()) for row in await rows.select(query)}


async def test_each_reads_what_the_other_writes(both: Both):
    """S4.26: runs of AgentOS, sessions and changes of ours, changes of theirs; every answer about them is the same."""
    for kind, id in IDS.items():
        both.run(kind, f"Is there tea, {kind}?", id, user_id="ann")
        assert both.ours.get(f"/sessions/{id}").json()["session_name"] == f"Is there tea, {kind}?"
    both.all_alike()

    for kind, id in IDS.items():
        body = {"session_id": f"ours-{id}", "user_id": "ann", f"{kind}_id": kind, "session_state": {"cart": ["ü"]}}
        assert both.ours.post("/sessions", params={"type": kind}, json=body).status_code == 201
        changes = {"session_state": {"cart": ["tea"], "n": 1.5}, "metadata": {"tag": "x"}}
        assert both.ours.patch(f"/sessions/{id}", json=changes).status_code == 200
        assert both.ours.post(f"/sessions/{id}/rename", json={"session_name": "Ann's tea"}).status_code == 200
    assert both.ours.patch("/sessions/a1", json={"summary": {"summary": "Tea.", "topics": ["tea"]}}).status_code == 200
    both.all_alike()
    assert both.theirs.get("/sessions/a1").json()["session_summary"]["summary"] == "Tea."

    for kind, id in IDS.items():
        both.run(kind, "And now?", f"ours-{id}", user_id="ann")
        both.run(kind, "And here?", id, user_id="ann")
        assert len(both.ours.get(f"/sessions/{id}/runs").json()) == 2
        assert both.ours.get(f"/sessions/ours-{id}").json()["session_state"]["cart"] == ["ü"]
    both.theirs.patch("/sessions/ours-a1", json={"session_name": "Theirs", "metadata": {"by": "them"}})
    found = both.ours.get("/sessions/ours-a1").json()
    assert (found["session_name"], found["metadata"]) == ("Theirs", {"by": "them"})
    both.all_alike()


async def test_agno_itself_reads_the_rows_that_are_written_here(both: Both):
    """By its own classes, in another process."""
    for kind, id in IDS.items():
        body = {"session_id": id, "session_name": f"N {kind}", "session_state": {"n": {"deep": [1, None]}}}
        both.ours.post("/sessions", params={"type": kind}, json=body)
    found = agno_reads(both.url.replace("postgresql://", "postgresql+psycopg://"))
    told = {id: (one["type"], one["name"], one["state"]) for id, one in found.items()}
    assert told == {id: (kind, f"N {kind}", {"n": {"deep": [1, None]}}) for kind, id in IDS.items()}


async def test_what_one_deletes_is_gone_for_the_other(both: Both):
    """S4.6: with its runs, so that a new session of that id begins anew."""
    for id in ("one", "two", "three"):
        both.run("agent", "Is there tea?", id)
    assert both.ours.delete("/sessions/one").status_code == 204
    body = {"session_ids": ["two", "none"], "session_types": ["agent", "agent"]}
    assert both.ours.request("DELETE", "/sessions", json=body).status_code == 204
    assert [both.theirs.get(f"/sessions/{id}").status_code for id in ("one", "two", "three")] == [404, 404, 200]
    async with rows_of(both.url) as rows:
        table = "ai.agno_runs" if rows.engine == "postgresql" else "agno_runs"
        assert {row["session_id"] for row in await rows.select(f"SELECT session_id FROM {table}")} == {"three"}
    assert both.theirs.delete("/sessions/three").status_code == 204
    assert both.ours.get("/sessions/three").status_code == 404
    assert both.theirs.post("/sessions", json={"session_id": "one"}).status_code == 201
    assert both.ours.post("/sessions", json={"session_id": "one"}).status_code == 409
    assert both.alike("/sessions/one/runs") == []


async def test_nothing_of_the_schema_is_changed_and_the_log_says_whose_tables_they_are(both: Both):
    """A plain URL, whose database holds AgentOS's tables and none of ours."""
    both.ours.post("/sessions", json={"session_id": "s"})
    both.ours.patch("/sessions/s", json={"session_state": {"n": 1}})
    both.ours.delete("/sessions/s")
    assert await _schema(both.url) == both.made
    assert "AgentOS's own tables" in both.log.read_text()
