"""PostgreSQL: what its URL and options mean, what its errors become, and verbs that survive lost connections."""

import asyncio
import random
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.namespaces import without_query
from tests.unified_storage.postgresql.engines import Engines, Witness, asking, calls
from unified_storage import open_storage
from unified_storage.backends.sql import server_engine
from unified_storage.backends.sql.postgresql import PostgreSQLDriver, server_of
from unified_storage.backends.sql.postgresql_connection import numbered, translated_error
from unified_storage.backends.sql.server_engine import ServerEngine
from unified_storage.backends.sql.statements import Call
from unified_storage.errors import (
    StorageCapacityError,
    StorageConfigurationError,
    StorageConflictError,
    StorageConnectionError,
    StorageError,
    StorageIntegrityError,
    StoragePermissionError,
    StorageTimeoutError,
    StorageTransactionError,
)
from unified_storage.opening import parse_url

pid = asking("SELECT pg_backend_pid()", is_all=True)
nothing = asking("SELECT 1")
SECRET = "s3cr:t/w@rd"


def server(url: str, **options: Any) -> Any:
    parsed = parse_url(url)
    return server_of(parsed, {**parsed.options, **options})


# -- URLs and options --------------------------------------------------------------------------------------------


def test_the_parts_of_a_url_are_unquoted() -> None:
    found = server("postgresql://me%40home:s3cr%3At%2Fw%40rd@db.example:5433/my%20base")
    assert found.arguments["user"] == "me@home"
    assert found.arguments["password"] == SECRET
    assert (found.arguments["host"], found.arguments["port"]) == (["db.example"], [5433])
    assert found.arguments["database"] == "my base"
    assert found.place == "db.example:5433/my base"
    assert "target_session_attrs" not in found.arguments


def test_of_several_hosts_the_one_that_takes_writes_is_used() -> None:
    found = server("postgresql://a:5433,b,[::1]:5434/base")
    assert found.arguments["host"] == ["a", "b", "::1"]
    assert found.arguments["port"] == [5433, 5432, 5434]
    assert found.arguments["target_session_attrs"] == "read-write"
    assert server("postgresql://a,b/base?target_session_attrs=any").arguments["target_session_attrs"] == "any"


def test_options_may_name_what_the_url_does_not() -> None:
    found = server("postgresql:///base?host=/run/postgresql", user="me", password=SECRET, statement_cache_size="0")
    assert (found.arguments["host"], found.arguments["port"]) == (["/run/postgresql"], [5432])
    assert found.arguments["user"] == "me"
    assert found.arguments["statement_cache_size"] == 0
    assert server("postgresql://", host=["a", "b:5433"]).arguments["port"] == [5432, 5433]


@pytest.mark.parametrize("url", ["postgresql:///base?port=5433", "postgresql://me@:5433/base"])
async def test_a_port_alone_is_that_of_the_socket_of_this_machine(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = server(url)
    assert "host" not in found.arguments
    assert (found.arguments["port"], found.place) == (5433, "localhost:5433/base")
    asked: list[asyncio.StreamWriter] = []

    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer)
        writer.close()

    monkeypatch.setenv("PGHOST", str(tmp_path))  # else the folders that are usual for sockets
    async with await asyncio.start_unix_server(hang_up, tmp_path / ".s.PGSQL.5433"):
        with pytest.raises(StorageConnectionError, match="localhost:5433"):
            await open_storage(url, connect_timeout=5).exists("a")
    assert asked


def test_tls_is_chosen_as_the_driver_does() -> None:
    found = server("postgresql://a/base?sslmode=verify-full&sslrootcert=/etc/ca.pem&direct_tls=true")
    assert found.arguments["ssl"] == "verify-full"
    assert found.arguments["direct_tls"] is True
    assert found.arguments["dsn"] == "postgresql://?sslrootcert=%2Fetc%2Fca.pem"
    assert server("postgresql://a/base?ssl=true").arguments["ssl"] is True


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cr:t/w@rd@host/base",
        "postgresql://me:12/w@rd@host/base",
        "postgresql://me:s3cr@t@host:port/base",
        "postgresql://me:s3cr%40t@host:65536/base",
        "postgresql:///base?port=0",
        "postgresql://host/base?pool_size=many",
        "postgresql://host/base?statement_cache_size=many",
        "postgresql://host/base?server_settings=jit",
        "postgresql://host/base?colour=red",
        "postgresql://host/base?namespace=Not-a-name",
    ],
)
def test_what_cannot_be_meant_is_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(StorageConfigurationError) as caught:
        open_storage(url)
    assert "w@rd" not in str(caught.value.to_dict())
    assert "s3cr" not in str(caught.value.to_dict())


