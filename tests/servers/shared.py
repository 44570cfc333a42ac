"""Servers started on demand, once for all processes that need them, and ended with the last of these.

Every server has a record in the state folder, `.services` in the checkout unless UNIFIED_STORAGE_SERVICES names
another: `redis.json` for one that is shared, `private-...json` for one that a single process has for itself. A record
whose users have all died is ended by the next start.
"""

import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import programs
from tests.servers.galera import Galera
from tests.servers.locks import locked
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL, PostgreSQLPair
from tests.servers.processes import PortTakenError, Process
from tests.servers.programs import ORIGINS, Engine, MissingServer
from tests.servers.redis import Redis, RedisCluster, RedisClusterWithReplicas
from tests.servers.server import RecordFile, Server


@dataclass(frozen=True)
class Kind:
    """A kind of server: how it is made, of which programs, and the variable that names one instead."""

    variable: str
    engine: Engine
    make: Callable[[programs.Programs, RecordFile], Server]
    remark: str = ""


KINDS = {
    "postgresql": Kind("TEST_POSTGRES_URL", programs.POSTGRESQL, PostgreSQL),
    "mysql": Kind("TEST_MYSQL_URL", programs.MARIADB, MariaDB),
    "redis": Kind("TEST_REDIS_URL", programs.REDIS, Redis),
    "redis-cluster": Kind("TEST_REDIS_CLUSTER_URL", programs.REDIS, RedisCluster, ", 3 masters"),
    "postgresql-ha": Kind("TEST_POSTGRES_HA_URL", programs.POSTGRESQL, PostgreSQLPair, ", with a standby"),
    "redis-cluster-ha": Kind(
        "TEST_REDIS_CLUSTER_HA_URL", programs.REDIS, RedisClusterWithReplicas, ", 3 masters and 3 replicas"
    ),
    "galera": Kind("TEST_GALERA_URL", programs.MARIADB, Galera, ", 3 Galera nodes"),
}


def state_folder() -> Path:
    named = os.environ.get("UNIFIED_STORAGE_SERVICES")
    return Path(named) if named else Path(__file__).resolve().parent.parent.parent / ".services"


def origins() -> Sequence[str]:
    """Where programs may come from, in order: UNIFIED_STORAGE_SERVERS_FROM, or everything."""
    named = os.environ.get("UNIFIED_STORAGE_SERVERS_FROM", "").replace(",", " ").split()
    if unknown := sorted(set(named) - set(ORIGINS)):
        raise MissingServer(f"UNIFIED_STORAGE_SERVERS_FROM names {unknown[0]!r}; there are {', '.join(ORIGINS)}")
    return named or ORIGINS


def record_of(kind: str) -> RecordFile:
    """The record of the shared server of a kind, whether there is one or not."""
    return RecordFile(state_folder() / f"{kind}.json")


def foresee(kind: str) -> str:
    """What a start would take, without starting it: "7.0.15 installed"; MissingServer when there is nothing."""
    return programs.foresee(KINDS[kind].engine, state_folder(), origins()) + KINDS[kind].remark


def start_private(kind: str) -> Server:
    """A server for this process alone, to be crashed and restarted; use it in a `with`.

    Raises:
        MissingServer: there are no programs for it on this machine.
        ServerError: it does not start; the message holds the end of its log.
    """
    end_orphans()
    name = f"private-{os.getpid()}-{kind}-{secrets.token_hex(4)}.json"
    return _started(kind, RecordFile(state_folder() / name), users=[os.getpid()])


def join(kind: str, user: int | None) -> dict[str, Any]:
    """The facts of the shared server of a kind, which is started when it does not run yet.

    Args:
        user: number of the process that uses it, until it ends or leaves; None keeps the server until `let_go`.
    Raises:
        MissingServer, ServerError: as `start_private`.
    """
    end_orphans()
    with _lock_of(kind):
        record = record_of(kind)
        if not record.alive:
            record.end()
            _started(kind, record)
            record.write(users=[])
        users = {process.pid: process.began for process in record.users()}
        if user is None:
            record.write(kept=True)
        else:
            users[user] = Process.of(user).began
        record.write(users=[list(pair) for pair in users.items()])
        return record.read()


def leave(user: int) -> None:
    """End a process's use of all shared servers, and the servers that nobody else uses."""
    for kind in KINDS:
        with _lock_of(kind):
            record = record_of(kind)
            if record.read():
                record.write(users=[[other.pid, other.began] for other in record.users() if other.pid != user])
            _end_unused(record)


def let_go(kind: str) -> list[int]:
    """End the shared server of a kind, or what still uses it: these processes end it when they are through."""
    with _lock_of(kind):
        record = record_of(kind)
        if record.read():
            record.write(kept=False)
        _end_unused(record)
        return [process.pid for process in record.users()]


def end_orphans() -> None:
    """End the servers that nobody uses any more: those who did have left, or have died."""
    for kind in KINDS:
        # who holds the lock starts it or ends it, and may take a while
        with suppress(BlockingIOError), _lock_of(kind, wait=False):
            _end_unused(record_of(kind))
    for file in state_folder().glob("private-*.json"):
        _end_unused(RecordFile(file))


def _end_unused(record: RecordFile) -> None:
    facts = record.read()
    if facts and not facts.get("kept") and not record.users():
        record.end()


def _lock_of(kind: str, *, wait: bool = True) -> AbstractContextManager[None]:
    return locked(state_folder() / f"{kind}.lock", wait=wait)


def _started(kind: str, record: RecordFile, users: Sequence[int] = ()) -> Server:
    found = programs.find(KINDS[kind].engine, state_folder(), origins())
    for _ in range(2):
        # between our look at a port and the server's somebody else may take it
        with suppress(PortTakenError):
            return _start(kind, found, record, users or [os.getpid()])
    return _start(kind, found, record, users or [os.getpid()])


def _start(kind: str, found: programs.Programs, record: RecordFile, users: Sequence[int]) -> Server:
    # a start that is interrupted leaves an orphan of these processes
    record.write(kind=kind, users=[[pid, Process.of(pid).began] for pid in users])
    try:
        server = KINDS[kind].make(found, record)
        server.start()
    except BaseException:
        record.end()
        raise
    record.write(url=server.url, version=server.version + KINDS[kind].remark, origin=server.programs.origin)
    return server
