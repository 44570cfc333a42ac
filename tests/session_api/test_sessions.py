"""What the service does with sessions that the recordings do not tell: races, histories, sessions of users of apps."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from session_adapter import ScopedSessionService, SessionKey, SessionStorageAdapter
from session_api.our_tables import OurTables
from session_api.tables import NewSession, SessionType
from tests.places import Place
from tests.session_api.clients import Watched, client_of, database
from unified_storage import IUnifiedStorage

RUN = {"run_id": "r1", "agent_id": "a", "status": "COMPLETED", "messages": [{"role": "user", "content": "Hello?"}]}


async def made(client: httpx.AsyncClient, session_id: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/sessions", json={"session_id": session_id, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_parallel_changes_of_different_fields_lose_nothing(anywhere: httpx.AsyncClient):
    """S4.7: PATCH of state, metadata and summary beside renames; each of them stays."""
    for round in range(10):
        id = f"s{round}"
        await made(anywhere, id, session_state={"old": 1}, metadata={"old": 1})
        answers = await asyncio.gather(
            anywhere.patch(f"/sessions/{id}", json={"session_state": {"new": round}}),
            anywhere.patch(f"/sessions/{id}", json={"metadata": {"new": round}}),
            anywhere.patch(f"/sessions/{id}", json={"summary": {"summary": "S"}}),
            anywhere.post(f"/sessions/{id}/rename", json={"session_name": "N"}),
        )
        assert {answer.status_code for answer in answers} == {200}
        found = (await anywhere.get(f"/sessions/{id}")).json()
        assert found["session_state"] == {"new": round}
        assert found["metadata"] == {"new": round}
        assert found["session_summary"] == {"summary": "S"}
        assert found["session_name"] == "N"


async def test_a_rename_during_many_state_updates_loses_none(client: httpx.AsyncClient, storage: IUnifiedStorage):
    """S4.7: others write keys of the state one by one through our own interface."""
    await made(client, "s", session_state={})
    sessions = SessionStorageAdapter(storage)
    writes = [sessions.update_session("s", {"state": {f"k{n}": n}}) for n in range(100)]
    renames = [client.post("/sessions/s/rename", json={"session_name": f"n{n}"}) for n in range(5)]
    await asyncio.gather(*writes, *renames)
    found = (await client.get("/sessions/s")).json()
    assert found["session_state"] == {f"k{n}": n for n in range(100)}
    assert found["session_name"] in {f"n{n}" for n in range(5)}


async def test_of_parallel_creates_of_one_id_one_succeeds(anywhere: httpx.AsyncClient):
    """T4.3: the insert itself decides, and the session of the one that was told so stays."""
    for round in range(10):
        bodies = [{"session_id": f"s{round}", "user_id": f"u{n}", "session_state": {"n": n}} for n in range(4)]
        answers = await asyncio.gather(*(anywhere.post("/sessions", json=body) for body in bodies))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
        [winner] = [answer.json() for answer in answers if answer.status_code == 201]
        assert (await anywhere.get(f"/sessions/s{round}")).json() == winner


async def test_a_session_may_begin_with_its_history_where_that_is_allowed(place: Place):
    """S4.4: with the setting runs and summary are kept, without it they are left out."""
    body: dict[str, Any] = {"session_id": "s", "runs": [RUN], "summary": {"summary": "S"}}
    async with client_of(database(place.open()), accept_history=True) as client:
        answer = await client.post("/sessions", json=body)
        assert answer.status_code == 201
        assert answer.json()["session_name"] == "Hello?"
        assert answer.json()["session_summary"] == {"summary": "S"}
        assert [run["run_id"] for run in (await client.get("/sessions/s/runs")).json()] == ["r1"]
        await client.delete("/sessions/s")
    async with client_of(database(place.open())) as client:
        await made(client, **body)
        assert (await client.get("/sessions/s/runs")).json() == []


async def test_a_list_reads_no_history(storage: IUnifiedStorage):
    """T4.6, S4.3: names of runs are kept beside the session when they are written."""
    watched = Watched(storage)
    tables = OurTables(watched)
    await tables.create(NewSession("told", SessionType.AGENT, runs=[RUN]))
    await tables.create(NewSession("named", SessionType.AGENT, name="N", runs=[RUN]))
    async with client_of(database(watched)) as client:
        watched.verbs.clear()
        listed = (await client.get("/sessions", params={"sort_by": "session_id", "sort_order": "asc"})).json()
        assert watched.verbs == ["page"]
    assert [item["session_name"] for item in listed["data"]] == ["N", "Hello?"]


async def test_of_a_history_without_a_kept_name_a_list_reads_the_beginning_alone(storage: IUnifiedStorage):
    """T4.6: bounded, however long it is."""
    sessions = SessionStorageAdapter(storage)
    for n in range(3):
        await sessions.save_session(f"s{n}", {"session_id": f"s{n}", "kind": "agent"})
        told = [{"role": "system", "content": "x"}, {"role": "user", "content": f"Question {n}"}]
        await sessions.events.append(f"s{n}", told + [{"role": "assistant", "content": "y"}] * 200)
    watched = Watched(storage)
    async with client_of(database(watched)) as client:
        listed = (await client.get("/sessions", params={"sort_by": "session_id", "sort_order": "asc"})).json()
    assert [item["session_name"] for item in listed["data"]] == [f"Question {n}" for n in range(3)]
    assert watched.verbs == ["page", "read_many"]
    assert watched.entries <= 30


async def test_messages_appended_one_by_one_are_the_chat(client: httpx.AsyncClient, storage: IUnifiedStorage):
    await made(client, "s")
    sessions = SessionStorageAdapter(storage)
    for role in ("user", "assistant", "system", "tool"):
        await sessions.events.append("s", {"role": role, "content": role})
    found = (await client.get("/sessions/s")).json()
    assert [message["role"] for message in found["chat_history"]] == ["user", "assistant"]
    assert found["session_name"] == "user"


async def test_sessions_of_older_formats_are_shown_and_changed_in_place(
    client: httpx.AsyncClient, storage: IUnifiedStorage
):
    sessions = SessionStorageAdapter(storage)
    message = {"type": "HumanMessage", "content": "Hi", "additional_kwargs": {}}
    document = {"metadata": {"session_id": "old", "user_id": "ann"}, "workflow_state": {"messages": [message], "n": 1}}
    await sessions.save_session("old", document)
    assert (await client.patch("/sessions/old", json={"session_state": {"n": 2}})).status_code == 200
    assert (await client.post("/sessions/old/rename", json={"session_name": "N"})).status_code == 200
    assert (await client.patch("/sessions/old", json={"metadata": {"tag": "x"}})).status_code == 200
    found = (await client.get("/sessions/old", params={"user_id": "ann"})).json()
    assert (found["session_state"], found["session_name"]) == ({"n": 2}, "N")
    stored = await sessions.get_session("old")
    assert stored is not None
    assert stored["workflow_state"] == {"messages": [message], "n": 2}
    assert stored["metadata"]["tag"] == "x"


async def test_types_that_nobody_told_are_found_as_they_are_shown(client: httpx.AsyncClient, storage: IUnifiedStorage):
    """T4.2: without a type all are listed; with one those that are shown as that type."""
    sessions = SessionStorageAdapter(storage)
    participants = {"none": {}, "a": {"agent_id": "x"}, "t": {"team_id": "x"}, "w": {"workflow_id": "x"}}
    participants |= {"at": {"agent_id": "x", "team_id": "x"}, "empty": {"agent_id": "", "workflow_id": "x"}}
    for id, document in participants.items():
        await sessions.save_session(id, {"session_id": id, **document})
    everything = (await client.get("/sessions")).json()["data"]
    assert len(everything) == len(participants)
    for session_type in SessionType:
        shown = {item["session_id"] for item in everything if item["session_type"] == session_type}
        listed = (await client.get("/sessions", params={"type": str(session_type)})).json()
        assert {item["session_id"] for item in listed["data"]} == shown
        assert listed["meta"]["total_count"] == len(shown)


# sessions of users of apps


async def two_scoped(storage: IUnifiedStorage) -> None:
    service = ScopedSessionService(storage)
    for user in ("ann", "bob"):
        await service.create_session(SessionKey("shop", user, "s1"), {"of": user})


async def test_a_visible_id_finds_the_session_of_the_user_that_is_named(
    client: httpx.AsyncClient, storage: IUnifiedStorage
):
    await two_scoped(storage)
    for user in ("ann", "bob"):
        found = await client.get("/sessions/s1", params={"user_id": user})
        assert found.json()["session_state"] == {"of": user}
    assert (await client.get("/sessions/s1", params={"user_id": "eve"})).status_code == 404


async def test_an_id_of_several_sessions_is_a_conflict(client: httpx.AsyncClient, storage: IUnifiedStorage):
    await two_scoped(storage)
    answers = [
        await client.get("/sessions/s1"),
        await client.patch("/sessions/s1", json={"session_name": "x"}),
        await client.post("/sessions/s1/rename", json={"session_name": "x"}),
        await client.delete("/sessions/s1"),
        await client.get("/sessions/s1/runs"),
        await client.post("/sessions", json={"session_id": "s1"}),
    ]
    assert {answer.status_code for answer in answers} == {409}
    body = {"session_ids": ["s1"], "session_types": ["agent"]}
    assert (await client.request("DELETE", "/sessions", json=body)).status_code == 204
    assert (await client.get("/sessions")).json()["meta"]["total_count"] == 2
    assert (await client.delete("/sessions/s1", params={"user_id": "ann"})).status_code == 204
    assert (await client.get("/sessions/s1")).json()["user_id"] == "bob"


async def test_the_plain_session_wins_over_those_of_users_of_apps(client: httpx.AsyncClient, storage: IUnifiedStorage):
    await SessionStorageAdapter(storage).save_session("s1", {"session_id": "s1", "state": {"of": "nobody"}})
    await two_scoped(storage)
    assert (await client.get("/sessions/s1")).json()["session_state"] == {"of": "nobody"}
    assert (await client.get("/sessions/s1", params={"user_id": "bob"})).json()["session_state"] == {"of": "bob"}


# ids and bodies


@pytest.mark.parametrize("session_id", ["x" * 3000, "tab\there", " ", "~", "~~x", "ä" * 700, "id-sha256-00"])
async def test_any_text_names_a_session(anywhere: httpx.AsyncClient, session_id: str):
    from urllib.parse import quote

    await made(anywhere, session_id, session_state={"n": 1})
    found = await anywhere.get(f"/sessions/{quote(session_id, safe='')}")
    assert found.json()["session_id"] == session_id
    assert (await anywhere.post("/sessions", json={"session_id": session_id})).status_code == 409
    assert [item["session_id"] for item in (await anywhere.get("/sessions")).json()["data"]] == [session_id]
    body = {"session_ids": [session_id], "session_types": ["agent"]}
    assert (await anywhere.request("DELETE", "/sessions", json=body)).status_code == 204
    assert (await anywhere.get("/sessions")).json()["meta"]["total_count"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"session_state": {"x": NaN}}',
        b'{"session_state": {"x": -Infinity}}',
        b'{"session_name": "\\ud800"}',
        b'{"session_state": {"\\udfff": 1}}',
        b'{"session_state": ' + b'{"n": ' * 300 + b"1" + b"}" * 301,
        b'{"session_state": ' + b'{"n": ' * 100_000 + b"1" + b"}" * 100_001,
        b'{"session_state": {"x": ' + b"9" * 5000 + b"}}",
        b'{"session_name": "\xff"}',
        b"\x00",
    ],
)
async def test_bodies_that_cannot_be_kept_are_refused_with_a_reason(anywhere: httpx.AsyncClient, body: bytes):
    answer = await anywhere.post("/sessions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]
    assert (await anywhere.get("/sessions")).json()["meta"]["total_count"] == 0


async def test_values_come_back_as_they_went_in(client: httpx.AsyncClient):
    """S4.9, T4.16: unknown fields, null beside empty, large numbers, every script."""
    state: dict[str, Any] = {
        "null": None,
        "empty": {},
        "list": [],
        "big": 2**70,
        "float": 1e300,
        "text": "a\0ü😀",
        "n": 1,
        "f": 1.0,
    }
    await made(client, "s", session_state=state, metadata={"status": "x", "kind": "y", "~": 1, "scope": "z"})
    found = (await client.get("/sessions/s")).json()
    assert found["session_state"] == state
    assert isinstance(found["session_state"]["f"], float)
    assert found["metadata"] == {"status": "x", "kind": "y", "~": 1, "scope": "z"}


async def test_metadata_of_a_participants_name_is_no_participant(anywhere: httpx.AsyncClient):
    await made(anywhere, "s", metadata={"user_id": "eve", "agent_id": "x", "name": "n"})
    assert (await anywhere.get("/sessions", params={"user_id": "eve"})).json()["data"] == []
    assert (await anywhere.get("/sessions", params={"session_name": "n"})).json()["data"] == []
    assert "user_id" not in (await anywhere.get("/sessions/s")).json()
