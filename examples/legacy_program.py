"""An old program: it knows ``ISessionStore`` and nothing else, and runs unchanged on every store.

``python examples/legacy_program.py PLACE``, where PLACE is ``memory``, ``file:FOLDER`` or the URL of a storage, such as
``sqlite:///sessions.db``, ``postgresql://user@host/database`` or ``redis://host:6379/0``.
"""

from __future__ import annotations

import sys
from typing import Any

from legacy import FileSessionStore, ISessionStore, LegacySessionStoreAdapter, MemorySessionStore

CONVERSATION = [
    ("HumanMessage", "I have to cancel flight HAT 042 to Zürich."),
    ("AIMessage", "It can be refunded. Shall I cancel it?"),
    ("HumanMessage", "Yes, please. 谢谢"),
]


def construct(place: str) -> ISessionStore:
    """The store at *place*. This is the only line that an old program changes."""
    if place == "memory":
        return MemorySessionStore()
    if place.startswith("file:"):
        return FileSessionStore(place.removeprefix("file:"))
    return LegacySessionStoreAdapter(place)


def run(store: ISessionStore, name: str = "demo") -> list[str]:
    """A day of the program, in sessions whose ids begin with *name*; what it has to say."""
    session_id = f"{name}-airline"
    check(store.save_session(session_id, new_session()), "a new session is saved")
    for kind, content in CONVERSATION:
        say(store, session_id, kind, content)
    finish(store, session_id)
    check(store.save_session(f"{name}-draft", new_session()), "a draft is saved")
    check(store.delete_session(f"{name}-draft"), "the draft is deleted")
    check(not store.session_exists(f"{name}-draft"), "the draft is gone")
    check(store.get_session(f"{name}-nobody") is None, "nobody has no session")
    return [*told(store, session_id), *listed(store, name)]


def new_session() -> dict[str, Any]:
    return {
        "metadata": {"workflow_config_path": "flows/airline.yaml", "status": "active", "tags": ["demo"]},
        "thread_configs": {},
        "workflow_state": {"messages": [], "iteration_count": 0},
        "settings": {"temperature": 0.5},
    }


def say(store: ISessionStore, session_id: str, kind: str, content: str) -> None:
    session = existing(store, session_id)
    state = session["workflow_state"]
    state["messages"].append({"type": kind, "content": content, "additional_kwargs": {}})
    state["iteration_count"] += 1
    check(store.save_session(session_id, session), "a message is saved")


def finish(store: ISessionStore, session_id: str) -> None:
    session = existing(store, session_id)
    session["metadata"]["status"] = "completed"
    check(store.save_session(session_id, session), "the end is saved")


def told(store: ISessionStore, session_id: str) -> list[str]:
    state = existing(store, session_id)["workflow_state"]
    return [f"{message['type']}: {message['content']}" for message in state["messages"]]


def listed(store: ISessionStore, name: str) -> list[str]:
    mine = [facts for facts in store.list_sessions() if facts["session_id"].startswith(f"{name}-")]
    return [f"{facts['session_id']} {facts['status']} {facts['workflow_config_path']}" for facts in mine]


def existing(store: ISessionStore, session_id: str) -> dict[str, Any]:
    session = store.get_session(session_id)
    if session is None:
        raise SystemExit(f"the session {session_id} is not there: {getattr(store, 'last_error', None)}")
    return session


def check(as_expected: bool, what: str) -> None:
    if not as_expected:
        raise SystemExit(f"not so: {what}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print(*run(construct(sys.argv[1])), sep="\n")
