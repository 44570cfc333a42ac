"""The behaviours of the original store, one named test each, on every backend."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, timedelta
from typing import Any

import pytest

from session_adapter import (
    InvalidSessionIdError,
    Run,
    Session,
    SessionAlreadyExistsError,
    SessionNotFoundError,
    SessionRepository,
    new_session,
)
from tests.places import Place
from unified_storage import StorageClosedError, StorageValidationError

NAMED = """
    new_session add_run run_count last_run token_total summary metadata state user_and_team_ids
    construct create create_with_an_empty_id create_a_duplicate get get_a_missing_one get_with_an_empty_id
    update update_a_missing_one delete delete_a_missing_one list list_with_filters list_by_agent list_by_user
    close deep_copy concurrent_access
"""


def test_every_named_behaviour_has_its_test() -> None:
    """S0.34."""
    named = {f"test_{name}" for name in NAMED.split()}
    assert len(named) == 27
    assert named == {name for name in vars(sys.modules[__name__]) if name.startswith("test_")} - {
        "test_every_named_behaviour_has_its_test"
    }


# -- the session -----------------------------------------------------------------------------------------------------


async def test_new_session(repository: SessionRepository) -> None:
    first, second = new_session("s1", "baker"), new_session("s2", "baker")
    first.metadata["mine"] = True
    first.state["mine"] = True
    assert (second.metadata, second.state, second.runs) == ({}, {}, [])
    assert first.created_at == first.updated_at
    assert first.created_at.utcoffset() == timedelta()
    await repository.create(second)
    found = await repository.get("s2")
    assert (found.session_id, found.agent_id, found.metadata, found.state, found.runs) == ("s2", "baker", {}, {}, [])


async def test_add_run(repository: SessionRepository) -> None:
    session = new_session("s1", "baker")
    for name in "abc":
        before = session.updated_at
        session.add_run({"run_id": name})
        assert session.updated_at > before
    await repository.create(session)
    assert [run.run_id for run in (await repository.get("s1")).runs] == ["a", "b", "c"]


async def test_run_count(repository: SessionRepository) -> None:
    session = await repository.create(new_session("s1", "baker"))
    assert session.run_count == session.get_run_count() == 0
    for _ in range(3):
        session.add_run({"status": "completed"})
    assert session.run_count == session.get_run_count() == len(session.runs) == 3
    await repository.update(session)
    assert (await repository.get("s1")).run_count == 3


async def test_last_run(repository: SessionRepository) -> None:
    session = await repository.create(new_session("s1", "baker"))
    assert session.get_last_run() is None
    session.add_run({"run_id": "a"})
    added = session.add_run({"run_id": "b"})
    assert session.get_last_run() is added
    await repository.update(session)
    last = (await repository.get("s1")).get_last_run()
    assert last is not None
    assert last.run_id == "b"


async def test_token_total(repository: SessionRepository) -> None:
    session = new_session("s1", "baker")
    session.add_run({"usage": {"total_tokens": 100, "prompt_tokens": 1}})
    session.add_run({"usage": {"total_tokens": 0, "prompt_tokens": 20, "completion_tokens": 3}})
    session.add_run({"metrics": {"input_tokens": 1000, "output_tokens": 200}})
    odd: list[Any] = [None, "many", {"total_tokens": "lots"}, {"total_tokens": None}, {"prompt_tokens": [], "x": 1}, 7]
    for usage in [*odd, {"total_tokens": True}]:
        session.add_run({"usage": usage})
    session.add_run({})
    assert session.calculate_total_tokens() == 100 + 23 + 1200
    await repository.create(session)
    assert (await repository.get("s1")).calculate_total_tokens() == 1323


async def test_summary(repository: SessionRepository) -> None:
    session = await repository.create(new_session("s1", "baker"))
    session.add_run({"usage": {"total_tokens": 5}})
    before = session.updated_at
    session.generate_summary("two loaves were sold")
    assert session.updated_at > before
    await repository.update(session)
    found = await repository.get("s1")
    assert found.summary == session.summary
    assert found.summary is not None
    assert (found.summary.content, found.summary.run_count, found.summary.total_tokens) == (
        "two loaves were sold",
        1,
        5,
    )


async def test_metadata(repository: SessionRepository) -> None:
    deep = {"a": [{"b": {"c": [1, 2.5, True, None, "x"]}}], "z": {"y": []}}
    await repository.create(Session(session_id="s1", metadata=deep))
    assert (await repository.get("s1")).metadata == deep


async def test_state(repository: SessionRepository) -> None:
    deep: dict[str, Any] = {
        "one": 1,
        "true": True,
        "float": 1.0,
        "none": None,
        "list": [{"x": [[]]}],
        "text": "ß\U0001f956\x00",
    }
    await repository.create(Session(session_id="s1", state=deep))
    found = (await repository.get("s1")).state
    assert found == deep
    assert [type(value) for value in found.values()] == [type(value) for value in deep.values()]


async def test_user_and_team_ids(repository: SessionRepository) -> None:
    owners = {"agent_id": "baker", "user_id": "ann", "team_id": "mornings", "workflow_id": "bread"}
    await repository.create(Session(session_id="s1", **owners))  # type: ignore[arg-type]  # mypy takes them for all fields
    for key, value in owners.items():
        assert [session.session_id for session in await repository.list({key: value})] == ["s1"]
        assert getattr(await repository.get("s1"), key) == value


# -- the store -------------------------------------------------------------------------------------------------------


async def test_construct(place: Place) -> None:
    async with SessionRepository(place.url, namespace=place.namespace) as repository:
        assert await repository.list() == []
    async with SessionRepository() as in_memory:
        assert await in_memory.list() == []


async def test_create(repository: SessionRepository) -> None:
    session = Session(session_id="s1", agent_id="baker", state={"step": 1})
    kept = session.model_copy(deep=True)
    stored = await repository.create(session)
    assert session == kept
    assert stored == await repository.get("s1")
    assert (stored.created_at, stored.agent_id, stored.state) == (session.created_at, "baker", {"step": 1})
    assert stored.updated_at.tzinfo is UTC


async def test_create_with_an_empty_id(repository: SessionRepository) -> None:
    with pytest.raises(InvalidSessionIdError):
        await repository.create(Session(session_id=""))
    assert await repository.list() == []


async def test_create_a_duplicate(repository: SessionRepository) -> None:
    first = await repository.create(Session(session_id="s1", name="first", state={"a": 1}, team_id="mornings"))
    with pytest.raises(SessionAlreadyExistsError) as raised:
        await repository.create(Session(session_id="s1", name="second"), if_exists="error")
    assert raised.value.session_id == "s1"
    assert await repository.get("s1") == first
    second = await repository.create(Session(session_id="s1", name="second"))
    assert second == await repository.get("s1")
    assert (second.name, second.state, second.team_id) == ("second", {}, None)
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at


async def test_get(repository: SessionRepository) -> None:
    stored = await repository.create(Session(session_id="s1", runs=[Run(run_id="a", messages=[{"role": "user"}])]))
    first, second = await repository.get("s1"), await repository.get("s1")
    assert first == second == stored
    assert first is not second


async def test_get_a_missing_one(repository: SessionRepository) -> None:
    with pytest.raises(SessionNotFoundError) as raised:
        await repository.get("s1")
    assert raised.value.session_id == "s1"


async def test_get_with_an_empty_id(repository: SessionRepository) -> None:
    with pytest.raises(InvalidSessionIdError):
        await repository.get("")


async def test_update(repository: SessionRepository) -> None:
    stored = await repository.create(new_session("s1", "baker"))
    changed = stored.model_copy(deep=True)
    changed.state = {"step": 2}
    changed.created_at -= timedelta(days=400)
    updated = await repository.update(changed)
    assert updated == await repository.get("s1")
    assert (updated.state, updated.created_at) == ({"step": 2}, stored.created_at)
    assert updated.updated_at > stored.updated_at


async def test_update_a_missing_one(repository: SessionRepository) -> None:
    with pytest.raises(SessionNotFoundError):
        await repository.update(new_session("s1", "baker"))
    with pytest.raises(InvalidSessionIdError):
        await repository.update(new_session("", "baker"))
    assert await repository.list() == []


async def test_delete(repository: SessionRepository) -> None:
    await repository.create(Session(session_id="s1", runs=[Run(run_id="a")]))
    await repository.delete("s1")
    with pytest.raises(SessionNotFoundError):
        await repository.get("s1")
    assert (await repository.create(new_session("s1", "baker"))).runs == (await repository.get("s1")).runs == []


async def test_delete_a_missing_one(repository: SessionRepository) -> None:
    await repository.create(new_session("s1", "baker"))
    await repository.delete("s1")
    with pytest.raises(SessionNotFoundError):
        await repository.delete("s1")
    with pytest.raises(InvalidSessionIdError):
        await repository.delete("")


async def test_list(repository: SessionRepository) -> None:
    assert await repository.list() == []
    for name in ("b", "a", "c"):
        await repository.create(new_session(name, "baker"))
    await repository.update(await repository.get("b"))
    listed = await repository.list()
    assert [session.session_id for session in listed] == ["b", "c", "a"]
    assert listed == [await repository.get(session.session_id) for session in listed]
    assert await repository.list(limit=2) == listed[:2]


async def test_list_with_filters(repository: SessionRepository) -> None:
    await repository.create(Session(session_id="s1", agent_id="baker", user_id="ann"))
    await repository.create(Session(session_id="s2", agent_id="baker", user_id="ben"))
    await repository.create(Session(session_id="s3", agent_id="clerk", user_id="ann"))
    both = await repository.list({"agent_id": "baker", "user_id": "ann"})
    assert [session.session_id for session in both] == ["s1"]
    for wrong in ({"agnt_id": "baker"}, {"agent_id": 5}):
        with pytest.raises(StorageValidationError):
            await repository.list(wrong)  # type: ignore[arg-type]  # one is what the test is about


async def test_list_by_agent(repository: SessionRepository) -> None:
    for name, agent in (("s1", "baker"), ("s2", "clerk"), ("s3", "baker")):
        await repository.create(new_session(name, agent))
    listed = await repository.list_by_agent("baker")
    assert [session.session_id for session in listed] == ["s3", "s1"]
    assert listed == await repository.list({"agent_id": "baker"})


async def test_list_by_user(repository: SessionRepository) -> None:
    for name, user in (("s1", "ann"), ("s2", "ben"), ("s3", "ann")):
        await repository.create(Session(session_id=name, user_id=user))
    listed = await repository.list_by_user("ann")
    assert [session.session_id for session in listed] == ["s3", "s1"]
    assert listed == await repository.list({"user_id": "ann"})


async def test_close(place: Place) -> None:
    repository = SessionRepository(place.url, namespace=place.namespace)
    stored = await repository.create(new_session("s1", "baker"))
    await repository.close()
    await repository.close()
    calls = [
        repository.create(stored),
        repository.get("s1"),
        repository.update(stored),
        repository.delete("s1"),
        repository.list(),
        repository.list_by_agent("baker"),
        repository.list_by_user("ann"),
        repository.page(),
    ]
    for call in calls:
        with pytest.raises(StorageClosedError):
            await call
    async with SessionRepository(place.url, namespace=place.namespace) as opened_again:
        assert await opened_again.list() == ([] if place.engine == "memory" else [stored])


async def test_deep_copy(repository: SessionRepository) -> None:
    mine = Session(session_id="s1", state={"cart": [{"bread": ["rye"]}]})
    mine.add_run({"run_id": "a", "messages": [{"role": "user", "content": [{"text": "hi"}]}]})
    stored = await repository.create(mine)
    found = await repository.get("s1")
    for session in (mine, stored, found):
        session.state["cart"][0]["bread"].append("bun")
        session.runs[0].messages[0]["content"][0]["text"] = "changed"
        session.metadata["x"] = 1
    fresh = await repository.get("s1")
    assert fresh.state == {"cart": [{"bread": ["rye"]}]}
    assert fresh.runs[0].messages == [{"role": "user", "content": [{"text": "hi"}]}]
    assert fresh.metadata == {}


async def test_concurrent_access(repository: SessionRepository) -> None:
    await repository.create(Session(session_id="s1", state={"writer": -1, "again": -1}))

    async def write(number: int) -> None:
        for _ in range(3):
            session = await repository.get("s1")
            session.state = {"writer": number, "again": number}
            await repository.update(session)

    async def read() -> None:
        for _ in range(5):
            state = (await repository.get("s1")).state
            assert state["writer"] == state["again"]

    await asyncio.gather(*(write(number) for number in range(5)), *(read() for _ in range(5)))
