"""Where the servers of a ``mysql://`` URL are, and what a login to them takes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from unified_storage.errors import StorageConfigurationError
from unified_storage.opening import StorageURL

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

    ``mysql://user:password@host:port,host:port/database``, percent-encoded where a part holds ``@ / : ?``.
    """
    login, _, rest = url.location.rpartition("@")
    hosts, _, database = rest.partition("/")
    user, _, password = login.partition(":")
    if not database:
        raise StorageConfigurationError(f"{url} names no database: write mysql://user@host/database")
    arguments: dict[str, Any] = {
        "user": unquote(user) or None,
        # As bytes: asyncmy takes a text for Latin-1.
        "password": unquote(password).encode(),
        "database": unquote(database),
        "charset": "utf8mb4",
        "autocommit": None,
        "program_name": "unified-storage",
        "ssl": _tls(options),
    }
    arguments |= {name: options.pop(name) for name in _PASSED_ON if name in options}
    return _places(hosts, options.pop("unix_socket", None)), arguments


def _places(hosts: str, unix_socket: str | None) -> list[Place]:
    if unix_socket is not None:
        return [Place("localhost", unix_socket=str(unix_socket))]
    return [_place(host) for host in hosts.split(",")]


def _place(text: str) -> Place:
    host, port = text, ""
    if not text.endswith("]") and ":" in text:  # a bare IPv6 address stands in brackets
        host, _, port = text.rpartition(":")
    if port and not (port.isdecimal() and 0 < int(port) < 65_536):
        raise StorageConfigurationError(f"{port!r} is no port number")
    return Place(unquote(host).strip("[]") or "localhost", int(port or _PORT))


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
