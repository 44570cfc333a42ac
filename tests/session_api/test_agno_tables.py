"""The service on AgentOS's own tables: older databases, lists that read no runs, deletions that leave nothing."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from session_api.agno_schema import COLUMNS
from session_api.agno_tables import AgnoTables
from session_api.databases import Database, Databases
from session_api.found_tables import database_at
from session_api.tables import NewSession, SessionType
from tests.contract.serve import OnAgnos, OnStorage
from tests.legacy.peers.test_agno import agno_reads
from tests.places import engines
from tests.session_api.agno_places import agno_database, insert_session, own_database, rows_of
from tests.session_api.clients import client_of
from unified_storage import StorageConfigurationError, open_storage
from unified_storage.opening import parse_url
from unified_storage.record import new_id

SESSION = {"session_id": "s", "session_type": "agent", "agent_id": "a", "created_at": 1000, "updated_at": 1000}


def run(run_id: str, said: str | None = None, **fields: Any) -> dict[str, Any]:
    messages = [] if said is None else [{"role": "user", "content": said}]
    return {"run_id": run_id, "agent_id": "a", "status": "COMPLETED", "messages": messages, **fields}


@pytest.fixture(params=engines("sqlite", "postgresql"))
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """An empty database of agno's."""
    async with agno_database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def tables(url: str) -> AsyncIterator[AgnoTables]:
    opened = AgnoTables(parse_url(url))
    yield opened
    await opened.close()


@pytest.fixture
async def client(tables: AgnoTables) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(Databases([Database("primary", tables)]), accept_history=True) as ready:
        yield ready


async def execute(url: str, *statements: str) -> None:
    """Statements in which ``{}`` stands for what comes before a table's name."""
    async with rows_of(url) as rows, rows.written():
        for statement in statements:
            await rows.execute(statement.format("ai." if rows.engine == "postgresql" else ""))


async def counted(url: str, *names: str) -> dict[str, int]:
    """How many rows tables have."""
    async with rows_of(url) as rows:
        schema = "ai." if rows.engine == "postgresql" else ""
        found = {name: await rows.select(f"SELECT count(*) AS n FROM {schema}{name}") for name in names}
        return {name: row["n"] for name, [row] in found.items()}


# values


async def test_values_come_back_as_they_went_in(client: httpx.AsyncClient):
    """S4.9: null beside empty, large numbers, every script."""
    state: dict[str, Any] = {
        "null": None,
        "empty": {},
        "list": [],
        "big": 2**70,
        "text": "ü😀\\u0000",
        "f": 1.0,
        "n": 1,
        "$type": "x",
    }
    body = {"session_id": "s", "session_state": state, "metadata": {"~": 1, "user_id": "x"}, "session_name": "ü"}
    made = (await client.post("/sessions", json=body)).json()
    found = (await client.get("/sessions/s")).json()
    assert found == made
    assert (found["session_state"], found["metadata"], found["session_name"]) == (state, body["metadata"], "ü")
    assert isinstance(found["session_state"]["f"], float)
    await client.post("/sessions/s/rename", json={"session_name": "other"})
    assert (await client.get("/sessions/s")).json()["session_state"] == state


