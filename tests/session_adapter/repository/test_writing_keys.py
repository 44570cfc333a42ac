"""State, metadata and agent data are written key by key: holders who change different keys do not undo each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from session_adapter import ScopedSessionService, Session, SessionKey, SessionRepository, SessionStorageAdapter
from session_adapter.documents import stored_document
from tests.session_adapter.documents import SAMPLE_FORMATS, sample
from unified_storage import IUnifiedStorage, StorageValidationError

OBJECTS = ("state", "metadata", "agent_data")
BEGINNING = {"kept": 0, "changed": {"deep": [1, {"er": 2}]}, "removed": [1]}


async def two_holders(repository: SessionRepository) -> tuple[Session, Session]:
    """Of the session ``s1``, whose objects all hold the same."""
    await repository.create(Session.model_validate({"session_id": "s1", **dict.fromkeys(OBJECTS, BEGINNING)}))
    return await repository.get("s1"), await repository.get("s1")


@pytest.mark.parametrize("name", OBJECTS)
async def test_two_holders_write_different_keys_of_one_object(repository: SessionRepository, name: str) -> None:
    mine, theirs = await two_holders(repository)
    getattr(theirs, name)["changed"]["deep"][1]["er"] = 3
    getattr(theirs, name)["theirs"] = None
    await repository.update(theirs)
    del getattr(mine, name)["removed"]
    getattr(mine, name)["mine"] = {"a": 1}
    written = await repository.update(mine)
    both = {"kept": 0, "changed": {"deep": [1, {"er": 3}]}, "theirs": None, "mine": {"a": 1}}
    assert getattr(written, name) == both
    assert written == await repository.get("s1")
    assert [getattr(written, other) for other in OBJECTS if other != name] == [BEGINNING, BEGINNING]
    # who wrote has still not seen the keys of the other, and says nothing about them
    getattr(mine, name)["mine"] = 2
    assert getattr(await repository.update(mine), name) == both | {"mine": 2}


async def test_a_value_is_written_whole(repository: SessionRepository) -> None:
    mine, theirs = await two_holders(repository)
    theirs.state["changed"]["theirs"] = 1
    await repository.update(theirs)
    mine.state["changed"]["mine"] = 1
    await repository.update(mine)
    assert (await repository.get("s1")).state["changed"] == {"deep": [1, {"er": 2}], "mine": 1}


async def test_types_of_a_value_are_changes_too(repository: SessionRepository) -> None:
    mine, theirs = await two_holders(repository)
    theirs.state["theirs"] = 1
    await repository.update(theirs)
    mine.state["kept"] = False
    written = (await repository.update(mine)).state
    assert written["kept"] is False
    assert written["theirs"] == 1


def _set(value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda state: state.update(changed=value)


def _remove(state: dict[str, Any]) -> None:
    del state["changed"]


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        (_set(1), _set(2), {"changed": 2}),
        (_set(1), _remove, {}),
        (_remove, _set(2), {"changed": 2}),
        (_remove, _remove, {}),
    ],
    ids=["both change", "changed, removed", "removed, changed", "both remove"],
)
async def test_of_two_who_mean_the_same_key_the_later_wins(
    repository: SessionRepository,
    first: Callable[[dict[str, Any]], Any],
    second: Callable[[dict[str, Any]], Any],
    left: dict[str, Any],
) -> None:
    one, other = await two_holders(repository)
    first(one.state)
    second(other.state)
    await repository.update(one)
    await repository.update(other)
    assert (await repository.get("s1")).state == {"kept": 0, "removed": [1]} | left


async def test_what_others_removed_stays_removed_and_what_they_emptied_is_begun_again(
    repository: SessionRepository,
) -> None:
    mine, theirs = await two_holders(repository)
    theirs.state, theirs.metadata = {}, {}
    await repository.update(theirs)
    mine.state["mine"] = 1
    written = await repository.update(mine)
    assert (written.state, written.metadata) == ({"mine": 1}, {})
    theirs.state["theirs"] = 1
    await repository.update(theirs)
    mine.state = {}  # of keys that he has seen
    assert (await repository.update(mine)).state == {"theirs": 1}


async def test_one_that_was_not_read_replaces_the_objects_whole(repository: SessionRepository) -> None:
    await two_holders(repository)
    fresh = Session(session_id="s1", state={"fresh": 1}, metadata={"kept": 0})
    written = await repository.update(fresh)
    assert (written.state, written.metadata, written.agent_data) == ({"fresh": 1}, {"kept": 0}, {})
    # now he has seen what he wrote
    theirs = await repository.get("s1")
    theirs.state["theirs"] = 1
    await repository.update(theirs)
    fresh.state["fresh"] = 2
    assert (await repository.update(fresh)).state == {"fresh": 2, "theirs": 1}


@pytest.mark.parametrize("form", SAMPLE_FORMATS)
async def test_keys_are_written_where_the_format_keeps_them(
    storage: IUnifiedStorage, repository: SessionRepository, form: str
) -> None:
    sessions, format = SessionStorageAdapter(storage), SAMPLE_FORMATS[form]
    before = sample(form)
    await sessions.save_session("s1", before)
    messages = await sessions.events.read("s1")
    stored = await _document(storage)
    mine, theirs = await repository.get("s1"), await repository.get("s1")
    first = next(iter(theirs.state), None)
    theirs.state["theirs"], theirs.metadata["theirs"] = {"a": [1]}, 1
    if first is not None:
        del theirs.state[first]
    theirs.metadata["status"] = "archived"
    await repository.update(theirs)
    mine.state["mine"], mine.metadata["mine"] = None, [2]
    mine.agent_data["mine"] = 1
    assert await repository.update(mine) == await repository.get("s1")

    expected = stored
    state, metadata = _made(expected, format.places("state")[0]), _made(expected, format.places("metadata")[0])
    if first is not None:
        del state[first]
    state |= {"theirs": {"a": [1]}, "mine": None}
    metadata |= {"theirs": 1, "status": "archived", "mine": [2]}
    expected["agent_data"] = {**expected.get("agent_data", {}), "mine": 1}
    assert await _document(storage) == expected
    assert await sessions.events.read("s1") == messages


async def _document(storage: IUnifiedStorage) -> dict[str, Any]:
    record = await storage.load("s1", type="session")
    assert record is not None
    return stored_document(record)


def _made(document: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The object at *path*, begun where there is none."""
    for key in path:
        document = document.setdefault(key, {})
    return document


