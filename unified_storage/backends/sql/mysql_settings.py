"""What a session on MySQL or MariaDB is told when it begins, and what the server says of itself."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unified_storage.errors import StorageConfigurationError

Variables = Mapping[str, str]
"""Variables of a server or a session, as text; one that a server does not know is missing."""

_MODE = "'PIPES_AS_CONCAT,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"
_IDENTITY = ("hostname", "port", "server_id", "server_uuid", "server_uid")
_TIME_LIMITS = ("max_statement_time", "max_execution_time")
_SET = (
    *("sql_mode", "time_zone", "autocommit", "tx_isolation", "transaction_isolation"),
    *("wsrep_sync_wait", "max_sort_length"),
    *("innodb_lock_wait_timeout", "lock_wait_timeout", *_TIME_LIMITS),
)
_ASKED = (
    *("version", "max_allowed_packet", "read_only", "idle_transaction_timeout", "pseudo_thread_id", "wsrep_on"),
    *(*_IDENTITY, *_SET),
)
_OF_FACTS = ("version", "innodb_flush_log_at_trx_commit", "log_bin", "sync_binlog", "wsrep_on")
_OF_GALERA = ("wsrep_cluster_size", "wsrep_cluster_status", "wsrep_local_state_comment")
_VERSION = re.compile(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)")
_OLDEST = {"MySQL": (8, 0, 19), "MariaDB": (10, 5, 0)}


def _shown(kind: str, names: tuple[str, ...]) -> str:
    return f"SHOW {kind} WHERE Variable_name IN ({', '.join(map(repr, names))})"


SHOW_SESSION = _shown("SESSION VARIABLES", _ASKED)
SHOW_FACTS = _shown("GLOBAL VARIABLES", _OF_FACTS)
SHOW_GALERA = _shown("GLOBAL STATUS", _OF_GALERA)


@dataclass(frozen=True, slots=True)
class Session:
    """What the server said of a connection when it was made."""

    number: int
    server: tuple[str, ...]
    """Tells this very server from others, also behind a proxy."""
    largest_packet: int
    """Bytes."""
    is_read_only: bool
    ends_idle_transactions: bool
    time_limits: tuple[str, ...]
    """Its variables that end a statement which takes too long."""
    is_in_cluster: bool
    """Whether other nodes write too (Galera): what they do first may end a statement here."""
    skips_locked: bool
    """Whether a read can leave out the rows that somebody else holds."""


def by_name(rows: Sequence[Sequence[Any]]) -> Variables:
    return {str(name): str(value) for name, value in rows}


def _is_on(name: str, variables: Variables) -> bool:
    return variables.get(name, "OFF") not in ("OFF", "0")


def session(variables: Variables) -> Session:
    return Session(
        number=int(variables["pseudo_thread_id"]),
        server=tuple(variables.get(name, "") for name in _IDENTITY),
        largest_packet=int(variables["max_allowed_packet"]),
        is_read_only=_is_on("read_only", variables),
        ends_idle_transactions="idle_transaction_timeout" in variables,
        time_limits=tuple(name for name in _TIME_LIMITS if name in variables),
        is_in_cluster=_is_on("wsrep_on", variables),
        skips_locked=_skips_locked(variables.get("version", "")),
    )


def settings(variables: Variables, statement_timeout: float) -> str:
    """The statement that sets up a session; every time-out is *statement_timeout* seconds."""
    seconds = max(1, math.ceil(statement_timeout))
    wanted = {
        "sql_mode": _MODE,
        "time_zone": "'+00:00'",
        "autocommit": "1",
        # One of the two: writers lock the rows they read, and have to see what stands there after a wait.
        "tx_isolation": "'READ-COMMITTED'",
        "transaction_isolation": "'READ-COMMITTED'",
        "innodb_lock_wait_timeout": str(seconds),
        "lock_wait_timeout": str(seconds),
        "max_statement_time": f"{statement_timeout:.3f}",
        "max_execution_time": str(math.ceil(statement_timeout * 1000)),
        # The default of 1024 bytes leaves out the last ones of our longest ids.
        "max_sort_length": "8192",
        # Galera: a read waits for what other nodes have committed before it.
        "wsrep_sync_wait": "1",
    }
    return "SET SESSION " + ", ".join(f"{name} = {value}" for name, value in wanted.items() if name in variables)


def unlimited(described: Session, longest_wait: float) -> str:
    """The statement that lifts a session's time limits, but for waits: these end after *longest_wait* seconds."""
    longest = max(1, math.ceil(longest_wait))
    waits = [f"innodb_lock_wait_timeout = {longest}", f"lock_wait_timeout = {longest}"]
    return "SET SESSION " + ", ".join([*waits, *(f"{name} = 0" for name in described.time_limits)])


def flavour(version: str) -> str:
    return "MariaDB" if "mariadb" in version.lower() else "MySQL"


def _numbers(version: str) -> tuple[int, ...]:
    found = _VERSION.match(version)
    return tuple(map(int, found.groups())) if found else (0, 0, 0)


def _skips_locked(version: str) -> bool:
    return flavour(version) == "MySQL" or _numbers(version) >= (10, 6, 0)


def refuse_old(version: str) -> None:
    """Raise ``StorageConfigurationError`` for a server that lacks what the statements need."""
    kind = flavour(version)
    if _numbers(version) < _OLDEST[kind]:
        least = ".".join(map(str, _OLDEST[kind]))
        raise StorageConfigurationError(
            f"{kind} {version} is too old: {least} is needed", details={"found": version, "needed": least}
        )


def facts(variables: Variables, galera: Variables) -> dict[str, Any]:
    """What a health check shows; ``durability`` is ``full`` where a commit survives a power cut, else ``delayed``."""
    flushes = variables.get("innodb_flush_log_at_trx_commit") == "1"
    is_full = flushes and (not _is_on("log_bin", variables) or variables.get("sync_binlog") == "1")
    known = {
        "version": variables["version"],
        "flavour": flavour(variables["version"]),
        "durability": "full" if is_full else "delayed",
    }
    if not _is_on("wsrep_on", variables):
        return known
    return known | {
        "galera": {
            "size": int(galera.get("wsrep_cluster_size", 0)),
            "status": galera.get("wsrep_cluster_status", "unknown"),
            "state": galera.get("wsrep_local_state_comment", "unknown"),
        }
    }
