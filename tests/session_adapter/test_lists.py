"""Lists of documents in the log: what stays, what a save writes, and that nothing appended is lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from session_adapter import SessionService, SessionStorageAdapter
from session_adapter.documents import trace_of
from session_adapter.formats import BARE, CANONICAL, G0, G1, G2, G3, Format
from tests.session_adapter.delegates import Meddling, Spy
from tests.session_adapter.documents import SAMPLE_FORMATS, sample
from tests.session_adapter.plain_reference import document, element
from unified_storage import REPLACE, IUnifiedStorage, StorageConflictError
from unified_storage.values import encode

LISTED = [G0, G1, G2, G3]


def listed(session: dict[str, Any] | None, format: Format) -> list[Any]:
    assert session is not None
    elements = format.history(session)
    assert elements is not None
    return elements


def contents(session: dict[str, Any] | None, format: Format) -> list[str]:
    return [item["content"] for item in listed(session, format)]


def talk(format: Format, *said: str) -> dict[str, Any]:
    return document(format, [element(format, content) for content in said], "active")


@pytest.mark.parametrize("format", LISTED, ids=lambda format: format.name)
async def test_a_message_list_stands_in_the_log_one_entry_an_element(storage: IUnifiedStorage, format: Format) -> None:
    """S2.20: the raw rows."""
    await SessionService(storage).save_session("s1", talk(format, "a", "b"))
    record = await storage.load("s1", type="session")
    assert record is not None
    assert format.history(record["data"]) == []
    entries = await storage.read("history/s1")
    assert [entry["body"] for entry in entries] == [
        {"format": format.name, "value": element(format, content)} for content in "ab"
    ]
    assert [entry["key"] for entry in entries] == [None, None]
    assert record["metadata"]["~"]["format"] == format.name
    assert (record["metadata"]["~"]["history"]["count"], record["metadata"]["~"]["history"]["last_seq"]) == (2, 2)


async def test_an_entrys_time_is_its_messages_time_where_it_has_one(storage: IUnifiedStorage) -> None:
    timed = element(G3, "a") | {"timestamp": "2024-05-15T16:37:00"}
    before = storage.clock()
    sessions = SessionStorageAdapter(storage, source_timezone="America/New_York")
    await sessions.save_session("s1", document(G3, [timed, element(G3, "b")], "active"))
    first, second = await storage.read("history/s1")
    assert first["created_at"] == datetime(2024, 5, 15, 20, 37, tzinfo=UTC)
    assert second["created_at"] >= before
    shown = await sessions.events.read("s1")
    assert [event["timestamp"] for event in shown] == ["2024-05-15T20:37:00.000000+00:00", None]


@pytest.mark.parametrize("name", SAMPLE_FORMATS)
async def test_saving_what_was_read_changes_nothing_stored(storage: IUnifiedStorage, name: str) -> None:
    """S2.38, S2.39: the document, its metadata and its log stay as they are, to the order of keys."""
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", sample(name))
    before, log = await storage.load("s1"), await storage.read("history/s1")
    for _ in range(3):
        read = await sessions.get_session("s1")
        assert read is not None
        await sessions.save_session("s1", read)
    after = await storage.load("s1")
    assert before is not None
    assert after is not None
    assert encode(after["data"]) == encode(before["data"])
    assert after["metadata"] == before["metadata"]
    assert await storage.read("history/s1") == log


async def test_saving_ten_thousand_messages_with_one_more_writes_a_few_rows(storage: IUnifiedStorage) -> None:
    spy = Spy(storage)
    sessions = SessionStorageAdapter(spy)
    said = [f"message {number}: the loaf is on the shelf beside the window" for number in range(10_000)]
    await sessions.save_session("s1", talk(G1, *said))
    spy.forget()
    await sessions.save_session("s1", talk(G1, *said, "one more"))
    assert sorted(spy.verbs) == ["append", "load", "log_info", "save"]
    assert spy.numbers["appended"] == 1
    assert spy.numbers["bytes"] < 1_000
    assert "read" not in spy.numbers

    spy.forget()
    await sessions.save_session("s1", talk(G1, *said, "another one"))  # the last was edited: a streamed answer
    assert sorted(spy.verbs) == ["append", "load", "log_info", "pop", "save"]

    spy.forget()
    await sessions.save_session("s1", talk(G1, *said, "another one"))
    assert sorted(spy.verbs) == ["load", "log_info", "save"]

    await sessions.events.append("s1", {"role": "user", "content": "from elsewhere"})
    session = await sessions.get_session("s1")
    listed(session, G1).append(element(G1, "seen it"))
    spy.forget()
    assert session is not None
    await sessions.save_session("s1", session)
    assert sorted(spy.verbs) == ["append", "load", "log_info", "read", "save"]
    assert (spy.numbers["read"], spy.numbers["appended"]) == (1, 1)
    assert len(listed(await sessions.get_session("s1"), G1)) == 10_003


async def test_an_update_beside_the_list_does_not_touch_the_history(storage: IUnifiedStorage) -> None:
    spy = Spy(storage)
    sessions = SessionStorageAdapter(spy)
    await sessions.save_session("s1", talk(G0, "a", "b"))
    spy.forget()
    await sessions.update_session("s1", {"settings": {"language": "de"}, "workflow_state": {"step": 2}})
    assert sorted(spy.verbs) == ["load", "save"]
    found = await sessions.get_session("s1")
    assert found is not None
    assert found["workflow_state"] == {"messages": [element(G0, "a"), element(G0, "b")], "step": 2}
    assert found["settings"] == {"note": "active", "language": "de"}


async def test_an_update_of_the_list_saves_the_list(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G0, "a", "b"))
    await sessions.update_session("s1", {"workflow_state": {"messages": [element(G0, "a"), element(G0, "c")]}})
    assert contents(await sessions.get_session("s1"), G0) == ["a", "c"]
    await sessions.update_session("s1", {"workflow_state": REPLACE({"step": 1})})
    assert (await sessions.get_session("s1") or {})["workflow_state"] == {"step": 1}
    assert await sessions.events.read("s1") == []


async def test_an_appended_entry_survives_a_save_that_has_not_seen_it(storage: IUnifiedStorage) -> None:
    """S2.43: it stays, the list's new elements go after it, and it stays until a saved list holds it."""
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G1, "a"))
    await sessions.events.append("s1", {"role": "assistant", "content": "from elsewhere", "id": "e1"})
    await sessions.save_session("s1", talk(G1, "a", "b"))
    await sessions.save_session("s1", talk(G1, "x", "b"))
    assert contents(await sessions.get_session("s1"), G1) == ["from elsewhere", "x", "b"]
    session = await sessions.get_session("s1")
    assert session is not None
    await sessions.save_session("s1", session)  # now a saved list has held it
    await sessions.save_session("s1", talk(G1, "x", "b"))
    assert contents(await sessions.get_session("s1"), G1) == ["x", "b"]


