"""What a format knows: where a document keeps things, and how an entry of its history reads as an event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from session_adapter.formats.places import (
    ABSENT,
    Document,
    Path,
    first_given,
    first_present,
    object_of,
    text_of,
    value_at,
    with_value,
)
from session_adapter.formats.runs import RunForm
from session_adapter.timestamps import Zone, read_time, render
from unified_storage.errors import StorageValidationError
from unified_storage.values import equal

Event = dict[str, Any]

PARTICIPANTS = ("app_name", "user_id", "agent_id", "team_id", "workflow_id")
NAMES = (*PARTICIPANTS, "kind", "name")
DERIVED = (*NAMES, "status")
TIMES = ("created_at", "updated_at")
SHOWN = ("id", *NAMES, "metadata", "state", "summary", *TIMES)
_TEXTS = frozenset(NAMES)

# Where a thing stands unless the format says otherwise; the first path that is there counts.
PLACES: Mapping[str, tuple[Path, ...]] = {
    "metadata": (("metadata",),),
    "state": (("state",),),
    "id": (("metadata", "session_id"),),
    **{name: ((name,), ("metadata", name)) for name in NAMES},
    "status": (("metadata", "status"),),
    "summary": (("summary",),),
    **{name: (("metadata", name),) for name in TIMES},
}


@dataclass
class SessionBundle:
    """One session, read.

    Attributes:
        session: the fields of the neutral model that the document has: ``id``, participants, ``kind``, ``name`` (text),
            ``metadata``, ``state`` (objects, the history left out), ``summary``, and ``created_at``, ``updated_at``
            (aware datetimes in UTC). A wrong-typed field and an unknown time are left out. Free to be changed.
        entries: the elements of the document's message list, in its own form; empty where it has none.
        raw: the document with that list emptied.
        shown: the session as it was read, by which ``write`` sees what was changed; empty for a new session.
    """

    session: dict[str, Any]
    entries: list[Any] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    shown: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Format:
    """A form that documents or entries have. Pure: nothing here changes what it is given, or looks at a clock.

    Attributes:
        name: what records and wrapped entries call it.
        to_event: an entry's value -> the flat event fields it has (``id role content tool_calls tool_call_id name
            timestamp`` ..., each as found); None for a value that cannot be read as an event.
        to_events: for a form in which one value may show several events: all of them, in order. The first is what
            ``to_event`` gives.
        shorter: a value that shows several, without what shows the last of them.
        from_event: an event -> an entry's value in this form; what the form has no place for is carried along.
        history_path: where a document keeps its message list; None for a form without one.
        own_places: where this format keeps what does not stand in its usual place, by field of the neutral model.
        recognises: whether a document has this form, asked in the order of the list of formats; None for forms of
            entries alone.
        run_form: for a form whose entries are whole runs: what it knows of them.
    """

    name: str
    to_event: Callable[[Any], Event | None]
    from_event: Callable[[Mapping[str, Any]], dict[str, Any]]
    history_path: Path | None = None
    own_places: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    recognises: Callable[[Document], bool] | None = None
    to_events: Callable[[Any], list[Event]] | None = None
    shorter: Callable[[Any], Any] | None = None
    run_form: RunForm | None = None

    def events(self, value: Any) -> list[Event]:
        """The events that *value*, one entry in this form, shows; none where it cannot be read as any."""
        if self.to_events is not None:
            return self.to_events(value)
        event = self.to_event(value)
        return [] if event is None else [event]

    def places(self, name: str) -> tuple[Path, ...]:
        """Where documents keep the field *name*: the first of these paths that is there, else the first of all."""
        return self.own_places.get(name) or PLACES.get(name) or ((name,),)

    # one thing of a document

    def document_id(self, document: Document) -> Any:
        """The session's id as found, of any type; None where there is none."""
        return first_given(document, self.places("id"))

    def created_at(self, document: Document) -> Any:
        """The creation time as found, of any type; None where there is none."""
        return first_given(document, self.places("created_at"))

    def updated_at(self, document: Document) -> Any:
        """The time of the last change as found, of any type; None where there is none."""
        return first_given(document, self.places("updated_at"))

    def derived(self, document: Document) -> dict[str, str | None]:
        """Participants, kind, name and status for the record's metadata.

        A name is here when the document has its key, as text or as null: integers become their decimal text, what is
        neither text nor integer becomes null, so that a filter never meets another type.
        """
        found = {name: first_present(document, self.places(name)) for name in DERIVED}
        return {name: text_of(value) for name, value in found.items() if value is not ABSENT}

    # the message list

    def history(self, document: Document) -> list[Any] | None:
        """The message list of *document* itself, no copy; None where it has none."""
        found = None if self.history_path is None else value_at(document, self.history_path)
        return found if isinstance(found, list) else None

    def without_history(self, document: Document) -> dict[str, Any]:
        """*document* with its message list emptied; the list's place and the order of the keys stay."""
        if self.history_path is None or self.history(document) is None:
            return dict(document)
        return with_value(document, self.history_path, [])

    def with_history(self, document: Document, elements: Iterable[Any]) -> dict[str, Any]:
        """*document* with *elements* as its message list; the list is made where there are any.

        A format without a message list gives the document as it is: its history lives in the log alone.

        Raises:
            StorageValidationError: something else stands where the list should be.
        """
        listed = list(elements)
        if self.history_path is None or (not listed and self.history(document) is None):
            return dict(document)
        if self.history(document) is None and value_at(document, self.history_path) not in (ABSENT, None):
            path = ".".join(self.history_path)
            raise StorageValidationError(f"{path} is no list, so no history fits there", details={"path": path})
        return with_value(document, self.history_path, listed)

    # the whole document

    def read(self, document: Document, *, id: str | None = None, source_timezone: Zone = None) -> SessionBundle:
        """*document* in the neutral model.

        Args:
            id: the session's id where the caller knows it better than the document.
            source_timezone: the zone of times without an offset; None is this machine's.
        """
        shown = self.shown(document, source_timezone)
        if id is not None:
            shown["id"] = id
        return SessionBundle(deepcopy(shown), list(self.history(document) or []), self.without_history(document), shown)

    def shown(self, document: Document, zone: Zone = None, names: tuple[str, ...] = SHOWN) -> dict[str, Any]:
        """The fields *names* of the neutral model that *document* has; they share what is in it."""
        raw, found = self.without_history(document), {}
        for name, heads, paths in _looked_for(self, names):
            if heads.isdisjoint(raw):  # as most are
                continue
            value = text_of(first_present(raw, paths)) if name in _TEXTS else self._field(raw, name, zone)
            if value is not None:
                found[name] = value
        return found

    def write(self, bundle: SessionBundle) -> dict[str, Any]:
        """The document of *bundle*: its raw one with the fields that were changed, each at its place.

        ``write(read(x)) == x`` for every x, order of keys included. Fields unknown to the model become top-level keys;
        None for a field that was not there says nothing, and a wrong-typed value in the document is never overwritten.

        Raises:
            StorageValidationError: a field's place cannot be reached, or the state brings a history of its own.
        """
        document: dict[str, Any] = bundle.raw
        # metadata and state before what stands inside them
        for name in sorted(bundle.session, key=lambda name: name not in ("metadata", "state")):
            value = bundle.session[name]
            if not _same(value, bundle.shown.get(name)) and not self._is_unreadable(document, name):
                document = self._placed(document, name, value)
        return self.with_history(document, bundle.entries)

    def _field(self, document: Document, name: str, zone: Zone) -> Any:
        if name in TIMES:
            return read_time(first_given(document, self.places(name)), zone).moment
        if name == "id":
            return text_of(self.document_id(document))
        found = first_present(document, self.places(name))
        if found is ABSENT:
            return None
        if name == "state":
            return self._state_without_history(object_of(found))
        if name == "metadata":
            return object_of(found)
        return found if name == "summary" else text_of(found)

    def _is_unreadable(self, document: Document, name: str) -> bool:
        found = first_given(document, self.places(name)) if name in PLACES else None
        return found is not None and self._field(document, name, None) is None

    def _history_key_in_state(self) -> str | None:
        path = self.history_path
        return path[-1] if path and path[:-1] in self.places("state") else None

    def _state_without_history(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        history_key = self._history_key_in_state()
        return None if state is None else {key: value for key, value in state.items() if key != history_key}

    def _placed(self, document: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
        paths = self.places(name)
        path = next((path for path in paths if value_at(document, path) is not ABSENT), paths[0])
        if isinstance(value, datetime) and name in TIMES:
            value = render(value)
        if name == "state" and isinstance(value, dict):
            value = self._state_with_history_key(value, value_at(document, path))
        return with_value(document, path, value)

    def _state_with_history_key(self, state: dict[str, Any], stored: object) -> dict[str, Any]:
        history_key = self._history_key_in_state()
        if history_key is None:
            return state
        if history_key in state:
            message = f"{history_key!r} is where {self.name} documents keep their history; name the state otherwise"
            raise StorageValidationError(message, details={"path": f"state.{history_key}"})
        kept = value_at(stored, (history_key,))
        return state if kept is ABSENT else {history_key: kept} | state


@cache
def _looked_for(format: Format, names: tuple[str, ...]) -> list[tuple[str, frozenset[str], tuple[Path, ...]]]:
    """The fields *names* of the neutral model, each with its places in documents and the keys that these begin with."""
    return [(name, frozenset(path[0] for path in format.places(name)), format.places(name)) for name in names]


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, datetime) and isinstance(right, datetime):
        return left == right  # one moment, whatever its offset
    return equal(left, right)
