"""The items of openai-agents' sessions: texts of a store as elements of a document, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from legacy.stores.file_reading import ENCODING, FileRefused, parse
from legacy.stores.parcels import IGNORED, Item
from legacy.stores.peers.kinds import Opening, PeerSession
from legacy.stores.peers.openai_envelopes import Envelopes, NotAuthentic
from legacy.stores.peers.openai_moments import Moments
from session_adapter.entries import events_of, same_form
from session_adapter.formats import PeerFormat, entry_form
from session_adapter.formats.openai_agents import is_envelope, unlinked
from session_adapter.identity import session_id_of
from session_adapter.timestamps import read_time, render
from unified_storage.errors import StorageConfigurationError

Spelling = Callable[[Any], str]
SEALED_AT, PLAIN = "fernet_time", "plain"
MAIN, BRANCH = "main", "branch:"
TIME, _PLACE = ("created_at", "created_at_text"), ("row", "structure")
NO_KEY, NOT_AUTHENTIC = "encrypted_without_key", "not_authentic"


def compact(value: Any) -> str:
    """As SQLAlchemySession and RedisSession spell JSON."""
    return json.dumps(value, separators=(",", ":"))


def _inside(value: Any) -> str:
    """As EncryptedSession spells JSON inside its envelopes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Items:
    """How one store keeps items.

    Attributes:
        spell: how JSON is spelled there.
        envelopes: what opens and seals; None without a key.
        seals: every item is sealed, but those that were found plain.
    """

    spell: Spelling
    envelopes: Envelopes | None = None
    seals: bool = False

    def element(self, session_id: str, stored: Any, warnings: dict[str, None]) -> dict[str, Any]:
        """What a document says of the item with the text *stored*; what is odd about it goes to *warnings*.

        Raises:
            FileRefused: it is no text in UTF-8.
        """
        text = _text(stored)
        if text is None:
            warnings["item_no_text"] = None
            return {"item": stored}
        item = parsed(text, self.spell, warnings)
        if not is_envelope(item):
            return {"item": item, PLAIN: True} if self.seals else {"item": item}
        if self.envelopes is None:
            warnings[NO_KEY] = None
            return {"item": item}
        try:
            inside, seconds = self.envelopes.opened(session_id, item)
        except NotAuthentic:
            warnings[NOT_AUTHENTIC] = None
            return {"item": item}
        return {"item": parsed(inside, _inside, warnings), SEALED_AT: seconds}

    def text(self, session_id: str, element: Mapping[str, Any]) -> str:
        """The text that *element*, as :meth:`settled` leaves it, is to be stored with."""
        item = element["item"]
        if SEALED_AT not in element:
            return item if isinstance(item, str) else self.spell(item)
        if self.envelopes is None:
            raise StorageConfigurationError("encrypted sessions are written with their key alone: say ?key_env=NAME")
        inside = item if isinstance(item, str) else _inside(item)
        return self.spell(self.envelopes.sealed(session_id, inside, element[SEALED_AT]))

    def settled(
        self, elements: Iterable[Mapping[str, Any]], times: Times | None, *, places: bool = False
    ) -> list[dict[str, Any]]:
        """*elements* as this store will show them: with one item each, and what it says of one.

        Args:
            times: None where the store has none for items.
            places: it has places in branches for items.
        Raises:
            StorageConfigurationError: one is to be sealed, and there is no key.
        """
        made: list[dict[str, Any]] = []
        foreign = (*(() if times else TIME), *(() if places else _PLACE))
        for element in unlinked(elements):
            timed = self._sealed_or_not(element if times is None else times.settled(element, made))
            made.append({name: value for name, value in timed.items() if name not in foreign})
        return made

    def _sealed_or_not(self, element: dict[str, Any]) -> dict[str, Any]:
        own = {name: value for name, value in element.items() if name not in (SEALED_AT, PLAIN)}
        if not self.seals or is_envelope(element["item"]):
            return own
        if element.get(PLAIN):
            return own | {PLAIN: True}
        if self.envelopes is None:
            raise StorageConfigurationError("encrypted sessions are written with their key alone: say ?key_env=NAME")
        return own | {SEALED_AT: element.get(SEALED_AT, _seconds(element))}


