"""What the environment says about a service: its databases, its port, its keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from session_api.addresses import Networks
from session_api.callers import Authenticator, SecurityKey, SignedTokens
from unified_storage.errors import StorageConfigurationError

MAP, DSN, FALLBACK, DEFAULT_ID = "AGNO_SESSION_DSN_MAP", "AGNO_PG_DSN", "DATABASE_URL", "AGNO_DEFAULT_DB_ID"
PORT, KEY, TOKEN_KEY = "AGNO_SERVICE_PORT", "OS_SECURITY_KEY", "JWT_VERIFICATION_KEY"
ALGORITHM, AUDIENCE = "JWT_ALGORITHM", "JWT_AUDIENCE"
ISOLATION, HISTORY = "SESSION_USER_ISOLATION", "SESSION_ACCEPT_HISTORY"
PROXIES, TIMEOUT = "SESSION_TRUSTED_PROXIES", "SESSION_REQUEST_TIMEOUT"

EMBEDDED = "sqlite:///sessions.db"
ONLY = "default"
"""What a database is called that nobody gave an id."""

_SWITCHES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Settings:
    """How a service is set up.

    Attributes:
        urls: of the databases, by id, in the order in which they were written.
        default_id: which of them is meant where a request names none.
        authenticate: None lets everybody in.
        request_timeout: seconds.
    """

    urls: Mapping[str, str] = field(repr=False)
    default_id: str
    port: int = 8080
    authenticate: Authenticator | None = None
    accept_history: bool = False
    trusted_proxies: Networks = ()
    request_timeout: float = 60.0


def settings_from(environment: Environment, *, url: str | None = None, port: int | None = None) -> Settings:
    """The settings in *environment*; *url* and *port* win.

    Raises:
        StorageConfigurationError: no database is named, or a value makes no sense; the message names the variable.
    """
    urls = {environment.get(DEFAULT_ID) or ONLY: url} if url else _urls(environment)
    return Settings(
        urls=urls,
        default_id=_default_id(environment, urls),
        port=_port(environment) if port is None else port,
        authenticate=_authenticator(environment),
        accept_history=_switch(environment, HISTORY),
        trusted_proxies=_networks(environment),
        request_timeout=_seconds(environment),
    )


def names_a_database(environment: Environment) -> bool:
    """Whether *environment* says where sessions are."""
    return any(environment.get(name) for name in (MAP, DSN, FALLBACK))


def _urls(environment: Environment) -> dict[str, str]:
    if environment.get(MAP):
        return _mapped(environment[MAP])
    url = environment.get(DSN) or environment.get(FALLBACK)
    if not url:
        raise _wrong(f"no database is named: set {DSN} (or {FALLBACK}), or {MAP} for several")
    return {environment.get(DEFAULT_ID) or ONLY: url}


def _mapped(text: str) -> dict[str, str]:
    try:
        found = json.loads(text, object_pairs_hook=list)
    except ValueError:
        raise _wrong(f"{MAP} is no JSON object of ids and URLs") from None  # what it quotes may be a password
    is_map = isinstance(found, list) and all(isinstance(pair, tuple) for pair in found) and bool(found)
    if not is_map or not all(isinstance(url, str) and url and name for name, url in found):
        raise _wrong(f"{MAP} is no JSON object of ids and URLs, or an empty one")
    urls = dict(found)
    if len(urls) != len(found):
        raise _wrong(f"{MAP} has an id twice")
    return urls


def _default_id(environment: Environment, urls: Mapping[str, str]) -> str:
    told = environment.get(DEFAULT_ID)
    if told and told not in urls:
        raise _wrong(f"{DEFAULT_ID} is {told!r}, and {MAP} has {', '.join(map(repr, urls))}")
    return told or next(iter(urls))


def _port(environment: Environment) -> int:
    text = environment.get(PORT) or "8080"
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16):
        raise _wrong(f"{PORT} is {text!r}, which is no port")
    return int(text)


def _authenticator(environment: Environment) -> Authenticator | None:
    key, token_key = environment.get(KEY), environment.get(TOKEN_KEY)
    isolated = _switch(environment, ISOLATION)
    if key and token_key:
        raise _wrong(f"{KEY} and {TOKEN_KEY} are both set, and a caller can only be asked for one of them")
    if isolated and not token_key:
        raise _wrong(f"{ISOLATION} needs {TOKEN_KEY}: without tokens nobody knows who a caller is")
    if not token_key:
        return SecurityKey(key) if key else None
    algorithms = (environment.get(ALGORITHM) or "RS256").replace(",", " ").split()
    return SignedTokens([token_key], algorithms, environment.get(AUDIENCE) or None, isolated)


def _switch(environment: Environment, name: str) -> bool:
    text = environment.get(name) or "0"
    if text.lower() not in _SWITCHES:
        raise _wrong(f"{name} is {text!r}; write 1 or 0")
    return _SWITCHES[text.lower()]


def _networks(environment: Environment) -> Networks:
    texts = (environment.get(PROXIES) or "").replace(",", " ").split()
    try:
        return tuple(ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise _wrong(f"{PROXIES}: {error}; write addresses or networks such as 10.0.0.0/8") from error


def _seconds(environment: Environment) -> float:
    text = environment.get(TIMEOUT) or "60"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise _wrong(f"{TIMEOUT} is {text!r}, which is no number of seconds above 0")
    return seconds


def _wrong(message: str) -> StorageConfigurationError:
    return StorageConfigurationError(message)
