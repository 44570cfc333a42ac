"""``sessions.runs``: the history of a session by runs, whether they stand whole or message by message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

from pydantic import BaseModel

from session_adapter.entries import events_of, flat_events, history_of, is_run, places_in, run_id_of, run_in
from session_adapter.errors import storage_failures
from session_adapter.events import LOOSE_RUNS, WHOLE_RUNS
from session_adapter.history import edited, mark, replaced_in_place
from session_adapter.identity import SessionId, record_id
from session_adapter.metadata import own_fields
from session_adapter.naming import name_after
from session_adapter.reading import ATTEMPTS, required_head
from unified_storage.arguments import check_version
from unified_storage.errors import StorageNotFoundError, StorageValidationError
from unified_storage.handed_in import kept
from unified_storage.interface import Entries, Entry, IUnifiedStorage, Record
from unified_storage.record import new_id

Run = dict[str, Any]


class Runs:
    """The runs of sessions on one storage, or inside one transaction."""

    def __init__(self, storage: IUnifiedStorage) -> None:
        self._storage = storage

    async def read(self, session: SessionId) -> list[Run]:
        """The runs of *session* in the order of their first entries; empty when there is no such session.

        A run that stands whole is handed out as its writer had it, with messages behind its own that were added under
        its ``run_id`` alone and do not stand in it. One that never came whole is ``{"run_id", "messages"}``. A message
        without a ``run_id`` belongs to no run.
        """
        with storage_failures("read the runs of a session"):
            return gathered(await self._storage.read(history_of(record_id(session))))

    async def get(self, session: SessionId, run_id: str) -> Run | None:
        """The run called *run_id*; None when there is none."""
        return next((run for run in await self.read(session) if run.get("run_id") == run_id), None)

    @overload
    async def append(
        self, session: SessionId, run: Mapping[str, Any] | BaseModel, *, expected_version: int | None = ...
    ) -> int: ...

    @overload
    async def append(
        self, session: SessionId, run: Sequence[Mapping[str, Any] | BaseModel], *, expected_version: int | None = ...
    ) -> list[int]: ...

    async def append(
        self,
        session: SessionId,
        run: Mapping[str, Any] | BaseModel | Sequence[Mapping[str, Any] | BaseModel],
        *,
        expected_version: int | None = None,
    ) -> int | list[int]:
        """Add one run, or several in one step, and return its number, or their numbers.

        A run whose ``run_id`` is there already replaces it in its place, also where it stood as single messages. One
        without gets a ``run_id``, so it is always added.

        Args:
            expected_version: of the session; not applied where all runs are there already.
        Raises:
            SessionNotFoundError: there is no such session.
            StorageConflictError: the session has another version.
        """
        several = isinstance(run, Iterable) and not isinstance(run, Mapping | BaseModel | str | bytes)
        given: list[Any] = list(run) if several else [run]
        runs = [_checked_run(one, f"runs[{at}]") for at, one in enumerate(given)]

        async def added(tx: IUnifiedStorage) -> list[int]:
            head = await required_head(tx, session)
            numbers = await _added(tx, head, runs, expected_version)
            own = {} if not runs or own_fields(head).get(WHOLE_RUNS) else {WHOLE_RUNS: True}
            if own := own | name_after(head, numbers, runs):
                await mark(tx, head, **own)
            return numbers

        with storage_failures("add runs to a session"):
            numbers = await self._storage.atomically(added, attempts=ATTEMPTS)
        return numbers if several else numbers[0]

    async def delete(self, session: SessionId, run_id: str, *, expected_version: int | None = None) -> None:
        """Delete a run: its whole entry, and every message that was added under its ``run_id``.

        Raises:
            SessionNotFoundError: there is no such session.
            StorageNotFoundError: it has no such run.
            StorageConflictError: the session has another version.
        """

        async def deleted(tx: IUnifiedStorage) -> None:
            head = await required_head(tx, session)
            check_version(expected_version, head["version"], head["id"])
            entries = await tx.read(history_of(head["id"]))
            left = [entry for entry in entries if run_id_of(entry) != run_id]
            if len(left) == len(entries):
                raise StorageNotFoundError(f"no run {run_id!r}", details={"run_id": run_id})
            await edited(tx, head, entries, left)

        with storage_failures("delete a run of a session"):
            await self._storage.atomically(deleted, attempts=ATTEMPTS)


async def _added(tx: IUnifiedStorage, head: Record, runs: list[Run], expected_version: int | None) -> list[int]:
    log = history_of(head["id"])
    present = await tx.read(log) if own_fields(head).get(LOOSE_RUNS) else []
    wanted_ids = {run["run_id"] for run in runs}
    if any(run_id_of(entry) in wanted_ids and not is_run(entry["body"]) for entry in present):
        return await _regrouped(tx, head, runs, present, expected_version)
    entries = [{"body": run, "key": run["run_id"]} for run in runs]
    numbers = await tx.append(log, entries, on_duplicate="replace", expected_version=expected_version)
    await replaced_in_place(tx, head, numbers)
    return numbers


async def _regrouped(
    tx: IUnifiedStorage, head: Record, runs: list[Run], present: Entries, expected_version: int | None
) -> list[int]:
    """Put *runs* in the places of the first entries that they have, and take their other entries out.

    A message that stands in its run stays in its own entry too, if it has one: by that its id is known when it is
    added again.
    """
    fresh = {run["run_id"]: run for run in runs}
    if not fresh.keys() <= {run_id_of(entry) for entry in present}:
        check_version(expected_version, head["version"], head["id"])
    wanted: dict[object, Entry] = {}
    for entry in present:
        run_id = run_id_of(entry)
        if run_id not in fresh:
            wanted[entry["seq"]] = entry
            continue
        if run_id not in wanted:
            wanted[run_id] = entry | {"body": fresh[run_id], "key": run_id}
        if not is_run(entry["body"]) and _stands_in(entry, fresh[run_id]):
            wanted[entry["seq"]] = entry
    for run_id, run in fresh.items():
        wanted.setdefault(run_id, {"seq": _UNSEEN, "body": run, "key": run_id})
    numbers = dict(zip(wanted, await edited(tx, head, present, [*wanted.values()]), strict=True))
    return [numbers[run["run_id"]] for run in runs]


def _stands_in(entry: Entry, run: Run) -> bool:
    """Whether the message that *entry* is has an id that a message of *run* has."""
    own = {event["id"] for event in flat_events(entry, None) if isinstance(event["id"], str)}
    return bool(own & _ids(messages[at] for messages, at in places_in(run)))


_UNSEEN = 2**63
"""Stands for the number of an entry that has none yet: above every number that a list has held."""


def gathered(entries: Entries) -> list[Run]:
    """The runs that all *entries* of a history show, as :meth:`Runs.read` hands them out."""
    runs: dict[object, Run] = {}
    known: dict[object, set[str]] = {}
    loose: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        run_id = run_id_of(entry)
        if (run := run_in(entry["body"])) is not None:
            name = entry["seq"] if run_id is None else run_id
            runs[name], known[name] = dict(run), _ids(messages[at] for messages, at in places_in(entry["body"]))
        elif run_id is not None:
            runs.setdefault(run_id, {"run_id": run_id, "messages": []})
            loose.setdefault(run_id, []).extend(events_of(entry["body"]))
    for run_id, messages in loose.items():
        runs[run_id] = _with_messages(runs[run_id], messages, known.get(run_id, set()))
    return [*runs.values()]


def _with_messages(run: Run, messages: list[dict[str, Any]], known: set[str]) -> Run:
    own = run.get("messages")
    present = own if isinstance(own, list) else []
    ids = known | _ids(present)
    new = [message for message in messages if not _ids([message]) & ids]
    return run | {"messages": [*present, *new]} if new else run


def _ids(messages: Iterable[object]) -> set[str]:
    found = (message.get("id") for message in messages if isinstance(message, Mapping))
    return {id for id in found if isinstance(id, str)}


def _checked_run(run: object, path: str) -> Run:
    given = run.model_dump(exclude_unset=True) if isinstance(run, BaseModel) else run
    if not isinstance(given, Mapping):
        message = f"a run is a mapping, not {type(run).__name__}"
        raise StorageValidationError(message, details={"path": path})
    if "role" in given:
        message = "a run has no role; add a message of one through .events"
        raise StorageValidationError(message, details={"path": f"{path}.role"})
    return {**kept(dict(given), path), "run_id": given.get("run_id") or new_id()}
