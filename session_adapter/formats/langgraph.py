"""LangGraph's checkpoints: the messages and the state of a thread's newest one, and all rows of it as they are.

What a checkpoint holds is read as data; no class that it names is ever built. Nothing is written into one: a thread
goes back as it came, or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from session_adapter.formats.langchain import LANGCHAIN_SQL, message_from_event, message_to_event
from session_adapter.formats.msgpack_data import NotMessagePack, read_msgpack
from session_adapter.formats.peer import Fields, PeerFormat
from session_adapter.formats.places import Document, is_mapping, text_of
from unified_storage.values import equal

CHANGED, NOT_OF_LANGGRAPH = "langgraph_changed", "not_of_langgraph"
ROW_LISTS = ("checkpoints", "writes")
_SNAPSHOT = 7
_WITH_KEYWORDS = (2, 4, 5)
_OWN_CHANNELS = ("__", "branch:")
_KEPT = ("state", "created_at", "updated_at", "empty_sessions", "bytes")

Row = Mapping[str, Any]


class CheckpointRefused(Exception):
    """A checkpoint that is not read.

    Attributes:
        reason: a stable word.
    """

    def __init__(self, reason: str, detail: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def thread_of(thread_id: str, checkpoints: Sequence[Row], writes: Sequence[Row]) -> dict[str, Any]:
    """The document of a thread.

    Args:
        checkpoints: its rows, oldest first.
    Raises:
        CheckpointRefused: the newest one cannot be read, or is a pickle.
    """
    roots = [row for row in checkpoints if row["checkpoint_ns"] == ""]
    newest = _opened(roots[-1]) if roots else {}
    first = _opened(roots[0]) if len(roots) > 1 else newest
    values = newest.get("channel_values")
    channels = values if is_mapping(values) else {}
    messages = channels.get("messages")
    return {
        "thread_id": thread_id,
        "created_at": first.get("ts"),
        "updated_at": newest.get("ts"),
        "state": {name: value for name, value in channels.items() if _is_state(name)},
        "messages": [_message(one) for one in messages] if isinstance(messages, list) else [],
        "checkpoints": [dict(row) for row in checkpoints],
        "writes": [dict(row) for row in writes],
    }


def _is_state(name: str) -> bool:
    return name != "messages" and not name.startswith(_OWN_CHANNELS)


def _opened(row: Row) -> Mapping[str, Any]:
    kind, content = row["type"], row["checkpoint"]
    try:
        value = _value(kind, content)
    except (NotMessagePack, ValueError, RecursionError) as error:
        raise CheckpointRefused("invalid_checkpoint", str(error)) from error
    if not is_mapping(value):
        raise CheckpointRefused("invalid_checkpoint", "no object")
    return value


def _value(kind: Any, content: Any) -> Any:
    raw = content.encode() if isinstance(content, str) else content
    if not isinstance(raw, bytes):
        raise CheckpointRefused("invalid_checkpoint", "no bytes")
    match kind:
        case "msgpack":
            return read_msgpack(raw, _as_data)
        case "json":
            return json.loads(raw, object_hook=_of_langchain)
        case "pickle":
            raise CheckpointRefused("pickle", "a pickle is never opened")
    raise CheckpointRefused("unknown_checkpoint", text_of(kind))


def _as_data(code: int, content: bytes, depth: int) -> Any:
    """What stands for an object: what it is of and what it was to be built from."""
    try:
        told = read_msgpack(content, _as_data, depth)
    except NotMessagePack:
        return {"extension": code, "content": content}
    if code == _SNAPSHOT:
        return told
    if not isinstance(told, list) or len(told) < 3 or code not in range(6):
        return {"extension": code, "content": told}
    module, name, given, *method = told
    named: dict[str, Any] = {"module": module, "class": name}
    named |= {"kwargs" if code in _WITH_KEYWORDS else "args": given}
    return named | ({"method": method[0]} if method else {})


def _of_langchain(told: dict[str, Any]) -> dict[str, Any]:
    """An object that LangChain spelled as JSON, as the same data."""
    path = told.get("id")
    if told.get("lc") not in (1, 2) or told.get("type") != "constructor" or not isinstance(path, list) or not path:
        return told
    return {"module": ".".join(map(str, path[:-1])), "class": path[-1], "kwargs": told.get("kwargs")}


def _message(told: Any) -> Any:
    """A message as LangChain's histories keep it; what is none as it is."""
    kwargs = told.get("kwargs") if is_mapping(told) else None
    if is_mapping(kwargs):
        return {"type": kwargs.get("type") or _kind_of(told.get("class")), "data": kwargs}
    if is_mapping(told) and isinstance(told.get("role"), str):
        return {"type": "chat", "data": told}
    return told


def _kind_of(name: Any) -> str:
    return str(name).removesuffix("Chunk").removesuffix("Message").lower()


# the way back


def refusal(document: Document) -> str | None:
    """Why *document* does not go back: it is from elsewhere, or says more than its checkpoints do."""
    if not any(document.get(name) for name in ROW_LISTS):
        return NOT_OF_LANGGRAPH
    try:
        own = thread_of(document["thread_id"], document["checkpoints"], document["writes"])
    except CheckpointRefused as refused:
        return refused.reason
    is_untouched = equal(own["messages"], document["messages"]) and equal(own["state"], document.get("state"))
    return None if is_untouched else CHANGED


def _blank(fields: Fields) -> dict[str, Any]:
    return {"thread_id": fields["id"], "state": {}, "messages": [], "checkpoints": [], "writes": []}


def _rows_of(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in ROW_LISTS}


LANGGRAPH = PeerFormat(
    "langgraph",
    message_to_event,
    message_from_event,
    history_path=("messages",),
    own_places={
        "id": (("thread_id",),),
        "state": (("state",),),
        "created_at": (("created_at",),),
        "updated_at": (("updated_at",),),
    },
    family="langgraph",
    engines=("sqlite",),
    loses=("new_sessions", *(word for word in LANGCHAIN_SQL.loses if word not in _KEPT)),
    blank=_blank,
    row_lists=ROW_LISTS,
    refusal=refusal,
    compared=_rows_of,
)
