"""From a Redis URL and options to where the servers are and how to talk to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

from redis.asyncio.connection import URL_QUERY_ARGUMENT_PARSERS

from unified_storage.errors import StorageConfigurationError
from unified_storage.opening import StorageURL, number_option

_PORT = 6379
_ESCAPE = "in a user name or password write : / @ ? as %3A %2F %40 %3F"
"""Instead of what was written, which may be the half of a password."""
_DATABASES = range(1 << 31)
_PLAIN = (
    *("username", "password", "credential_provider", "client_name", "db"),
    *("socket_keepalive", "socket_keepalive_options", "socket_read_size"),
)
_SECURE = (
    *("ssl_keyfile", "ssl_certfile", "ssl_password", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"),
    *("ssl_check_hostname", "ssl_min_version", "ssl_ciphers", "ssl_include_verify_flags", "ssl_exclude_verify_flags"),
)
CLIENT_OPTIONS = frozenset({*_PLAIN, *_SECURE, "protocol", "pool_size", "connect_timeout", "statement_timeout"})
"""What concerns connections, so that storages that share them cannot each have their own."""


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach the servers of one client."""

    start: tuple[Address, ...]
    """The node; of a cluster some of its nodes, from which it is explored."""
    is_cluster: bool
    is_secure: bool
    pool_size: int
    """Connections at most, for each event loop and node."""
    connect_timeout: float
    """Seconds for connecting, and for waiting until a server can be reached again."""
    statement_timeout: float
    """Seconds for a call that has no time-out of its own."""
    driver: Mapping[str, Any] = field(repr=False)
    """What redis-py's connections are told; may hold a password."""

    @property
    def attempt_timeout(self) -> float:
        """Seconds for one attempt to connect: in a cluster another node may know by then who stands in."""
        return (
            min(self.connect_timeout, max(1.0, self.connect_timeout / 4)) if self.is_cluster else self.connect_timeout
        )


def settings_of(url: StorageURL, options: dict[str, Any]) -> Settings:
    """The settings that *url* and *options* (which hold its query) ask for; takes what it knows out of *options*.

    Raises:
        StorageConfigurationError: no address, number or value that Redis could be reached by.
    """
    is_cluster, is_secure = "+cluster" in url.scheme, url.scheme.startswith("rediss")
    authority, _, path = url.location.partition("/")
    user, _, hosts = authority.rpartition("@")
    driver = {**_named_in(user, path), **_taken(options, _PLAIN)}
    secure = _taken(options, _SECURE)
    if secure and not is_secure:
        raise StorageConfigurationError(f"{next(iter(secure))} is for rediss://, not for {url.scheme}://")
    if driver.get("db", 0) not in _DATABASES:
        raise StorageConfigurationError(f"a Redis database is numbered from 0 on: {driver['db']} is none")
    if is_cluster and driver.get("db", 0) != 0:
        raise StorageConfigurationError("a Redis cluster has database 0 alone")
    _check_protocol(options)
    start = tuple(_address(host) for host in hosts.split(","))
    if len(start) > 1 and not is_cluster:
        raise StorageConfigurationError(f"{url.scheme}:// takes one host; several are for redis+cluster://")
    return Settings(
        start=start,
        is_cluster=is_cluster,
        is_secure=is_secure,
        pool_size=max(1, int(number_option(options, "pool_size", 10))),
        connect_timeout=number_option(options, "connect_timeout", 10),
        statement_timeout=number_option(options, "statement_timeout", 30),
        driver=driver | secure,
    )


def _named_in(user: str, path: str) -> dict[str, Any]:
    """The user, the password and the database of a URL, as far as it names them."""
    username, _, password = user.partition(":")
    named: dict[str, Any] = {"username": unquote(username), "password": unquote(password)}
    if path and not path.isdecimal():
        raise StorageConfigurationError(f"behind its / the URL has no number of a Redis database: {_ESCAPE}")
    return {name: text for name, text in named.items() if text} | ({"db": int(path)} if path else {})


def _address(host: str) -> Address:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):  # no port: the colons of [::1] are its own
        name, port = host, str(_PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise StorageConfigurationError(f"the URL names no host:port: {_ESCAPE}")
    return Address(unquote(name).strip("[]") or "localhost", int(port))


def _taken(options: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: _typed(name, options.pop(name)) for name in names if name in options}


def _typed(name: str, value: Any) -> Any:
    """*value* as the driver takes it: the query of a URL holds texts."""
    convert: Callable[..., Any] | None = URL_QUERY_ARGUMENT_PARSERS.get(name)
    if convert is None or not isinstance(value, str):
        return value
    try:
        return convert(value)
    except (TypeError, ValueError) as error:
        raise StorageConfigurationError(f"{name} cannot be {value!r}") from error


def _check_protocol(options: dict[str, Any]) -> None:
    """Answers have one shape only, that of RESP2, which every server speaks."""
    protocol = options.pop("protocol", 2)
    if str(protocol) != "2":
        raise StorageConfigurationError(f"protocol must be 2, which every server speaks, not {protocol!r}")
