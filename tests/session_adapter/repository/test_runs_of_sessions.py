"""Runs of typed sessions: added and replaced, never rewritten, never lost by leaving them out."""

from __future__ import annotations

from typing import Any

import pytest

from session_adapter import Run, Session, SessionRepository, SessionStorageAdapter
from tests.session_adapter.delegates import Spy
from tests.session_adapter.documents import SAMPLE_FORMATS, sample
from unified_storage import IUnifiedStorage


def names(session: Session) -> list[str]:
    return [run.run_id for run in session.runs]


async def begun(repository: SessionRepository, *runs: str) -> Session:
    return await repository.create(Session(session_id="s1", runs=[Run(run_id=run) for run in runs]))


async def test_two_who_each_add_a_run_to_what_they_read_lose_neither(repository: SessionRepository) -> None:
    await begun(repository, "a")
    mine, theirs = await repository.get("s1"), await repository.get("s1")
    mine.add_run({"run_id": "mine"})
    theirs.add_run({"run_id": "theirs"})
    await repository.update(mine)
    await repository.update(theirs)
    await repository.update(mine)
    assert names(await repository.get("s1")) == ["a", "mine", "theirs"]


async def test_two_who_were_not_told_of_each_other_lose_neither(repository: SessionRepository) -> None:
    await begun(repository, "a", "b")
    for write in (repository.update, repository.create):
        written = await write(Session(session_id="s1", runs=[Run(run_id="b", status="again"), Run(run_id="c")]))
        assert written == await repository.get("s1")
        assert [(run.run_id, run.status) for run in written.runs] == [("a", None), ("b", "again"), ("c", None)]


async def test_a_run_that_is_changed_is_replaced_in_its_place(repository: SessionRepository) -> None:
    """S0.4."""
    session = await begun(repository, "a", "b")
    session.add_run({"run_id": "a", "status": "completed"})
    session.runs[1].messages.append({"role": "user", "content": "hello"})
    written = await repository.update(session)
    assert written == await repository.get("s1")
    assert (names(written), written.runs[0].status) == (["a", "b"], "completed")
    assert written.runs[1].messages == [{"role": "user", "content": "hello"}]


async def test_a_run_that_is_left_out_stays(repository: SessionRepository) -> None:
    session = await begun(repository, "a", "b")
    del session.runs[0]
    await repository.update(session)
    await repository.create(Session(session_id="s1"))
    assert names(await repository.get("s1")) == ["a", "b"]


async def test_a_run_that_others_deleted_does_not_come_back(
    storage: IUnifiedStorage, repository: SessionRepository
) -> None:
    session = await begun(repository, "a", "b")
    await SessionStorageAdapter(storage).runs.delete("s1", "a")
    session.add_run({"run_id": "c"})
    await repository.update(session)
    assert names(await repository.get("s1")) == ["b", "c"]


async def test_a_run_that_others_changed_is_not_put_back(repository: SessionRepository) -> None:
    session = await begun(repository, "a")
    theirs = await repository.get("s1")
    theirs.runs[0].status = "completed"
    await repository.update(theirs)
    session.name = "mine"
    await repository.update(session)
    assert (await repository.get("s1")).runs[0].status == "completed"


async def test_a_retried_write_adds_no_run_again(repository: SessionRepository) -> None:
    """T0.12."""
    session = Session(session_id="s1")
    session.add_run({"status": "completed"})
    session.add_run({"status": "completed"})
    for write in (repository.create, repository.create, repository.update, repository.update):
        await write(session.model_copy(deep=True))
    assert names(await repository.get("s1")) == names(session)
    assert len({*names(session)}) == 2


@pytest.mark.parametrize("length", [10, 200])
async def test_adding_a_run_writes_and_reads_as_much_at_any_length(storage: IUnifiedStorage, length: int) -> None:
    spy = Spy(storage)
    repository = SessionRepository(spy)
    session = Session(session_id="s1", state={"a": 1})
    for number in range(length):
        session.add_run({"run_id": f"run{number:04}", "messages": [{"role": "user", "content": "x" * 100}]})
    await repository.create(session)
    await repository.update(await repository.get("s1"))
    for holder in (session, await repository.get("s1")):
        for _ in range(2):
            spy.forget()
            holder.add_run({"run_id": f"more{holder.run_count:04}", "messages": []})
            await repository.update(holder)
            assert spy.numbers == {"appended": 1, "bytes": spy.numbers["bytes"]}
            assert spy.numbers["bytes"] < 100
            assert set(spy.verbs) <= {"load", "list", "append"}
    # a change of the document does not look at the runs either
    spy.forget()
    holder.state = {"a": 2}
    await repository.update(holder)
    assert (spy.verbs, spy.numbers["bytes"] < 400) == (["load", "save", "load"], True)


