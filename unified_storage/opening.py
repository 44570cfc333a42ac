"""From a URL to a storage: the one place that knows which backend a scheme means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from unified_storage.clock import Clock, utc_now
from unified_storage.errors import StorageConfigurationError, redacted
from unified_storage.filters import Path, parse_path
from unified_storage.interface import Indexed, IUnifiedStorage
from unified_storage.record import MAX_ID_BYTES, checked_type

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "unified_storage.backends"
_OWNERS = ("app_name", "user_id", "agent_id", "team_id", "workflow_id")
SESSION_PATHS = tuple(f"metadata.{name}" for name in ("session_id", "scope", *_OWNERS, "kind", "name", "status"))
"""Paths of session records that are fast on every backend."""

Factory = Callable[..., IUnifiedStorage]
"""``factory(url, *, indexed, clock, **options)`` makes an unopened storage."""

_BACKENDS = {  # scheme: module, factory, extra to install
    "memory": ("unified_storage.backends.memory", "open_memory", ""),
    "sqlite": ("unified_storage.backends.sql.sqlite", "open_sqlite", ""),
    "redis": ("unified_storage.backends.redis.storage", "open_redis", "redis"),
    "rediss": ("unified_storage.backends.redis.storage", "open_redis", "redis"),
    "redis+cluster": ("unified_storage.backends.redis.storage", "open_redis", "redis"),
    "rediss+cluster": ("unified_storage.backends.redis.storage", "open_redis", "redis"),
    "postgresql": ("unified_storage.backends.sql.postgresql", "open_postgresql", "postgres"),
    "postgres": ("unified_storage.backends.sql.postgresql", "open_postgresql", "postgres"),
    "mysql": ("unified_storage.backends.sql.mysql", "open_mysql", "mysql"),
    "mariadb": ("unified_storage.backends.sql.mysql", "open_mysql", "mysql"),
}
_EXAMPLES = "sqlite:///file.db, postgresql://user@host/database, mysql://user@host/database or redis://host:6379/0"
_SWITCHES = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_registered: dict[str, Factory] = {}


@dataclass(frozen=True, slots=True)
class StorageURL:
    """A storage's URL taken apart; its parts may hold a password, ``str()`` and ``repr()`` never do."""

    text: str = field(repr=False)
    scheme: str
    location: str = field(repr=False)
    """Everything behind ``scheme://`` up to the ``?``, as written."""
    options: dict[str, str] = field(repr=False)

    def __str__(self) -> str:
        return redacted(self.text)

    @property
    def path(self) -> str:
        """What ``sqlite:///path`` names: relative after three slashes, absolute after four."""
        return unquote(self.location.removeprefix("/"))


def parse_url(text: str) -> StorageURL:
    """The parts of a storage's URL, or ``StorageConfigurationError``."""
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme:
        shown = redacted(re.sub(r":.*@", ":***@", text, flags=re.DOTALL))  # it may be a URL that lacks its //
        raise StorageConfigurationError(
            f"{shown!r} is no storage URL: write one such as {_EXAMPLES}", details={"url": shown}
        )
    location, _, query = rest.partition("?")
    return StorageURL(text, scheme.lower(), location, dict(parse_qsl(query, keep_blank_values=True)))


def open_storage(
    url: str | None = None,
    *,
    instance_name: str | None = None,
    indexed: Mapping[str, Iterable[str]] | None = None,
    clock: Clock | None = None,
    **options: Any,
) -> IUnifiedStorage:
    """An unopened storage; it connects on first use, or by ``async with``.

    Args:
        url: ``memory://``, ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite:///:memory:``,
            ``postgresql://user@host/database``, ``mysql://user@host/database``, ``redis://host:6379/0``,
            ``redis+cluster://host:7000,host:7001``, or the scheme of a registered backend. Options may stand in its
            query; keywords win.
        instance_name: what :func:`unified_storage.register_redis_instance` registered; a URL wins.
        indexed: further indexed paths by record type, ``{"note": ["data.tag"]}``.
        clock: gives the time, aware; the only clock the storage uses.
        options: ``namespace``, ``pool_size``, ``connect_timeout`` and ``statement_timeout`` (seconds), and what
            the backend takes. With ``create=False``, which every backend here takes, the store has to be there:
            opening it makes and upgrades nothing, and raises ``StorageConfigurationError`` where there is none.
    Raises:
        StorageConfigurationError: an unknown scheme, option or instance.
    """
    if url is None:
        parsed, defaults = _instance(instance_name)
    else:
        parsed = parse_url(url)
        defaults = parsed.options
    return _factory(parsed.scheme)(
        parsed, indexed=indexed_paths(indexed), clock=clock or utc_now, **{**defaults, **options}
    )


def _instance(name: str | None) -> tuple[StorageURL, dict[str, Any]]:
    """The URL of a registered instance, and options that hand its client over."""
    from unified_storage.instances import named_instance  # here: it needs this module

    if name is None:
        raise StorageConfigurationError(f"give a URL, such as {_EXAMPLES}")
    instance = named_instance(name)
    return instance.url, {**instance.options, "client": instance.client}


