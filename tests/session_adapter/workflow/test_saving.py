"""State that persists with the session, and runs that are taken up again (S3.21, S3.24)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from session_adapter import SessionIdRequiredError, SessionKey, SessionNotFoundError, SessionStorageAdapter
from session_adapter.workflow import (
    ExecutionContext,
    PlainData,
    SessionState,
    StateCopyError,
    Step,
    Workflow,
    new_execution_context_with_session,
)
from session_adapter.workflow.steps import Function
from tests.places import ON_DISK, engines, place_on
from tests.session_adapter.workflow.models import Color, Order, Point, UserInfo
from tests.support import REPOSITORY
from unified_storage import DELETE, IUnifiedStorage
from unified_storage.errors import StorageConflictError, StorageError, StorageValidationError
from unified_storage.values import equal

PROGRAM = "tests.session_adapter.workflow.killed_program"


def context(session: Any = "s1", user: str = "", **state: Any) -> ExecutionContext:
    ctx = new_execution_context_with_session("go", session, user)
    ctx.session_state.merge_from(state)
    return ctx


def setting(name: str, **values: Any) -> Step:
    async def sets(ctx: ExecutionContext) -> ExecutionContext:
        ctx.output = name
        for key, value in values.items():
            if value is DELETE:
                ctx.session_state.delete(key)
            else:
                ctx.set_session_state(key, value)
        return ctx

    return Step(name, sets)


def failing(ctx: ExecutionContext) -> Awaitable[ExecutionContext]:
    raise RuntimeError("boom")


def workflow(sessions: SessionStorageAdapter, *steps: Step | Function, **options: Any) -> Workflow:
    made = Workflow("w", sessions=sessions, **options)
    for step in steps:
        made.add_step(step)
    return made


async def state_of(sessions: SessionStorageAdapter, session: Any = "s1") -> Any:
    return (await sessions.require_session(session)).get("workflow_state")


async def test_what_a_step_changed_is_saved_at_its_end(sessions: SessionStorageAdapter) -> None:
    """S3.24: on every engine."""
    seen: list[Any] = []

    async def looks(ctx: ExecutionContext) -> ExecutionContext:
        document = await sessions.require_session("s1")
        seen.append((document["workflow_state"], document["workflow_runs"]["w"]["finished"]))
        return ctx

    steps = setting("one", a={"x": 1, "y": [b"\x00"]}, b=(1, 2)), looks, setting("two", a={"x": True}, b=DELETE)
    ctx = await workflow(sessions, *steps, setting("three", c=None)).execute(context())
    assert seen == [({"a": {"x": 1, "y": [b"\x00"]}, "b": (1, 2)}, ["one"])]
    stored = await state_of(sessions)
    assert equal(stored, {"a": {"x": True}, "c": None})
    assert equal(ctx.session_state.get_all(), stored)
    document = await sessions.require_session("s1")
    assert (document["session_id"], document["kind"], document["workflow_id"]) == ("s1", "workflow", "w")
    assert document["workflow_runs"]["w"]["finished"] == ["one", "looks", "two", "three"]


async def test_a_step_is_saved_in_one_change_of_the_session(sessions: SessionStorageAdapter) -> None:
    """S3.24: state, output and how far the run is can never be found apart."""
    versions = []

    async def looks(ctx: ExecutionContext) -> ExecutionContext:
        found = await sessions.get_session("s1", with_version=True)
        assert found is not None
        versions.append(found[1])
        return ctx

    steps = [Step(f"look {n}", looks) for n in range(2)]
    await workflow(sessions, setting("one", a=1), steps[0], setting("two", a=2, b=2), steps[1]).execute(context())
    assert versions[1] - versions[0] == 2


async def test_a_later_run_begins_with_what_an_earlier_one_left(sessions: SessionStorageAdapter) -> None:
    """S3.24: and what its context brings wins."""
    await workflow(sessions, setting("one", a=1, b={"c": 2})).execute(context())
    seen = []

    async def looks(ctx: ExecutionContext) -> ExecutionContext:
        seen.append(ctx.session_state.get_all())
        return ctx

    await workflow(sessions, looks).execute(context(b=3, d=4))
    assert seen == [{"a": 1, "b": 3, "d": 4}]
    assert await state_of(sessions) == {"a": 1, "b": 3, "d": 4}


async def test_keys_of_others_are_left_alone(sessions: SessionStorageAdapter) -> None:
    """S3.24: the document, its history, and state that others changed while a step ran."""
    await sessions.save_session("s1", {"session_id": "s1", "name": "mine", "workflow_state": {"a": {"x": 1}, "old": 1}})
    await sessions.events.append("s1", {"role": "user", "content": "Hello"})

    async def disturbed(ctx: ExecutionContext) -> ExecutionContext:
        ctx.set_session_state("a", {"y": 2})
        await sessions.update_session("s1", {"workflow_state": {"theirs": 1, "old": 2}, "name": "theirs"})
        await sessions.events.append("s1", {"role": "user", "content": "Still there?"})
        return ctx

    await workflow(sessions, disturbed).execute(context())
    document = await sessions.require_session("s1")
    assert document["workflow_state"] == {"a": {"y": 2}, "old": 2, "theirs": 1}
    assert document["name"] == "theirs"
    assert [event["content"] for event in await sessions.events.read("s1")] == ["Hello", "Still there?"]


async def test_a_step_that_changed_nothing_writes_no_state(sessions: SessionStorageAdapter) -> None:
    """S3.24: what others changed meanwhile is not written over with what was loaded."""
    await sessions.save_session("s1", {"session_id": "s1", "workflow_state": {"k": {"n": 1}}})

    async def disturbed(ctx: ExecutionContext) -> ExecutionContext:
        ctx.set_session_state("k", ctx.session_state["k"])
        await sessions.update_session("s1", {"workflow_state": {"k": {"n": 2}}})
        return ctx

    await workflow(sessions, disturbed).execute(context())
    assert await state_of(sessions) == {"k": {"n": 2}}


async def test_sessions_of_users_and_apps_are_kept_apart(sessions: SessionStorageAdapter) -> None:
    """S3.21: same session id under two users and two apps, and without any."""
    keys: list[Any] = [SessionKey(app, user, "s1") for app in ("shop", "bank") for user in ("ann", "ben")]
    for number, key in enumerate([*keys, "s1"]):
        ctx = await workflow(sessions, setting("one", n=number)).execute(context(key))
        assert ctx.session_state.get_all() == {"n": number}
    for number, key in enumerate([*keys, "s1"]):
        ctx = await workflow(sessions).execute(context(key))
        assert ctx.session_state.get_all() == {"n": number}
    document = await sessions.require_session(keys[0])
    assert [document[name] for name in ("app_name", "user_id", "session_id")] == ["shop", "ann", "s1"]


async def test_a_plain_session_of_another_user_is_none(sessions: SessionStorageAdapter) -> None:
    """S3.21: nothing is read from it, nothing written to it; the same answer for one of nobody."""
    await workflow(sessions, setting("one", secret=1)).execute(context("s1", "ann"))
    await sessions.save_session("s2", {"session_id": "s2", "workflow_state": {"secret": 1}})
    before = await sessions.require_session("s1")
    for session in ("s1", "s2"):
        ctx = context(session, "ben")
        with pytest.raises(SessionNotFoundError, match=f"no session '{session}'"):
            await workflow(sessions, setting("one", mine=1)).execute(ctx)
        assert len(ctx.session_state) == 0
    assert await sessions.require_session("s1") == before
    assert (await workflow(sessions).execute(context("s1", "ann"))).session_state["secret"] == 1


async def test_a_session_that_changed_hands_is_not_written_to(sessions: SessionStorageAdapter) -> None:
    """S3.21."""

    async def taken(ctx: ExecutionContext) -> ExecutionContext:
        await sessions.save_session("s1", {"session_id": "s1", "user_id": "ben"})
        return ctx

    with pytest.raises(SessionNotFoundError):
        await workflow(sessions, taken).execute(context("s1", "ann", mine=1))
    assert "workflow_state" not in await sessions.require_session("s1")


async def test_a_context_without_a_session_is_refused(sessions: SessionStorageAdapter) -> None:
    with pytest.raises(SessionIdRequiredError):
        await workflow(sessions, setting("one")).execute(ExecutionContext())


async def test_a_run_that_failed_is_taken_up_behind_its_last_step(sessions: SessionStorageAdapter) -> None:
    """S3.24: its values win over those that the new context brings."""
    steps = setting("one", a=1, gone=1), setting("two", b=2, gone=DELETE)
    ctx = context(a=0)
    ctx.data["d"] = {"user": UserInfo("Ann")}
    with pytest.raises(RuntimeError, match="boom"):
        await workflow(sessions, *steps, failing, types=[UserInfo]).execute(ctx)
    seen = []

    async def looks(own: ExecutionContext) -> ExecutionContext:
        seen.append((own.input, own.output, own.data, own.session_state.get_all()))
        return own

    looks.__name__ = "failing"
    again = workflow(sessions, *steps, looks, setting("last", c=3), types=[UserInfo])
    result = await again.resume(context(a=0, gone=2, more=1))
    assert seen == [("go", "two", {"d": {"user": UserInfo("Ann")}}, {"a": 1, "b": 2, "gone": 2, "more": 1})]
    assert result.output == "last"
    repeated = await again.resume(context(a=0))
    assert (len(seen), repeated.output, repeated.session_state["c"]) == (1, "last", 3)
    assert (await again.execute(context())).output == "last"
    assert len(seen) == 2, "execute begins anew"


async def test_without_a_run_resume_begins_one(sessions: SessionStorageAdapter) -> None:
    """S3.24."""
    made = workflow(sessions, setting("one", a=1))
    assert (await made.resume(context())).session_state.get_all() == {"a": 1}
    await sessions.save_session("s2", {"session_id": "s2", "workflow_state": {"b": 2}})
    assert (await made.resume(context("s2", b=3))).session_state.get_all() == {"a": 1, "b": 3}


async def test_a_run_of_other_steps_is_not_taken_up(sessions: SessionStorageAdapter) -> None:
    """S3.24."""
    await workflow(sessions, setting("one"), setting("two")).execute(context())
    for steps in ([setting("two"), setting("one")], [setting("one")], []):
        with pytest.raises(StorageValidationError, match="not one of these steps"):
            await workflow(sessions, *steps).resume(context())


async def test_of_two_runs_at_once_only_one_goes_on(sessions: SessionStorageAdapter) -> None:
    """S3.24: the other is told, and what it did is not saved."""
    for begin in ("execute", "resume"):

        async def overtaken(ctx: ExecutionContext) -> ExecutionContext:
            await workflow(sessions, setting("overtaken", winner=1)).execute(context())
            ctx.set_session_state("loser", 1)
            return ctx

        with pytest.raises(StorageConflictError, match="another run of the workflow 'w' got ahead") as refusal:
            await getattr(workflow(sessions, overtaken), begin)(context())
        assert not refusal.value.retryable
        assert await state_of(sessions) == {"winner": 1}
        await sessions.delete_session("s1")


async def test_a_session_made_meanwhile_is_used(sessions: SessionStorageAdapter) -> None:
    async def makes(ctx: ExecutionContext) -> ExecutionContext:
        await sessions.save_session("s1", {"session_id": "s1", "name": "theirs", "workflow_state": {"theirs": 1}})
        ctx.set_session_state("mine", 1)
        return ctx

    await workflow(sessions, makes).execute(context())
    document = await sessions.require_session("s1")
    assert (document["name"], document["workflow_state"]) == ("theirs", {"theirs": 1, "mine": 1})


async def test_a_session_deleted_meanwhile_stays_deleted(sessions: SessionStorageAdapter) -> None:
    async def deletes(ctx: ExecutionContext) -> ExecutionContext:
        await sessions.delete_session("s1")
        return ctx

    with pytest.raises(SessionNotFoundError):
        await workflow(sessions, setting("one", a=1), deletes).execute(context())
    assert not await sessions.session_exists("s1")


async def test_structured_values_survive_with_the_session(sessions: SessionStorageAdapter) -> None:
    """S3.23: types that are not registered come back as plain data with a marker."""
    order = Order(UserInfo("Ann", 3), Color.BLUE, [Point(0.0, -0.0)])
    types = [Order, UserInfo, Color, Point]
    await workflow(sessions, setting("one", order=order, keys={1: UserInfo("Ben")}), types=types).execute(context())
    ctx = await workflow(sessions, types=types).execute(context())
    assert ctx.session_state == SessionState({"order": order, "keys": {1: UserInfo("Ben")}})
    plain = await workflow(sessions, setting("two", other=1)).execute(context())
    assert isinstance(plain.session_state["order"], PlainData)
    assert plain.session_state["order"]["user"] == {"name": "Ann", "age": 3, "tags": ()}
    assert plain.session_state["keys"][1] == {"name": "Ben", "age": 0, "tags": ()}
    ctx = await workflow(sessions, types=types).execute(context())
    assert ctx.session_state["order"] == order


async def test_what_cannot_be_stored_is_refused_and_nothing_of_the_step_is_saved(
    sessions: SessionStorageAdapter,
) -> None:
    """S3.23, S3.24."""
    await workflow(sessions, setting("one", a=1)).execute(context())
    before = await sessions.require_session("s1")
    refused: list[tuple[type[StorageError], str, dict[str, Any]]] = [
        (StorageValidationError, "workflow_state.bad", {"bad": [len]}),
        (StateCopyError, "'bad'", {"bad": threading.Lock()}),
    ]
    for error, place, values in refused:
        with pytest.raises(error, match=place):
            await workflow(sessions, setting("one", a=2, **values)).execute(context())

    async def leaves(ctx: ExecutionContext) -> ExecutionContext:
        ctx.output = {"reply": len}
        return ctx

    with pytest.raises(StorageValidationError, match=r"context\.output\.reply"):
        await workflow(sessions, leaves).execute(context())
    assert await sessions.require_session("s1") == before


async def test_what_is_shared_is_not_saved(sessions: SessionStorageAdapter) -> None:
    """S3.6, S3.24: it lives in this process alone; what was stored under its key stays."""
    await sessions.save_session("s1", {"session_id": "s1", "workflow_state": {"cache": "stored"}})
    lock, cache = threading.Lock(), {"a": 1}
    ctx = context()
    ctx.session_state = SessionState({"lock": lock, "cache": cache}, share=["cache"], on_uncopyable="share")
    result = await workflow(sessions, setting("one", a=1)).execute(ctx)
    assert result.session_state["lock"] is lock
    assert result.session_state["cache"] is cache
    assert await state_of(sessions) == {"cache": "stored", "a": 1}


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (
            {"metadata": {"session_id": "s1"}, "workflow_state": {"messages": [], "step": 1}, "settings": {}},
            "workflow_state",
        ),
        ({"metadata": {"status": "active"}, "state": {"messages": [], "step": 1}}, "state"),
        ({"metadata": {"workflow_summary": {}}, "state": {"messages": [], "step": 1}}, "state"),
    ],
    ids=["g0", "g1", "g2"],
)
async def test_older_documents_keep_their_form_and_their_history(
    sessions: SessionStorageAdapter, document: dict[str, Any], place: str
) -> None:
    """S3.24: the state is where such documents have it, and their messages are no part of it."""
    await sessions.save_session("s1", document)
    await sessions.events.append("s1", {"role": "user", "content": "Hello"})
    ctx = await workflow(sessions, setting("one", step=2)).execute(context())
    assert ctx.session_state.get_all() == {"step": 2}
    stored = await sessions.require_session("s1")
    assert [message["content"] for message in stored[place]["messages"]] == ["Hello"]
    assert stored[place]["step"] == 2
    await sessions.save_session("s1", stored)  # whole, as old programs do: its form is found again
    assert await sessions.require_session("s1") | {"metadata": None} == stored | {"metadata": None}
    assert len(await sessions.events.read("s1")) == 1
    with pytest.raises(StorageValidationError, match=r"'messages' is where legacy-g. documents keep"):
        await workflow(sessions, setting("one", messages=[])).execute(context())
    assert len(await sessions.events.read("s1")) == 1


async def test_documents_with_interactions_keep_their_form(sessions: SessionStorageAdapter) -> None:
    """S3.24: ``legacy-g3``, whose history is no part of any state."""
    interaction = {"interaction_type": "user_request", "content": "Hello"}
    await sessions.save_session("s1", {"context": {"user_id": "ann"}, "interactions": [interaction]})
    ctx = await workflow(sessions, setting("one", messages=[1])).execute(context("s1", "ann"))
    assert ctx.session_state.get_all() == {"messages": [1]}
    stored = await sessions.require_session("s1")
    assert (stored["state"], stored["interactions"]) == ({"messages": [1]}, [interaction])
    await sessions.save_session("s1", stored)
    assert (await sessions.require_session("s1"))["interactions"] == [interaction]
    assert (await workflow(sessions).execute(context("s1", "ann"))).session_state["messages"] == [1]


@pytest.mark.parametrize("key", ["workflow_state", "workflow_runs"])
async def test_what_is_no_object_is_not_overwritten(sessions: SessionStorageAdapter, key: str) -> None:
    await sessions.save_session("s1", {"session_id": "s1", key: "theirs"})
    with pytest.raises(StorageValidationError, match=f"{key} of this session is no object"):
        await workflow(sessions, setting("one", a=1)).execute(context())
    assert (await sessions.require_session("s1"))[key] == "theirs"


@pytest.mark.parametrize("document", [{}, {"session_id": "s1"}, {"session_id": "s1", "workflow_state": None}])
async def test_a_session_without_a_state_gets_one(sessions: SessionStorageAdapter, document: dict[str, Any]) -> None:
    """S3.24."""
    await sessions.save_session("s1", document)
    await workflow(sessions, setting("one", a=1)).execute(context())
    assert await state_of(sessions) == {"a": 1}


async def test_a_cancelled_run_is_taken_up_again(sessions: SessionStorageAdapter) -> None:
    """S3.24: cancelled at any moment, a step is wholly saved or not at all."""
    steps = [setting(f"step{n}", **{f"k{n}": n, "last": n}) for n in range(4)]
    for turn in range(12):
        name = f"c{turn}"
        task = asyncio.create_task(workflow(sessions, *steps).execute(context(name)))
        for _ in range(turn):
            await asyncio.sleep(0.0007)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if await sessions.session_exists(name):
            document = await sessions.require_session(name)
            done = len(document["workflow_runs"]["w"]["finished"])
            assert document["workflow_state"] == {f"k{n}": n for n in range(done)} | {"last": done - 1}
        result = await workflow(sessions, *steps).resume(context(name))
        assert result.session_state.get_all() == {f"k{n}": n for n in range(4)} | {"last": 3}


async def test_one_storage_serves_many_runs_at_once(sessions: SessionStorageAdapter) -> None:
    """S3.21, S3.24: workflows of different names in one session, and one workflow in many sessions."""
    made = workflow(sessions, setting("one", a=1), setting("two", b=2))
    await asyncio.gather(*(made.execute(context(f"s{n}")) for n in range(10)))
    assert [await state_of(sessions, f"s{n}") for n in range(10)] == [{"a": 1, "b": 2}] * 10
    others = [Workflow(f"w{n}", sessions=sessions).add_step(setting("x", **{f"k{n}": n})) for n in range(10)]
    await asyncio.gather(*(other.execute(context("s0")) for other in others))
    assert await state_of(sessions, "s0") == {"a": 1, "b": 2} | {f"k{n}": n for n in range(10)}


async def test_a_run_within_a_transaction_is_part_of_it(storage: IUnifiedStorage) -> None:
    """S3.24."""
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with storage.transaction() as tx:
            await workflow(SessionStorageAdapter(tx), setting("one", a=1)).execute(context())
            raise RuntimeError("changed my mind")
    assert not await SessionStorageAdapter(storage).session_exists("s1")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_a_killed_run_is_taken_up_behind_its_last_step(engine: str, tmp_path: Path) -> None:
    """S3.24: kill -9 in the second step, and in a branch; what was finished is there, and does not run again."""
    async with place_on(engine, tmp_path) as place:
        assert await _killed_at(place.url, place.namespace, "two") == ["one", "two"]
        assert await _killed_at(place.url, place.namespace, "right") == ["two", "three", "left", "right"]
        told = {
            "steps": ["one", "two", "three", "right"],
            "output": [["one", "two", "three", "left"], ["one", "two", "three", "right"]],
            "data": ["one", "two", "three", "left", "right"],
            "user": "Ann",
        }
        assert await _taken_up(place.url, place.namespace) == {"ran": ["left", "right"], **told}
        assert await _taken_up(place.url, place.namespace) == {"ran": [], **told}


async def _killed_at(url: str, namespace: str, step: str) -> list[str]:
    """Kill the program in *step*; which steps it had begun."""
    process = _started(url, namespace, step)
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    process.kill()
    _, errors = await asyncio.to_thread(process.communicate)
    assert line, errors
    ran: list[str] = json.loads(line)
    return ran


async def _taken_up(url: str, namespace: str) -> dict[str, Any]:
    process = _started(url, namespace)
    out, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, errors
    told: dict[str, Any] = json.loads(out)
    return told


def _started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", PROGRAM, *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
