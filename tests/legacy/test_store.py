"""The old interface itself, and what every store of it promises (S2.1, S2.2)."""

import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from legacy import FileSessionStore, ISessionStore, LegacySessionStoreAdapter, MemorySessionStore
from tests.legacy.stores import STORES, Opened, opened_store

SIGNATURES: dict[str, tuple[dict[str, Any], Any]] = {
    "save_session": ({"session_id": str, "session_data": dict[str, Any]}, bool),
    "get_session": ({"session_id": str}, dict[str, Any] | None),
    "delete_session": ({"session_id": str}, bool),
    "list_sessions": ({}, list[dict[str, Any]]),
    "session_exists": ({"session_id": str}, bool),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path):
    with opened_store(request.param, tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("owner", [ISessionStore, FileSessionStore, MemorySessionStore, LegacySessionStoreAdapter])
@pytest.mark.parametrize("method", SIGNATURES)
def test_methods_have_the_old_signatures(owner: type[ISessionStore], method: str) -> None:
    parameters, returned = SIGNATURES[method]
    signature = inspect.signature(getattr(owner, method), eval_str=True)
    found = {name: parameter.annotation for name, parameter in list(signature.parameters.items())[1:]}
    assert found == parameters
    assert signature.return_annotation == returned
    assert not inspect.iscoroutinefunction(getattr(owner, method))


def test_the_interface_has_these_five_methods_and_is_abstract() -> None:
    assert ISessionStore.__abstractmethods__ == set(SIGNATURES)
    with pytest.raises(TypeError):
        ISessionStore()  # type: ignore[abstract]


def test_a_third_partys_subclass_still_instantiates() -> None:
    class Theirs(ISessionStore):
        def save_session(self, session_id, session_data):
            return True

        def get_session(self, session_id):
            return None

        def delete_session(self, session_id):
            return False

        def list_sessions(self):
            return []

        def session_exists(self, session_id):
            return False

    assert isinstance(Theirs(), ISessionStore)


# -- every store


def session(status: str = "active", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"workflow_config_path": "flows/airline.yaml", "status": status, "user_id": "ann", "tags": ["a"]},
        "thread_configs": {"main": {"model": "small"}},
        "workflow_state": {"messages": [{"type": "HumanMessage", "content": "Grüße 你好", "additional_kwargs": {}}]},
        "settings": {"temperature": 0.5, "limits": [1, 2, 3]},
        **more,
    }


def without_times(document: dict[str, Any] | None) -> dict[str, Any]:
    assert document is not None
    metadata = {key: value for key, value in document["metadata"].items() if key not in ("created_at", "updated_at")}
    return {**document, "metadata": metadata}


def test_a_session_comes_back_as_it_was_saved(store: Opened) -> None:
    assert store.save_session("s1", session()) is True
    assert without_times(store.get_session("s1")) == session()
    assert store.last_error is None


def test_an_absent_session_is_none_and_no_failure(store: Opened) -> None:
    assert store.get_session("nobody") is None
    assert store.session_exists("nobody") is False
    assert store.list_sessions() == []
    assert store.last_error is None


def test_saving_again_replaces(store: Opened) -> None:
    store.save_session("s1", session(extra=1))
    store.save_session("s1", session("completed"))
    assert without_times(store.get_session("s1")) == session("completed")
    assert len(store.list_sessions()) == 1


def test_a_deleted_session_is_gone(store: Opened) -> None:
    store.save_session("s1", session())
    assert store.delete_session("s1") is True
    assert store.get_session("s1") is None
    assert store.session_exists("s1") is False
    assert store.list_sessions() == []


def test_deleting_a_missing_session_answers_as_that_store_always_did(store: Opened) -> None:
    assert store.delete_session("nobody") is isinstance(store, FileSessionStore)
    assert store.last_error is None


