"""Sessions as dicts: what both classes answer, the same for the same call (S2.16, S2.17, T2.15)."""

from __future__ import annotations

import asyncio
import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from session_adapter import (
    ISessionService,
    SessionKey,
    SessionNotFoundError,
    SessionService,
    SessionStorageAdapter,
    record_id,
)
from session_adapter.timestamps import parse_rendered, render
from tests.session_adapter.delegates import Failing, Spy
from tests.session_adapter.documents import SAMPLE_FORMATS, sample
from unified_storage import (
    DELETE,
    REPLACE,
    IUnifiedStorage,
    StorageConflictError,
    StorageConnectionError,
    StorageError,
    StorageNotFoundError,
    StorageValidationError,
    open_storage,
)
from unified_storage.testing.clock import NOON, ManualClock

DOCUMENT: dict[str, Any] = {
    "metadata": {
        "session_id": "s1",
        "status": "active",
        "user_id": "ann",
        "tags": ["a", "b"],
        "workflow_config_path": "flows/bread.yaml",
    },
    "thread_configs": {"main": {"model": "m"}},
    "workflow_state": {"messages": [{"type": "HumanMessage", "content": "hi", "additional_kwargs": {}}], "step": 1},
    "settings": {"a": 0, "b": {"c": 1}},
}


@pytest.fixture(params=[SessionService, SessionStorageAdapter])
def service(request: pytest.FixtureRequest, storage: IUnifiedStorage) -> SessionService:
    made: SessionService = request.param(storage)
    return made


async def required(service: SessionService, session_id: str | SessionKey = "s1") -> dict[str, Any]:
    found = await service.get_session(session_id)
    assert found is not None
    return found


def own(session: dict[str, Any]) -> dict[str, Any]:
    """A session without the two shown times."""
    shown = {key: value for key, value in session["metadata"].items() if key not in ("created_at", "updated_at")}
    return session | {"metadata": shown}


# the six methods


async def test_what_was_saved_is_handed_out(service: SessionService) -> None:
    """S2.7, S2.8, S2.38."""
    await service.save_session("s1", DOCUMENT)
    assert own(await required(service)) == DOCUMENT


async def test_an_absent_session_is_none(service: SessionService) -> None:
    """S2.8."""
    assert await service.get_session("s1") is None
    assert await service.get_session("s1", with_version=True) is None
    assert not await service.session_exists("s1")