async def test_an_expected_version_makes_the_list_count_or_fails_loudly(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G1, "a"))
    found = await sessions.get_session("s1", with_version=True)
    assert found is not None
    await sessions.events.append("s1", {"role": "assistant", "content": "from elsewhere"})
    with pytest.raises(StorageConflictError) as raised:
        await sessions.save_session("s1", talk(G1, "a", "b"), expected_version=found[1])
    assert (raised.value.expected, raised.value.found) == (found[1], found[1] + 1)
    assert contents(await sessions.get_session("s1"), G1) == ["a", "from elsewhere"]
    seen = await sessions.get_session("s1", with_version=True)
    assert seen is not None
    await sessions.save_session("s1", talk(G1, "b"), expected_version=seen[1])
    assert contents(await sessions.get_session("s1"), G1) == ["b"]


async def test_an_update_that_expects_a_version_makes_its_list_count(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G1, "a"))
    await sessions.events.append("s1", {"role": "assistant", "content": "from elsewhere"})
    found = await sessions.get_session("s1", with_version=True)
    assert found is not None
    await sessions.update_session("s1", {"state": {"messages": [element(G1, "b")]}}, expected_version=found[1])
    assert contents(await sessions.get_session("s1"), G1) == ["b"]


async def test_an_entry_appended_before_there_was_a_list_is_not_lost_to_an_expected_version(
    storage: IUnifiedStorage,
) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", {"settings": {}})
    await sessions.events.append("s1", {"role": "user", "content": "hello"})
    found = await sessions.get_session("s1", with_version=True)
    assert found is not None
    await sessions.save_session("s1", talk(G1, "a"), expected_version=found[1])
    assert contents(await sessions.get_session("s1"), G1) == ["hello", "a"]


