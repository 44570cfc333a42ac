"""``ExecutionContext``: what a step is given, and what it hands on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from session_adapter.errors import SessionIdRequiredError
from session_adapter.identity import SessionId, SessionKey, session_id_of
from session_adapter.workflow.merging import Conflict
from session_adapter.workflow.state import SessionState
from session_adapter.workflow.structured import Types, from_stored, state_types, to_stored
from unified_storage.errors import StorageValidationError
from unified_storage.values import decode, encode

T = TypeVar("T")

_ALWAYS = ("input", "output", "data", "metadata")
_WHEN_GIVEN = ("session_state", "session_id", "user_id", "app_name")


class ExecutionContext:
    """One run of a workflow: its input and output, and the state that its steps share.

    Attributes:
        input: what the run was started with.
        output: what the last step made.
        data, metadata: the caller's own, by key.
        session_state: what is kept with the session; there is always one.
        session_id, user_id, app_name: whose it is; empty where there is none.
        conflicts: what parallel branches changed differently so far.
    """

    def __init__(
        self,
        input: Any = None,
        output: Any = None,
        data: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        session_state: SessionState | Mapping[str, Any] | None = None,
        session_id: str = "",
        user_id: str = "",
        app_name: str = "",
    ) -> None:
        self.input = input
        self.output = output
        self.data = dict(data or {})
        self.metadata = dict(metadata or {})
        self.session_state = session_state
        self.session_id = session_id
        self.user_id = user_id
        self.app_name = app_name
        self.conflicts: list[Conflict] = []

    @property
    def session_state(self) -> SessionState:
        """The state; another one, a mapping (copied) or None (an empty state) may be put in its place."""
        return self._session_state

    @session_state.setter
    def session_state(self, state: SessionState | Mapping[str, Any] | None) -> None:
        self._session_state = state if isinstance(state, SessionState) else SessionState(state)

    @property
    def session(self) -> SessionId:
        """What names the session: a ``SessionKey`` where there is an app, else the plain id.

        Raises:
            SessionIdRequiredError: the context belongs to no session.
        """
        if not self.session_id:
            message = "the context belongs to no session; make it with new_execution_context_with_session"
            raise SessionIdRequiredError(message, details={"path": "session_id"})
        return SessionKey(self.app_name, self.user_id, self.session_id) if self.app_name else self.session_id

    def set_session_state(self, key: str, value: Any) -> None:
        """Put a copy of *value* into the state."""
        self.session_state.set(key, value)

    def get_session_state(self, key: str) -> tuple[Any, bool]:
        """A copy of the state's value and True; ``(None, False)`` where there is none."""
        return self.session_state.get(key)

    def get_typed(self, key: str, type: type[T]) -> T:
        """The state's value as a *type*.

        Raises:
            KeyError: there is no such key.
            StateTypeError: it is something else.
        """
        return self.session_state.get_typed(key, type)

    def to_json(self, types: Types = ()) -> str:
        """The context as JSON; an empty state and the session's names are left out where there are none.

        Values that JSON lacks are written as storages write them (``{"$type": ...}``), objects as ``{"$class": ...}``.

        Args:
            types: the classes that have names of their own; see ``StateTypes``.
        Raises:
            StateCopyError, StorageValidationError: a value cannot be written; the error names the place.
        """
        state = self.session_state.get_all()
        told = {name: getattr(self, name) for name in (*_ALWAYS, *_WHEN_GIVEN)} | {"session_state": state}
        kept = {name: value for name, value in told.items() if name in _ALWAYS or value}
        known = state_types(types)
        return encode({name: to_stored(value, known, path=name) for name, value in kept.items()}, path="context")

    @classmethod
    def from_json(cls, text: str, types: Types = ()) -> ExecutionContext:
        """The context that :meth:`to_json` described.

        Args:
            types: the classes whose objects come back as such.
        Raises:
            StorageIntegrityError: no such text.
            StorageValidationError: no object, or one with other names.
        """
        told = decode(text)
        if type(told) is not dict or not told.keys() <= {*_ALWAYS, *_WHEN_GIVEN}:
            raise StorageValidationError("this describes no context", details={"path": "context"})
        known = state_types(types)
        return cls(**{name: from_stored(value, known) for name, value in told.items()})


def new_execution_context_with_session(input: Any, session_id: SessionId, user_id: str = "") -> ExecutionContext:
    """A context that belongs to a session.

    Args:
        session_id: a plain id, or the ``SessionKey`` of a user's session of an app.
        user_id: whose session it is. A plain session of another user is then none for a workflow.
    Raises:
        StorageValidationError: the key is another user's.
    """
    if not isinstance(session_id, SessionKey):
        return ExecutionContext(input, session_id=session_id, user_id=user_id)
    if user_id not in ("", session_id.user_id):
        raise StorageValidationError("the session's key names another user", details={"path": "user_id"})
    named = session_id_of(session_id)
    return ExecutionContext(input, session_id=named, user_id=session_id.user_id, app_name=session_id.app_name)
