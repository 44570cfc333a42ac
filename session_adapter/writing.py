"""Writing sessions: documents become records, and their lists what the logs show, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from session_adapter.documents import (
    Snapshot,
    Split,
    exact_texts,
    format_of,
    record_of,
    stored_document,
    trace_of,
    with_own_times,
)
from session_adapter.entries import element_entry, history_of, same_form
from session_adapter.formats import Format, entry_body
from session_adapter.formats.places import value_at, with_value
from session_adapter.history import History
from session_adapter.identity import SESSION, SessionId, record_id
from session_adapter.metadata import own_fields
from session_adapter.naming import named_record
from session_adapter.reading import session_record, session_records
from session_adapter.timestamps import Zone, read_time
from session_adapter.trace import Trace
from unified_storage.arguments import check_version
from unified_storage.errors import StorageConflictError, StorageValidationError
from unified_storage.interface import IUnifiedStorage, Record
from unified_storage.record import merged
from unified_storage.transactions import is_transaction
from unified_storage.values import decode

_RECOMPUTED = {"format", "added", "history"}
_CARRIED = ("thread_id", "expires_at")


@dataclass(frozen=True)
class Saving:
    """A session to be saved, copied from what the caller gave.

    Attributes:
        expected_version: of the stored record; None for whatever is there.
        exact: the document is not what a view handed out: its times are its own, and its history is the list it has.
    """

    session: SessionId
    snapshot: Snapshot
    expected_version: int | None = None
    exact: bool = False

    @classmethod
    def of(
        cls,
        session: SessionId,
        document: Mapping[str, Any],
        expected_version: int | None = None,
        *,
        exact: bool = False,
    ) -> Saving:
        """Raises ``StorageValidationError`` for an id or a document that cannot be stored."""
        record_id(session)
        return cls(session, Snapshot.of(document), expected_version, exact)

    @property
    def stored_id(self) -> str:
        return record_id(self.session)


async def create_session(storage: IUnifiedStorage, saving: Saving, zone: Zone) -> bool:
    """Save a session that is new and brings no history, which takes no transaction; False where there is more to do."""
    if is_transaction(storage):
        return False  # a conflict ends it, and only its own caller can begin it again
    split = saving.snapshot.split()
    if split.texts or saving.expected_version or await storage.exists(saving.stored_id, type=SESSION):
        return False
    try:
        await storage.save(_first(saving.session, split, storage.clock(), zone), expected_version=0)
    except StorageConflictError:
        return False  # somebody made it meanwhile: what that means is found out where nobody can
    return True


async def save_session(tx: IUnifiedStorage, saving: Saving, zone: Zone) -> None:
    """Save one session."""
    stored = await session_record(tx, saving.stored_id)
    check_version(saving.expected_version, stored["version"] if stored else 0, saving.stored_id)
    if stored is not None:
        await tx.save(await _over(tx, saving, stored, zone))
        return
    split = saving.snapshot.split()
    await tx.save(_first(saving.session, split, tx.clock(), zone))
    await _append_list(tx, saving.stored_id, split, zone)


async def save_sessions(tx: IUnifiedStorage, savings: Sequence[Saving], zone: Zone) -> None:
    """Save many sessions, their records as one set; all ids differ."""
    found = await session_records(tx, [saving.stored_id for saving in savings])
    stored = {record["id"]: record for record in found}
    now, records, new = tx.clock(), [], []
    for saving in savings:
        if saving.stored_id in stored:
            records.append(await _over(tx, saving, stored[saving.stored_id], zone))
        else:
            split = saving.snapshot.split()
            records.append(_first(saving.session, split, now, zone))
            new.append((saving.stored_id, split))
    await tx.batch_save(records)
    for stored_id, split in new:
        await _append_list(tx, stored_id, split, zone)


def _first(session: SessionId, split: Split, now: datetime, zone: Zone) -> Record:
    """The record of a session that is new, with its creation time where its document tells an earlier one."""
    own = {} if split.texts is None else {"history": Trace.of_new(split.texts).facts()}
    created = read_time(split.format.created_at(split.document), zone).moment
    earlier = created is not None and created <= now
    record = named_record(record_of(session, split, own), _bodies(split))
    return record | ({"created_at": created} if earlier else {})


def _bodies(split: Split) -> Iterator[Any]:
    """Of the entries that hold its list, oldest first."""
    return (entry_body(split.format, decode(text)) for text in split.texts or ())


async def _append_list(tx: IUnifiedStorage, stored_id: str, split: Split, zone: Zone) -> None:
    if split.texts:
        elements = [decode(text) for text in split.texts]
        await tx.append(history_of(stored_id), [element_entry(element, split.format, zone) for element in elements])


async def _over(tx: IUnifiedStorage, saving: Saving, stored: Record, zone: Zone) -> Record:
    """The record of *saving* over *stored*; its log is brought to its list first."""
    document = saving.snapshot.document
    split = saving.snapshot.split(document if saving.exact else with_own_times(document, stored))
    trace = trace_of(stored)
    # Entries that the document read before did not show are not proved to be seen by its version.
    exact = (saving.exact or saving.expected_version is not None) and trace is not None
    had_list = trace is not None
    trace = await _brought(tx, stored, trace, split, zone, exact=exact)
    record = _record_over(saving.session, stored, split, trace)
    return _named(record, split, trace) if had_list or split.texts else record


async def _brought(
    tx: IUnifiedStorage, stored: Record, trace: Trace | None, split: Split, zone: Zone, *, exact: bool
) -> Trace | None:
    if trace is not None and not same_form(format_of(stored), split.format):
        trace = trace.void()
    history = History(tx, history_of(stored["id"]), split.format, trace, zone, exact=exact)
    if split.texts is None:
        await history.clear()
        return None
    return await history.show(split.texts)


def _record_over(session: SessionId, stored: Record, split: Split, trace: Trace | None) -> Record:
    kept = {name: value for name, value in own_fields(stored).items() if name not in _RECOMPUTED}
    own = kept if trace is None else {"history": trace.facts(), **kept}
    return record_of(session, split, own) | {name: stored[name] for name in _CARRIED}


def _named(record: Record, split: Split, trace: Trace | None) -> Record:
    """*record* with the name that the list of *split* gives it, once the log shows that list."""
    return named_record(record, _bodies(split), are_all=trace is not None and trace.entries == trace.last_seq)


# updates


async def replace_document(
    tx: IUnifiedStorage, session: SessionId, stored: Record, document: Mapping[str, Any]
) -> None:
    """Replace the document of *stored*, and leave its history as it is.

    Args:
        document: its message list empty, as that of *stored* is.
    """
    split = Split(format_of(stored), dict(document), [])
    await tx.save(_record_over(session, stored, split, trace_of(stored)))


class _Untouched(list[Any]):
    """Stands in the place of a list that an update may leave alone."""


async def update_session(
    tx: IUnifiedStorage, session: SessionId, stored: Record, updates: Mapping[str, Any], zone: Zone, *, exact: bool
) -> None:
    """Merge *updates* into the document of *stored*; its history is looked at only where they touch the list.

    Args:
        exact: the caller has seen every entry.
    """
    if not isinstance(updates, Mapping):
        message = f"updates are a mapping, not {type(updates).__name__}"
        raise StorageValidationError(message, details={"path": "updates"})
    format, trace = format_of(stored), trace_of(stored)
    placeholder = _Untouched()
    document = stored_document(stored)
    if trace is not None and format.history_path is not None:
        document = with_value(document, format.history_path, placeholder)
    changed = with_own_times(merged(document, updates), stored)
    if format.history_path and value_at(changed, format.history_path) is placeholder:
        split = Split(format, format.without_history(changed), [])
    else:
        split = _split(changed, format)
        trace = await _brought(tx, stored, trace, split, zone, exact=exact and trace is not None)
        await tx.save(_named(_record_over(session, stored, split, trace), split, trace))
        return
    await tx.save(_record_over(session, stored, split, trace))


def _split(document: dict[str, Any], format: Format) -> Split:
    elements = format.history(document)
    texts = None if elements is None or not format.history_path else exact_texts(elements, format.history_path)
    return Split(format, format.without_history(document), texts)