def test_question_marks_become_numbers() -> None:
    assert numbered("SELECT ? WHERE a = ? OR (b, c) > (?, ?)") == "SELECT $1 WHERE a = $2 OR (b, c) > ($3, $4)"
    assert numbered("SELECT $1::TEXT") == "SELECT $1::TEXT"


# -- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "kind", "retryable"),
    [
        ("40001", StorageConflictError, True),
        ("40P01", StorageConflictError, True),
        ("55P03", StorageConflictError, True),
        ("23505", StorageConflictError, True),
        ("57014", StorageTimeoutError, True),
        ("25P03", StorageTimeoutError, True),
        ("53100", StorageCapacityError, False),
        ("53200", StorageCapacityError, False),
        ("54000", StorageCapacityError, False),
        ("53300", StorageConnectionError, True),
        ("57P01", StorageConnectionError, True),
        ("57P03", StorageConnectionError, True),
        ("25006", StorageConnectionError, True),
        ("08006", StorageConnectionError, True),
        ("28P01", StoragePermissionError, False),
        ("42501", StoragePermissionError, False),
        ("3D000", StorageConfigurationError, False),
        ("XX001", StorageIntegrityError, False),
        ("XX002", StorageIntegrityError, False),
        ("25P02", StorageTransactionError, False),
        ("42601", StorageError, False),
    ],
)
def test_each_sqlstate_has_its_error(state: str, kind: type[StorageError], retryable: bool) -> None:
    said = asyncpg.PostgresError.new({"C": state, "M": "the server's words", "D": "Key (id)=(private) exists"})
    ours = translated_error(said, "host:1/base")
    assert type(ours) is kind
    assert ours.retryable is retryable
    assert ours.details["sqlstate"] == state
    assert ours.cause is said
    assert str(ours) == "PostgreSQL host:1/base: the server's words"


@pytest.mark.parametrize("state", ["26000", "42P05"])
def test_a_pooler_that_mixes_sessions_up_is_told_what_to_set(state: str) -> None:
    ours = translated_error(asyncpg.PostgresError.new({"C": state, "M": "no such statement"}), "host:1/base")
    assert type(ours) is StorageConfigurationError
    assert "statement_cache_size=0" in str(ours)


@pytest.mark.parametrize("said", [OSError("gone"), ConnectionResetError(), TimeoutError(), EOFError()])
def test_errors_of_the_socket_are_lost_connections(said: Exception) -> None:
    ours = translated_error(said, "host:1/base")
    assert type(ours) is StorageConnectionError
    assert ours.retryable
    assert "host:1" in str(ours)


def test_other_errors_are_nobodys_business() -> None:
    assert translated_error(KeyError("x"), "host") is None
    assert translated_error(StorageTimeoutError("ours"), "host") is None


async def _error_of_opening(url: str, **options: Any) -> StorageError:
    begun = time.monotonic()
    with pytest.raises(StorageError) as caught:
        async with open_storage(url, **options):
            pass
    assert time.monotonic() - begun < 5, "a wrong address is told at once"
    told = str(caught.value.to_dict()) + str(caught.value) + repr(caught.value)
    assert SECRET not in told
    return caught.value


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


async def test_nobody_listens_there() -> None:
    port = _free_port()
    error = await _error_of_opening(f"postgresql://me:s3cr%3At%2Fw%40rd@127.0.0.1:{port}/base")
    assert type(error) is StorageConnectionError
    assert error.retryable
    assert f"127.0.0.1:{port}" in str(error)


async def test_somebody_else_listens_there() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        error = await _error_of_opening(f"postgresql://me@127.0.0.1:{port}/base", password=SECRET)
    assert type(error) is StorageConnectionError


