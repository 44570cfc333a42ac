"""The engines that stores of ours live on: how their places are written, and what a place is known again by."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlencode

from unified_storage.opening import StorageURL, backend_names


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine.

    Attributes:
        example: a URL to be copied and filled in.
        aliases: other schemes for the same places.
        port: where its servers listen unless told otherwise; None for what is no server.
        driver: the module without which it cannot be opened.
        extra: what installs that.
    """

    name: str
    example: str
    aliases: tuple[str, ...] = ()
    port: int | None = None
    driver: str = ""
    extra: str = ""

    @property
    def to_install(self) -> str:
        """The command that makes it usable here; empty where it is already."""
        is_there = not self.driver or find_spec(self.driver) is not None
        return "" if is_there else f"pip install 'unified-storage[{self.extra}]'"


OURS = (
    Engine("memory", "memory://"),
    Engine("sqlite", "sqlite:///file.db"),
    Engine("postgresql", "postgresql://user@host/database", ("postgres",), 5432, "asyncpg", "postgres"),
    Engine("mysql", "mysql://user@host/database", ("mariadb",), 3306, "asyncmy", "mysql"),
    Engine("redis", "redis://host:6379/0", ("rediss",), 6379, "redis", "redis"),
    Engine("redis+cluster", "redis+cluster://host1:7000,host2:7000", ("rediss+cluster",), 6379, "redis", "redis"),
)
_BY_SCHEME = {scheme: engine for engine in OURS for scheme in (engine.name, *engine.aliases)}
_ALSO_LOCATE = ("namespace", "search_path", "service")
"""Options by which one URL means different stores."""


def known_engines() -> list[Engine]:
    """Every engine that a store can be opened on, also those of other distributions; each once."""
    others = [Engine(scheme, f"{scheme}://") for scheme in backend_names() if scheme not in _BY_SCHEME]
    return [*OURS, *others]


def is_ours(scheme: str) -> bool:
    """Whether the engine of *scheme* comes with this project, and takes all options that its storages have."""
    return scheme in _BY_SCHEME


def file_of(url: StorageURL) -> Path | None:
    """The file that a storage is; None for one that is in no file."""
    return Path(url.path) if url.scheme == "sqlite" and not lives_in_memory(url) else None


def lives_in_memory(url: StorageURL) -> bool:
    """Whether every opening of *url* gives another, empty store."""
    return url.scheme == "memory" or (url.scheme == "sqlite" and url.path in ("", ":memory:"))


def storage_identity(url: StorageURL) -> str:
    """A storage's URL by which it is known again, whoever opens it and however its URL is written.

    It has no user, no password, and no option but those that tell one place from another.
    """
    engine = _BY_SCHEME.get(url.scheme)
    told = {name: url.options[name] for name in _ALSO_LOCATE if url.options.get(name)}
    path = file_of(url)
    if path is not None:
        location = f"/{path.resolve()}"
    elif engine is None or engine.port is None:
        location = url.location.rpartition("@")[2]
    else:
        location = f"{_servers(engine, url)}/{_database(engine, url)}"
    return f"{engine.name if engine else url.scheme}://{location}" + (f"?{urlencode(told)}" if told else "")


def _servers(engine: Engine, url: StorageURL) -> str:
    if socket := url.options.get("unix_socket"):
        return socket
    hosts = url.options.get("host") or unquote(_authority(url).rpartition("@")[2])
    port = url.options.get("port") or str(engine.port)
    if not hosts and engine.name == "postgresql":  # its driver looks there
        hosts, port = os.environ.get("PGHOST", ""), os.environ.get("PGPORT", port)
    return ",".join(sorted({_server(host, port) for host in hosts.split(",")}))


def _authority(url: StorageURL) -> str:
    """What stands before the ``/`` of the database; a password may hold one as well."""
    login, at, rest = url.location.rpartition("@")
    return f"{login}{at}{rest.partition('/')[0]}"


def _server(text: str, port: str) -> str:
    """``host:port``; a folder with a socket stays as it is."""
    if text.startswith("/"):
        return text
    host, colon, own_port = text.rpartition(":")
    if not colon or text.endswith("]"):  # no port: the colons of [::1] are its own
        host, own_port = text, port
    return f"{(host or 'localhost').lower()}:{own_port or port}"


def _database(engine: Engine, url: StorageURL) -> str:
    options, login = url.options, _authority(url).rpartition("@")[0]
    written = unquote(url.location.rpartition("@")[2].partition("/")[2])
    named = options.get("database") or options.get("dbname") or options.get("db") or written
    if engine.name == "postgresql":  # it takes the user's name for that of the database
        user = options.get("user") or unquote(login.partition(":")[0]) or os.environ.get("PGUSER", "")
        return named or os.environ.get("PGDATABASE") or user
    return named.lstrip("0") if engine.driver == "redis" else named
