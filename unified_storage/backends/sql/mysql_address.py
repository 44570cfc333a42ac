"""Where the servers of a ``mysql://`` URL are, and what a login to them takes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from unified_storage.errors import StorageConfigurationError
from unified_storage.opening import StorageURL, port_number

_PORT = 3306
_PASSED_ON = ("password_creator", "program_name", "server_public_key")
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


@dataclass(frozen=True, slots=True)
class Place:
    """One server: a host and its port, or a socket file."""

    host: str
    port: int = _PORT
    unix_socket: str | None = None

    def __str__(self) -> str:
        return self.unix_socket or f"{self.host}:{self.port}"

    @property
    def options(self) -> dict[str, Any]:
        if self.unix_socket is not None:
            return {"unix_socket": self.unix_socket}
        return {"host": self.host, "port": self.port}


def places_and_login(url: StorageURL, options: dict[str, Any]) -> tuple[list[Place], dict[str, Any]]:
    """The servers of *url* in order, and asyncmy's other arguments; what is used is taken out of *options*.

    ``mysql://user:password@host:port,host:port/database``, percent-encoded where a part holds ``: / @ ?``.

    Raises:
        StorageConfigurationError: a port or an option that is no such thing. The URL itself is not shown.
    """
    login, _, rest = url.location.rpartition("@")
    hosts, _, database = rest.partition("/")
    user, _, password = login.partition(":")
    arguments: dict[str, Any] = {
        "user": options.pop("user", None) or unquote(user) or None,
        # As bytes: asyncmy takes a text for Latin-1.
        "password": str(options.pop("password", None) or unquote(password)).encode(),
        "database": options.pop("database", None) or unquote(database),
        "charset": "utf8mb4",
        "autocommit": None,
        "program_name": "unified-storage",
        "ssl": _tls(options),
    }
    if not arguments["database"]:
        raise StorageConfigurationError("the URL names no database: write mysql://user@host/database")
    arguments |= {name: options.pop(name) for name in _PASSED_ON if name in options}
    return _places(str(options.pop("host", "") or hosts), options), arguments


def _places(hosts: str, options: dict[str, Any]) -> list[Place]:
    port, unix_socket = options.pop("port", None), options.pop("unix_socket", None)
    if unix_socket is not None:
        return [Place("localhost", unix_socket=str(unix_socket))]
    return [_place(host, str(port or _PORT)) for host in hosts.split(",")]


def _place(text: str, default_port: str) -> Place:
    """``host``, ``host:port`` or ``[IPv6]:port``."""
    host, port = text, ""
    if not text.endswith("]"):
        host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
    try:
        return Place(unquote(host).strip("[]") or "localhost", port_number(port or default_port))
    except ValueError:
        raise StorageConfigurationError(
            "the URL has a port that is no number; in a user name or password write : / @ ? as %3A %2F %40 %3F"
        ) from None


def _tls(options: dict[str, Any]) -> ssl.SSLContext | None:
    """How to encrypt: not at all, or with a certificate that is checked unless ``ssl=unverified`` was asked for."""
    wanted = options.pop("ssl", None)
    ca, certificate, key = (options.pop(name, None) for name in ("ssl_ca", "ssl_cert", "ssl_key"))
    if isinstance(wanted, ssl.SSLContext):
        return wanted
    word = str(wanted if wanted is not None else bool(ca or certificate)).lower()
    if word in _FALSE:
        return None
    if word not in (*_TRUE, "unverified"):
        raise StorageConfigurationError(f"ssl is true, false, unverified or an SSLContext, not {wanted!r}")
    try:
        context = ssl.create_default_context(cafile=ca)
        if word == "unverified":
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(certificate, keyfile=key)
    except OSError as error:
        raise StorageConfigurationError(f"a certificate file cannot be used: {error}", cause=error) from error
    return context