@pytest.mark.parametrize("body", [b'{"session_state": {"x": 1e400}}', b'{"metadata": {"x": -1e400}}'])
async def test_what_agno_could_not_read_back_is_refused(client: httpx.AsyncClient, url: str, body: bytes):
    for method, path in (("POST", "/sessions"), ("PATCH", "/sessions/s")):
        await insert_session(url, SESSION) if method == "PATCH" else None
        answer = await client.request(method, path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422, answer.text
    assert (await client.get("/sessions/s")).json().get("session_state") is None


@pytest.mark.parametrize("field", ["session_id", "user_id", "agent_id", "session_name"])
async def test_a_nul_is_kept_or_refused_and_names_nothing_where_it_cannot_be(
    client: httpx.AsyncClient, url: str, field: str
):
    answer = await client.post("/sessions", json={"session_id": "s", field: "a\0b"})
    if url.startswith("sqlite"):
        assert answer.json()[field] == "a\0b"
        return
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"
    params = {"session_id": {}, "user_id": {"user_id": "\0"}, "agent_id": {"component_id": "\0"}}
    listed = await client.get("/sessions", params=params.get(field, {"session_name": "\0"}))
    assert listed.json()["data"] == []
    for method, path in (("GET", ""), ("GET", "/runs"), ("PATCH", "")):
        assert (await client.request(method, f"/sessions/%00{path}", json={})).status_code == 404
    assert (await client.delete("/sessions/%00")).status_code == 204


# histories


async def test_a_session_may_begin_with_its_history(client: httpx.AsyncClient, url: str):
    """S4.4; a run without an id gets one, and of two with the same id the later one counts."""
    runs = [run("r1", "First?"), run("r2", "Second?"), run("r1", "Really?"), {"run_id": None, "agent_id": "a"}]
    made = (await client.post("/sessions", json={"session_id": "s", "runs": runs, "summary": {"summary": "S"}})).json()
    assert (made["session_name"], made["session_summary"]) == ("Really?", {"summary": "S"})
    found = (await client.get("/sessions/s/runs")).json()
    assert [one["run_id"] for one in found][:2] == ["r1", "r2"]
    assert len(found) == 3
    assert found[2]["run_id"]


async def test_a_run_of_another_session_is_not_taken_away(client: httpx.AsyncClient, url: str):
    """S4.10: nothing of the new session stays."""
    await insert_session(url, SESSION, [run("r1", "Mine?")])
    answer = await client.post("/sessions", json={"session_id": "t", "runs": [run("r2"), run("r1", "Theirs?")]})
    assert answer.status_code == 422
    assert (await client.get("/sessions/t")).status_code == 404
    assert await counted(url, "agno_sessions", "agno_runs") == {"agno_sessions": 1, "agno_runs": 1}


@pytest.mark.parametrize("field", ["run_id", "agent_id", "parent_run_id", "status"])
async def test_a_run_that_fits_no_row_is_refused(client: httpx.AsyncClient, field: str):
    for wrong in ({field: 5}, {field: {"x": 1}}, {"created_at": 2**63}):
        answer = await client.post("/sessions", json={"session_id": "s", "runs": [{**run("r1"), **wrong}]})
        assert answer.status_code == 422, answer.text
    assert (await client.get("/sessions")).json()["data"] == []


class Asked:
    """An engine's ``read`` that notes the statements that it carries out."""

    def __init__(self, read: Any) -> None:
        self._read = read
        self.statements: list[str] = []

    async def __call__(self, steps: Any, timeout: float) -> Any:
        def noted() -> Any:
            running = steps()
            try:
                call = next(running)
                while True:
                    self.statements.append(call.sql)
                    call = running.send((yield call))
            except StopIteration as done:
                return done.value

        return await self._read(noted, timeout)


async def test_a_list_reads_no_runs_but_the_first_of_sessions_without_a_name(
    client: httpx.AsyncClient, tables: AgnoTables, url: str, monkeypatch: pytest.MonkeyPatch
):
    """T4.6: one query a page for these, and another one where that tells no name; however long the histories are."""
    await tables.open()
    asked = Asked(tables._engine.read)
    monkeypatch.setattr(tables._engine, "read", asked)
    for n in range(3):
        named = {**SESSION, "session_id": f"named{n}", "session_data": {"session_name": "N"}}
        await insert_session(url, named, [run(f"n{n}-{at}", "x" * 1000) for at in range(20)])
    await client.get("/sessions")
    assert [_of_runs(sql) for sql in asked.statements] == [False, False]
    for n in range(3):
        untold = [run(f"u{n}-{at}", f"Question {n}-{at}") for at in range(20)]
        await insert_session(url, {**SESSION, "session_id": f"untold{n}"}, untold)
    asked.statements.clear()
    listed = (await client.get("/sessions", params={"sort_by": "session_id"})).json()["data"]
    assert [item["session_name"] for item in listed] == [f"Question {n}-0" for n in (2, 1, 0)] + ["N"] * 3
    assert [_of_runs(sql) for sql in asked.statements] == [False, False, True]
    silent = [run("silent-0"), run("silent-1"), run("silent-2", "At last?")]
    await insert_session(url, {**SESSION, "session_id": "z"}, silent)
    asked.statements.clear()
    listed = (await client.get("/sessions", params={"sort_by": "session_id"})).json()["data"]
    assert listed[0]["session_name"] == "At last?"
    assert [_of_runs(sql) for sql in asked.statements] == [False, False, True, True]


def _of_runs(statement: str) -> bool:
    return "agno_runs" in statement


# lists, as our own storage answers


def _many() -> list[dict[str, Any]]:
    names = [None, "Alpha", "ALPHA b", "älpha", "50% off", "a_c", "ÄLPHA", "back\\slash"]
    users, kinds = [None, "", "ann", "Bob", "über"], [*SessionType]
    sessions = []
    for n, name in enumerate(names * 3):
        kind = kinds[n % 3]
        session = {**SESSION, "session_id": f"{'sSß'[n % 3]}{n:02}", "session_type": str(kind), "agent_id": None}
        session |= {f"{kind}_id": ("x", "Y", None)[n % 5 % 3], "user_id": users[n % 5]}
        session |= {"created_at": 1000 + n % 7, "updated_at": 2000 - n % 4}
        sessions.append(session | {"session_data": None if name is None else {"session_name": name}})
    return sessions


LISTINGS: list[dict[str, Any]] = [
    {},
    {"limit": 5, "page": 2},
    {"limit": 5, "page": 9},
    *({"type": str(kind)} for kind in SessionType),
    *({"user_id": user} for user in ("", "ann", "bob", "über", "eve")),
    *({"component_id": component} for component in ("x", "y", "Y")),
    {"component_id": "x", "type": "team"},
    *(
        {"session_name": part}
        for part in ("alpha", "älp", "Äl", "%", "_", "a_c", "0%", "\\", "session_name", "x' OR 1")
    ),
]
ORDERS = ("session_id", "session_type", "user_id", "agent_id", "team_id", "created_at", "updated_at", "metadata")


async def test_lists_are_those_of_our_own_storage(url: str):
    """S4.3: every filter, every order, every page; also where a database orders texts as people do."""
    ours, agnos = OnStorage(open_storage("memory://")), OnAgnos(url)
    if url.startswith("postgresql"):
        await _order_as_people_do(url)
    for session, place in itertools.product(_many(), (ours, agnos)):
        await place.seed(session)
    async with AsyncExitStack() as stack:
        clients = []
        for place in (ours, agnos):
            databases = Databases([Database("primary", place.tables)])
            clients.append(await stack.enter_async_context(client_of(databases)))
        for wanted, order, direction in itertools.product(LISTINGS, ORDERS, ("asc", "desc")):
            params = {**wanted, "sort_by": order, "sort_order": direction}
            expected, found = [(await client.get("/sessions", params=params)).json() for client in clients]
            if order == "metadata":  # no order is promised
                for answer in (expected, found):
                    answer["data"] = len(answer["data"])
            assert found == expected, params


async def _order_as_people_do(url: str) -> None:
    """Where the server knows how: small letters before capital ones of the same word."""
    async with rows_of(url) as rows:
        if not await rows.select("SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu'"):
            return
    changes = (
        f'ALTER COLUMN {name} TYPE VARCHAR COLLATE "und-x-icu"' for name in ("session_id", "user_id", "agent_id")
    )
    await execute(url, "ALTER TABLE {}agno_runs DROP CONSTRAINT agno_runs_session_id_fkey")
    await execute(url, f"ALTER TABLE {{}}agno_sessions {', '.join(changes)}")


# what an upgrade leaves


async def test_a_database_that_came_from_2_is_served_and_stays_readable(fixtures_dir: Path, tmp_path: Path):
    """Runs once, though they stand in two places; a change of a column that is encoded twice loses nothing of it."""
    path = tmp_path / "agno.db"
    shutil.copy(fixtures_dir / "peers" / "agno2_upgraded" / "agno.db", path)
    before = agno_reads(f"sqlite:///{path}")
    async with client_of(Databases([database_at("primary", f"sqlite:///{path}")])) as client:
        listed = (await client.get("/sessions", params={"limit": 100})).json()["data"]
        assert {item["session_id"] for item in listed} == before.keys()
        for id, one in before.items():
            found = (await client.get(f"/sessions/{id}")).json()
            assert found.get("session_state") == one["state"]
            runs = [one["run_id"] for one in (await client.get(f"/sessions/{id}/runs")).json()]
            assert runs == one["runs"]
            named = (await client.get("/sessions", params={"session_name": one["name"] or "none"})).json()["data"]
            assert (id in {item["session_id"] for item in named}) == bool(one["name"])
            await client.post(f"/sessions/{id}/rename", json={"session_name": "Renamed"})
    after = agno_reads(f"sqlite:///{path}")
    assert after == {id: {**one, "name": "Renamed"} for id, one in before.items()}


async def test_a_database_of_2_without_a_table_of_runs_is_served_before_and_after_it_is_made(
    fixtures_dir: Path, tmp_path: Path
):
    import sqlite3

    path = tmp_path / "agno.db"
    shutil.copy(fixtures_dir / "peers" / "agno2" / "agno.db", path)
    with closing(sqlite3.connect(path)) as connection:
        [table] = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%sessions'")]
        id, runs = connection.execute(f"SELECT session_id, runs FROM {table} WHERE runs IS NOT NULL").fetchone()
    told = [one["run_id"] for one in json.loads(json.loads(runs))]
    async with client_of(Databases([database_at("primary", f"agno+sqlite:///{path}?tables={table}")])) as client:
        assert [one["run_id"] for one in (await client.get(f"/sessions/{id}/runs")).json()] == told
        assert (await client.get("/sessions", params={"limit": 100})).json()["meta"]["total_count"] == 20
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(_RUNS)
            values = [told[-1], id, "agent", 0, json.dumps({"run_id": told[-1], "content": "newer"}), 1, 1]
            connection.execute(f"INSERT INTO agno_runs ({_NAMES}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        found = (await client.get(f"/sessions/{id}/runs/{told[-1]}")).json()
        assert found["content"] == "newer"
        assert len((await client.get(f"/sessions/{id}/runs")).json()) == len(told)


_NAMES = "run_id, session_id, run_type, run_index, run_data, created_at, updated_at"
_RUNS = (
    "CREATE TABLE agno_runs (run_id VARCHAR PRIMARY KEY, session_id VARCHAR, run_type VARCHAR, agent_id VARCHAR,"
    " team_id VARCHAR, workflow_id VARCHAR, user_id VARCHAR, parent_run_id VARCHAR, status VARCHAR, run_index BIGINT,"
    " run_data JSON, created_at BIGINT, updated_at BIGINT)"
)


async def test_a_column_that_is_taken_away_meanwhile_is_no_failure(tables: AgnoTables, url: str):
    """As agno does when it is told to clean up after an upgrade."""
    await execute(url, "ALTER TABLE {}agno_sessions ADD COLUMN runs JSON")
    await insert_session(url, SESSION, [run("r1", "Is there tea?")])
    async with client_of(Databases([Database("primary", tables)])) as client:
        assert (await client.get("/sessions/s")).json()["session_name"] == "Is there tea?"
        await execute(url, "ALTER TABLE {}agno_sessions DROP COLUMN runs")
        assert (await client.patch("/sessions/s", json={"session_state": {"n": 1}})).status_code == 200
        assert (await client.get("/sessions/s")).json()["session_name"] == "Is there tea?"


@pytest.mark.parametrize("stored", ["no JSON", '"text"', "[1]", "5"])
async def test_data_that_are_no_object_are_shown_as_none_and_never_written_over(tmp_path: Path, stored: str):
    """A row of that kind costs no list, and no other row."""
    async with agno_database("sqlite", tmp_path) as url:
        for id in ("s", "t"):
            await insert_session(url, {**SESSION, "session_id": id, "session_data": {"session_name": "N"}})
        async with rows_of(url) as rows, rows.written():
            await rows.execute("UPDATE agno_sessions SET session_data = ? WHERE session_id = 's'", [(stored,)])
        async with client_of(Databases([database_at("primary", url)])) as client:
            assert (await client.get("/sessions")).json()["meta"]["total_count"] == 2
            named = (await client.get("/sessions", params={"session_name": "n"})).json()["data"]
            assert [item["session_id"] for item in named] == ["t"]
            assert (await client.get("/sessions/s")).status_code == 200
            assert (await client.patch("/sessions/s", json={"metadata": {"x": 1}})).status_code == 200
            assert (await client.patch("/sessions/s", json={"session_name": "x"})).status_code == 500
        async with rows_of(url) as rows:
            [row] = await rows.select("SELECT session_data FROM agno_sessions WHERE session_id = 's'")
        assert str(row["session_data"]) == stored


# deletions


PARTS = (
    "CREATE TABLE {}agno_transcripts (agno_session_id VARCHAR, entry VARCHAR)",
    "CREATE TABLE {}agno_compactions (session_id VARCHAR, summary VARCHAR)",
    "CREATE TABLE {}agno_tool_results (session_id VARCHAR, namespace VARCHAR, path VARCHAR)",
)


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
async def test_a_deletion_leaves_nothing_of_the_conversation(client: httpx.AsyncClient, url: str, many: bool):
    """S4.6: runs, transcripts, compactions, results of tools and what they point to; of this session alone."""
    files = "fs.agno_fs" if url.startswith("postgresql") else "agno_fs"
    await client.get("/sessions")
    await execute(url, *PARTS)  # as AgentOS does, when it first needs them
    await execute(url, *(["CREATE SCHEMA fs"] if url.startswith("postgresql") else []))
    await execute(url, f"CREATE TABLE {files} (namespace VARCHAR, path VARCHAR, content VARCHAR)")
    for id in ("s", "t"):
        await insert_session(url, {**SESSION, "session_id": id, "user_id": "ann"}, [run(f"{id}-r")])
        await execute(
            url,
            f"INSERT INTO {{}}agno_transcripts VALUES ('{id}', 'x')",
            f"INSERT INTO {{}}agno_compactions VALUES ('{id}', 'x')",
            f"INSERT INTO {{}}agno_tool_results VALUES ('{id}', 'n', '{id}')",
            f"INSERT INTO {files} VALUES ('n', '{id}', 'x')",
        )

    async def deleted(**params: str) -> None:
        body = {"session_ids": ["s", "s", "none"], "session_types": ["team"] * 3} if many else None
        answer = await client.request("DELETE", "/sessions" if many else "/sessions/s", json=body, params=params)
        assert answer.status_code == 204

    names = ("agno_sessions", "agno_runs", "agno_transcripts", "agno_compactions", "agno_tool_results")
    await deleted(user_id="bob")
    assert await counted(url, *names) == dict.fromkeys(names, 2)
    await deleted(user_id="ann")
    assert await counted(url, *names) == dict.fromkeys(names, 1)
    async with rows_of(url) as rows:
        assert [row["path"] for row in await rows.select(f"SELECT path FROM {files}")] == ["t"]
    assert (await client.get("/sessions/t")).status_code == 200


# which tables are meant


async def _is_agnos(url: str) -> bool:
    """Whether a session made at *url* stands in AgentOS's table."""
    tables, id = database_at("primary", url).tables, new_id()
    await tables.open()
    try:
        await tables.create(NewSession(id, SessionType.AGENT))
    finally:
        await tables.close()
    plain = url.removeprefix("agno+").partition("?")[0]
    async with rows_of(plain) as rows:
        schema = "ai." if rows.engine == "postgresql" else ""
        if f"{schema}agno_sessions" not in await rows.tables():
            return False
        return bool(await rows.select(f"SELECT 1 FROM {schema}agno_sessions WHERE session_id = ?", id))


async def test_a_plain_url_means_agentos_tables_where_there_are_those_alone(url: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "session_api")
    assert await _is_agnos(url)
    told = [vars(line) for line in caplog.records if "AgentOS's own tables" in line.message]
    assert [(line["database"], line["table"].rpartition(".")[2]) for line in told] == [("primary", '"agno_sessions"')]
    async with open_storage(url):
        pass  # makes ours
    caplog.clear()
    assert not await _is_agnos(url)
    assert not caplog.records


async def test_a_url_with_a_namespace_is_always_ours(url: str):
    assert not await _is_agnos(f"{url}?namespace=ours")


async def test_agentos_tables_are_meant_where_the_url_says_so_whatever_else_is_there(url: str):
    async with open_storage(url):
        pass
    assert await _is_agnos(f"agno+{url}")


async def test_a_plain_url_of_an_empty_place_is_ours(tmp_path: Path):
    assert not await _is_agnos(f"sqlite:///{tmp_path}/new.db")


@pytest.mark.servers
async def test_an_empty_database_of_a_server_is_ours():
    async with own_database() as url:
        assert not await _is_agnos(url)


async def test_where_agentos_has_made_no_tables_the_start_says_what_to_do(tmp_path: Path):
    async with open_storage(f"sqlite:///{tmp_path}/ours.db"):
        pass
    for name in ("ours", "none"):
        databases = Databases([database_at("primary", f"agno+sqlite:///{tmp_path}/{name}.db")])
        with pytest.raises(StorageConfigurationError):
            await databases.open()
    assert not (tmp_path / "none.db").exists()


async def test_tables_of_other_names_are_named_in_the_url(url: str):
    await insert_session(url, SESSION, [run("r1", "Is there tea?")])
    await execute(
        url,
        "ALTER TABLE {}agno_sessions RENAME TO mine",
        "ALTER TABLE {}agno_runs RENAME TO mine_runs",
    )
    schema = "ai." if url.startswith("postgresql") else ""
    for named in ("mine", f"{schema}mine", f"{schema}mine,{schema}mine_runs", "mine,mine_runs"):
        databases = Databases([database_at("primary", f"agno+{url}?tables={named}")])
        async with client_of(databases) as client:
            asked = {"db_id": "primary", "table": "mine"}
            assert (await client.get("/sessions/s", params=asked)).json()["session_name"] == "Is there tea?"
            assert (await client.get("/sessions/s", params=asked | {"table": "agno_sessions"})).status_code == 404
    for nonsense in ("mine,", ",", "a,b,c", 'a"b', "a?b"):
        with pytest.raises(StorageConfigurationError):
            database_at("primary", f"agno+{url}?tables={nonsense}")


@pytest.mark.parametrize("url", ["agno+mysql://h/d", "agno+redis://h", "agno+sqlite:///x.db?nonsense=1", "agno+"])
def test_what_cannot_be_served_is_refused_at_once(url: str):
    with pytest.raises(StorageConfigurationError):
        database_at("primary", url)


def test_the_columns_are_those_of_agnos_own_table(fixtures_dir: Path):
    import sqlite3

    path = fixtures_dir / "peers" / "agno3" / "agno.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        found: Mapping[str, None] = dict.fromkeys(
            row[1] for row in connection.execute("PRAGMA table_info(agno_sessions)")
        )
    assert sorted(COLUMNS) == sorted(found)


@pytest.mark.parametrize("prefix", ["agno+", ""])
async def test_a_database_that_is_away_keeps_the_service_from_nothing_but_sessions(
    prefix: str, caplog: pytest.LogCaptureFixture
):
    """It starts, says that it is not ready, and shows no password."""
    secret, url = "hunter2", f"{prefix}postgresql://ann:hunter2@127.0.0.1:1/none?connect_timeout=1"
    async with client_of(Databases([database_at("primary", url)])) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        for method, path in (("GET", "/sessions"), ("GET", "/sessions/s"), ("DELETE", "/sessions/s")):
            answer = await client.request(method, path)
            assert answer.status_code == 503
            assert secret not in answer.text
    assert secret not in caplog.text


async def test_a_file_that_comes_later_is_served_then(tmp_path: Path):
    """AgentOS's tables too are looked for once more by each request that needs them."""
    tables = AgnoTables(parse_url(f"sqlite:///{tmp_path}/agno.db"))
    with pytest.raises(StorageConfigurationError, match=r"agno\.db"):
        await tables.open()
    async with agno_database("sqlite", tmp_path):
        assert await tables.get("s", None) is None
    await tables.close()
