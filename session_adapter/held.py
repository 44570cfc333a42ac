"""What the holder of a ``Session`` wants stored, and what of it is not stored yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from session_adapter.documents import format_of, stored_document
from session_adapter.formats import Format, SessionBundle
from session_adapter.formats.format import NAMES
from session_adapter.frozen import digest, frozen, thawed
from session_adapter.identity import SessionId, SessionKey, record_id, session_id_of
from session_adapter.levels import APP, TEMP, USER
from session_adapter.models import Run
from session_adapter.session import Session, Shown
from session_adapter.summary_document import summary_body
from session_adapter.timestamps import Zone
from session_adapter.typed import DOCUMENTED, OBJECTS, placed_keys, shown_fields
from unified_storage.errors import StorageValidationError
from unified_storage.handed_in import kept
from unified_storage.record import DELETE
from unified_storage.values import encode, equal

_SCOPE = ("app_name", "user_id")
"""What names a scoped session, so that it is no field of its document to be changed."""
_OF_ONE_TYPE = ("agent_data", "summary")
"""Fields that a document may hold in a type which the model has no place for, and which formats do not look after."""

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Held:
    """What the holder of a session wants stored: a copy, taken before anything is waited for.

    Attributes:
        key: what names the session.
        fields: of the model those that stand in the document and are not empty.
        extra: further top-level keys of the document.
        runs: each run, frozen, by run id, in order.
        digests: of these.
        shown: what the holder had seen; None for a session that was not read.
    """

    key: SessionId
    fields: dict[str, Any]
    extra: dict[str, Any]
    runs: dict[str, bytes]
    digests: dict[str, bytes]
    created_at: datetime
    shown: Shown | None

    @classmethod
    def of(cls, session: Session) -> Held:
        """Raises ``StorageValidationError`` for what is no session, or cannot be stored as one."""
        if not isinstance(session, Session):
            message = f"a Session is wanted, not {type(session).__name__}"
            raise StorageValidationError(message, details={"path": "session"})
        record_id(session.key)
        _check(session)
        fields = {name: value for name in DOCUMENTED if not _is_empty(value := getattr(session, name))}
        if session.summary is not None:
            fields["summary"] = summary_body(session.summary)
        fields = {name: kept(value, name) for name, value in _own(fields, session).items()}
        extra = {name: kept(value, name) for name, value in (session.model_extra or {}).items()}
        runs, digests = _frozen_runs(session)
        return cls(session.key, fields, extra, runs, digests, session.created_at, session._shown)

    @property
    def stored_id(self) -> str:
        return record_id(self.key)

    def saw(self, record: Mapping[str, Any]) -> bool:
        """Whether what its holder had seen is the session in *record*, in this or an earlier state."""
        seen = self.shown
        if seen is None or (seen.stored_id, seen.created_at) != (record["id"], record["created_at"]):
            return False
        return bool(seen.version <= record["version"])

    def new_document(self) -> dict[str, Any]:
        """The document of a session that is not there yet, in the canonical form."""
        return {"session_id": session_id_of(self.key), **self.fields, **self.extra}

    def document_over(self, record: Mapping[str, Any], zone: Zone) -> dict[str, Any]:
        """The document in *record* with what the holder changed, else with every field of the model as it is here.

        Of an object - metadata, state, agent data - his change is the keys that he added, changed or took out.

        Raises:
            StorageValidationError: something that cannot stand where the format keeps it.
        """
        format, document = format_of(record), stored_document(record)
        there = shown_fields(document, format, zone)
        extra = self._changed_extra(record, format)
        changes = self._changes(record, there, document)
        document = format.write(SessionBundle(changes, [], document, there))
        document = _with_what_is_not_named(document, format, stored_document(record), changes)
        gone = {name for name, value in extra.items() if value is DELETE}
        return {name: value for name, value in (document | extra).items() if name not in gone}

    def runs_over(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The runs that are new or were changed since the holder saw those of *record*."""
        seen = self.shown.runs if self.shown is not None and self.saw(record) else {}
        return [thawed(run) for run_id, run in self.runs.items() if self.digests[run_id] != seen.get(run_id)]

    def is_up_to_date(self, record: Mapping[str, Any]) -> bool:
        """Whether nobody has changed the session in *record* since its holder saw it."""
        return self.shown is not None and self.saw(record) and self.shown.version == record["version"]

    def all_runs(self) -> list[dict[str, Any]]:
        """All its runs, as they are stored."""
        return [thawed(run) for run in self.runs.values()]

    def remembered(self, session: Session, record: Mapping[str, Any]) -> None:
        """Let *session*, whose copy this is and which is stored as *record* now, know that its holder has seen it."""
        session._shown = Shown(
            stored_id=record["id"],
            created_at=record["created_at"],
            version=record["version"],
            user=self.key.user if isinstance(self.key, SessionKey) else None,
            document=frozen(self.fields | self.extra, "session"),
            levels=self.shown.levels if self.shown else {},
            runs=self.digests,
        )

    def _changes(self, record: Mapping[str, Any], there: Fields, document: Fields) -> dict[str, Any]:
        seen = self.shown.fields if self.shown is not None and self.saw(record) else there
        names = DOCUMENTED if not isinstance(self.key, SessionKey) else [n for n in DOCUMENTED if n not in _SCOPE]
        changes = {}
        for name in names:
            mine, theirs = self.fields.get(name), seen.get(name)
            if equal(mine, None if _is_empty(theirs) else theirs):
                continue
            if name in _OF_ONE_TYPE and name not in there and document.get(name) is not None:
                continue  # of a type that could not be shown
            changes[name] = mine
            if name in OBJECTS:
                changes[name] = _changed_keys(there.get(name) or {}, seen=theirs or {}, now=mine or {})
        return changes

    def _changed_extra(self, record: Mapping[str, Any], format: Format) -> dict[str, Any]:
        seen = self.shown.fields if self.shown is not None and self.saw(record) else {}
        taken = placed_keys(format)
        changed: dict[str, Any] = {
            name: value for name, value in self.extra.items() if name not in seen or not equal(value, seen[name])
        }
        for name in changed:
            if name in taken:
                message = f"{name!r} is where {format.name} documents keep something else"
                raise StorageValidationError(message, details={"path": name})
        return changed | {name: DELETE for name in seen if name not in taken and name not in self.extra}


