"""What a run does about engines: it names them, starts what it needs, ends it, and refuses to leave one out."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import engines
from tests.servers import KINDS, shared
from tests.servers.processes import Process
from tests.servers.server import RecordFile
from tests.support import REPOSITORY

NOTHING_INSTALLED = {"PATH": "", "UNIFIED_STORAGE_SERVERS_FROM": "installed"}
ASKS_TWICE = """
import os, pathlib, pytest
from tests.engines import engine_url

@pytest.mark.parametrize("number", [1, 2])
def test_asks(number):
    place = pathlib.Path(__file__).parent
    (place / f"{number}.url").write_text(engine_url("redis"))
    (place / f"{number}.state").write_text(next((place / "services").glob("redis.json")).read_text())
"""
LOCAL = {"TEST_POSTGRES_URL", "TEST_MYSQL_URL", "TEST_REDIS_URL", "TEST_REDIS_CLUSTER_URL", "REQUIRE_ENGINES"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a test in it that needs Redis, and with a state of its own for servers."""
    (tmp_path / "test_tiny.py").write_text(ASKS_TWICE)
    yield tmp_path
    for file in (tmp_path / "services").glob("*.json"):
        RecordFile(file).end()


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The test in *folder* under the surroundings of this project's tests."""
    inherited = {name: value for name, value in os.environ.items() if name not in LOCAL}
    own = {"UNIFIED_STORAGE_SERVICES": str(folder / "services"), "PYTEST_ADDOPTS": ""}
    program = [sys.executable, "-m", "pytest", "-c", str(REPOSITORY / "pyproject.toml"), f"--rootdir={REPOSITORY}"]
    command = [*program, "-p", "tests.conftest", "-p", "no:cacheprovider", *options, str(folder / "test_tiny.py")]
    return subprocess.run(
        command, cwd=REPOSITORY, env={**inherited, **own, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("options", [pytest.param((), marks=pytest.mark.servers), ("-n", "2")])
def test_a_server_is_started_once_for_the_run_and_ended_with_it(folder: Path, options: tuple[str, ...]) -> None:
    done = run(folder, *options)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "engine redis: 7" in done.stdout or "engine redis: Valkey" in done.stdout
    urls = [(folder / f"{number}.url").read_text() for number in (1, 2)]
    assert urls[0] == urls[1]
    seen = RecordFile(folder / "1.state").read()
    assert seen["url"] == urls[0]
    assert not any(Process(pid, began).alive for pid, began, _ in seen["processes"])
    assert list((folder / "services").glob("*.json")) == []


@pytest.mark.servers
def test_an_engine_that_is_missing_is_skipped_aloud(folder: Path) -> None:
    done = run(folder, **NOTHING_INSTALLED)
    assert done.returncode == pytest.ExitCode.OK
    assert "engine redis: MISSING (redis-server or valkey-server is not in PATH; TEST_REDIS_URL" in done.stdout
    assert "SKIPPED [2]" in done.stdout
    assert "no redis: redis-server or valkey-server is not in PATH" in done.stdout


@pytest.mark.parametrize(
    ("names", "options"),
    [("all", ()), *(pytest.param(names, ("-n", "2"), marks=pytest.mark.servers) for names in ("all", "redis,sqlite"))],
)
def test_a_required_engine_that_is_missing_ends_the_run(folder: Path, names: str, options: tuple[str, ...]) -> None:
    # what the other engines would need is not the question here
    elsewhere = {KINDS[name].variable: f"{name}://127.0.0.1:1/0" for name in ("postgresql", "mysql")}
    done = run(folder, *options, REQUIRE_ENGINES=names, **NOTHING_INSTALLED, **elsewhere)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "REQUIRE_ENGINES wants what is not there:\n" in done.stderr
    assert "redis: MISSING (redis-server or valkey-server is not in PATH" in done.stderr
    assert ("redis-cluster: MISSING" in done.stderr) == (names == "all")
    assert not (folder / "1.url").exists()


@pytest.mark.servers
def test_a_required_engine_that_is_found_is_started_for_the_header(folder: Path) -> None:
    done = run(folder, REQUIRE_ENGINES="redis")
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("engine redis:")]
    assert line.endswith(" (private)")
    assert list((folder / "services").glob("*.json")) == []


@pytest.mark.servers
def test_a_required_engine_that_nobody_knows_is_an_error(folder: Path) -> None:
    done = run(folder, REQUIRE_ENGINES="oracle")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "REQUIRE_ENGINES names 'oracle'; there are all, memory, sqlite, postgresql" in done.stderr


@pytest.mark.servers
def test_a_url_that_does_not_answer_is_named_without_its_password(folder: Path) -> None:
    done = run(folder, REQUIRE_ENGINES="redis", TEST_REDIS_URL="redis://me:SeCrEt@127.0.0.1:1/0")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "redis: MISSING (TEST_REDIS_URL does not answer: ConnectionError" in done.stderr
    assert "SeCrEt" not in done.stdout + done.stderr


@pytest.mark.servers
def test_a_url_in_the_environment_wins(folder: Path) -> None:
    with shared.start_private("redis") as server:
        done = run(folder, TEST_REDIS_URL=server.url)
        assert f"engine redis: {server.version} (TEST_REDIS_URL)" in done.stdout
    # nothing was started, so the test found no state of a server
    assert (folder / "1.url").read_text() == server.url
    assert done.returncode == pytest.ExitCode.TESTS_FAILED


@pytest.mark.servers
def test_two_runs_at_once_share_a_server_and_the_last_one_ends_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFIED_STORAGE_SERVICES", str(folder / "services"))
    facts = shared.join("redis", user=os.getpid())
    assert run(folder).returncode == pytest.ExitCode.OK
    assert (folder / "1.url").read_text() == facts["url"]
    assert shared.record_of("redis").alive
    shared.leave(os.getpid())
    assert not shared.record_of("redis").alive


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("redis://h:1", "redis+cluster://h:1"),
        ("rediss://u:p@h:1,g:2", "rediss+cluster://u:p@h:1,g:2"),
        ("redis+cluster://h:1", "redis+cluster://h:1"),
        ("", ""),
    ],
)
def test_the_scheme_of_a_cluster_may_be_left_to_us(monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
    monkeypatch.setenv("TEST_REDIS_CLUSTER_URL", given)
    assert engines.given_url("redis-cluster") == expected


class Places:
    """Writes to a server under a namespace as a store would, and says which namespaces something stands under."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def write(self, namespace: str) -> None:
        if self.url.startswith("redis"):
            async with engines.redis_client(self.url) as client:
                for partition in range(64):
                    await client.set(f"us:{namespace}:{{p{partition:02}}}:a", 1)
        elif self.url.startswith("mysql"):
            async with engines.mysql_connection(self.url) as connection, connection.cursor() as cursor:
                await cursor.execute(f"CREATE TABLE unified_{namespace}__records (n INT)")
        else:
            async with engines.postgresql_connection(self.url) as connection:
                await connection.execute(f"CREATE TABLE unified_{namespace}__records (n SERIAL PRIMARY KEY)")

    async def holds(self, namespace: str) -> bool:
        if self.url.startswith("redis"):
            async with engines.redis_client(self.url) as client:
                return bool([key async for key in client.scan_iter(match=f"us:{namespace}:*")])
        question = f"SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'unified_{namespace}__records'"
        if self.url.startswith("mysql"):
            async with engines.mysql_connection(self.url) as connection, connection.cursor() as cursor:
                await cursor.execute(question)
                return (await cursor.fetchone())[0] == 1
        async with engines.postgresql_connection(self.url) as connection:
            return await connection.fetchval(question) == 1


@pytest.mark.servers
@pytest.mark.parametrize("name", engines.SERVERS)
async def test_a_namespace_is_dropped_and_its_neighbour_is_not(name: str) -> None:
    url = engines.engine_url(name)
    places = Places(url)
    async with engines.own_namespace(url) as neighbour:
        async with engines.own_namespace(url) as namespace:
            for one in (namespace, neighbour):
                await places.write(one)
                assert await places.holds(one)
        assert not await places.holds(namespace)
        assert await places.holds(neighbour)
    assert not await places.holds(neighbour)
