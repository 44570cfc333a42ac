"""Real servers for the tests: where one is, and how a test gets a place of its own on it.

    @pytest.fixture
    async def open_store(self):
        url = engine_url("postgresql")
        async with own_namespace(url) as namespace:
            yield lambda **options: open_storage(url, namespace=namespace, **options)

A URL in the environment wins; otherwise a private server is started when the first test asks, and ended with the run.
`start_private` gives a test a server to crash.
"""

import asyncio
import os
from functools import cache
from urllib.parse import urlsplit

import pytest

from tests.namespaces import (
    drop_namespace,
    fresh_namespace,
    is_cluster,
    mysql_connection,
    own_namespace,
    postgresql_connection,
    redis_client,
)
from tests.servers import KINDS, MissingServer, Server, ServerError, shared, start_private

__all__ = [
    "SERVERS",
    "Server",
    "drop_namespace",
    "engine_url",
    "fresh_namespace",
    "mysql_connection",
    "own_namespace",
    "postgresql_connection",
    "private_server",
    "redis_client",
    "server_states",
    "start_private",
]

SERVERS = {name: KINDS[name].variable for name in ("postgresql", "mysql", "redis", "redis-cluster")}
RUN = "UNIFIED_STORAGE_TEST_RUN"
"""The variable that holds the number of the process whose end is the end of the run, for its workers to read."""
MISSING = "MISSING"
PROBE_SECONDS = 20


def required() -> frozenset[str]:
    """The servers that this run may not leave out: those of REQUIRE_ENGINES, `all` or names with commas between."""
    names = set(os.environ.get("REQUIRE_ENGINES", "").replace(",", " ").split())
    if unknown := sorted(names - {"all", "memory", "sqlite", *SERVERS}):
        known = ", ".join(["all", "memory", "sqlite", *SERVERS])
        raise pytest.UsageError(f"REQUIRE_ENGINES names {unknown[0]!r}; there are {known}")
    return frozenset(SERVERS) if "all" in names else frozenset(names & SERVERS.keys())


def engine_url(name: str) -> str:
    """The URL of a running server; without one the test is skipped, or fails where REQUIRE_ENGINES names it."""
    url, reason = _found(name)
    if reason and name in required():
        pytest.fail(f"no {name}, and REQUIRE_ENGINES wants it: {reason}", pytrace=False)
    if reason:
        pytest.skip(f"no {name}: {reason}")
    return url


def private_server(kind: str) -> Server:
    """A server of the test's own, to be crashed; use it in a `with`. Skips or fails as `engine_url` does."""
    try:
        return start_private(kind)
    except MissingServer as reason:
        if required():
            pytest.fail(f"no private {kind}, and REQUIRE_ENGINES wants servers: {reason}", pytrace=False)
        pytest.skip(f"no private {kind}: {reason}")


@cache
def _found(name: str) -> tuple[str, str]:
    """The URL of a server, or the reason why there is none."""
    if url := given_url(name):
        return url, ""
    try:
        return shared.join(name, user=run_process())["url"], ""
    except MissingServer as reason:
        return "", str(reason)


def given_url(name: str) -> str:
    """What the environment names, if anything; the scheme of a cluster may be left to us."""
    url = os.environ.get(SERVERS[name], "")
    return url.replace("://", "+cluster://", 1) if name == "redis-cluster" and not is_cluster(url) else url


# --- the run ----------------------------------------------------------------------------------------------------


def begin_run() -> None:
    """Make this process the one whose end is the end of the run."""
    os.environ[RUN] = str(os.getpid())


def end_run() -> None:
    """End the servers that were started for this run and that no other run uses."""
    shared.leave(os.getpid())


def run_process() -> int:
    return int(os.environ.get(RUN, os.getpid()))


def demand_required() -> None:
    """End the run at once when a server of REQUIRE_ENGINES is missing."""
    names = required()
    if not names:
        return
    missing = [f"{name}: {state}" for name, state in server_states().items() if name in names and MISSING in state]
    if missing:
        raise pytest.UsageError("\n".join(["REQUIRE_ENGINES wants what is not there:", *missing]))


# --- what the header says ---------------------------------------------------------------------------------------


@cache
def server_states() -> dict[str, str]:
    """Every server with its version, or `MISSING` and the reason; those that are required are started for it."""
    return asyncio.run(_server_states())


async def _server_states() -> dict[str, str]:
    given = {name: url for name in SERVERS if (url := given_url(name))}
    answers = await asyncio.gather(*(_state_of_given(name, url) for name, url in given.items()))
    states = dict(zip(given, answers, strict=True))
    # after them: a start blocks this loop for seconds, and an answer that came in time would be called late
    return {name: states[name] if name in given else _state_of_private(name) for name in SERVERS}


def _state_of_private(name: str) -> str:
    try:
        if name in required():
            return f"{shared.join(name, user=run_process())['version']} (private)"
        if shared.record_of(name).alive:
            return f"{shared.record_of(name).read()['version']} (private)"
        return f"{shared.foresee(name)} (private, started when a test asks)"
    except (MissingServer, ServerError) as reason:
        return f"{MISSING} ({reason}; {SERVERS[name]} may name one)"


async def _state_of_given(name: str, url: str) -> str:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return f"{await _version(name, url)} ({SERVERS[name]})"
    except Exception as error:  # noqa: BLE001  # whatever a driver raises is the reason
        password = urlsplit(url).password or ""
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return f"{MISSING} ({SERVERS[name]} does not answer: {reason.replace(password, '***') if password else reason})"


async def _version(name: str, url: str) -> str:
    """The version in the server's own words."""
    if name == "postgresql":
        async with postgresql_connection(url) as connection:
            return str(await connection.fetchval("SHOW server_version")).split(" ")[0]
    if name == "mysql":
        async with mysql_connection(url) as connection, connection.cursor() as cursor:
            await cursor.execute("SELECT VERSION()")
            number, _, kind = (await cursor.fetchone())[0].partition("-")
            return f"MariaDB {number}" if kind.startswith("MariaDB") else number
    return await _redis_version(url)


async def _redis_version(url: str) -> str:
    async with redis_client(url) as client:
        facts = await client.info("server", **({"target_nodes": client.RANDOM} if is_cluster(url) else {}))
        version = f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else facts["redis_version"]
        return f"{version}, {len(client.get_primaries())} masters" if is_cluster(url) else version