def test_the_listing_has_the_five_old_keys(store: Opened) -> None:
    times = {"created_at": "2024-05-15T16:37:00+00:00", "updated_at": "2024-05-15T16:38:00+00:00"}
    store.save_session("full", {"metadata": {"workflow_config_path": "a.yaml", "status": "failed", **times}})
    (facts,) = store.list_sessions()
    assert list(facts) == ["session_id", "workflow_config_path", "created_at", "updated_at", "status"]
    assert {key: facts[key] for key in ("session_id", "workflow_config_path", "status")} == {
        "session_id": "full",
        "workflow_config_path": "a.yaml",
        "status": "failed",
    }
    assert facts["created_at"].startswith("2024-05-15T16:37:00")


def test_the_listing_says_none_and_unknown_for_what_is_missing(store: Opened) -> None:
    store.save_session("bare", {"anything": [1]})
    (facts,) = store.list_sessions()
    assert (facts["session_id"], facts["workflow_config_path"], facts["status"]) == ("bare", None, "unknown")


def test_the_listing_of_a_service_session_takes_its_facts_from_the_context(store: Opened) -> None:
    context = {
        "session_id": "g3",
        "user_id": "ann",
        "thread_ids": [],
        "status": "completed",
        "created_at": "2024-05-15T16:37:00+00:00",
        "updated_at": "2024-05-15T16:39:00+00:00",
        "metadata": {},
    }
    store.save_session("g3", {"context": context, "interactions": [], "thread_configs": {}})
    (facts,) = store.list_sessions()
    assert facts["status"] == "completed"
    assert facts["created_at"].startswith("2024-05-15T16:37:00")
    assert facts["updated_at"] is not None


@pytest.mark.parametrize(
    "session_id", ["a b", "../up", "/etc/x", "C:\\x", ".hidden", "50%", "con", "Ärger 会话", "x" * 400]
)
def test_any_id_is_data_and_never_a_path(store: Opened, session_id: str) -> None:
    assert store.save_session(session_id, session()) is True, store.last_error
    assert store.session_exists(session_id) is True
    assert store.get_session(session_id) is not None
    assert [facts["session_id"] for facts in store.list_sessions()] == [session_id]
    assert store.delete_session(session_id) is True
    assert store.get_session(session_id) is None


def test_the_store_and_the_caller_share_nothing(store: Opened) -> None:
    mine = session()
    store.save_session("s1", mine)
    mine["settings"]["limits"].append("mine")
    theirs = store.get_session("s1")
    assert theirs is not None
    theirs["settings"]["limits"].append("theirs")
    assert without_times(store.get_session("s1")) == session()


def test_the_callers_dict_is_not_changed(store: Opened) -> None:
    mine = session()
    metadata = mine["metadata"]
    store.save_session("s1", mine)
    assert mine == session()
    assert mine["metadata"] is metadata


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.save_session(7, {}),
        lambda store: store.save_session("s", [1]),
        lambda store: store.save_session("s", None),
        lambda store: store.get_session(None),
        lambda store: store.delete_session(b"s"),
        lambda store: store.session_exists(1.5),
    ],
)
def test_arguments_of_a_wrong_type_raise(store: Opened, call: Callable[[Opened], Any]) -> None:
    with pytest.raises(TypeError, match="session_"):
        call(store)


def test_a_value_that_cannot_be_kept_gives_false_and_the_reason(store: Opened) -> None:
    assert store.save_session("s1", {"settings": {"lock": threading.Lock()}}) is False
    assert store.last_error is not None
    assert store.get_session("s1") is None
    assert store.last_error is None


def test_an_empty_id_gives_false_and_the_reason_where_a_name_is_needed(store: Opened) -> None:
    takes_every_key = isinstance(store, MemorySessionStore)
    assert store.save_session("", session()) is takes_every_key
    assert takes_every_key or "id" in str(store.last_error)


def test_last_error_is_that_of_the_own_thread(store: Opened) -> None:
    assert store.save_session("s1", {"settings": {"lock": threading.Lock()}}) is False
    seen: list[Exception | None] = []

    def elsewhere() -> None:
        seen.append(store.last_error)
        store.session_exists("s1")
        seen.append(store.last_error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(5)
    assert seen == [store.last_error, None]
    assert store.last_error is not None