def _text(stored: Any) -> str | None:
    text = stored
    if isinstance(stored, bytes):
        try:
            text = stored.decode()
        except UnicodeDecodeError as error:
            raise FileRefused(ENCODING, f"an item is no utf-8 at byte {error.start}") from error
    if isinstance(text, str) and not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise FileRefused(ENCODING, "an item is no utf-8") from error
    return text if isinstance(text, str) else None


def parsed(text: str, spell: Spelling, warnings: dict[str, None]) -> Any:
    """The value of a JSON text; the text itself where it has none, or would not be spelled so again."""
    try:
        value = parse(text.encode()).value
    except FileRefused as refused:
        warnings[f"item_{refused.reason}"] = None
        return text
    return value if not isinstance(value, str) and spell(value) == text else text


@dataclass(frozen=True, slots=True)
class Times:
    """What a store with a time for each item says of them.

    Attributes:
        start: of the session; stands for a time that nothing tells. Text in UTC, or None.
        order: items are read by their times: none may be before the one in front of it.
    """

    moments: Moments
    start: str | None
    order: bool

    def settled(self, element: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """*element* with the time it will be shown with, behind those *before*."""
        last = before[-1] if before else {}
        if not any(name in element for name in TIME):
            element = {**element, "created_at": last.get("created_at", self.start)}
        elif self.order and self._is_before(element, last):
            element = {key: value for key, value in element.items() if key not in TIME}
            element |= {name: last[name] for name in TIME if name in last}
        return self.moments.settled("created_at", element)

    def _is_before(self, element: Mapping[str, Any], last: Mapping[str, Any]) -> bool:
        own, other = (read_time(one.get("created_at")).moment for one in (element, last))
        if own is None or other is None:
            return False
        # In one second, the shorter of two texts would come first.
        return own < other or (own == other and "created_at_text" in last and "created_at_text" not in element)


def _seconds(element: Mapping[str, Any]) -> int:
    moment = read_time(element.get("created_at")).moment
    return 0 if moment is None else max(0, int(moment.timestamp()))


# branches, which travel as logs beside the history


def is_branch_log(name: str) -> bool:
    """Whether the log *name*, without its session, is a branch."""
    return name.startswith(BRANCH)


def branches_of(opening: Opening) -> tuple[str | None, str | None]:
    """The branch to be read for the conversation, and the one to be written as it."""
    branch = opening.options.get("branch")
    return (None, branch) if opening.to_write else (branch, None)


def with_branch(found: PeerSession, branch: str | None, format: PeerFormat) -> PeerSession | Item:
    """*found* with *branch* for its conversation; an Item where it has no such branch."""
    if branch in (None, MAIN):
        return found
    entries = found.further_logs.get(f"{BRANCH}{branch}")
    if entries is None:
        return Item(found.label, session_id_of(found.key), IGNORED, ("no_such_branch",))
    return replace(found, document=found.document | {"messages": elements_in(entries, format)}, further_logs={})


def elements_in(entries: Sequence[Mapping[str, Any]], format: PeerFormat) -> list[dict[str, Any]]:
    """The entries of a log as elements: those of this family as they were, others built."""
    made: list[dict[str, Any]] = []
    for entry in entries:
        writer, value = entry_form(entry["body"])
        if writer is not None and same_form(writer, format):
            made.append(value)
            continue
        time = {"timestamp": render(entry["created_at"])} if entry.get("created_at") else {}
        made += [
            format.from_event(event if event.get("timestamp") is not None else event | time)
            for event in events_of(entry["body"])
        ]
    return made
