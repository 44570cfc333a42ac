"""A run of a workflow in its session: loaded at the start, saved after each step in one atomic step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from session_adapter.documents import format_of
from session_adapter.errors import storage_failures
from session_adapter.formats import G1, G2, G3, Format
from session_adapter.formats.places import is_mapping
from session_adapter.identity import SessionKey, no_session, record_id, session_id_of
from session_adapter.reading import ATTEMPTS, session_record
from session_adapter.service import SessionService
from session_adapter.workflow.context import ExecutionContext
from session_adapter.workflow.merging import changes_between
from session_adapter.workflow.state import Held, SessionState
from session_adapter.workflow.structured import StateTypes, from_stored, to_stored
from unified_storage.errors import StorageConflictError, StorageValidationError
from unified_storage.interface import IUnifiedStorage, Record
from unified_storage.record import DELETE, REPLACE, new_id
from unified_storage.values import equal

RUNS = "workflow_runs"
"""The document's key for how far runs are: by workflow, ``{"run", "finished", "output", "data", "metadata"}``."""
_LEFT = ("output", "data", "metadata")


class SavedRun:
    """One run of a workflow in one session.

    Args:
        ctx: names the session.
    """

    def __init__(self, sessions: SessionService, ctx: ExecutionContext, workflow: str, types: StateTypes) -> None:
        self._storage = sessions.storage
        self._session = ctx.session
        self._user_id = ctx.user_id
        self._workflow = workflow
        self._types = types
        self._exists = False
        self._known: dict[str, Held] = {}
        self._progress: dict[str, Any] | None = None
        self._run: Any = new_id()
        self._finished: list[str] = []

    async def load(self, ctx: ExecutionContext, steps: Sequence[str], *, resume: bool) -> int:
        """Put what is stored into *ctx*; how many of *steps* are finished already.

        Args:
            resume: go on with the last run, whose values win over those of *ctx*; else they lose.
        """
        stored_id = record_id(self._session)
        with storage_failures("load a workflow's state"):
            record = await session_record(self._storage, stored_id)
        if record is None:
            return 0
        self._exists = True
        self._check_owner(record)
        self._progress = _progress_in(record, self._workflow)
        stored = SessionState({key: from_stored(value, self._types) for key, value in _state_in(record).items()})
        self._known = stored.snapshot()
        goes_on = resume and self._progress is not None
        mine = {} if goes_on else ctx.session_state.snapshot()
        ctx.session_state.apply({key: held for key, held in self._known.items() if key not in mine})
        if not goes_on or self._progress is None:
            return 0
        self._go_on(ctx, self._progress, steps)
        return len(self._finished)

    def _go_on(self, ctx: ExecutionContext, progress: Mapping[str, Any], steps: Sequence[str]) -> None:
        finished = progress.get("finished")
        if not isinstance(finished, list) or list(steps[: len(finished)]) != finished:
            message = f"the session's run of {self._workflow!r} is not one of these steps; begin anew with execute"
            raise StorageValidationError(message, details={"path": RUNS, "finished": finished, "steps": list(steps)})
        left = {name: from_stored(progress.get(name), self._types) for name in _LEFT}
        self._run, self._finished = progress.get("run"), list(finished)
        ctx.output = left["output"]
        ctx.data |= left["data"] or {}
        ctx.metadata |= left["metadata"] or {}

    async def save(self, ctx: ExecutionContext, step: str) -> None:
        """Save what *step* changed, and that it is finished, in one step."""
        after = self._saved_part(ctx.session_state)
        changes = changes_between(self._known, after)
        finished = [*self._finished, step]
        left = {name: to_stored(getattr(ctx, name), self._types, path=f"context.{name}") for name in _LEFT}
        progress = {"run": self._run, "finished": finished, **left}

        async def saved(tx: IUnifiedStorage) -> None:
            await self._save_in(tx, changes, progress)

        with storage_failures("save a workflow's state"):
            await self._storage.atomically(saved, attempts=ATTEMPTS)
        self._exists, self._known, self._finished, self._progress = True, after, finished, progress

    def _saved_part(self, state: SessionState) -> dict[str, Held]:
        """What of *state* is kept in the session; ``StateCopyError`` for a value that nobody can have a copy of."""
        shared = set(state.shared)
        kept = state.clone().snapshot()
        # What this process shares is its own; what is stored under the key stays as it is.
        return {
            key: self._known[key] if key in shared else held
            for key, held in kept.items()
            if key not in shared or key in self._known
        }

    async def _save_in(self, tx: IUnifiedStorage, changes: Mapping[str, Held | None], progress: dict[str, Any]) -> None:
        sessions = SessionService(tx)
        stored_id = record_id(self._session)
        record = await session_record(tx, stored_id)
        if record is None and not self._exists:
            await sessions.save_session(self._session, self._new_document())
            record = await session_record(tx, stored_id)
        if record is None:
            raise no_session(self._session)
        self._check_owner(record)
        if not equal(_progress_in(record, self._workflow), self._progress):
            message = f"another run of the workflow {self._workflow!r} got ahead in this session"
            raise StorageConflictError(message, details={"session_id": session_id_of(self._session)})
        updates: dict[str, Any] = {RUNS: {self._workflow: REPLACE(progress)}}
        if changes:
            place = place_of(format_of(record))
            updates[place] = {key: self._update(place, key, held) for key, held in changes.items()}
            _check_history(format_of(record), changes)
        await sessions.update_session(self._session, updates)

    def _update(self, place: str, key: str, held: Held | None) -> Any:
        if held is None:
            return DELETE
        stored = to_stored(held.value, self._types, path=f"{place}.{key}")
        return REPLACE(stored) if type(stored) is dict else stored

    def _new_document(self) -> dict[str, Any]:
        session = self._session
        named = {"session_id": session_id_of(session), "kind": "workflow", "workflow_id": self._workflow}
        if isinstance(session, SessionKey):
            named["app_name"] = session.app_name
        if self._user_id:
            named["user_id"] = self._user_id
        return {**named, "workflow_state": {}}

    def _check_owner(self, record: Record) -> None:
        """A plain session of another user, or of nobody, is none for a context that names its user."""
        owner = (record["metadata"] or {}).get("user_id")
        if self._user_id and owner != self._user_id:
            raise no_session(self._session)


def place_of(format: Format) -> str:
    """The document's key for the state of workflows.

    The older documents keep it in ``state``; with a key ``workflow_state`` they would be taken for another format.
    """
    return "state" if format in (G1, G2, G3) else "workflow_state"


def _state_in(record: Record) -> dict[str, Any]:
    format = format_of(record)
    history = _history_key(format)
    return {key: value for key, value in _object_at(record, place_of(format)).items() if key != history}


def _progress_in(record: Record, workflow: str) -> dict[str, Any] | None:
    return _object_at(record, RUNS).get(workflow)


def _object_at(record: Record, place: str) -> Mapping[str, Any]:
    """What stands under the document's key *place*, empty for nothing; what is no object is not written over."""
    found = record["data"].get(place)
    if found is not None and not is_mapping(found):
        message = f"{place} of this session is no object, so no state can be kept in it"
        raise StorageValidationError(message, details={"path": place})
    return found or {}


def _history_key(format: Format) -> str | None:
    path = format.history_path
    return path[1] if path is not None and path[:-1] == (place_of(format),) else None


def _check_history(format: Format, changes: Mapping[str, Held | None]) -> None:
    key = _history_key(format)
    if key in changes:
        message = f"{key!r} is where {format.name} documents keep their history; name the state otherwise"
        raise StorageValidationError(message, details={"path": f"{place_of(format)}.{key}"})
