"""Names of sessions that were given none: kept with what is written anyway, and never wrong about the history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from session_adapter import ScopedSessionService, SessionKey, SessionStorageAdapter
from session_adapter.documents import imported
from session_adapter.formats import Event
from session_adapter.identity import SessionId, record_id
from session_adapter.metadata import own_fields
from session_adapter.naming import SHOWN_NAME
from tests.places import engines, place_on
from tests.session_adapter.documents import sample
from unified_storage import IUnifiedStorage
from unified_storage.delegate import Delegate

KEY = SessionKey("shop", "ann", "s")


@pytest.fixture(params=engines("memory", "sqlite", "postgresql", "mysql", "redis"))
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IUnifiedStorage]:
    async with place_on(request.param, tmp_path) as place, place.open() as opened:
        yield opened


def run(run_id: str, *questions: str) -> dict[str, Any]:
    return {"run_id": run_id, "messages": [{"role": "user", "content": question} for question in questions]}


def with_list(*texts: str) -> dict[str, Any]:
    """A document whose history is a list in it."""
    document = sample("g0")
    document["workflow_state"]["messages"] = [
        {"type": "HumanMessage", "content": text, "additional_kwargs": {}} for text in texts
    ]
    return document


async def kept_name(storage: IUnifiedStorage, session: SessionId = "s") -> str | None:
    record = await storage.load(record_id(session), type="session")
    assert record is not None
    name: str | None = own_fields(record).get(SHOWN_NAME)
    return name


async def test_a_list_that_is_saved_names_its_session(storage: IUnifiedStorage):
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s", with_list("Hi"))
    assert await kept_name(storage) == "Hi"
    await sessions.save_session("s", with_list("Hi", "More"))
    assert await kept_name(storage) == "Hi"
    await sessions.save_session("s", with_list("Another", "More"))
    assert await kept_name(storage) == "Another"
    await sessions.update_session("s", {"workflow_state": {"messages": []}})
    assert await kept_name(storage) is None


async def test_updates_that_leave_the_list_alone_leave_the_name(storage: IUnifiedStorage):
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s", with_list("Hi"))
    await sessions.update_session("s", {"metadata": {"status": "done"}})
    assert await kept_name(storage) == "Hi"


async def test_a_session_with_a_name_gets_no_other(storage: IUnifiedStorage):
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s", {"session_id": "s", "kind": "agent", "name": "Mine"})
    await sessions.runs.append("s", run("r", "Hi"))
    assert await kept_name(storage) is None


async def test_an_import_names_its_session(storage: IUnifiedStorage):
    now = storage.clock()
    record, log = imported(with_list("Hi", "More"), key="s", created_at=now, updated_at=now, now=now)
    assert log is not None
    await storage.restore([record], [log])
    assert await kept_name(storage) == "Hi"


async def test_the_first_run_names_its_session_and_goes_on_doing_so(storage: IUnifiedStorage):
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s", {"session_id": "s", "kind": "agent"})
    await sessions.runs.append("s", run("a", "Hi"))
    await sessions.runs.append("s", run("b", "More"))
    assert await kept_name(storage) == "Hi"
    await sessions.runs.append("s", run("b", "Even more"))
    assert await kept_name(storage) == "Hi"
    await sessions.runs.append("s", run("a", "Hello"))
    assert await kept_name(storage) == "Hello"
    await sessions.runs.delete("s", "b")
    assert await kept_name(storage) == "Hello"
    await sessions.runs.delete("s", "a")
    assert await kept_name(storage) is None


async def test_the_runs_of_a_teams_members_do_not_name_it(storage: IUnifiedStorage):
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s", {"session_id": "s", "kind": "team"})
    await sessions.runs.append("s", [{**run("a", "Inside"), "agent_id": "member"}, run("b", "Hi")])
    assert await kept_name(storage) in (None, "Hi")


async def test_a_question_that_is_withdrawn_names_nothing(storage: IUnifiedStorage):
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s", with_list("Hi"))
    await sessions.events.append("s", {"role": "assistant", "content": "Hello"})
    await sessions.events.pop("s")
    assert await kept_name(storage) == "Hi"
    await sessions.events.pop("s")
    assert await kept_name(storage) is None


async def test_a_question_that_is_replaced_names_nothing(storage: IUnifiedStorage):
    sessions = SessionStorageAdapter(storage)
    service = ScopedSessionService(storage)
    await service.create_session(KEY)
    await service.append_event(KEY, Event(id="e", role="user", content="Hi", state_delta={"n": 1}))
    assert await kept_name(storage, KEY) == "Hi"
    await sessions.events.append(KEY, {"id": "e", "role": "user", "content": "Hello"}, on_duplicate="replace")
    assert await kept_name(storage, KEY) in (None, "Hello")


async def test_the_first_event_of_a_user_names_the_session_where_something_is_written_beside_it(
    storage: IUnifiedStorage,
):
    service = ScopedSessionService(storage)
    await service.create_session(KEY)
    await service.append_event(KEY, Event(role="user", content="Hi", state_delta={"n": 1}))
    await service.append_event(KEY, Event(role="user", content="More", state_delta={"n": 2}))
    assert await kept_name(storage, KEY) == "Hi"


async def test_an_event_that_is_not_the_first_names_nothing(storage: IUnifiedStorage):
    """What was said before it is not known without reading."""
    service = ScopedSessionService(storage)
    await service.create_session(KEY)
    await service.append_event(KEY, Event(role="user", content="Hi"))
    await service.append_event(KEY, Event(role="user", content="More", state_delta={"n": 2}))
    assert await kept_name(storage, KEY) is None


class Counting(Delegate):
    def __init__(self, inner: IUnifiedStorage) -> None:
        super().__init__(inner)
        self.verbs: list[str] = []

    async def _call(self, verb: str, call: Any) -> Any:
        self.verbs.append(verb)
        return await call()


async def test_a_name_costs_an_append_nothing(storage: IUnifiedStorage):
    await SessionStorageAdapter(storage).save_session("s", {"session_id": "s", "kind": "agent"})
    counting = Counting(storage)
    await SessionStorageAdapter(counting).events.append("s", {"role": "user", "content": "Hi"})
    assert counting.verbs == ["append"]


async def test_a_name_too_long_for_metadata_is_left_in_the_history(storage: IUnifiedStorage):
    await SessionStorageAdapter(storage).save_session("s", with_list("x" * 2_001))
    assert await kept_name(storage) is None
