"""Stores of Google ADK, made small and by hand, and what ADK itself reads in them."""

from __future__ import annotations

import json
import pickle
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.legacy.peers.fixture_stores import canonical
from tests.legacy.peers.libraries import found_by

SERVICES = {"adk-v1": "database", "adk-sqlite": "sqlite"}
Session = dict[str, Any]

V0 = """
    CREATE TABLE sessions (app_name VARCHAR(128) NOT NULL, user_id VARCHAR(128) NOT NULL, id VARCHAR(128) NOT NULL,
        state TEXT NOT NULL, create_time DATETIME NOT NULL, update_time DATETIME NOT NULL,
        PRIMARY KEY (app_name, user_id, id));
    CREATE TABLE app_states (app_name VARCHAR(128) NOT NULL, state TEXT NOT NULL, update_time DATETIME NOT NULL,
        PRIMARY KEY (app_name));
    CREATE TABLE user_states (app_name VARCHAR(128) NOT NULL, user_id VARCHAR(128) NOT NULL, state TEXT NOT NULL,
        update_time DATETIME NOT NULL, PRIMARY KEY (app_name, user_id));
    CREATE TABLE events (id VARCHAR(128) NOT NULL, app_name VARCHAR(128) NOT NULL, user_id VARCHAR(128) NOT NULL,
        session_id VARCHAR(128) NOT NULL, invocation_id VARCHAR(256) NOT NULL, author VARCHAR(256) NOT NULL,
        branch VARCHAR(256), timestamp DATETIME NOT NULL, content TEXT, actions BLOB NOT NULL,
        PRIMARY KEY (id, app_name, user_id, session_id));
"""
V1 = """
    CREATE TABLE adk_internal_metadata ("key" VARCHAR(128) NOT NULL, value VARCHAR(256) NOT NULL, PRIMARY KEY ("key"));
    INSERT INTO adk_internal_metadata VALUES ('schema_version', '1');
    CREATE TABLE sessions (app_name VARCHAR(128) NOT NULL, user_id VARCHAR(128) NOT NULL, id VARCHAR(128) NOT NULL,
        state TEXT NOT NULL, create_time DATETIME NOT NULL, update_time DATETIME NOT NULL,
        PRIMARY KEY (app_name, user_id, id));
    CREATE TABLE app_states (app_name VARCHAR(128) NOT NULL, state TEXT NOT NULL, update_time DATETIME NOT NULL,
        PRIMARY KEY (app_name));
    CREATE TABLE user_states (app_name VARCHAR(128) NOT NULL, user_id VARCHAR(128) NOT NULL, state TEXT NOT NULL,
        update_time DATETIME NOT NULL, PRIMARY KEY (app_name, user_id));
    CREATE TABLE events (id VARCHAR(128) NOT NULL, app_name VARCHAR(128) NOT NULL, user_id VARCHAR(128) NOT NULL,
        session_id VARCHAR(128) NOT NULL, invocation_id VARCHAR(256) NOT NULL, timestamp DATETIME NOT NULL,
        event_data TEXT, PRIMARY KEY (id, app_name, user_id, session_id));
"""