async def test_entries_that_stay_keep_their_form_key_and_time(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G1, "a", "b", "c", "d", "e", "f"))
    event = {"role": "assistant", "content": "mine", "id": "e1", "timestamp": "2024-05-15T16:37:00Z", "mood": "calm"}
    await sessions.events.append("s1", event)
    session = await sessions.get_session("s1")
    del listed(session, G1)[0]
    assert session is not None
    await sessions.save_session("s1", session)
    newest = (await storage.read("history/s1"))[-1]
    assert (newest["key"], newest["body"]) == ("e1", event)
    assert newest["created_at"] == datetime(2024, 5, 15, 16, 37, tzinfo=UTC)


async def test_sorting_keys_is_no_edit(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G1, "a", "b"))
    await sessions.events.append("s1", {"role": "user", "content": "c"})
    log = await storage.read("history/s1")
    elements = [dict(sorted(item.items())) for item in listed(await sessions.get_session("s1"), G1)]
    await sessions.save_session("s1", document(G1, elements, "active"))
    assert await storage.read("history/s1") == log


async def test_a_list_of_another_type_in_an_element_is_an_edit(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    for number in (1, 1.0, True, -0.0, 0.0):
        elements = [element(G1, "a") | {"n": number}, element(G1, "b")]
        await sessions.save_session("s1", document(G1, elements, "active"))
        [first, _] = listed(await sessions.get_session("s1"), G1)
        assert encode(first["n"]) == encode(number)


async def test_an_entry_replaced_in_place_is_not_mistaken_for_the_list_that_was(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G1, "a"))
    await sessions.events.append("s1", {"role": "user", "content": "first words", "id": "e1"})
    session = await sessions.get_session("s1")
    assert session is not None
    await sessions.save_session("s1", session)
    await sessions.events.append("s1", {"role": "user", "content": "other words", "id": "e1"}, on_duplicate="replace")
    listed(session, G1).append(element(G1, "b"))
    await sessions.save_session("s1", session)  # last writer wins: it holds the entry as it was
    assert contents(await sessions.get_session("s1"), G1) == ["a", "first words", "b"]


async def test_keep_last_and_pop_are_seen_by_the_next_save(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G1, "a", "b", "c"))
    await sessions.events.pop("s1")
    await sessions.save_session("s1", talk(G1, "a", "b", "c"))
    assert contents(await sessions.get_session("s1"), G1) == ["a", "b", "c"]
    await sessions.events.append("s1", {"role": "user", "content": "d"}, keep_last=2)
    assert contents(await sessions.get_session("s1"), G1) == ["c", "d"]
    await sessions.save_session("s1", talk(G1, "a", "b", "c", "e"))
    assert contents(await sessions.get_session("s1"), G1) == ["d", "a", "b", "c", "e"]


@pytest.mark.parametrize("other", [CANONICAL, BARE], ids=lambda format: format.name)
async def test_a_document_without_a_list_takes_back_what_lists_have_held(
    storage: IUnifiedStorage, other: Format
) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G1, "a", "b"))
    await sessions.events.append("s1", {"role": "user", "content": "mine"})
    await sessions.save_session("s1", document(other, [], "active"))
    assert [event["content"] for event in await sessions.events.read("s1")] == ["mine"]
    for _ in range(2):  # from now on its history is in .events alone
        await sessions.save_session("s1", document(other, [], "completed"))
    assert [event["content"] for event in await sessions.events.read("s1")] == ["mine"]


async def test_a_change_of_format_shows_every_entry_in_the_new_form(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G1, "a"))
    await sessions.events.append("s1", {"role": "assistant", "content": "mine"})
    await sessions.save_session("s1", talk(G3, "b"))
    found = listed(await sessions.get_session("s1"), G3)
    assert found == [G3.from_event({"role": "assistant", "content": "mine"}), element(G3, "b")]


