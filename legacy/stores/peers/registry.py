"""Which families of foreign stores there are, and which of them a URL or a file means."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import cast
from urllib.parse import parse_qsl, quote, unquote, urlencode

from legacy.engines import storage_identity
from legacy.stores.peers.empty import EmptyStore
from legacy.stores.peers.kinds import Family, Opening, PeerStore, Tables
from session_adapter.formats import FORMATS, PeerFormat
from unified_storage.errors import StorageConfigurationError, StorageUnsupportedError
from unified_storage.opening import parse_url

_ENGINES = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "redis": "redis",
    "rediss": "redis",
    "file": "file",
}
"""Scheme behind the ``+`` -> engine."""


def peer_formats() -> list[PeerFormat]:
    """The formats of all families, in the order of the list of formats."""
    return [format for format in FORMATS if isinstance(format, PeerFormat)]


def families() -> Iterator[tuple[str, Family]]:
    """Every family by its name."""
    for name in dict.fromkeys(format.family for format in peer_formats()):
        yield name, family_named(name)


def family_named(name: str) -> Family:
    """The family called *name*, which has a file of that name in this folder."""
    return cast(Family, import_module(f"legacy.stores.peers.{name.replace('-', '_')}"))


def is_peer(scheme: str) -> bool:
    """Whether the scheme of a URL names a foreign store, on whatever engine."""
    word, plus, _ = scheme.partition("+")
    return bool(plus) and bool(_named(word))


def opening_of(url: str) -> Opening:
    """What *url*, ``WORD+ENGINE://...``, names.

    Raises:
        StorageUnsupportedError: the word's formats do not live on that engine.
        StorageConfigurationError: an option that means nothing there.
    """
    scheme, _, rest = url.partition("://")
    word, _, engine_scheme = scheme.partition("+")
    formats = _named(word)
    engine = _ENGINES.get(engine_scheme, engine_scheme)
    engines = sorted({engine for format in formats for engine in format.engines})
    if engine not in engines:
        raise StorageUnsupportedError(f"{word} stores do not live on {engine_scheme!r}, but on {', '.join(engines)}")
    family = family_named(formats[0].family)
    location, _, query = rest.partition("?")
    told = dict(parse_qsl(query, keep_blank_values=True))
    own = {name: value for name, value in told.items() if name in family.OPTIONS}
    left = {name: value for name, value in told.items() if name not in own}
    if left and engine in ("file", "sqlite"):
        known = ", ".join(sorted(family.OPTIONS)) or "none"
        raise StorageConfigurationError(f"{scheme}:// has no option {next(iter(left))!r}; it has {known}")
    engine_url = f"{engine_scheme}://{location}" + (f"?{urlencode(left)}" if left else "")
    return Opening(word, engine, engine_url, own)


def written_format(opening: Opening) -> PeerFormat:
    """The format that a new store at *opening* is made in: the named one, or the first of its family there.

    Raises:
        StorageUnsupportedError: nothing of that name is written on that engine.
    """
    there = [format for format in _named(opening.family) if opening.engine in format.engines]
    for format in there:
        if format.writes:
            return format
    raise StorageUnsupportedError(f"{opening.family} stores on {opening.engine} are only read")


def identity_of(opening: Opening) -> str:
    """The place's URL by which it is known again: without a password, options in order."""
    place = opening.url if opening.engine == "file" else storage_identity(parse_url(opening.url))
    query = urlencode(sorted(opening.options.items()))
    return f"{_named(opening.family)[0].family}+{place}" + (f"?{query}" if query else "")


async def open_to_read(opening: Opening, zone: str | None = None) -> PeerStore:
    """The store that *opening* names, told by looking; see ``Family.open_store``."""
    return await _family_of(opening).open_store(replace(opening, zone=zone))


async def open_to_write(opening: Opening) -> PeerStore:
    """The store that *opening* names, made where there is none.

    Raises:
        StorageUnsupportedError: nothing of that name is written on that engine, or what is there is only read.
    """
    written_format(opening)
    return await _writable(await _family_of(opening).open_store(replace(opening, to_write=True)))


async def open_as_it_is(opening: Opening, *, is_there: bool) -> PeerStore:
    """What would be written to; an empty store stands for one that is not there, which is not made."""
    format = written_format(opening)
    if is_there:
        with contextlib.suppress(StorageConfigurationError):  # a database without such tables
            return await _writable(await open_to_read(opening))
    return EmptyStore(format)


async def _writable(store: PeerStore) -> PeerStore:
    """*store*, unless looking told that it has a form which is only read."""
    if store.format.writes:
        return store
    await store.close()
    raise StorageUnsupportedError(f"a store in {store.format.name} is only read; name a new one to copy to")


def told_by_looking(connection: sqlite3.Connection) -> PeerFormat | None:
    """The format of a SQLite file, told by its tables; None for one that no family knows."""
    tables = _tables(connection)
    found = (format for _, family in families() if (format := family.told_by(tables)) is not None)
    return next(found, None)


def file_url(format: PeerFormat, path: str) -> str:
    """The URL that names a SQLite file in *format*."""
    return f"{format.family}+sqlite:///{quote(path)}"


def path_of(opening: Opening) -> str | None:
    """The file or folder that the store is; None for one on a server."""
    if opening.engine == "sqlite":
        return parse_url(opening.url).path
    return unquote(opening.url.partition("://")[2]) if opening.engine == "file" else None


def _family_of(opening: Opening) -> Family:
    return family_named(_named(opening.family)[0].family)


def _named(word: str) -> list[PeerFormat]:
    """The formats that *word* means: that of this name, or those of the family."""
    exact = [format for format in peer_formats() if format.name == word]
    return exact or [format for format in peer_formats() if format.family == word]


def _tables(connection: sqlite3.Connection) -> Tables:
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = "SELECT name FROM pragma_table_info(?)"
    return {name: frozenset(row[0] for row in connection.execute(columns, (name,))) for name in names}
