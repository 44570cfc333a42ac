"""What is known of the forms in which other frameworks keep sessions, beside what every format knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from types import MappingProxyType
from typing import Any

from session_adapter.formats.format import SHOWN, Format
from session_adapter.formats.places import ABSENT, Document, first_present
from session_adapter.timestamps import Zone

LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "user": "whose session it is",
        "app": "which application it belongs to",
        "participants": "its agent, team or workflow",
        "name": "its name",
        "metadata": "its metadata",
        "state": "its state",
        "user_state": "the state of its user",
        "app_state": "the state of its application",
        "summary": "its summary",
        "created_at": "when it was made",
        "updated_at": "when it changed last",
        "expires_at": "when it expires",
        "event_ids": "the ids of its events",
        "event_times": "when its events were said",
        "runs": "which events belong to one run",
        "authors": "who of the participants spoke",
        "usage": "how many tokens its events took",
        "state_deltas": "which event changed which state",
        "further_logs": "tracks and branches beside the history",
        "further_fields": "fields that only its own writer knows",
        "bytes": "which values are bytes",
        "values": "which values of a state are no bytes",
        "branches": "branches beside the history",
        "tracks": "tracks beside the history",
        "new_sessions": "sessions that did not come from there, or went on since",
        "empty_sessions": "sessions without messages",
        "empty_states": "states without values",
    }
)
"""What a format may have no place for, by the word that formats and reports use."""

Fields = Mapping[str, Any]


def _no_key(_: Any) -> str | None:
    return None


def _nothing(fields: Fields) -> dict[str, Any]:
    raise NotImplementedError(f"this format writes no new sessions, so none for {fields['id']!r}")


def _as_it_is(moment: datetime) -> Any:
    return moment


def _unchanged(name: str, value: Any) -> Any:
    return value


def _in_their_order(elements: list[Any]) -> list[Any]:
    return elements


def _fits(document: Fields) -> str | None:
    return None


def _all_of(document: dict[str, Any]) -> dict[str, Any]:
    return document


@dataclass(frozen=True, eq=False, kw_only=True)
class PeerFormat(Format):
    """The form in which another framework keeps a session.

    Its *document* is everything that the framework's store has of one session: rows as objects with their columns, JSON
    columns parsed (as their text where they do not parse), times as the store has them. ``history_path`` is where the
    rows or elements stand that are its events, or its runs; the rest is carried along and patched.

    Attributes:
        family: the word before the ``+`` of a URL; several formats of one framework share it.
        engines: where such stores live: ``sqlite postgresql mysql redis file``.
        is_scoped: sessions belong to a user of an app; else they have an id alone.
        writes: whether sessions can be written in this form.
        loses: what it has no place for; words of :data:`LOSSES`.
        blank: the document of a new session, without events, for the fields of the neutral model that it has
            (``id`` always, ``created_at`` and ``updated_at`` as aware datetimes in UTC).
        entry_key: what names an entry, one of each in a session; None where nothing does.
        written_time: how a moment stands in its documents.
        further: keys of the canonical form beside the neutral model that it has a place for, each in ``own_places``.
        compared: what of a document has to be the same where it was written; the rest is how an engine spells it.
        written: how any other field that has changed stands there, by its name in the neutral model.
        said_at: when an entry was said, as its event tells it, without the rest of that: for forms in which an event is
            long to build. None for those in which it is not.
        is_timed: each entry needs a time: an event without one is given that at which it was stored.
        arranged: the entries of a document with new ones among them, so that its own reader keeps their order.
        row_lists: the lists of a document that may be too long for one entry of the raw log: each row is one there.
        placed_log: the name of a log beside the history, without the session, and the bodies of its entries -> how they
            stand there, none where they have no place; None for a form in which such logs are not compared.
        refusal: why such a document cannot be written, a stable word; None where it can.
        naive_zone: of times without an offset, where the framework says; None where that depends on its machine.
        needs_zone: that zone has to be told: no guess at it would be right.
        adopt: an entry of another form of its family, and when it was said -> an entry of its own; None for one that
            cannot be taken over so.
    """

    family: str
    engines: tuple[str, ...]
    is_scoped: bool = False
    writes: bool = True
    loses: tuple[str, ...] = ()
    blank: Callable[[Fields], dict[str, Any]] = _nothing
    entry_key: Callable[[Any], str | None] = _no_key
    written_time: Callable[[datetime], Any] = _as_it_is
    further: tuple[str, ...] = ()
    compared: Callable[[dict[str, Any]], dict[str, Any]] = _all_of
    written: Callable[[str, Any], Any] = _unchanged
    said_at: Callable[[Any], Any] | None = None
    is_timed: bool = False
    arranged: Callable[[list[Any]], list[Any]] = _in_their_order
    row_lists: tuple[str, ...] = ()
    placed_log: Callable[[str, list[Any]], list[Any]] | None = None
    refusal: Callable[[Fields], str | None] = _fits
    naive_zone: tzinfo | None = None
    needs_zone: bool = False
    adopt: Callable[[PeerFormat, Any, datetime], Any | None] | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.loses) - LOSSES.keys():
            raise ValueError(f"{self.name}: no such losses: {', '.join(sorted(unknown))}")

    def shown(self, document: Document, zone: Zone = None, names: tuple[str, ...] = SHOWN) -> dict[str, Any]:
        """The fields that *document* has, those of the neutral model and the further ones; they share what is in it."""
        found = {name: first_present(document, self.places(name)) for name in self.further}
        present = {name: value for name, value in found.items() if value is not ABSENT and value is not None}
        return super().shown(document, self.naive_zone or zone, names) | present

    @property
    def lossy(self) -> str:
        """What writing this form loses, for people; empty when nothing."""
        return "; ".join(LOSSES[word] for word in self.loses)