async def test_owners_that_stand_in_the_metadata_are_not_taken_back(
    storage: IUnifiedStorage, repository: SessionRepository
) -> None:
    await SessionStorageAdapter(storage).save_session("s1", sample("g0"))
    mine, theirs = await repository.get("s1"), await repository.get("s1")
    assert theirs.metadata["user_id"] == "ann"
    theirs.user_id = "ben"
    await repository.update(theirs)
    mine.metadata["mine"] = 1
    written = await repository.update(mine)
    assert (written.user_id, written.metadata["user_id"], written.metadata["mine"]) == ("ben", "ben", 1)


async def test_what_became_of_another_type_meanwhile_is_not_overwritten(
    storage: IUnifiedStorage, repository: SessionRepository
) -> None:
    mine, _ = await two_holders(repository)
    odd = {"state": "text", "metadata": [1], "agent_data": 7}
    await SessionStorageAdapter(storage).update_session("s1", odd)
    for name in OBJECTS:
        getattr(mine, name)["mine"] = 1
    mine.name = "odd"
    await repository.update(mine)
    assert await _document(storage) == {"session_id": "s1", **odd, "name": "odd"}


async def test_a_history_is_no_key_of_a_state(storage: IUnifiedStorage, repository: SessionRepository) -> None:
    await SessionStorageAdapter(storage).save_session("s1", sample("g1"))
    session = await repository.get("s1")
    session.state["messages"] = []
    with pytest.raises(StorageValidationError) as raised:
        await repository.update(session)
    assert raised.value.path == "state.messages"


async def test_every_view_writes_keys_of_one_state(storage: IUnifiedStorage, repository: SessionRepository) -> None:
    service, key = ScopedSessionService(storage), SessionKey("shop", "ann", "s1")
    await service.create_session(key, {"old": 1, "user:lang": "de"})
    held, listed, shown = await repository.get(key), (await repository.list())[0], await service.get_session(key)
    assert shown is not None
    await service.update_session_state(key, {"scoped": 1})
    await service.append_event(key, {"role": "user", "state_delta": {"event": 1, "user:voice": True}})
    await SessionStorageAdapter(storage).update_session(key, {"state": {"document": 1}})
    for name, session in (("held", held), ("listed", listed), ("shown", shown)):
        session.state[name] = 1
        await repository.update(session)
    found = await service.get_session(key)
    assert found is not None
    names = ("old", "scoped", "event", "document", "held", "listed", "shown")
    assert found.state == dict.fromkeys(names, 1) | {"user:lang": "de", "user:voice": True}


@pytest.mark.timeout(600)
async def test_many_holders_with_keys_of_their_own_equal_one_after_the_other(
    repository: SessionRepository, scaled: Callable[..., int]
) -> None:
    """64 holders, each of one copy or of a fresh one: values and removals; nobody loses one, nobody hears of others."""
    rounds = scaled(200, minimum=4)
    await repository.create(Session(session_id="s1", state={"other": 1}, metadata={"other": 2}))

    async def write(holder: int) -> dict[str, dict[str, Any]]:
        chance = random.Random(holder)
        mine: dict[str, dict[str, Any]] = {name: {} for name in OBJECTS}
        session = await repository.get("s1")
        for number in range(rounds):
            if chance.random() < 0.3:
                session = await repository.get("s1")
            for _ in range(chance.randrange(3)):
                name, key = chance.choice(OBJECTS), f"h{holder}k{chance.randrange(4)}"
                if chance.random() < 0.3:
                    for one in (getattr(session, name), mine[name]):
                        one.pop(key, None)
                else:
                    getattr(session, name)[key] = mine[name][key] = chance.choice([number, {"n": [number]}])
            await repository.update(session)
        return mine

    reference = await asyncio.gather(*(write(holder) for holder in range(64)))
    found = await repository.get("s1")
    expected: dict[str, dict[str, Any]] = {"state": {"other": 1}, "metadata": {"other": 2}, "agent_data": {}}
    for part in reference:
        for name in OBJECTS:
            expected[name] |= part[name]
    assert {name: getattr(found, name) for name in OBJECTS} == expected
