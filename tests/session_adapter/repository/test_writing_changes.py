"""What a holder changed is written, and nothing else: in documents of every form, beside other writers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from session_adapter import (
    Event,
    Run,
    ScopedSessionService,
    Session,
    SessionKey,
    SessionNotFoundError,
    SessionRepository,
    SessionStorageAdapter,
    SessionSummary,
)
from session_adapter.documents import format_of, stored_document
from session_adapter.formats import CANONICAL
from session_adapter.identity import record_id
from tests.session_adapter.documents import SAMPLE_FORMATS, sample
from unified_storage import IUnifiedStorage, StorageValidationError

Change = Callable[[Session], Any]
ENDLESS: dict[str, Any] = {}
ENDLESS["a"] = ENDLESS


@pytest.fixture
def sessions(storage: IUnifiedStorage) -> SessionStorageAdapter:
    return SessionStorageAdapter(storage)


async def stored(storage: IUnifiedStorage, name: str = "s1") -> dict[str, Any]:
    record = await storage.load(name, type="session")
    assert record is not None
    return stored_document(record)


# -- one writer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", SAMPLE_FORMATS)
async def test_a_session_read_and_written_back_changes_nothing_of_its_document(
    storage: IUnifiedStorage, sessions: SessionStorageAdapter, repository: SessionRepository, form: str
) -> None:
    await sessions.save_session("s1", sample(form))
    before, version = await stored(storage), await sessions.get_session("s1", with_version=True)
    session = await repository.get("s1")
    session.add_run({"run_id": "a"})
    await repository.update(session)
    await repository.update(session)
    record = await storage.load("s1", type="session")
    assert record is not None
    assert format_of(record) is SAMPLE_FORMATS[form]
    assert stored_document(record) == before
    assert list(stored_document(record)) == list(before)
    assert version is not None
    assert record["version"] > version[1]


def _set(name: str, value: Any) -> Change:
    return lambda session: setattr(session, name, value)


CHANGES: dict[str, Change] = {
    **{name: _set(name, "other") for name in ("app_name", "kind", "agent_id", "user_id", "team_id", "name")},
    "workflow_id": _set("workflow_id", "other"),
    "metadata": lambda session: session.metadata.update(mine=[1]),
    "state": lambda session: session.state.update(mine={"a": 1}),
    "agent_data": lambda session: session.agent_data.update(mine=None),
    "summary": _set("summary", SessionSummary(content="short", created_at=datetime(2024, 5, 15, tzinfo=UTC))),
    "settings": _set("settings", {"new": 1}),
    "own key": _set("own key", None),
}


@pytest.mark.parametrize("form", SAMPLE_FORMATS)
async def test_each_field_is_written_where_its_format_keeps_it(
    storage: IUnifiedStorage, sessions: SessionStorageAdapter, repository: SessionRepository, form: str
) -> None:
    format = SAMPLE_FORMATS[form]
    for name, change in CHANGES.items():
        await sessions.save_session("s1", sample(form))
        before = await stored(storage)
        messages = await sessions.events.read("s1")
        session = await repository.get("s1")
        change(session)
        written = await repository.update(session)
        assert written == await repository.get("s1"), name
        assert getattr(written, name) == getattr(session, name), name
        after = await stored(storage)
        path = _difference(before, after)
        assert {path, path[:-1]} & {*format.places(name)}, name
        assert await sessions.events.read("s1") == messages


def _difference(before: Any, after: Any) -> tuple[str, ...]:
    """The path of the only thing in which two documents differ."""
    [key] = {key for key in {*before, *after} if before.get(key, "absent") != after.get(key, "absent")}
    inner = before.get(key), after.get(key)
    holders = ("metadata", "context", "workflow_summary", "state", "workflow_state")
    if key in holders and all(isinstance(one, dict) for one in inner):
        return (key, *_difference(*inner))
    return (key,)


async def test_a_change_at_any_depth_is_noticed(repository: SessionRepository) -> None:
    deep: dict[str, Any] = {"a": [{"b": []}]}
    parts = dict.fromkeys(("metadata", "state", "agent_data", "further"), deep)
    written = await repository.create(Session.model_validate({"session_id": "s1", **parts, "runs": [{"x": deep}]}))
    for session in (written, await repository.get("s1")):
        for part in (*(getattr(session, name) for name in parts), session.runs[0].x):  # type: ignore[attr-defined]  # its own further key
            part["a"][0]["b"].append(1)
        await repository.update(session)
        found = await repository.get("s1")
        assert (found.model_extra, found.runs) == (session.model_extra, session.runs)
        assert [getattr(found, name) for name in parts] == [getattr(session, name) for name in parts]


@pytest.mark.parametrize("form", SAMPLE_FORMATS)
async def test_what_is_emptied_is_empty_afterwards(
    sessions: SessionStorageAdapter, repository: SessionRepository, form: str
) -> None:
    await sessions.save_session("s1", sample(form))
    session = await repository.get("s1")
    session.state, session.agent_data, session.name = {}, {}, None
    for key in list(session.model_extra or {}):
        delattr(session, key)
    written = await repository.update(session)
    assert (written.state, written.agent_data, written.name, written.model_extra) == ({}, {}, None, {})
    assert written == await repository.get("s1")


async def test_owners_do_not_go_with_a_metadata_that_is_replaced(
    storage: IUnifiedStorage, sessions: SessionStorageAdapter, repository: SessionRepository
) -> None:
    """They may stand in it, which a holder of typed sessions does not see."""
    for form in ("g0", "g1", "bare"):
        await sessions.save_session("s1", sample(form))
        session = await repository.get("s1")
        owners = (session.user_id, session.workflow_id)
        assert any(owners)
        session.metadata = {"mine": 1}
        written = await repository.update(session)
        assert (written.user_id, written.workflow_id) == owners
        assert written.metadata["mine"] == 1
        if form != "bare":
            assert (await stored(storage))["metadata"]["session_id"] == sample(form)["metadata"]["session_id"]


async def test_what_has_a_wrong_type_is_not_shown_and_never_overwritten(
    storage: IUnifiedStorage, sessions: SessionStorageAdapter, repository: SessionRepository
) -> None:
    odd = {"state": "text", "metadata": [1], "agent_data": 7, "summary": {"text": 1}, "user_id": 2.5, "team_id": 12}
    await sessions.save_session("s1", {"session_id": "s1", **odd})
    session = await repository.get("s1")
    assert (session.state, session.metadata, session.agent_data, session.summary) == ({}, {}, {}, None)
    assert (session.user_id, session.team_id) == (None, "12")
    session.state, session.metadata, session.agent_data = {"a": 1}, {"a": 1}, {"a": 1}
    session.user_id, session.name = "ann", "odd"
    session.generate_summary("short")
    await repository.update(session)
    assert await stored(storage) == {"session_id": "s1", **odd, "name": "odd"}


async def test_a_key_that_holds_something_else_in_its_format_is_refused(
    sessions: SessionStorageAdapter, repository: SessionRepository
) -> None:
    await sessions.save_session("s1", sample("g3"))
    session = await repository.get("s1")
    session.interactions = []  # type: ignore[attr-defined]  # a further key
    with pytest.raises(StorageValidationError) as raised:
        await repository.update(session)
    assert raised.value.path == "interactions"
    assert len(await sessions.events.read("s1")) == len(sample("g3")["interactions"])


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("state", {"a": [object()]}, "data.state.a[0]"),
        ("state", 5, "state"),
        ("metadata", {1: 2}, "metadata.1.[key]"),
        ("user_id", 5, "user_id"),
        ("runs", [{"run_id": "a"}], "runs[0]"),
        ("runs", [Run(run_id="a", content=object())], "runs[0].content"),
        ("runs", [Run.model_construct(run_id="")], "runs[0].run_id"),
        ("runs", [Run.model_construct(run_id=5)], "runs[0].run_id"),
        ("runs", None, "runs"),
        ("own", {1}, None),
        ("own", object(), "data.own"),
        ("state", ENDLESS, "state"),
        ("own", [ENDLESS], "own"),
        ("created_at", datetime(2024, 5, 15), "created_at"),
    ],
)
async def test_what_cannot_be_kept_is_refused_with_its_place(
    repository: SessionRepository, name: str, value: Any, path: str | None
) -> None:
    session = await repository.create(Session(session_id="s1"))
    setattr(session, name, value)
    if path is None:
        assert getattr(await repository.update(session), name) == value
        return
    for write in (repository.update, repository.create):
        with pytest.raises(StorageValidationError) as raised:
            await write(session)
        assert raised.value.path == path
    assert (await repository.get("s1")).model_dump().keys() == {"session_id", "created_at", "updated_at"}


# -- several ---------------------------------------------------------------------------------------------------------


async def test_writers_of_different_fields_do_not_undo_each_other(repository: SessionRepository) -> None:
    await repository.create(Session(session_id="s1", state={"a": 1}, name="old"))
    mine, theirs = await repository.get("s1"), await repository.get("s1")
    theirs.name = "new"
    theirs.settings = {"lang": "de"}  # type: ignore[attr-defined]  # a further key
    await repository.update(theirs)
    mine.state = {"a": 2}
    written = await repository.update(mine)
    assert (written.state, written.name, written.model_extra) == ({"a": 2}, "new", {"settings": {"lang": "de"}})
    mine.user_id = "ann"  # its holder has still not seen the new name, and says nothing about it
    written = await repository.update(mine)
    assert (written.state, written.name, written.user_id) == ({"a": 2}, "new", "ann")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
async def test_a_copy_of_a_session_knows_what_was_shown_too(repository: SessionRepository, copied: Change) -> None:
    await repository.create(Session(session_id="s1", name="old"))
    mine = copied(await repository.get("s1"))
    await repository.update(Session(session_id="s1", name="new", state={"a": 1}))
    mine.user_id = "ann"
    written = await repository.update(mine)
    assert (written.name, written.state, written.user_id) == ("new", {"a": 1}, "ann")


@pytest.mark.parametrize("form", SAMPLE_FORMATS)
async def test_one_that_was_not_read_replaces_every_field_of_the_model(
    sessions: SessionStorageAdapter, repository: SessionRepository, form: str
) -> None:
    await sessions.save_session("s1", sample(form))
    further = (await repository.get("s1")).model_extra
    messages = await sessions.events.read("s1")
    for write in (repository.update, repository.create):
        fresh = Session(session_id="s1", state={"fresh": 1}, team_id="mornings")
        written = await write(fresh)
        assert written == await repository.get("s1")
        shown = (written.state, written.team_id, written.user_id, written.name, written.agent_data, written.summary)
        assert shown == ({"fresh": 1}, "mornings", None, None, {}, None)
        assert written.model_extra == further
        assert await sessions.events.read("s1") == messages


async def test_what_came_from_json_was_not_read_here(repository: SessionRepository) -> None:
    first = await repository.create(Session(session_id="s1", name="old"))
    await repository.update(Session(session_id="s1", name="new"))
    again = Session.model_validate_json(first.model_dump_json())
    assert again == first
    assert (await repository.update(again)).name == "old"


async def test_one_that_was_made_anew_is_another_one(repository: SessionRepository) -> None:
    old = await repository.create(Session(session_id="s1", name="old", runs=[Run(run_id="a")]))
    await repository.delete("s1")
    anew = await repository.create(Session(session_id="s1", state={"new": 1}))
    for _ in range(5):
        await repository.update(anew)
    written = await repository.update(old)
    assert written == await repository.get("s1")
    assert (written.name, written.state, [run.run_id for run in written.runs]) == ("old", {}, ["a"])


async def test_a_session_under_another_id_is_a_new_one(repository: SessionRepository) -> None:
    session = await repository.create(Session(session_id="s1", name="old", runs=[Run(run_id="a")]))
    session.session_id = "s2"
    await repository.create(session, if_exists="error")
    found = await repository.get("s2")
    assert (found.name, [run.run_id for run in found.runs]) == ("old", ["a"])
    assert (await repository.get("s1")).runs == found.runs


async def test_in_a_transaction_it_is_undone_with_it(storage: IUnifiedStorage, repository: SessionRepository) -> None:
    session = await repository.create(Session(session_id="s1"))
    with pytest.raises(ZeroDivisionError):
        async with storage.transaction() as tx:
            session.add_run({"run_id": "a"})
            await SessionRepository(tx).update(session)
            raise ZeroDivisionError
    assert (await repository.get("s1")).runs == []
    theirs = await repository.get("s1")
    for number in range(5):
        theirs.state["number"] = number
        await repository.update(theirs)
    await repository.update(session)
    assert [run.run_id for run in (await repository.get("s1")).runs] == ["a"]
    async with storage.transaction() as tx:
        inside = SessionRepository(tx)
        session.add_run({"run_id": "b"})
        await inside.update(session)
        assert (await inside.get("s1")).run_count == 2
    assert (await repository.get("s1")).run_count == 2


# -- beside other views ----------------------------------------------------------------------------------------------


async def test_a_new_session_is_a_canonical_document(storage: IUnifiedStorage, repository: SessionRepository) -> None:
    minimal = Session(session_id="s1")
    await repository.create(minimal)
    assert await stored(storage) == {"session_id": "s1"}
    full = Session.model_validate(
        {"session_id": "s2", "user_id": "ann", "metadata": {"status": "active"}, "settings": {}, "id": 7}
    )
    await repository.create(full)
    record = await storage.load("s2", type="session")
    assert record is not None
    assert format_of(record) is CANONICAL
    assert record["data"] == {
        "session_id": "s2",
        "user_id": "ann",
        "metadata": {"status": "active"},
        "settings": {},
        "id": 7,
    }


async def test_a_scoped_session_is_read_and_written_by_its_key(
    storage: IUnifiedStorage, sessions: SessionStorageAdapter, repository: SessionRepository
) -> None:
    key = SessionKey("shop", "ann", "s1")
    await sessions.save_session(key, {"cart": []})
    session = await repository.get(key)
    assert session.key == key
    assert (session.app_name, session.user_id, session.session_id) == ("shop", "ann", "s1")
    session.state = {"step": 1}
    session.add_run({"run_id": "a"})
    assert await repository.update(session) == await repository.get(key)
    assert await stored(storage, record_id(key)) == {"cart": [], "state": {"step": 1}}
    assert [listed.key for listed in await repository.list_by_user("ann")] == [key]
    with pytest.raises(SessionNotFoundError):
        await repository.get("s1")
    await repository.delete(key)
    assert await repository.list() == []


@pytest.mark.parametrize(("name", "other"), [("user_id", "bob"), ("app_name", "bank"), ("user_id", None)])
async def test_a_scoped_session_stays_its_users(
    storage: IUnifiedStorage, repository: SessionRepository, name: str, other: str | None
) -> None:
    """What it shows of app and user is part of what names it, and leads to nobody else's session."""
    service = ScopedSessionService(storage)
    for key in (
        mine := SessionKey("shop", "ann", "s1"),
        SessionKey("shop", "bob", "s1"),
        SessionKey("bank", "ann", "s1"),
    ):
        await service.create_session(key, {"of": f"{key.app_name} {key.user_id}"})
    session = await repository.get(mine)
    setattr(session, name, other)
    assert session.key == mine
    for written in (repository.update, repository.create):
        with pytest.raises(StorageValidationError) as refused:
            await written(session)
        assert refused.value.path == name
    for key in (mine, SessionKey("shop", "bob", "s1"), SessionKey("bank", "ann", "s1")):
        found = await repository.get(key)
        assert (found.app_name, found.user_id) == (key.app_name, key.user_id)
        assert found.state == {"of": f"{key.app_name} {key.user_id}"}
    setattr(session, name, getattr(mine, name))
    session.session_id = "s2"
    await repository.create(session, if_exists="error")
    assert (await repository.get(SessionKey("shop", "ann", "s2"))).state == {"of": "shop ann"}