def create_storage(type_name: str, config: Mapping[str, Any] | None = None) -> IUnifiedStorage:
    """A storage by type name and settings: ``create_storage("sqlite", {"path": "app.db"})``.

    ``path`` or ``location`` stands for what follows the scheme in a URL; ``instance_name``, ``indexed``, ``clock`` and
    options as in :func:`open_storage`.
    """
    settings = dict(config or {})
    if "instance_name" in settings and not settings.keys() & {"url", "location", "path"}:
        url = _instance(settings["instance_name"])[0].text
        _check_type(type_name, url)
        return open_storage(**settings)
    if "url" in settings:
        url = str(settings.pop("url"))
    else:
        url = f"{type_name}://{settings.pop('location', '') or _as_location(settings.pop('path', None))}"
    _check_type(type_name, url)
    return open_storage(url, **settings)


def _check_type(type_name: str, url: str) -> None:
    if parse_url(url).scheme != type_name:
        raise StorageConfigurationError(f"the URL {redacted(url)!r} is not of type {type_name!r}")


def _as_location(path: str | None) -> str:
    return "" if path is None else f"/{path}"


def register_backend(type_name: str, factory: Factory) -> None:
    """Make *factory* the backend of a URL scheme; ``factory(url, *, indexed, clock, **options)``."""
    _registered[type_name] = factory


def backend_names() -> list[str]:
    """Every type of storage that can be opened: built in, registered, or installed by entry point."""
    return sorted({*_BACKENDS, *_registered, *(point.name for point in _installed())})


def is_backend(scheme: str) -> bool:
    """Whether storages of this type can be opened; what is installed is searched only for what is not built in."""
    return scheme in _BACKENDS or scheme in _registered or any(point.name == scheme for point in _installed())


def _installed() -> Iterable[EntryPoint]:
    """The backends that installed distributions offer."""
    from importlib.metadata import entry_points  # here: it takes longer to import than the rest of this floor

    return entry_points(group=ENTRY_POINT_GROUP)


def _factory(scheme: str) -> Factory:
    if scheme in _registered:
        return _registered[scheme]
    if scheme in _BACKENDS:
        factory: Factory = imported(scheme, *_BACKENDS[scheme])
        return factory
    for point in _installed():
        if point.name == scheme:
            return point.load()  # type: ignore[no-any-return]  # the group's contract
    known = backend_names()
    raise StorageConfigurationError(
        f"no backend for {scheme}://; known: {', '.join(known)}", details={"scheme": scheme, "known": known}
    )


def imported(scheme: str, module: str, name: str, extra: str) -> Any:
    """What *module* calls *name*, or ``ImportError`` saying what to install."""
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise ImportError(f"pip install 'unified-storage[{extra}]' for {scheme}://") from error


def indexed_paths(further: Mapping[str, Iterable[str]] | None) -> Indexed:
    """The indexed paths by type: those of sessions, and *further* ones."""
    named = {"session": [*SESSION_PATHS]}
    for type_name, paths in (further or {}).items():
        named.setdefault(checked_type(type_name), []).extend(paths)
    return {type_name: frozenset(map(_indexable, paths)) for type_name, paths in named.items()}


def _indexable(text: str) -> Path:
    """The path *text* writes, when a store can keep it in its list of paths."""
    path = parse_path(text)
    try:
        fits = len(text.encode()) <= MAX_ID_BYTES and "\0" not in text
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise StorageConfigurationError(
            f"an indexed path has at most {MAX_ID_BYTES} bytes, no NUL and no lone surrogate", details={"path": text}
        )
    return path


def port_number(given: Any) -> int:
    """*given* as the number of a TCP port, or ``ValueError``."""
    port = int(given)
    if not 0 < port < 1 << 16:
        raise ValueError(f"{port} is no port")
    return port


def number_option(options: dict[str, Any], name: str, default: float) -> float:
    """Take a positive number out of *options*, where URL queries hold texts."""
    given = options.pop(name, default)
    try:
        value = float(given)
    except (TypeError, ValueError) as error:
        raise StorageConfigurationError(f"{name} must be a number of seconds, not {given!r}") from error
    if not value > 0:
        raise StorageConfigurationError(f"{name} must be above 0, not {given!r}")
    return value


def switch_option(options: dict[str, Any], name: str, default: bool) -> bool:
    """Take a switch out of *options*, where URL queries hold words."""
    given = options.pop(name, default)
    value = _SWITCHES.get(str(given).lower())
    if value is None:
        raise StorageConfigurationError(f"{name} must be true or false, not {given!r}")
    return value


def no_store(place: object, why: str, known: int) -> StorageConfigurationError:
    """The error of a backend that was told ``create=False`` where there is no store.

    Args:
        place: the URL, which is shown without its password.
        why: what would be there.
        known: the schema version of this program.
    """
    return StorageConfigurationError(
        f"there is no store of ours in {place}: {why}; see that the place and the namespace are right",
        details={"found": 0, "known": known},
    )


def refuse_unknown(options: Mapping[str, Any], scheme: str) -> None:
    """Raise ``StorageConfigurationError`` for options that are left over."""
    if options:
        raise StorageConfigurationError(
            f"{scheme}:// has no option {next(iter(options))!r}", details={"options": sorted(options)}
        )