async def test_messages_that_were_appended_show_as_their_runs(
    storage: IUnifiedStorage, repository: SessionRepository
) -> None:
    sessions = SessionStorageAdapter(storage)
    await begun(repository, "whole")
    said = {"role": "user", "content": "hello"}
    await sessions.events.append("s1", [said, said | {"run_id": "r1", "id": "m1"}, said | {"run_id": "whole"}])
    await sessions.events.append("s1", said | {"run_id": "r1", "content": "bye"})
    session = await repository.get("s1")
    assert names(session) == ["whole", "r1"]
    assert [message["content"] for message in session.runs[1].messages] == ["hello", "bye"]
    assert session.runs[0].messages == [said | {"run_id": "whole"}]
    before = await sessions.events.read("s1")
    session.add_run({"run_id": "r2"})
    await repository.update(session)
    assert await sessions.events.read("s1") == before
    session.runs[1].status = "completed"
    written = await repository.update(session)
    found = await repository.get("s1")
    assert written == found
    assert (names(found), found.runs[1].status) == (["whole", "r1", "r2"], "completed")
    shown = await sessions.events.read("s1")
    assert [(event["run_id"], event["content"]) for event in shown] == [
        (None, "hello"),
        ("r1", "hello"),
        ("r1", "bye"),
        ("whole", "hello"),
    ]


async def test_a_message_of_a_run_that_is_appended_again_is_shown_once(
    storage: IUnifiedStorage, repository: SessionRepository
) -> None:
    """What the record knows of its runs is kept where the document is written in the same step."""
    message = {"role": "user", "content": "hello", "id": "m1"}
    session = await begun(repository)
    session.state = {"a": 1}
    session.add_run({"run_id": "a", "messages": [message]})
    await repository.update(session)
    events = SessionStorageAdapter(storage).events
    await events.append("s1", message | {"run_id": "a"})
    [shown] = await events.read("s1")
    assert (shown["seq"], shown["run_id"]) == (1, "a")
    assert await events.read("s1", last=1) == [shown]


async def test_messages_in_a_run_show_as_events(storage: IUnifiedStorage, repository: SessionRepository) -> None:
    said = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    await repository.create(Session(session_id="s1", runs=[Run(run_id="a", messages=said)]))
    shown = await SessionStorageAdapter(storage).events.read("s1")
    assert [(event["run_id"], event["content"]) for event in shown] == [("a", "hello"), ("a", "hi")]


@pytest.mark.parametrize("form", SAMPLE_FORMATS)
async def test_a_message_list_of_an_older_document_is_no_run_and_stays(
    storage: IUnifiedStorage, repository: SessionRepository, form: str
) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", sample(form))
    before = await sessions.events.read("s1")
    session = await repository.get("s1")
    assert session.runs == []
    session.add_run({"run_id": "a", "messages": [{"role": "user", "content": "new"}]})
    await repository.update(session)
    assert [event["content"] for event in await sessions.events.read("s1")] == [
        *(event["content"] for event in before),
        "new",
    ]
    document = await sessions.require_session("s1")
    await sessions.save_session("s1", document)
    assert (await repository.get("s1")).runs == [Run(run_id="a", messages=[{"role": "user", "content": "new"}])]


ODD_RUNS: list[dict[str, Any]] = [
    {"run_id": 5, "messages": []},
    {"messages": [{"role": "user"}]},
    {"run_id": "a", "messages": "text", "status": [1], "x": ()},
]


@pytest.mark.parametrize("body", ODD_RUNS)
async def test_a_run_of_any_shape_is_shown_and_not_written_again(
    storage: IUnifiedStorage, repository: SessionRepository, body: dict[str, Any]
) -> None:
    await repository.create(Session(session_id="s1"))
    await storage.append("history/s1", [{"body": body}])
    session = await repository.get("s1")
    [run] = session.runs
    assert run.messages == body["messages"]
    session.name = "odd"
    await repository.update(session)
    assert [entry["body"] for entry in await storage.read("history/s1")] == [body]