async def test_a_required_session_is_there_or_missed_loudly(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    with pytest.raises(SessionNotFoundError):
        await sessions.require_session("s1")
    await sessions.save_session("s1", DOCUMENT)
    assert await sessions.require_session("s1") == await sessions.get_session("s1")


async def test_delete_takes_the_session_and_its_history(service: SessionService, storage: IUnifiedStorage) -> None:
    """S2.9."""
    await service.save_session("s1", DOCUMENT)
    await storage.save({"id": "t1", "type": "thread", "data": {}, "session_id": "s1"})
    await service.delete_session("s1")
    assert await service.get_session("s1") is None
    assert await storage.log_info("history/s1") is None
    assert not await storage.exists("t1")
    with pytest.raises(SessionNotFoundError) as raised:
        await service.delete_session("s1")
    assert raised.value.session_id == "s1"
    await service.save_session("s1", {"workflow_state": {"messages": []}})
    assert (await required(service))["workflow_state"] == {"messages": []}


async def test_update_changes_only_the_given_fields(service: SessionService) -> None:
    """S2.12, T2.6, T2.7: deep merge; metadata stays but for the time of the change."""
    await service.save_session("s1", DOCUMENT)
    before = await required(service)
    await service.update_session("s1", {"settings": {"a": 1}, "metadata": {"status": "completed"}})
    after = await required(service)
    assert after["settings"] == {"a": 1, "b": {"c": 1}}
    assert after["metadata"].pop("updated_at") > before["metadata"].pop("updated_at")
    assert after["metadata"] == before["metadata"] | {"status": "completed"}
    assert {key: after[key] for key in ("thread_configs", "workflow_state")} == {
        key: before[key] for key in ("thread_configs", "workflow_state")
    }
    [listed] = await service.list_sessions({"status": "completed"})
    assert listed["settings"] == after["settings"]


async def test_update_deletes_and_replaces_where_told(service: SessionService) -> None:
    await service.save_session("s1", DOCUMENT)
    await service.update_session("s1", {"settings": REPLACE({"new": None}), "metadata": {"tags": DELETE}, "x": DELETE})
    found = own(await required(service))
    assert found["settings"] == {"new": None}
    assert "tags" not in found["metadata"]


async def test_update_of_a_missing_session_raises(service: SessionService) -> None:
    """T2.8."""
    with pytest.raises(SessionNotFoundError):
        await service.update_session("s1", {"settings": {}})
    assert not await service.session_exists("s1")


async def test_update_keeps_the_format_that_was_found(service: SessionService, storage: IUnifiedStorage) -> None:
    await service.save_session("s1", {"settings": {}})
    await service.update_session("s1", {"workflow_state": {"messages": [{"type": "HumanMessage", "content": "hi"}]}})
    record = await storage.load("s1")
    assert record is not None
    assert record["metadata"]["~"] == {"format": "bare"}
    assert (await required(service))["workflow_state"]["messages"] == [{"type": "HumanMessage", "content": "hi"}]


async def test_a_hundred_concurrent_updates_of_different_keys_all_survive(service: SessionService) -> None:
    await service.save_session("s1", DOCUMENT)
    await asyncio.gather(*(service.update_session("s1", {"settings": {f"k{n}": n}}) for n in range(100)))
    assert (await required(service))["settings"] == DOCUMENT["settings"] | {f"k{n}": n for n in range(100)}


async def test_updates_that_are_none_are_refused(service: SessionService) -> None:
    await service.save_session("s1", DOCUMENT)
    wrong: list[Any] = [None, 5, [("settings", {})], "settings"]
    for bad in wrong:
        with pytest.raises(StorageValidationError):
            await service.update_session("s1", bad)
    with pytest.raises(StorageValidationError) as raised:
        await service.update_session("s1", {"workflow_state": {"messages": [{}, {"x": object()}]}})
    assert raised.value.path == "data.workflow_state.messages[1].x"
    assert own(await required(service)) == DOCUMENT


# records of other types


async def test_a_record_of_another_type_is_no_session(service: SessionService, storage: IUnifiedStorage) -> None:
    """S2.42, S2.53, T2.3, T2.4: one rule in every method, and the other record is left alone."""
    await storage.save({"id": "s1", "type": "thread", "data": {"mine": True}})
    assert await service.get_session("s1") is None
    assert not await service.session_exists("s1")
    assert await service.list_sessions() == []
    for call in (service.delete_session("s1"), service.update_session("s1", {"mine": False})):
        with pytest.raises(StorageNotFoundError):
            await call
    await service.save_session("s1", {"settings": {}})
    await service.delete_session("s1")
    thread = await storage.load("s1")
    assert thread is not None
    assert (thread["data"], thread["version"]) == ({"mine": True}, 1)


# what callers keep


@pytest.mark.parametrize("name", SAMPLE_FORMATS)
async def test_the_callers_dict_is_untouched_and_nothing_aliases(service: SessionService, name: str) -> None:
    """S0.23, S2.39, T2.5: compared by value and by identity of what is nested."""
    mine = sample(name)
    before, ids = deepcopy(mine), {key: id(value) for key, value in mine.items()}
    await service.save_session("s1", mine)
    await service.update_session("s1", mine)
    assert mine == before
    assert {key: id(value) for key, value in mine.items()} == ids
    first = await required(service)
    _spoil(mine)
    _spoil(first)
    assert (
        own(await required(service)).items()
        >= {key: value for key, value in before.items() if key != "metadata"}.items()
    )


def _spoil(value: Any) -> None:
    """Change everything that can be changed, at every depth."""
    if isinstance(value, dict):
        for item in value.values():
            _spoil(item)
        value["spoilt"] = True
    elif isinstance(value, list):
        for item in value:
            _spoil(item)
        value.append("spoilt")


async def test_every_value_comes_back_as_it_went_in(service: SessionService) -> None:
    values = {"big": 2**70, "zero": -0.0, "text": "\0\ud800", "bytes": b"\xff", "when": NOON, "tuple": (1, {2})}
    message = {"type": "HumanMessage", "content": values, "additional_kwargs": {"$type": "mine"}}
    await service.save_session("s1", {"workflow_state": {"messages": [message], "v": values}})
    found = await required(service)
    assert found["workflow_state"] == {"messages": [message], "v": values}
    assert str(found["workflow_state"]["v"]["zero"]) == "-0.0"


# times


async def test_the_shown_times_are_the_records(service: SessionService, storage: IUnifiedStorage) -> None:
    """S2.39, T2.10: the two pairs agree after save, update and append."""
    for name in SAMPLE_FORMATS:
        await service.save_session(name, sample(name))
        await _assert_times_agree(service, storage, name)
        await service.update_session(name, {"more": 1})
        await _assert_times_agree(service, storage, name)
        await SessionStorageAdapter(storage).events.append(name, {"role": "user", "content": "hi"})
        await _assert_times_agree(service, storage, name)


async def _assert_times_agree(service: SessionService, storage: IUnifiedStorage, session_id: str) -> None:
    record = await storage.load(session_id)
    assert record is not None
    shown = (await required(service, session_id))["metadata"]
    for name in ("created_at", "updated_at"):
        assert shown[name] == render(record[name])
        assert parse_rendered(shown[name]) == record[name]


async def test_metadata_that_is_no_object_is_left_alone(service: SessionService) -> None:
    for odd in ([1], "text", 5, False):
        await service.save_session("s1", {"metadata": odd})
        assert (await required(service))["metadata"] == odd
    await service.save_session("s1", {"metadata": None, "x": 1})
    shown = await required(service)
    assert shown["metadata"].keys() == {"created_at", "updated_at"}
    await service.save_session("s1", shown)
    await service.save_session("s1", await required(service))


async def test_null_metadata_stays_null_when_saved_as_read(service: SessionService, storage: IUnifiedStorage) -> None:
    for document in ({"metadata": None, "x": 1}, {"x": 1}, {"metadata": {}, "x": 1}):
        await service.save_session("s1", document)
        await service.save_session("s1", await required(service))
        record = await storage.load("s1")
        assert record is not None
        assert record["data"] == document


async def test_the_first_save_takes_an_earlier_creation_time_over() -> None:
    """S2.39, T2.11: naive ones in the adapter's zone, later ones keep it."""
    clock = ManualClock(NOON)
    async with open_storage("memory://", clock=clock) as storage:
        service = SessionService(storage, source_timezone="America/New_York")
        for session_id, document, created in (
            ("g0", {"metadata": {"session_id": "g0", "created_at": "2024-05-15T03:00:00"}}, "2024-05-15T07:00:00"),
            ("g3", {"context": {"created_at": "2024-05-01T00:00:00Z"}, "interactions": []}, "2024-05-01T00:00:00"),
            ("g3b", {"context": {}, "interactions": [], "created_at": "2024-05-02"}, "2024-05-02T04:00:00"),
            ("future", {"metadata": {"created_at": "2025-01-01T00:00:00Z"}}, "2024-05-15T12:00:00"),
            ("odd", {"metadata": {"created_at": ["never"]}}, "2024-05-15T12:00:00"),
            ("none", {}, "2024-05-15T12:00:00"),
        ):
            await service.save_session(session_id, document)
            assert (await required(service, session_id))["metadata"]["created_at"] == f"{created}.000000+00:00"


async def test_a_later_save_keeps_the_first_creation_time() -> None:
    """S2.40, T2.9: also without metadata, also with a forged one."""
    clock = ManualClock(NOON)
    async with open_storage("memory://", clock=clock) as storage:
        service = SessionService(storage)
        await service.save_session("s1", {"metadata": {"status": "active"}})
        forged: list[dict[str, Any]] = [
            {"settings": {}},
            {"metadata": {"created_at": "1999-01-01T00:00:00Z"}},
            {"x": 1},
        ]
        for document in forged:
            later = clock.advance(hours=1)
            await service.save_session("s1", document)
            shown = (await required(service))["metadata"]
            assert (shown["created_at"], shown["updated_at"]) == (render(NOON), render(later))


async def test_a_clock_that_stands_still_still_moves_the_time_of_change() -> None:
    async with open_storage("memory://", clock=ManualClock(NOON)) as storage:
        service = SessionService(storage)
        shown = []
        for _ in range(3):
            await service.save_session("s1", {"settings": {}})
            shown.append((await required(service))["metadata"]["updated_at"])
        assert shown == sorted(set(shown))


async def test_a_forged_time_is_stored_as_given_and_shown_as_it_is(
    service: SessionService, storage: IUnifiedStorage
) -> None:
    await service.save_session("s1", {"metadata": {"updated_at": "long ago"}})
    record = await storage.load("s1")
    assert record is not None
    assert record["data"] == {"metadata": {"updated_at": "long ago"}}
    shown = await required(service)
    assert shown["metadata"]["updated_at"] == render(record["updated_at"])
    await service.save_session("s1", shown)
    again = await storage.load("s1")
    assert again is not None
    assert again["data"] == {"metadata": {"updated_at": "long ago"}}


# versions


async def test_versions_move_with_document_and_history_and_are_checked(
    service: SessionService, storage: IUnifiedStorage
) -> None:
    """S2.43."""
    await service.save_session("s1", {"settings": {}}, expected_version=0)
    with pytest.raises(StorageConflictError):
        await service.save_session("s1", {"settings": {"x": 1}}, expected_version=0)
    found = await service.get_session("s1", with_version=True)
    assert found is not None
    assert found[1] == 1
    await SessionStorageAdapter(storage).events.append("s1", {"role": "user", "content": "hi"})
    for call in (
        service.save_session("s1", found[0], expected_version=found[1]),
        service.update_session("s1", {"settings": {"y": 1}}, expected_version=found[1]),
        service.delete_session("s1", expected_version=found[1]),
    ):
        with pytest.raises(StorageConflictError) as raised:
            await call
        assert (raised.value.expected, raised.value.found) == (1, 2)
    await service.update_session("s1", {"settings": {"y": 1}}, expected_version=2)
    assert (await required(service))["settings"] == {"y": 1}
    await service.delete_session("s1", expected_version=3)
    with pytest.raises(StorageConflictError):
        await service.update_session("s1", {}, expected_version=3)
    for wrong in (-1, True, "1", 1.0):
        with pytest.raises(StorageValidationError):
            await service.save_session("s1", {}, expected_version=wrong)  # type: ignore[arg-type]


async def test_a_save_keeps_when_a_session_expires(service: SessionService, storage: IUnifiedStorage) -> None:
    await service.save_session("s1", {"settings": {}})
    expires = datetime.now(UTC) + timedelta(days=1)
    await storage.update("s1", {"expires_at": expires, "thread_id": "t1"}, type="session")
    await service.save_session("s1", DOCUMENT)
    await service.update_session("s1", {"settings": {"x": 1}})
    record = await storage.load("s1")
    assert record is not None
    assert (record["expires_at"], record["thread_id"]) == (expires, "t1")


# lists


async def test_lists_go_from_the_session_changed_last(service: SessionService) -> None:
    """S2.10, T2.17: newest first, limit 0 is none."""
    for session_id in ("b", "a", "c"):
        await service.save_session(session_id, DOCUMENT | {"settings": {"id": session_id}})
    await service.update_session("b", {"settings": {"x": 1}})
    order = [found["settings"]["id"] for found in await service.list_sessions()]
    assert order == ["b", "c", "a"]
    assert [found["settings"]["id"] for found in await service.list_sessions(limit=2)] == ["b", "c"]
    assert await service.list_sessions(limit=0) == []
    assert len(await service.list_sessions(None, 10)) == 3
    for wrong in (-1, True, 1.0):
        with pytest.raises(StorageValidationError):
            await service.list_sessions(limit=wrong)  # type: ignore[arg-type]


async def test_ties_in_a_list_go_by_id() -> None:
    async with open_storage("memory://", clock=ManualClock(NOON)) as storage:
        service = SessionService(storage)
        for session_id in ("b", "a", "c"):
            await service.save_session(session_id, {"id": session_id})
        for limit in (None, 3):
            assert [found["id"] for found in await service.list_sessions(limit=limit)] == ["a", "b", "c"]


async def test_a_list_shows_what_get_shows(service: SessionService) -> None:
    for name in SAMPLE_FORMATS:
        await service.save_session(name, sample(name))
    await service.save_session(SessionKey("shop", "ann", "s1"), sample("g1"))
    names: list[str | SessionKey] = [*SAMPLE_FORMATS, SessionKey("shop", "ann", "s1")]
    single = [await required(service, name) for name in names]
    assert await service.list_sessions() == single[::-1]
    assert await service.list_sessions(limit=100) == single[::-1]


async def test_a_list_asks_once_for_a_batch_and_not_once_a_row(storage: IUnifiedStorage) -> None:
    adapter = SessionStorageAdapter(storage)
    await adapter.batch_save_sessions({f"s{number}": DOCUMENT for number in range(250)})
    spy = Spy(storage)
    found = await SessionService(spy).list_sessions()
    assert len(found) == 250
    assert all(own(session) == DOCUMENT for session in found)
    assert len(spy.verbs) <= 1 + 2 * 3


# failures


@pytest.mark.parametrize("kind", [SessionService, SessionStorageAdapter])
async def test_a_failure_below_is_a_storage_error_with_its_cause(
    storage: IUnifiedStorage, kind: type[SessionService]
) -> None:
    """S2.7-S2.11, S2.41, T2.1, T2.2, T2.14: never None, never False, never a bare text."""
    await SessionService(storage).save_session("s1", DOCUMENT)
    broken = OSError("the disk is gone; password=hunter2")
    for call in _calls(kind(Failing(storage, broken))):
        with pytest.raises(StorageError) as raised:
            await call
        assert type(raised.value) is StorageError
        assert raised.value.__cause__ is broken
        assert "hunter2" not in str(raised.value)


async def test_storage_errors_pass_through_unchanged(storage: IUnifiedStorage) -> None:
    await SessionService(storage).save_session("s1", DOCUMENT)
    down = StorageConnectionError("down")
    for call in _calls(SessionStorageAdapter(Failing(storage, down))):
        with pytest.raises(StorageConnectionError) as raised:
            await call
        assert raised.value is down


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt])
async def test_cancellation_and_interrupts_pass_through(storage: IUnifiedStorage, kind: type[BaseException]) -> None:
    await SessionService(storage).save_session("s1", DOCUMENT)
    for call in _calls(SessionStorageAdapter(Failing(storage, kind()))):
        with pytest.raises(kind):
            await call