async def test_nobody_answers_there() -> None:
    """A first connect to something that is silent takes connect_timeout, not longer."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        port = silent.getsockname()[1]
        error = await _error_of_opening(f"postgresql://me@127.0.0.1:{port}/base", password=SECRET, connect_timeout=0.5)
    assert type(error) is StorageConnectionError
    assert "no answer within 0.5 s" in str(error)


@pytest.mark.servers
async def test_the_database_does_not_exist(url: str) -> None:
    server_url, _, _ = without_query(url).rpartition("/")
    error = await _error_of_opening(f"{server_url}/no_such_base", password=SECRET)
    assert type(error) is StorageConfigurationError
    assert "no_such_base" in str(error)


@pytest.mark.servers
async def test_the_user_does_not_exist(url: str) -> None:
    error = await _error_of_opening(url, user="no_such_user", password=SECRET)
    assert type(error) is StoragePermissionError


@pytest.mark.servers
async def test_a_database_in_another_encoding_is_refused(url: str, witness: Witness) -> None:
    base = f"latin_{witness.name.replace('-', '_')}"
    await witness.connection.execute(
        f"CREATE DATABASE {base} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        error = await _error_of_opening(url, database=base, application_name=witness.name)
        assert type(error) is StorageConfigurationError
        assert "LATIN1" in str(error)
        await witness.sees(0)
    finally:
        await witness.connection.execute(f"DROP DATABASE {base} WITH (FORCE)")


# -- the engine --------------------------------------------------------------------------------------------------


@pytest.mark.servers
async def test_a_connection_is_set_up_for_us(engines: Engines) -> None:
    engine = engines(statement_timeout=1.5)
    expected = {
        "statement_timeout": "1500ms",
        "lock_timeout": "0",
        "client_encoding": "UTF8",
        "TimeZone": "UTC",
        "jit": "off",
        "default_transaction_isolation": "read committed",
    }
    found = {name: await engine.read(asking(f"SHOW {name}", is_all=True), 10) for name in expected}
    assert found == expected


@pytest.mark.servers
async def test_facts_tell_how_the_server_keeps_what_it_acknowledged(url: str, engines: Engines) -> None:
    facts = await engines().facts()
    assert facts["version"][0].isdigit()
    assert facts["durability"] == "full"
    assert facts["in_recovery"] is False
    careless = open_storage(url, server_settings={"synchronous_commit": "off"})
    try:
        assert (await careless._engine.facts())["durability"] == "delayed"  # type: ignore[attr-defined]
    finally:
        await careless.close()


@pytest.mark.servers
async def test_a_read_sees_one_moment(engines: Engines) -> None:
    engine = engines()
    count = Call(f"SELECT count(*) FROM {engines.table}")
    seen = asyncio.Event()

    def steps() -> Any:
        first = yield count
        seen.set()
        yield Call("SELECT pg_sleep(0.3)")
        second = yield count
        return first[0][0], second[0][0]

    reading = asyncio.create_task(engine.read(steps, 10))
    await seen.wait()
    await engine.write(engines.adding("later"), 10)
    assert await reading == (0, 0)


@pytest.mark.servers
async def test_a_statement_that_takes_too_long_is_ended_by_the_server(engines: Engines, witness: Witness) -> None:
    engine = engines(statement_timeout=0.3)
    with pytest.raises(StorageTimeoutError) as caught:
        await engine.write(lambda: calls(*engines.adding("x")(), Call("SELECT pg_sleep(20)")), 10)
    assert caught.value.retryable
    assert caught.value.details["sqlstate"] == "57014"
    assert await engines.marks() == set()
    assert await witness.states() == ["idle"]


@pytest.mark.servers
async def test_a_verb_that_waits_for_a_lock_too_long_changed_nothing(engines: Engines, witness: Witness) -> None:
    engine = engines(statement_timeout=0.5)
    held = await engine.begin(engines.adding("x"), 30)
    with pytest.raises(StorageTimeoutError):
        await engine.write(engines.adding("x"), 0.5)
    await held.rollback()
    assert await engines.marks() == set()
    await engine.write(engines.adding("x"), 0.5)


@pytest.mark.servers
async def test_two_writers_of_the_same_new_thing_do_not_disturb_each_other(engines: Engines) -> None:
    """Neither sees a unique key's conflict where looking again tells that the other one was first."""
    engine = engines(pool_size=8)

    def look_then_add() -> Any:
        found = yield Call(f"SELECT count(*) FROM {engines.table} WHERE mark = 'same'")
        if not found[0][0]:
            yield Call(f"INSERT INTO {engines.table} VALUES ('same')")
        return not found[0][0]

    for _ in range(10):
        added = await asyncio.gather(*(engine.write(look_then_add, 10) for _ in range(8)))
        assert sorted(added) == [False] * 7 + [True]
        await engine.write(lambda: calls(Call(f"DELETE FROM {engines.table}")), 10)