def _changed_keys(stored: Fields, *, seen: Fields, now: Fields) -> dict[str, Any]:
    """*stored* with the top-level keys in which *now* differs from *seen*: each whole, or deleted."""
    changed = {key: value for key, value in now.items() if key not in seen or not equal(value, seen[key])}
    return {key: value for key, value in {**stored, **changed}.items() if key in now or key not in seen}


def _with_what_is_not_named(
    document: dict[str, Any], format: Format, before: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """*document* with the id and participants that stood inside what was replaced, which nobody meant to take out."""
    had, has = format.read(before).shown, format.read(document).shown
    lost = {name: had[name] for name in ("id", *NAMES) if name in had and name not in has and name not in changes}
    return format.write(SessionBundle(lost, [], document, has)) if lost else document


def _frozen_runs(session: Session) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The runs of *session* and their digests, by run id; those that are new to it, or changed, can be stored."""
    shown = session._shown.runs if session._shown else {}
    runs, digests = {}, {}
    for at, run in enumerate(session.runs):
        path, body = f"runs[{at}]", run.body()
        if run.run_id in runs:
            raise StorageValidationError(f"two runs are {run.run_id!r}", details={"path": f"{path}.run_id"})
        copy = frozen(body, path)
        runs[run.run_id], digests[run.run_id] = copy, digest(copy)
        if digests[run.run_id] != shown.get(run.run_id):
            encode(body, path=path)
    return runs, digests


def _own(fields: dict[str, Any], session: Session) -> dict[str, Any]:
    """*fields* of a scoped session without what its state shows of the levels above."""
    if not isinstance(session.key, SessionKey):
        return fields
    shown = session._shown.levels if session._shown else {}
    state = session.state
    for key in {*shown, *(key for key in state if key.startswith((APP, USER)))}:
        if key not in state or key not in shown or not equal(state[key], shown[key]):
            message = f"{key!r} is no state of this session; change it where it belongs"
            raise StorageValidationError(message, details={"path": f"state.{key}"})
    own = {key: value for key, value in state.items() if not key.startswith((APP, USER, TEMP))}
    return {name: own if name == "state" else value for name, value in fields.items() if name != "state" or own}


def _check(session: Session) -> None:
    """Refuse what was put into *session* and is not of its field's type, and what nobody would store."""
    for at, run in enumerate(session.runs if isinstance(session.runs, list) else ()):
        if not isinstance(run, Run):
            raise StorageValidationError("no Run; add it by add_run", details={"path": f"runs[{at}]"})
        if not isinstance(run.run_id, str) or not run.run_id:
            raise StorageValidationError("a run_id is a text, not empty", details={"path": f"runs[{at}].run_id"})
    try:
        Session.model_validate({**session.__dict__, **(session.model_extra or {})})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"])) or "session"
        raise StorageValidationError(f"{path}: {first['msg']}", details={"path": path}) from error
    _check_owner(session)
    if any(event.seq is None for event in session.events) or (session.events and session._shown is None):
        message = "events are added one by one, by append; a session shows them"
        raise StorageValidationError(message, details={"path": "events"})


def _check_owner(session: Session) -> None:
    if not isinstance(key := session.key, SessionKey):
        return
    for name in _SCOPE:
        if getattr(session, name) != getattr(key, name):
            message = f"{name} of a scoped session is part of what names it; it stays as it was read"
            raise StorageValidationError(message, details={"path": name})


def _is_empty(value: object) -> bool:
    return value is None or (type(value) is dict and not value)
