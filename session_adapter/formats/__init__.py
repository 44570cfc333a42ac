"""The formats that session documents and history entries have: one file each, pure functions, one line here."""

from __future__ import annotations

from typing import Any

from session_adapter.formats.adk import ADK_SQLITE, ADK_V0, ADK_V1
from session_adapter.formats.agno import AGNO1, AGNO2, AGNO3
from session_adapter.formats.agno_go import AGNO_GO, AGNO_GO_SERVICE
from session_adapter.formats.canonical import BARE, CANONICAL
from session_adapter.formats.format import Event, Format, SessionBundle
from session_adapter.formats.langchain import LANGCHAIN_FILE, LANGCHAIN_REDIS, LANGCHAIN_SQL
from session_adapter.formats.langgraph import LANGGRAPH
from session_adapter.formats.legacy_files import G0, G1, G2, G3
from session_adapter.formats.openai_agents import (
    OPENAI_ADVANCED,
    OPENAI_ENCRYPTED,
    OPENAI_REDIS,
    OPENAI_SQLALCHEMY,
    OPENAI_SQLITE,
)
from session_adapter.formats.peer import PeerFormat
from session_adapter.formats.places import Document, is_mapping
from session_adapter.formats.scoped_redis import SCOPED_REDIS
from session_adapter.formats.trpc_agent import TRPC_V1, TRPC_V2
from unified_storage.errors import StorageValidationError

__all__ = [
    "BARE",
    "CANONICAL",
    "FORMATS",
    "G0",
    "G1",
    "G2",
    "G3",
    "SCOPED_REDIS",
    "Event",
    "Format",
    "PeerFormat",
    "SessionBundle",
    "by_name",
    "detect",
    "entry_body",
    "entry_event",
    "entry_events",
    "entry_form",
]

# A document is of the first format that recognises it; `bare` recognises all that is left. Behind it stand the forms of
# other frameworks, which no stored document has, but the entries of histories.
FORMATS: tuple[Format, ...] = (
    CANONICAL,
    G3,
    G0,
    G2,
    G1,
    BARE,
    AGNO3,
    AGNO2,
    AGNO1,
    AGNO_GO,
    AGNO_GO_SERVICE,
    LANGCHAIN_SQL,
    LANGCHAIN_REDIS,
    LANGCHAIN_FILE,
    LANGGRAPH,
    ADK_V1,
    ADK_SQLITE,
    ADK_V0,
    OPENAI_SQLITE,
    OPENAI_SQLALCHEMY,
    OPENAI_ADVANCED,
    OPENAI_REDIS,
    OPENAI_ENCRYPTED,
    TRPC_V2,
    TRPC_V1,
    SCOPED_REDIS,
)
_BY_NAME = {format.name: format for format in FORMATS}
_WRAPPED = {"format", "value"}


def detect(document: Document) -> Format:
    """The format of *document*: always one, `bare` when nothing in it is known."""
    return next(format for format in FORMATS if format.recognises is not None and format.recognises(document))


def by_name(name: str) -> Format:
    """The format called *name*.

    Raises:
        StorageValidationError: there is no such format.
    """
    if name not in _BY_NAME:
        known = ", ".join(_BY_NAME)
        raise StorageValidationError(f"no format {name!r}; known are {known}", details={"format": name})
    return _BY_NAME[name]


def entry_body(format: Format, value: Any) -> Any:
    """What the log keeps of *value*, an entry in the form of *format*: canonical as it is, any other with its name."""
    own_form = format in (CANONICAL, BARE)
    # An event that looks like a wrapping is wrapped itself, or it would be read as something else.
    return value if own_form and not _is_wrapped(value) else {"format": format.name, "value": value}


def entry_form(body: Any) -> tuple[Format | None, Any]:
    """The format that the log entry *body* is in, and its value in it; None for a format unknown here."""
    return (_BY_NAME.get(body["format"]), body["value"]) if _is_wrapped(body) else (CANONICAL, body)


def entry_event(body: Any) -> Event | None:
    """The event that the log entry *body* is: flat fields as its own format gives them.

    None for a body that is no event: no object, or one in a format unknown here.
    """
    format, value = entry_form(body)
    return None if format is None else format.to_event(value)


def entry_events(body: Any) -> list[Event]:
    """All events that the log entry *body* shows: one as a rule, none where :func:`entry_event` gives None."""
    format, value = entry_form(body)
    return [] if format is None else format.events(value)


def _is_wrapped(body: Any) -> bool:
    return is_mapping(body) and len(body) == 2 and body.keys() == _WRAPPED and isinstance(body["format"], str)