@contextmanager
def database(path: Path, schema: str = "") -> Iterator[sqlite3.Connection]:
    """A SQLite file, made with *schema* where that is given; what was done is committed."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema)
        yield connection
        connection.commit()


def add_session(
    connection: sqlite3.Connection, id: str, state: Any = "{}", *, app: str = "shop", user: str = "ann"
) -> None:
    times = ("2024-05-15 20:00:00.000001", "2024-05-15 21:00:00.000002")
    connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", (app, user, id, state, *times))


def add_event(
    connection: sqlite3.Connection,
    session_id: str,
    id: str,
    data: Any,
    time: str = "2024-05-15 20:00:00.000000",
    *,
    app: str = "shop",
    user: str = "ann",
) -> None:
    """A row of v1; *data* as it stands there, or an object."""
    text = json.dumps(data) if isinstance(data, Mapping) else data
    connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", (id, app, user, session_id, "i1", time, text))


def add_v0_event(
    connection: sqlite3.Connection,
    session_id: str,
    id: str,
    text: str,
    actions: bytes,
    time: str = "2024-05-15 16:00:00",
) -> None:
    content = json.dumps({"parts": [{"text": text}], "role": "user"})
    values = (id, "shop", "ann", session_id, "i1", "user", None, time, content, actions)
    connection.execute(f"INSERT INTO events VALUES ({', '.join('?' * 10)})", values)


def said(text: str, author: str = "user", **further: Any) -> dict[str, Any]:
    """The dump of an event."""
    role = "user" if author == "user" else "model"
    return {"content": {"parts": [{"text": text}], "role": role}, "author": author, **further}


def actions_of(state_delta: Mapping[str, Any], module: str = "google.adk.events.event_actions") -> bytes:
    """``EventActions`` pickled as ADK v0 did: by a class of that name that exists for this moment."""

    class EventActions:
        def __init__(self, state: dict[str, Any]) -> None:
            self.__dict__.update(state)

        def __reduce_ex__(self, protocol: Any) -> Any:
            import copyreg

            own = {"state_delta": dict(state_delta), "artifact_delta": {}, "skip_summarization": None}
            state = {"__dict__": own, "__pydantic_extra__": None, "__pydantic_fields_set__": {"state_delta"}}
            return copyreg.__newobj__, (EventActions,), {**state, "__pydantic_private__": None}  # type: ignore[attr-defined]

    EventActions.__module__, EventActions.__qualname__ = module, "EventActions"
    names = [".".join(module.split(".")[:count]) for count in range(1, module.count(".") + 2)]
    known = {name: sys.modules.get(name) for name in names}
    try:
        for name in names:
            sys.modules[name] = ModuleType(name)
        sys.modules[module].EventActions = EventActions  # type: ignore[attr-defined]
        return pickle.dumps(EventActions({}))
    finally:
        for name, was in known.items():
            if was is None:
                del sys.modules[name]
            else:
                sys.modules[name] = was


# what ADK itself reads


def read_by_adk(format: str, place: Path | str, apps: Iterable[str], *, appends: bool = False) -> dict[str, Session]:
    """Every session as ADK shows it to a fresh process, by id.

    Args:
        place: a SQLite file, or a server's URL as SQLAlchemy takes it.
        appends: an application adds an event to each first.
    """
    service = SERVICES[format]
    if isinstance(place, Path):
        place = f"sqlite+aiosqlite:///{place}" if service == "database" else str(place)
    told = [*(["--append"] if appends else []), service, place, *apps]
    return {session["id"]: session for session in found_by("adk_sessions.py", "google.adk.sessions", *told)}


def hash_of(events: Iterable[dict[str, Any]]) -> str:
    """The hash of a conversation as ADK's events say it."""
    found: str = canonical().canon_sha([message for event in events for message in messages_of(event)])
    return found


def messages_of(event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    parts = event.get("content", {}).get("parts") or []
    for response in (part["function_response"] for part in parts if "function_response" in part):
        yield {
            "role": "tool",
            "content": response_text(response["response"]),
            "tool_call_id": response.get("id"),
            "name": response.get("name"),
        }
    if not any("function_response" in part for part in parts):
        calls = [part["function_call"] for part in parts if "function_call" in part]
        message: dict[str, Any] = {"role": "user" if event["author"] == "user" else "assistant"}
        message["content"] = "".join(part.get("text", "") for part in parts)
        message["tool_calls"] = [
            {"id": call.get("id"), "function": {"name": call["name"], "arguments": call.get("args", {})}}
            for call in calls
        ]
        yield message


def response_text(response: Mapping[str, Any]) -> str:
    is_wrapped = response.keys() == {"result"} and isinstance(response["result"], str)
    return str(response["result"]) if is_wrapped else json.dumps(response)
