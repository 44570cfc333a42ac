"""The entries of a history as whole runs, for stores of other frameworks that keep such."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from session_adapter.entries import events_of, is_run, places_in, run_id_of, run_in, same_form
from session_adapter.formats import Event, entry_form
from session_adapter.formats.peer import PeerFormat
from session_adapter.formats.runs import Run, RunForm, Turn

_NOTHING = object()


@dataclass(slots=True)
class _Slot:
    """One run to be: as it stands in that form, or what it is built of."""

    run_id: str | None
    own: Any = _NOTHING
    run: Run | None = None
    events: list[Event] = field(default_factory=list)

    @property
    def is_taken(self) -> bool:
        """Whether a whole run stands here, or something that is none."""
        return self.own is not _NOTHING or self.run is not None


class _Slots:
    """The runs of a history, each where its first entry stands."""

    def __init__(self, format: PeerFormat) -> None:
        self._format = format
        self._by_id: dict[str, _Slot] = {}
        self.listed: list[_Slot] = []

    def add(self, entry: Mapping[str, Any]) -> None:
        body, run_id = entry["body"], run_id_of(entry)
        writer, value = entry_form(body)
        run = run_in(body)
        if writer is not None and same_form(writer, self._format):
            self._for_whole(run_id).own = value
        elif run is not None:
            slot = self._for_whole(run_id)
            slot.run, slot.events = run, [*events_of(body), *slot.events]
        else:
            for event in events_of(body):
                self._for_event(event).events.append(event)

    def _for_whole(self, run_id: str | None) -> _Slot:
        slot = None if run_id is None else self._by_id.get(run_id)
        return self._new(run_id) if slot is None or slot.is_taken else slot

    def _for_event(self, event: Event) -> _Slot:
        run_id = event.get("run_id")
        if isinstance(run_id, str):
            return self._by_id.get(run_id) or self._new(run_id)
        last = self.listed[-1] if self.listed else None
        begins = last is None or last.run_id is not None or last.is_taken or event.get("role") == "user"
        return self._new(None) if last is None or begins else last

    def _new(self, run_id: str | None) -> _Slot:
        slot = _Slot(run_id)
        self.listed.append(slot)
        if run_id is not None:
            self._by_id.setdefault(run_id, slot)
        return slot


def runs_built(
    entries: Iterable[Mapping[str, Any]], format: PeerFormat, form: RunForm, session: Mapping[str, Any]
) -> list[Any]:
    """The runs that *entries* are, in the form of *format*: its own as they are, all others built.

    Messages by themselves are gathered under their ``run_id``, those of none turn by turn, from a user's event on. A
    message that belongs to a run of that form goes behind the messages in it, unless it stands there by its id.
    """
    slots = _Slots(format)
    for entry in entries:
        slots.add(entry)
    return [_built(slot, at, format, form, session) for at, slot in enumerate(slots.listed)]


def _built(slot: _Slot, at: int, format: PeerFormat, form: RunForm, session: Mapping[str, Any]) -> Any:
    if slot.own is _NOTHING:
        return form.built(Turn(slot.run_id, _new(slot.events, set()), session, at, slot.run))
    added = _new(slot.events, _ids(slot.own, format))
    return form.longer(slot.own, added) if added else slot.own


def _new(events: list[Event], known: set[str]) -> list[Event]:
    """*events*, each that has an id once, those of *known* ids left out."""
    left: list[Event] = []
    for event in events:
        id = event.get("id")
        if not isinstance(id, str):
            left.append(event)
        elif id not in known:
            left.append(event)
            known.add(id)
    return left


def _ids(run: Any, format: PeerFormat) -> set[str]:
    body = {"format": format.name, "value": run}
    found = [messages[at].get("id") for messages, at in places_in(body)] if is_run(body) else []
    return {id for id in found if isinstance(id, str)}
