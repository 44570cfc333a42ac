"""What a benchmarked system does: the same small set of operations on sessions, each with the system's own means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """One conversation message: ``key`` is unique, ``body`` is a JSON mapping of about 300 bytes."""

    key: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Session:
    """A session to make. ``topic`` is a metadata field, ``state`` a small mapping of JSON values."""

    id: str
    user: str
    topic: str
    state: dict[str, Any] = field(default_factory=dict)


class NotOffered(Exception):
    """The system has no such operation; the cell of the table says so."""


class System(ABC):
    """One way to keep sessions, on one engine.

    Every operation is durable when it returns, and is what the system's own documentation tells its users to call.
    An operation that a system does not have raises :class:`NotOffered`; nothing is emulated by a full scan of ours.
    """

    name: ClassVar[str]
    """As the table shows it: ``raw``, ``ours``, ``ours (sessions)``, ``agno`` ..."""
    package: ClassVar[str] = ""
    """The distribution whose version is written into the results; empty for raw drivers."""
    engines: ClassVar[frozenset[str]]
    """The engines it runs on: ``sqlite postgresql mysql redis``."""
    stores_empty: ClassVar[bool] = True
    """Whether a session can be stored before its first event; if not, :meth:`create` stores nothing, and how long it
    takes is no figure."""

    def __init__(self, engine: str, place: str) -> None:
        """*place* is a folder that is there and empty (sqlite), or the URL of an empty database that is ours alone."""
        self.engine = engine
        self.place = place

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make tables."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def create(self, session: Session) -> None:
        """Store a session without events."""

    @abstractmethod
    async def load(self, id: str) -> Any:
        """The session by its id as the system gives it to a program, with its state; raises if it is not there."""

    @abstractmethod
    async def append(self, id: str, event: Event) -> None:
        """Add one event to a session."""

    @abstractmethod
    async def last(self, id: str, count: int) -> Sequence[Any]:
        """The last *count* events, oldest first, as the program gets them."""

    async def page_by_user(self, user: str, limit: int) -> Sequence[Any]:
        """The newest sessions of a user."""
        raise NotOffered

    async def page_by_topic(self, topic: str, limit: int) -> Sequence[Any]:
        """The newest sessions whose metadata has a topic."""
        raise NotOffered

    async def import_all(self, sessions: Sequence[tuple[Session, Sequence[Event]]]) -> None:
        """Store many sessions with their events, by the fastest way that the system documents."""
        for session, events in sessions:
            await self.create(session)
            for event in events:
                await self.append(session.id, event)

    async def delete_all(self, ids: Sequence[str]) -> None:
        """Delete many sessions with their events."""
        raise NotOffered

    async def set_state(self, id: str, key: str, value: Any) -> None:
        """Change one key of a session's state, in the way the system documents for it."""
        raise NotOffered

    async def state(self, id: str) -> dict[str, Any]:
        """A session's state, as :meth:`set_state` changes it."""
        raise NotOffered

    def stream(self) -> AsyncIterator[Any]:
        """Every session, in as little memory as the system allows."""
        raise NotOffered

    # -- for the loss checks and for growth; not measured -----------------------------------------------------------

    @abstractmethod
    async def keys(self, id: str) -> list[str]:
        """The keys of all events of a session, in its order: what survived."""

    async def numbers(self, id: str) -> list[int]:
        """The sequence numbers of a session's events, in its order, where the system gives numbers without gaps."""
        raise NotOffered

    async def grow(self, sessions: Sequence[Session]) -> None:
        """Add many sessions without events, as quickly as can be: by SQL into the system's own tables where that is
        faster, in exactly the form the system writes; twenty are read back through the system afterwards."""
        for session in sessions:
            await self.create(session)

    async def lengthen(self, id: str, events: Sequence[Event]) -> None:
        """Add many events to one session as quickly as can be, in exactly the form the system writes."""
        for event in events:
            await self.append(id, event)