async def test_what_a_state_shows_of_app_and_user_is_not_written_into_the_session(
    storage: IUnifiedStorage, repository: SessionRepository
) -> None:
    """T1.9."""
    service, key = ScopedSessionService(storage), SessionKey("shop", "ann", "s1")
    await service.create_session(key, state={"step": 1, "app:fee": 5, "user:lang": "de"})
    session = await service.get_session(key)
    assert session is not None
    assert session.state == {"step": 1, "app:fee": 5, "user:lang": "de"}
    await service.update_app_state("shop", {"fee": 6})
    session.state |= {"step": 2, "temp:x": 1}
    await repository.update(session)
    session.name = "a second one"
    await repository.update(session)
    assert (await stored(storage, record_id(key)))["state"] == {"step": 2}
    fresh = await service.get_session(key)
    assert fresh is not None
    assert fresh.state == {"step": 2, "app:fee": 6, "user:lang": "de"}
    for change in ({"app:fee": 7}, {"user:new": 1}):
        session = await service.get_session(key)
        assert session is not None
        session.state |= change
        with pytest.raises(StorageValidationError) as raised:
            await repository.update(session)
        assert raised.value.path == f"state.{next(iter(change))}"
    del fresh.state["user:lang"]
    with pytest.raises(StorageValidationError):
        await repository.update(fresh)


async def test_events_that_nobody_would_store_are_refused(
    storage: IUnifiedStorage, repository: SessionRepository
) -> None:
    with pytest.raises(StorageValidationError) as raised:
        await repository.create(Session(session_id="s1", events=[Event(role="user")]))
    assert raised.value.path == "events"
    service, key = ScopedSessionService(storage), SessionKey("shop", "ann", "s1")
    await service.create_session(key)
    await service.append_event(key, Event(role="user", content="hello"))
    session = await service.get_session(key)
    assert session is not None
    session.name = "with an event"
    await repository.update(session)
    session.events.append(Event(role="user", content="more"))
    with pytest.raises(StorageValidationError):
        await repository.update(session)
    found = await service.get_session(key)
    assert found is not None
    assert ([event.content for event in found.events], found.name) == (["hello"], "with an event")
