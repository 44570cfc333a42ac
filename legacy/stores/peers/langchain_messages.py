"""The messages of LangChain's histories as text, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from legacy.stores.file_reading import ENCODING, FileRefused, parse
from legacy.stores.parcels import IGNORED, QUARANTINED, Item
from legacy.stores.peers.kinds import Found, PeerSession, Unit
from session_adapter.formats.langchain import message_to_event

UNREADABLE = "unreadable_message"


def document_of(session_id: str, messages: Sequence[Any]) -> dict[str, Any]:
    return {"session_id": session_id, "messages": list(messages)}


def found_session(unit: Unit, texts: Sequence[str | bytes], **further: Any) -> Found | Item:
    """The session that *unit* names, of its messages' texts, oldest first; vanished where there are none."""
    if not texts:
        return Item(unit.label, unit.place, IGNORED, ("vanished",))
    try:
        messages = [message_of(text) for text in texts]
    except UnicodeError:
        return Item(unit.label, unit.place, QUARANTINED, (ENCODING,))
    size = sum(map(len, texts))
    key = str(unit.key)
    return PeerSession(
        key, document_of(key, messages), warnings=warnings_of(messages), label=unit.label, size=size, **further
    )


def message_of(text: str | bytes) -> Any:
    """The message that *text* is; the text itself where it is none.

    Raises:
        UnicodeError: it is no text.
    """
    content = text if isinstance(text, bytes) else text.encode()
    shown = content.decode()
    try:
        value = parse(content).value
    except FileRefused:
        return shown
    return value if isinstance(value, dict) else shown


def text_of(message: Any) -> str:
    """A message as LangChain spells it."""
    return message if isinstance(message, str) else json.dumps(message)


def warnings_of(messages: Sequence[Any]) -> tuple[str, ...]:
    """What is odd about them, for the report."""
    return (UNREADABLE,) if any(message_to_event(message) is None for message in messages) else ()