def _calls(service: SessionService) -> list[Any]:
    calls: list[Any] = [
        service.save_session("s1", DOCUMENT),
        service.get_session("s1"),
        service.delete_session("s1"),
        service.list_sessions(),
        service.list_sessions(limit=1),
        service.session_exists("s1"),
        service.update_session("s1", {"settings": {}}),
    ]
    if isinstance(service, SessionStorageAdapter):
        calls += [
            service.batch_save_sessions({"s1": DOCUMENT, "s2": DOCUMENT}),
            service.batch_delete_sessions(["s1"]),
            service.page_sessions(),
            service.session_keys("s1"),
            service.require_session("s1"),
            service.events.read("s1"),
            service.events.append("s1", {"role": "user"}),
            service.events.append("s1", {"role": "user", "run_id": "r"}),
            service.events.pop("s1"),
            service.runs.read("s1"),
            service.runs.append("s1", {}),
            service.runs.delete("s1", "r"),
        ]
    return calls


@pytest.mark.parametrize("verb", ["log_info", "append", "save"])
async def test_a_save_that_fails_half_way_leaves_no_trace(storage: IUnifiedStorage, verb: str) -> None:
    service = SessionService(storage)
    await service.save_session("s1", DOCUMENT)
    before = await service.get_session("s1", with_version=True)
    longer = deepcopy(DOCUMENT)
    longer["workflow_state"]["messages"].append({"type": "AIMessage", "content": "hello"})
    with pytest.raises(StorageError):
        await SessionService(Failing(storage, OSError("no"), verb)).save_session("s1", longer)
    assert await service.get_session("s1", with_version=True) == before