async def test_a_users_own_document_is_never_mistaken_for_a_split_one(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    facts = {"format": "legacy-g1", "history": {"count": 1, "elements": 1, "last_seq": 1, "digest": ""}}
    mine = {"session_id": "s1", "metadata": {"~": facts, "~~": 1, "~x": 2}, "state": {"messages": []}}
    await sessions.save_session("s1", mine)
    await sessions.events.append("s1", {"role": "user", "content": "hello"})
    found = await sessions.get_session("s1")
    assert found is not None
    assert found["state"] == {"messages": []}
    assert {key: found["metadata"][key] for key in ("~", "~~", "~x")} == mine["metadata"]
    record = await storage.load("s1")
    assert record is not None
    assert trace_of(record) is None
    assert (record["metadata"]["~~"], record["metadata"]["~~~"]) == (facts, 1)
    [summary] = (await sessions.page_sessions({"~~": 1})).items
    assert {key: summary["metadata"][key] for key in ("~", "~~", "~x")} == mine["metadata"]


async def test_a_record_saved_past_the_views_is_shown_as_it_is(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await storage.save({"id": "s1", "type": "session", "data": talk(G1, "a")})
    assert contents(await sessions.get_session("s1"), G1) == ["a"]
    await sessions.update_session("s1", {"state": {"step": 2}})
    assert contents(await sessions.get_session("s1"), G1) == ["a"]
    assert len(await storage.read("history/s1")) == 1


async def test_a_list_taken_out_past_the_views_is_not_put_back(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G1, "a"))
    await storage.update("s1", {"data": {"state": REPLACE({"step": 2})}}, type="session")
    session = await sessions.require_session("s1")
    assert session["state"] == {"step": 2}
    await sessions.save_session("s1", session | {"state": {"step": 3}})
    await sessions.save_session("s1", talk(G1, "b"))
    assert contents(await sessions.get_session("s1"), G1) == ["a", "b"]  # whether "a" was seen is not known any more


async def test_a_list_that_is_none_stays_in_the_document(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    odd: list[dict[str, Any]] = [
        {"metadata": {}, "state": {"messages": "lost"}},
        {"metadata": {}, "state": 5},
        {"workflow_state": [1, 2]},
    ]
    odd += [{"messages": [1]}, {"session_id": "s1", "state": {"messages": [{"type": "HumanMessage"}]}}]
    odd += [{"metadata": {}, "state": {"messages": [5, None, "text", [1]]}}]
    for document_ in odd:
        await sessions.save_session("s1", document_)
        found = await sessions.get_session("s1")
        assert found is not None
        assert {key: found[key] for key in document_ if key != "metadata"} == {
            key: value for key, value in document_.items() if key != "metadata"
        }


@pytest.mark.parametrize("disturbed", [1, 2, 10])
async def test_a_document_and_its_history_belong_together_however_often_others_write_between(
    storage: IUnifiedStorage, disturbed: int
) -> None:
    quiet = SessionStorageAdapter(storage)
    await quiet.save_session("s1", talk(G1, "0"))
    said = ["0"]

    async def meddle() -> None:
        said.append(str(len(said)))
        session = document(G1, [element(G1, content) for content in said], str(len(said)))
        await quiet.save_session("s1", session)

    meddled = Meddling(storage, "read_many", meddle, disturbed)
    for found in (await SessionStorageAdapter(meddled).get_session("s1"), *await _listed_through(meddled, disturbed)):
        assert found is not None
        assert found["metadata"]["status"] in ("active", str(len(listed(found, G1))))


async def _listed_through(meddled: Meddling, disturbed: int) -> list[dict[str, Any]]:
    meddled.left = disturbed
    return await SessionStorageAdapter(meddled).list_sessions()


async def test_a_saver_among_appenders_loses_nothing_appended(storage: IUnifiedStorage) -> None:
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G1))

    async def saver() -> None:
        for number in range(10):
            session = await sessions.get_session("s1")
            assert session is not None
            listed(session, G1).append(element(G1, f"s{number}"))
            await sessions.save_session("s1", session)

    async def appender(name: str) -> None:
        for number in range(20):
            await sessions.events.append("s1", {"role": "user", "content": f"{name}{number}"})

    await asyncio.gather(saver(), appender("a"), appender("b"))
    found = contents(await sessions.get_session("s1"), G1)
    for name, count in (("a", 20), ("b", 20), ("s", 10)):
        assert [said for said in found if said.startswith(name)] == [f"{name}{number}" for number in range(count)]


async def test_savers_that_expect_versions_lose_nothing_of_each_other(storage: IUnifiedStorage) -> None:
    """S2.43: of two writers one loses loudly, and goes on from what is there."""
    sessions = SessionStorageAdapter(storage)
    await sessions.save_session("s1", talk(G1))
    conflicts = 0

    async def saver(name: str) -> None:
        nonlocal conflicts
        number = 0
        while number < 10:
            found = await sessions.get_session("s1", with_version=True)
            assert found is not None
            listed(found[0], G1).append(element(G1, f"{name}{number}"))
            await asyncio.sleep(0)
            try:
                await sessions.save_session("s1", found[0], expected_version=found[1])
            except StorageConflictError:
                conflicts += 1
            else:
                number += 1

    await asyncio.gather(saver("a"), saver("b"))
    said = contents(await sessions.get_session("s1"), G1)
    assert sorted(said) == sorted(f"{name}{number}" for name in "ab" for number in range(10))
    assert conflicts > 0