@pytest.mark.servers
async def test_deadlocks_between_single_verbs_are_resolved(engines: Engines) -> None:
    engine = engines(pool_size=4)
    await engine.write(engines.adding("a", "b"), 10)

    def both(first: str, second: str) -> Any:
        for mark in (first, second):
            yield Call(f"SELECT 1 FROM {engines.table} WHERE mark = ? FOR UPDATE", [mark])
            yield Call("SELECT pg_sleep(0.02)")

    await asyncio.gather(*(engine.write(partial(both, *order), 20) for order in ("ab", "ba") * 2))


@pytest.mark.servers
async def test_a_conflict_goes_on_being_one_when_the_time_is_over(engines: Engines) -> None:
    engine = engines()
    tried = 0

    def always_in_conflict() -> Any:
        nonlocal tried
        tried += 1
        yield Call("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")

    with pytest.raises(StorageConflictError) as caught:
        await engine.write(always_in_conflict, 0.5)
    assert caught.value.retryable
    assert tried > 3


@pytest.mark.servers
async def test_what_the_caller_is_to_know_is_not_tried_again(engines: Engines, witness: Witness) -> None:
    engine = engines()
    tried = 0

    def mismatch() -> Any:
        nonlocal tried
        tried += 1
        yield from engines.adding("x")()
        raise StorageConflictError("version 3, not 2", details={"expected": 2, "found": 3})

    with pytest.raises(StorageConflictError, match="version 3, not 2"):
        await engine.write(mismatch, 10)
    assert tried == 1
    assert await engines.marks() == set()
    assert await witness.states() == ["idle"]


@pytest.mark.servers
async def test_what_may_exist_is_no_error_and_undoes_nothing_else(engines: Engines) -> None:
    engine = engines()
    again = (
        Call(f"CREATE TABLE {engines.table} (mark text)", may_exist=True),
        Call(f"ALTER TABLE {engines.table} ADD COLUMN mark text", may_exist=True),
        Call(f"INSERT INTO {engines.table} VALUES ('x')", may_exist=True),
        Call(f"CREATE INDEX {engines.table}_pkey ON {engines.table} (mark)", may_exist=True),
    )
    await engine.write(engines.adding("x"), 10)
    await engine.upgrade(lambda: calls(*engines.adding("y")(), *again, *engines.adding("z")()), 10)
    assert await engines.marks() == {"x", "y", "z"}


@pytest.mark.servers
async def test_a_commit_after_a_failure_that_somebody_hid_is_no_success(engines: Engines) -> None:
    """The server answers such a COMMIT with ROLLBACK, and with no error."""
    connection = await PostgreSQLDriver(server_of(parse_url(engines.url), {}), 10).connect(10)
    try:
        await connection.begin("write", 10)
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.run(Call("SELECT 1 FROM not_there"))
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await connection.commit()
    finally:
        await connection.close()


@pytest.mark.servers
async def test_schema_steps_go_one_program_after_the_other(engines: Engines) -> None:
    first, second = engines(), engines()
    going: list[str] = []

    def steps(name: str) -> Any:
        going.append(name)
        yield Call("SELECT pg_sleep(0.2)")
        going.append(name)

    await asyncio.gather(first.upgrade(lambda: steps("a"), 10), second.upgrade(lambda: steps("b"), 10))
    assert going in (["a", "a", "b", "b"], ["b", "b", "a", "a"])


# -- lost connections --------------------------------------------------------------------------------------------


@pytest.mark.servers
async def test_nobody_notices_that_idle_connections_were_ended(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=4)
    for number in range(10):
        await asyncio.gather(*(engine.write(engines.adding(f"{number}-{n}"), 10) for n in range(8)))
        before = await witness.pids()
        await witness.terminate(before)
        assert await engine.read(pid, 10) not in before
    assert len(await engines.marks()) == 80


