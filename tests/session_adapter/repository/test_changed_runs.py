"""What others add to a run while its holder changes it stays, and what has stood in it is known when it comes again."""

from __future__ import annotations

import pytest

from session_adapter import (
    Run,
    ScopedSessionService,
    SessionKey,
    SessionRepository,
    SessionStorageAdapter,
    Summaries,
    new_session,
)
from unified_storage import IUnifiedStorage
from unified_storage.errors import StorageValidationError

KEY = SessionKey("shop", "ann", "s1")


def message(id: str | None, text: str, **further: object) -> dict[str, object]:
    return {"id": id, "role": "user", "content": text, "run_id": "r", **further}


async def contents(storage: IUnifiedStorage) -> list[object]:
    return [event["content"] for event in await SessionStorageAdapter(storage).events.read(KEY)]


@pytest.mark.parametrize("ids", [("m1", "m2"), (None, None)])
async def test_a_message_that_came_meanwhile_stays_in_the_run(
    storage: IUnifiedStorage, ids: tuple[str | None, str | None]
) -> None:
    service, repository = ScopedSessionService(storage), SessionRepository(storage)
    await service.create_session(KEY)
    await service.append_event(KEY, message(ids[0], "one"))
    held = await repository.get(KEY)
    await service.append_event(KEY, message(ids[1], "two", state_delta={"n": 1}))
    held.runs[0].status = "completed"
    await repository.update(held)
    await service.append_event(KEY, message("m3", "three"))
    assert await contents(storage) == ["one", "two", "three"]
    (run,) = (await repository.get(KEY)).runs
    assert run.status == "completed"


async def test_a_whole_run_and_a_message_beside_it(storage: IUnifiedStorage) -> None:
    service, repository = ScopedSessionService(storage), SessionRepository(storage)
    await service.create_session(KEY)
    await SessionStorageAdapter(storage).runs.append(KEY, {"run_id": "r", "messages": [message("m1", "one")]})
    held = await repository.get(KEY)
    await service.append_event(KEY, message("m2", "two"))
    held.runs[0].messages.append(message("m3", "three"))
    await repository.update(held)
    assert sorted(map(str, await contents(storage))) == ["one", "three", "two"]


async def test_an_event_that_became_part_of_a_whole_run_applies_nothing_again(storage: IUnifiedStorage) -> None:
    service = ScopedSessionService(storage, policies={"n": "sum"})
    repository = SessionRepository(storage)
    await service.create_session(KEY)
    event = message("e1", "one", state_delta={"n": 1})
    await service.append_event(KEY, event)
    held = await repository.get(KEY)
    held.runs[0].status = "completed"
    await repository.update(held)
    await service.append_event(KEY, event)
    session = await service.get_session(KEY)
    assert session is not None
    assert session.state == {"n": 1}
    assert await contents(storage) == ["one"]


async def test_a_run_taken_out_leaves_the_numbers_of_the_others(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session(KEY, {})
    runs = [{"run_id": f"r{at}", "messages": [message(f"m{at}", str(at))]} for at in range(12)]
    numbers = await sessions.runs.append(KEY, runs)
    await sessions.runs.delete(KEY, "r1")
    left = {event["seq"] for event in await sessions.events.read(KEY)}
    assert left == {*numbers} - {numbers[1]}
    assert await sessions.runs.append(KEY, {"run_id": "new"}) == numbers[-1] + 1


async def test_what_was_summed_up_stays_so_when_a_run_is_taken_out(storage: IUnifiedStorage) -> None:
    sessions, summaries = SessionStorageAdapter(storage), Summaries(storage)
    await sessions.save_session(KEY, {})
    runs = [{"run_id": f"r{at}", "messages": [message(f"m{at}", str(at))]} for at in range(12)]
    await sessions.runs.append(KEY, runs)

    class Model:
        async def summarise(self, text: str) -> str:
            return "all of it"

    await summaries.update(KEY, Model())
    await sessions.runs.delete(KEY, "r1")
    assert (await summaries.window(KEY)).events == []


async def test_an_empty_run_id_names_no_run(storage: IUnifiedStorage) -> None:
    sessions, repository = SessionStorageAdapter(storage), SessionRepository(storage)
    await sessions.save_session(KEY, {})
    await sessions.runs.append(KEY, {"run_id": "r", "messages": []})
    await sessions.events.append(KEY, {"role": "user", "content": "y", "run_id": ""})
    held = await repository.get(KEY)
    held.runs[0].status = "done"
    await repository.update(held)
    assert [run.run_id for run in (await repository.get(KEY)).runs] == ["r"]
    assert await contents(storage) == ["y"]


async def test_two_runs_of_one_id_are_refused(storage: IUnifiedStorage) -> None:
    session = new_session("s2", "helper")
    session.runs = [Run(run_id="a"), Run(run_id="a")]
    with pytest.raises(StorageValidationError) as caught:
        await SessionRepository(storage).create(session)
    assert caught.value.path == "runs[1].run_id"
