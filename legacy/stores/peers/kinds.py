"""What a family of foreign stores offers: looking, reading, writing. One file a family in this folder, by its name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from legacy.stores.parcels import SESSION, Item, RecordKey
from session_adapter.formats.peer import PeerFormat
from session_adapter.identity import SessionId, UserKey, app_scope, record_id, session_id_of, user_scope

USER_STATE, APP_STATE = "user_state", "app_state"
Tables = Mapping[str, frozenset[str]]
"""Table -> its columns."""


@dataclass(frozen=True, order=True, slots=True)
class AppKey:
    """An app, which has a state."""

    app_name: str


Key = SessionId | UserKey | AppKey
"""What a unit is: a session, the state of a user, the state of an app."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Something to be read: a session, or a state.

    Attributes:
        place: what its store finds it by, a text that means something to that store alone.
        label: where it was found, for reports; never contents.
        mark: another text whenever it was changed, see :class:`Marking`; None where only reading it tells.
        moment: when it was changed last, as the store says.
    """

    key: Key
    place: str = ""
    label: str | None = None
    mark: str | None = None
    moment: datetime | None = None

    @property
    def record_key(self) -> RecordKey:
        """Id and type of the record that it becomes."""
        return record_key(self.key)


def record_key(key: Key) -> RecordKey:
    """Id and type of the record of *key*; raises ``StorageValidationError`` for one that names nothing."""
    if isinstance(key, UserKey):
        return user_scope(key), USER_STATE
    if isinstance(key, AppKey):
        return app_scope(key.app_name), APP_STATE
    return record_id(key), SESSION


def shown_key(key: Key) -> str:
    """What people call it."""
    if isinstance(key, UserKey):
        return key.user_id
    return key.app_name if isinstance(key, AppKey) else session_id_of(key)


@dataclass(slots=True)
class PeerSession:
    """One session as its store has it.

    Attributes:
        document: everything of it, in the form of the store's format.
        further_logs: beside its history, by name without the session (``track:a``, ``branch:b``): entries as
            ``append`` takes them, oldest first.
        expires_at: aware; None where it does not expire.
        modified: when its file was written; stands for times that nothing tells.
        warnings: for the report.
        size: about how many bytes it takes.
    """

    key: SessionId
    document: dict[str, Any]
    further_logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    expires_at: datetime | None = None
    modified: datetime | None = None
    warnings: tuple[str, ...] = ()
    label: str | None = None
    size: int = 0


@dataclass(slots=True)
class PeerState:
    """The state of a user or an app as its store has it.

    Attributes:
        state: keys without prefix.
        raw: its row, where it holds more than the state; None where it does not.
        created_at, updated_at: aware; None where the store does not tell.
    """

    key: UserKey | AppKey
    state: dict[str, Any]
    raw: dict[str, Any] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    warnings: tuple[str, ...] = ()
    label: str | None = None
    size: int = 0


Found = PeerSession | PeerState


class PeerStore(Protocol):
    """An open store of another framework.

    Attributes:
        format: the one that it was found to have, or is to be written in.
        version: what it says of its own version; None where it says nothing.
    """

    format: PeerFormat
    version: str | None

    def units(self) -> AsyncIterator[list[Unit | Item]]:
        """Everything that it holds, each once, some hundred at a time, in bounded memory.

        An Item is what cannot be read at all (no id, a damaged row) or is none of ours to read (``ignored``).
        """

    def unit(self, key: Key) -> Unit:
        """Where something of that key stands, or would."""

    async def read(self, units: Sequence[Unit]) -> list[Found | Item]:
        """Each of *units*, in the same order; an Item where one cannot be read, or has vanished (``ignored``)."""

    async def write(self, found: Sequence[Found]) -> None:
        """Write all of them in one step, each whole in the place of what is there under its key.

        Raises:
            StorageValidationError: one cannot stand there; ``details["index"]`` tells which.
        """

    async def close(self) -> None:
        """Release what it was opened with."""


@runtime_checkable
class Settling(Protocol):
    """A store that gives new entries what only it knows: places among the others, times in its own precision."""

    def settled(self, found: PeerSession) -> PeerSession | Item:
        """*found* as it will be shown when it was written; an Item where nothing of it is to be.

        Raises:
            StorageValidationError: it cannot stand there.
        """


@runtime_checkable
class Marking(Protocol):
    """A store that tells without being read whole what has changed in it."""

    def marked_units(self) -> AsyncIterator[list[Unit | Item]]:
        """See ``PeerStore.units``; units come with marks.

        A mark may stay as it is when a change follows another within two seconds: many stores know whole seconds only.
        """


@dataclass(frozen=True, slots=True)
class Opening:
    """What a family needs to open a store of its own.

    Attributes:
        family: the word before the ``+``; a format's own name, or that of all.
        engine: ``sqlite postgresql mysql redis file``.
        url: of the engine, without the word; may hold a password.
        options: what stood behind the ``?`` and is the family's: ``tables prefix branch key_env`` ...
        zone: of times without an offset; None where nobody told.
        to_write: it is to be written; a store that is not there is made.
    """

    family: str
    engine: str
    url: str = field(repr=False)
    options: Mapping[str, str] = field(default_factory=dict)
    zone: str | None = None
    to_write: bool = False


class Family(Protocol):
    """What a module of this folder is."""

    FORMATS: tuple[PeerFormat, ...]
    """The family's formats, the one that is written first."""
    OPTIONS: frozenset[str]
    """Names of the options it knows."""

    def told_by(self, tables: Tables) -> PeerFormat | None:
        """The format that a SQL database with such tables has; None where they are none of this family's."""

    async def open_store(self, opening: Opening) -> PeerStore:
        """The store, its format told by looking.

        Raises:
            StorageConfigurationError: it is no such store, or something has to be told first.
        """
