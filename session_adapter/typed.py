"""Documents as ``Session`` objects, through their formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from session_adapter.documents import format_of, stored_document
from session_adapter.formats import Format
from session_adapter.formats.format import NAMES, SHOWN
from session_adapter.frozen import digest, frozen, thawed
from session_adapter.identity import SessionKey, session_id_of, visible_id
from session_adapter.models import Event, Run, SessionSummary, of_known
from session_adapter.session import Session, Shown
from session_adapter.summary_document import summary_body, summary_in
from session_adapter.timestamps import Zone
from unified_storage.record import new_id

OBJECTS = ("metadata", "state", "agent_data")
DOCUMENTED = (*NAMES, *OBJECTS, "summary")
"""The fields of the model that stand in a document."""
_READ = (*NAMES, "metadata", "state", "summary")
_BLANK: Mapping[str, Any] = dict.fromkeys(Session.model_fields)


def shown_session(
    record: Mapping[str, Any],
    *,
    zone: Zone = None,
    runs: Iterable[Mapping[str, Any]] = (),
    events: Sequence[Event] = (),
    levels: Mapping[str, Any] | None = None,
    digests: Mapping[str, bytes] | None = None,
) -> Session:
    """The session in *record* as a typed object, which remembers what it shows and shares nothing with others.

    A field whose stored value has a wrong type is left out.

    Args:
        record: of type ``session``, as a storage hands it out, its document in any format; used up by this.
        zone: of times without an offset.
        runs: its runs, as ``.runs`` hands them out.
        events: its events to show.
        levels: what its state shows of app and user beside its own, under prefixed keys; never written by a session.
            It is kept, and not to be changed afterwards.
        digests: of the frozen *runs* by run id, where they are known.
    """
    key = visible_id(record)
    own, further = _fields_and_further(stored_document(record), format_of(record), zone)
    if isinstance(key, SessionKey):
        own |= {"app_name": key.app_name, "user_id": key.user_id}
    read = [shown_run(run) for run in runs]
    shown = Shown(
        record["id"],
        record["created_at"],
        record["version"],
        user=key.user if isinstance(key, SessionKey) else None,
        document=frozen(own | further, "session"),
        levels=levels or {},
        runs=digests or {run.run_id: digest(frozen(run.body(), "runs")) for run in read},
    )
    if levels:
        own["state"] = own.get("state", {}) | thawed(frozen(dict(levels), "state"))
    if "summary" in own:
        own["summary"] = SessionSummary.model_validate(own["summary"])
    own |= {
        "session_id": session_id_of(key),
        "runs": read,
        "created_at": record["created_at"],
        "updated_at": record["updated_at"],
        "events": [*events],
    }
    values = {**_BLANK, "metadata": {}, "state": {}, "agent_data": {}, **own}
    return of_known(Session, values, further, {*own, *further}, {"_shown": shown})


def shown_fields(document: Mapping[str, Any], format: Format, zone: Zone = None) -> dict[str, Any]:
    """The part of the model that stands in *document*, and its further top-level keys; parts of it are shared.

    What is missing, null or has a wrong type is left out, so are keys that a model cannot have. The summary is an
    object as it is stored by a session.
    """
    own, further = _fields_and_further(document, format, zone)
    return own | further


def _fields_and_further(
    document: Mapping[str, Any], format: Format, zone: Zone
) -> tuple[dict[str, Any], dict[str, Any]]:
    own = format.shown(document, zone, _READ)
    if isinstance(document.get("agent_data"), dict):
        own["agent_data"] = document["agent_data"]
    if "summary" in own:
        summary = summary_in(own.pop("summary"), zone)
        own |= {} if summary is None else {"summary": summary_body(summary)}
    taken = placed_keys(format)
    return own, {name: value for name, value in document.items() if name not in taken and _is_unicode(name)}


@cache
def placed_keys(format: Format) -> frozenset[str]:
    """The top-level keys of documents in *format* that hold what the model has a field for."""
    heads = {path[0] for name in (*SHOWN, "status") for path in format.places(name)}
    return frozenset({*heads, *(format.history_path or ())[:1], *Session.model_fields})


def _is_unicode(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def shown_run(body: Mapping[str, Any]) -> Run:
    """A run, as ``.runs`` hands it out, as a model."""
    # As it is, whatever its writer made of it; a run whose name is no text was stored without one.
    named = body if isinstance(body.get("run_id"), str) and body["run_id"] else {**body, "run_id": new_id()}
    return Run.model_validate(named)