@pytest.mark.servers
async def test_one_lost_connection_tells_of_the_others(engines: Engines, witness: Witness) -> None:
    """Those that were idle when one turned out to be dead are not tried one by one."""
    engine = engines(pool_size=4)
    held = [await engine.begin(nothing, 30) for _ in range(4)]
    for transaction in held[1:]:
        await transaction.rollback()
    before = await witness.pids()
    await witness.terminate({await held[0].run(asking("SELECT pg_backend_pid()"))})
    with pytest.raises(StorageConnectionError):
        await held[0].run(nothing)
    await witness.sees(0)
    assert await engine.read(pid, 10) not in before


@pytest.mark.servers
async def test_single_verbs_go_on_while_connections_are_ended_under_them(engines: Engines, witness: Witness) -> None:
    """What is told to be done is there once, what is told to be undone is not; only a commit may be unknown."""
    engine = engines(pool_size=4)
    outcomes: dict[str, str] = {}
    over = asyncio.Event()

    async def write(task: int) -> None:
        for number in range(100):
            mark = f"{task}-{number}"
            try:
                await engine.write(engines.adding(mark, f"{mark}+"), 20)
                outcomes[mark] = "done"
            except StorageConnectionError as error:
                outcomes[mark] = error.details["outcome"]  # nothing else is told

    async def end_them() -> int:
        source, ended = random.Random(11), 0
        while not over.is_set():
            pids = await witness.pids()
            await witness.terminate(pids, wait=False)
            ended += len(pids)
            await asyncio.sleep(source.uniform(0.01, 0.04))
        return ended

    ending = asyncio.create_task(end_them())
    await asyncio.gather(*(write(task) for task in range(4)))
    over.set()
    assert await ending > 20
    there = await engines.marks()
    assert all((mark in there) == (f"{mark}+" in there) for mark in outcomes)
    assert all(mark in there for mark, outcome in outcomes.items() if outcome == "done")
    assert sum(outcome == "unknown" for outcome in outcomes.values()) < len(outcomes) / 4
    assert len(outcomes) == 400


@pytest.mark.servers
async def test_a_transaction_that_lost_its_connection_says_so(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=1)
    transaction = await engine.begin(engines.adding("x"), 30)
    await witness.terminate(await witness.pids())
    with pytest.raises(StorageConnectionError) as caught:
        await transaction.run(engines.adding("y"))
    assert caught.value.retryable
    assert "outcome" not in caught.value.details
    with pytest.raises(StorageTransactionError):
        await transaction.commit()
    await transaction.rollback()
    assert await engine.read(pid, 10)
    assert await engines.marks() == set()


@pytest.mark.servers
async def test_a_connection_lost_before_the_commit_is_known_to_have_done_nothing(
    engines: Engines, witness: Witness
) -> None:
    engine = engines(pool_size=1)
    transaction = await engine.begin(engines.adding("x"), 30)
    await witness.terminate(await witness.pids())
    await asyncio.sleep(0.05)
    with pytest.raises(StorageConnectionError) as caught:
        await transaction.commit()
    assert caught.value.retryable
    assert "outcome" not in caught.value.details
    assert await engines.marks() == set()
    assert await engine.read(pid, 10)


class _SlowCommit:
    """Makes commits of the test's table take a while, by a trigger that runs at the commit."""

    def __init__(self, engines: Engines, witness: Witness, does: str) -> None:
        self._name = f"slow_{engines.table}"
        self._table = engines.table
        self._connection = witness.connection
        self._does = does

    async def __aenter__(self) -> None:
        await self._connection.execute(
            f"CREATE FUNCTION {self._name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {self._does}; RETURN NULL; END $$; "
            f"CREATE CONSTRAINT TRIGGER {self._name} AFTER INSERT ON {self._table} "
            f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {self._name}()"
        )

    async def __aexit__(self, *_: object) -> None:
        await self._connection.execute(f"DROP FUNCTION {self._name} CASCADE")


@pytest.mark.servers
async def test_a_connection_lost_during_the_commit_has_an_unknown_outcome(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=1)
    async with _SlowCommit(engines, witness, "PERFORM pg_sleep(20)"):
        writing = asyncio.create_task(engine.write(engines.adding("x"), 30))
        await _commits(witness)
        await witness.terminate(await witness.pids())
        with pytest.raises(StorageConnectionError) as caught:
            await writing
    assert caught.value.details["outcome"] == "unknown"
    assert not caught.value.retryable
    assert await engine.read(pid, 10)