# protocol and transactions


def test_any_object_with_the_six_methods_is_a_session_service(storage: IUnifiedStorage) -> None:
    """S2.15."""

    class Own:
        async def save_session(self, session_id: str, session_data: dict[str, Any]) -> None: ...
        async def get_session(self, session_id: str) -> dict[str, Any] | None: ...
        async def delete_session(self, session_id: str) -> None: ...
        async def list_sessions(
            self, filters: dict[str, Any] | None = None, limit: int | None = None
        ) -> list[dict[str, Any]]:
            return []

        async def session_exists(self, session_id: str) -> bool:
            return False

        async def update_session(self, session_id: str, updates: dict[str, Any]) -> None: ...

    services: list[ISessionService] = [SessionService(storage), SessionStorageAdapter(storage), Own()]
    assert all(isinstance(service, ISessionService) for service in services)
    assert not isinstance(storage, ISessionService)


async def test_a_view_on_a_transaction_joins_it(storage: IUnifiedStorage, service: SessionService) -> None:
    """STYLE 5, 6: what it does is undone with the transaction, and reads see it."""
    kind = type(service)
    await service.save_session("s1", DOCUMENT)
    with pytest.raises(RuntimeError, match="give up"):
        async with storage.transaction() as tx:
            inside = kind(tx)
            longer = deepcopy(DOCUMENT)
            longer["workflow_state"]["messages"].append({"type": "AIMessage", "content": "hello"})
            await inside.save_session("s1", longer)
            await inside.save_session("s2", DOCUMENT)
            await SessionStorageAdapter(tx).events.append("s1", {"role": "user", "content": "more"})
            assert len((await required(inside))["workflow_state"]["messages"]) == 3
            assert len(await inside.list_sessions()) == 2
            raise RuntimeError("give up")
    assert [own(session) for session in await service.list_sessions()] == [DOCUMENT]
    async with storage.transaction() as tx:
        with pytest.raises(SessionNotFoundError):
            await kind(tx).update_session("s2", {"x": 1})
        await kind(tx).save_session("s2", DOCUMENT)
    assert await service.session_exists("s2")


async def test_the_raw_record_is_as_documented(service: SessionService, storage: IUnifiedStorage) -> None:
    """S2.20."""
    await service.save_session("s1", DOCUMENT)
    [record] = await storage.get_by_session("s1")
    assert (record["id"], record["type"], record["session_id"]) == ("s1", "session", "s1")
    assert record["data"] == DOCUMENT | {"workflow_state": {"messages": [], "step": 1}}
    assert json.dumps(record["data"]) == json.dumps(DOCUMENT | {"workflow_state": {"messages": [], "step": 1}})
    shown = {key: value for key, value in record["metadata"].items() if key != "~"}
    assert shown == DOCUMENT["metadata"]
    scoped = SessionKey("shop", "ann", "s1")
    await service.save_session(scoped, DOCUMENT)
    [record] = await storage.get_by_session(record_id(scoped))
    assert record["metadata"]["app_name"] == "shop"
