"""``Runner``: an agent on a session, which is made, loaded and stored for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast, runtime_checkable

from session_adapter.calls import is_partial
from session_adapter.event_deltas import DELETED, DELTA, Body, body_of
from session_adapter.event_models import shown_event
from session_adapter.identity import SessionKey, app_scope, no_session
from session_adapter.levels import TEMP
from session_adapter.models import Event
from session_adapter.open_runs import OpenRun
from session_adapter.pairing import paired
from session_adapter.scoped import ScopedSessionService
from session_adapter.timestamps import render
from unified_storage.arguments import check_count, checked_seconds
from unified_storage.errors import StorageAlreadyExistsError, StorageValidationError
from unified_storage.record import DELETE, new_id

T = TypeVar("T")
Message = str | Mapping[str, Any] | Event
"""What somebody says to an agent: a text, or an event (``role`` is ``user`` unless it says otherwise)."""

HISTORY_LIMIT = 200
LOST_AFTER = timedelta(hours=1)


@dataclass
class RunContext:
    """What an agent is given for one run. It is the agent's own: nothing that it changes here is stored.

    Attributes:
        key: which session it is.
        run_id: what all events of this run are stored under.
        message: what was said, as it is stored.
        history: the events before it, oldest first, turn-safe.
        messages: both together, for a model. Where the message is the result of a call, it stands right behind it;
            one whose call is not there is left out.
        state: of all levels, with ``app:`` and ``user:`` before their keys. An agent changes it by the ``state_delta``
            of an event, and finds it here then, with the ``temp:`` keys of its run.
    """

    key: SessionKey
    run_id: str
    message: Event
    history: list[Event]
    messages: list[Event]
    state: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Agent(Protocol):
    """Whatever answers: a model in a loop with its tools, a graph, or a plain function with a ``yield``."""

    def run(self, context: RunContext) -> AsyncIterator[Event | Mapping[str, Any]]:
        """The events of one run in their order: texts, calls, results.

        Each is stored before the agent goes on, with the run's id and, where it has none, an id and the time; pieces of
        one that is still being said have ``partial=True``, and are passed on alone. An agent that is broken off is
        cancelled where it waits, or closed where it yielded.
        """
        ...


class Runner:
    """Runs an agent on the sessions of an app: makes and loads them, and stores what is said.

    Args:
        agent: any object with the method of :class:`Agent`.
        session_service: where the sessions are; in memory without one. It is its owner's to close.
        history_limit: how many events of the past an agent is given, and at most the rest of one turn; None for all.
        lost_after: when a run of another machine that has not ended counts as broken off: a timedelta, or seconds from
            its beginning. One of this machine does so when its process has ended.
    Raises:
        AppNameRequiredError: there is no app.
        StorageValidationError: what is no agent.
    """

    def __init__(
        self,
        app_name: str,
        agent: Agent,
        session_service: ScopedSessionService | None = None,
        *,
        history_limit: int | None = HISTORY_LIMIT,
        lost_after: timedelta | float = LOST_AFTER,
    ) -> None:
        app_scope(app_name)
        check_count("history_limit", history_limit)
        if not isinstance(agent, Agent):
            message = f"an agent has a method run(context), {type(agent).__name__} has none"
            raise StorageValidationError(message, details={"path": "agent"})
        self._app_name = app_name
        self._agent = agent
        self._is_ours = session_service is None
        self._service = ScopedSessionService() if session_service is None else session_service
        self._limit = history_limit
        seconds = lost_after.total_seconds() if isinstance(lost_after, timedelta) else lost_after
        self._lost_after = timedelta(seconds=checked_seconds("lost_after", seconds))

    @property
    def session_service(self) -> ScopedSessionService:
        """Where the sessions are."""
        return self._service

    async def run(self, user_id: str, session_id: str, message: Message) -> AsyncGenerator[Event, None]:
        """Say *message* to the agent; its events as they come, each when it is stored, ``partial`` ones unstored.

        The session is made where there is none. Whoever stops listening ends the run: it is closed when this stream is
        (``async with aclosing(...)`` does so at once), when its task is cancelled, and when the agent raises, by an
        error result for each open call and an event of the status ``interrupted``. One whose process died is closed by
        the session's next run.

        Args:
            message: a text of the user, or an event; one of the role ``tool`` answers a call that a run left open.
                Of several with one ``id``, also at the same time, one is said.
        Raises:
            AppNameRequiredError, UserIdRequiredError, SessionIdRequiredError, InvalidSessionIdError: no such key.
            StorageAlreadyExistsError: the message, or an event of the agent, has an id that the session has already.
            SessionNotFoundError: the session was deleted meanwhile; one that was made anew is left as it is.
            StorageValidationError: the message, or what the agent yields, is no event, or the message a piece of one.
            StorageError: the storage failed.
            Exception: whatever the agent raises, as it is.
        """
        said = _said(message)
        key = SessionKey(self._app_name, user_id, session_id)
        async with OpenRun(self._service, key, self._lost_after) as run:
            session = _RunsSession(self._service, run)
            context = await session.hear(said, self._limit)
            async with _ended(self._agent.run(context)) as events:
                async for event in events:
                    yield await session.told(event)

    async def close(self) -> None:
        """Close the sessions in memory; a service that was given stays open."""
        if self._is_ours:
            await self._service.close()

    async def __aenter__(self) -> Self:
        if self._is_ours:
            await self._service.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _RunsSession:
    """The session of one run: what is said goes there, and the agent sees it."""

    def __init__(self, service: ScopedSessionService, run: OpenRun) -> None:
        self._service = service
        self._key = run.key
        self._run = run
        self._passing: dict[str, Any] = {}

    async def hear(self, said: Body, limit: int | None) -> RunContext:
        """Store what was said to the agent; what it is given."""
        number, message = await self._stored(said)
        # What other runs have added since then is not told: the window ends with the message.
        session = await self._service.session_at(self._key, number, last=None if limit is None else limit + 1)
        if session is None:
            raise no_session(self._key)
        history = [event for event in session.events if event.seq != number]
        messages = session.events if len(history) < len(session.events) else [*history, *_as_said(message)]
        self._context = RunContext(self._key, self._run.run_id, message, history, messages, session.state)
        self._context.state |= self._passing
        return self._context

    async def told(self, event: object) -> Event:
        """What the agent tells, stored unless it is partial, as its listeners get it."""
        body = body_of(event)
        if is_partial(body):
            return shown_event(body | {"run_id": self._run.run_id})
        _, stored = await self._stored(body)
        if body.get(DELTA) or body.get(DELETED):
            session = await self._service.get_session(self._key, event_num=0)
            self._context.state = ({} if session is None else session.state) | self._passing
        return stored

    async def _stored(self, body: Body) -> tuple[int, Event]:
        body |= {"run_id": self._run.run_id, "id": body.get("id") or new_id()}
        if body.get("timestamp") is None:
            body["timestamp"] = render(self._service.storage.clock())
        number = await self._added(body)
        self._pass(body.get(DELTA) or {})
        return number, shown_event(body | {"seq": number, "index": 0})

    async def _added(self, body: Body) -> int:
        try:
            return await self._run.append(body)
        except StorageAlreadyExistsError as error:
            message = f"the session has an event {body['id']!r} already"
            raise StorageAlreadyExistsError(message, details={"path": "event.id", "id": body["id"]}) from error

    def _pass(self, delta: Mapping[str, Any]) -> None:
        """Keep the ``temp:`` keys of *delta* for the rest of the run."""
        self._passing |= {key: value for key, value in delta.items() if key.startswith(TEMP)}
        self._passing = {key: value for key, value in self._passing.items() if value is not DELETE}


def _said(message: Message) -> Body:
    if isinstance(message, str):
        return {"role": "user", "content": message}
    body = {"role": "user"} | body_of(message)
    if is_partial(body):
        text = "a message is said whole, not in pieces marked partial"
        raise StorageValidationError(text, details={"path": "message.partial"})
    return body


def _as_said(message: Event) -> list[Event]:
    """What of *message* a model takes where no window holds it: it begins no turn, as one of the role ``system``."""
    return [shown_event(event) for event in paired([message.model_dump()])]


def _ended(events: AsyncIterator[T]) -> AbstractAsyncContextManager[AsyncIterator[T]]:
    """*events*, closed at the end where they can be."""
    return aclosing(cast("AsyncGenerator[T]", events)) if hasattr(events, "aclose") else nullcontext(events)