async def _commits(witness: Witness) -> None:
    """Wait until the server is busy with a commit of the test's."""
    busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = 'active' AND query = 'COMMIT'"
    async with asyncio.timeout(10):
        while not await witness.connection.fetchval(busy, witness.name):
            await asyncio.sleep(0.005)


@pytest.mark.servers
async def test_a_conflict_told_by_the_commit_itself_is_tried_again(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=1)
    await witness.connection.execute(f"CREATE SEQUENCE {engines.table}_tries")
    fails_twice = f"IF nextval('{engines.table}_tries') < 3 THEN RAISE SQLSTATE '40001'; END IF"
    try:
        async with _SlowCommit(engines, witness, fails_twice):
            await engine.write(engines.adding("x"), 10)
        assert await witness.connection.fetchval(f"SELECT last_value FROM {engines.table}_tries") == 3
    finally:
        await witness.connection.execute(f"DROP SEQUENCE {engines.table}_tries")
    assert await engines.marks() == {"x"}


@pytest.mark.servers
async def test_a_commit_that_was_sent_is_awaited_before_the_cancellation_goes_on(
    engines: Engines, witness: Witness
) -> None:
    engine = engines(pool_size=1)
    async with _SlowCommit(engines, witness, "PERFORM pg_sleep(0.5)"):
        writing = asyncio.create_task(engine.write(engines.adding("x"), 10))
        await _commits(witness)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await engines.marks() == {"x"}
    assert await witness.states() == ["idle"]


@pytest.mark.servers
async def test_a_commit_that_outlasts_the_verbs_time_is_not_told_as_undone(
    engines: Engines, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_engine, "_GRACE", 0.1)
    left = server_engine.Patience.left.fget  # type: ignore[attr-defined]  # a property
    monkeypatch.setattr(server_engine.Patience, "left", property(lambda patience: left(patience) + 3))
    engine = engines(pool_size=1)
    async with _SlowCommit(engines, witness, "PERFORM pg_sleep(1)"):
        await engine.write(engines.adding("x"), 0.3)
    assert await engines.marks() == {"x"}


@pytest.mark.servers
async def test_the_server_ends_a_transaction_whose_client_is_silent(
    engines: Engines, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unified_storage.backends.sql.postgresql_connection._LATER_THAN_THE_CLIENT", 0.1)
    engine = engines(pool_size=1)
    transaction = await engine.begin(engines.adding("x"), 0.2)
    await witness.sees(0)
    with pytest.raises(StorageError):
        await transaction.run(nothing)
    await engine.write(engines.adding("x"), 5)


@pytest.mark.servers
async def test_a_transaction_lasts_no_longer_than_its_time(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=1)
    transaction = await engine.begin(nothing, 0.5)
    with pytest.raises(StorageTimeoutError, match="more than"):
        await transaction.run(asking("SELECT pg_sleep(20)"))
    await transaction.rollback()
    assert await witness.states() == ["idle"]
    assert await engine.read(pid, 10)


@pytest.mark.servers
async def test_three_hundred_transactions_cancelled_at_random_leave_no_half(engines: Engines, witness: Witness) -> None:
    engine = engines(pool_size=4)
    source = random.Random(7)

    async def both(number: int) -> None:
        transaction = await engine.begin(nothing, 30)
        try:
            await transaction.run(engines.adding(f"{number}a"))
            await transaction.run(engines.adding(f"{number}b"))
            await transaction.commit()
        finally:
            await transaction.rollback()

    async def cut(number: int) -> None:
        task = asyncio.create_task(both(number))
        await asyncio.sleep(source.uniform(0, 0.03))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for first in range(0, 300, 10):
        await asyncio.gather(*(cut(number) for number in range(first, first + 10)))
    there = await engines.marks()
    assert all((f"{number}a" in there) == (f"{number}b" in there) for number in range(300))
    assert 0 < len(there) < 600, "every one of them was cut off, or none"
    assert await _all_at_once(engine, 4) == 4
    await witness.sees(4)
    assert await witness.states() == ["idle"] * 4


async def _all_at_once(engine: ServerEngine, count: int) -> int:
    """How many connections *count* transactions have that are open together."""
    held = [await engine.begin(nothing, 30) for _ in range(count)]
    pids = {await transaction.run(asking("SELECT pg_backend_pid()")) for transaction in held}
    for transaction in held:
        await transaction.rollback()
    return len(pids)
