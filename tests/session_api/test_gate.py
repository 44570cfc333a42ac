"""Who is let in: hooks, keys, tokens, and sessions that are somebody else's."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest

from session_api.callers import Asking, Caller, Refused, SecurityKey, SignedTokens
from session_api.databases import Databases
from session_api.gate import OPEN
from tests.session_api.clients import Watched, client_of, database
from unified_storage import open_storage

SECRET = "s" * 40
ROUTES = (
    ("GET", "/sessions"),
    ("POST", "/sessions"),
    ("DELETE", "/sessions"),
    ("GET", "/sessions/x"),
    ("PATCH", "/sessions/x"),
    ("DELETE", "/sessions/x"),
    ("POST", "/sessions/x/rename"),
    ("GET", "/sessions/x/runs"),
    ("GET", "/sessions/x/run-previews"),
    ("GET", "/sessions/x/runs/r"),
    ("GET", "/metrics"),
    ("GET", "/nosuch"),
)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    async with open_storage("memory://") as storage:
        yield Watched(storage)


def token(**claims: Any) -> dict[str, str]:
    told = {"exp": int(time.time()) + 3600, "scopes": ["sessions:read", "sessions:write", "sessions:delete"], **claims}
    return {"authorization": f"Bearer {jwt.encode(told, SECRET, 'HS256')}"}


@pytest.mark.parametrize("status", [401, 403])
async def test_a_denying_authenticator_keeps_everybody_from_the_storage(watched: Watched, status: int):
    """S0.35: the hook decides before a body is read or a database is asked."""

    async def deny(asking: Asking) -> Caller:
        raise Refused(status, "no")

    async with client_of(database(watched), authenticate=deny) as client:
        for method, path in ROUTES:
            answer = await client.request(method, path, content=b"{not json")
            assert (answer.status_code, answer.json()) == (status, {"detail": "no"})
    assert watched.verbs == []


async def test_what_is_open_needs_no_key(watched: Watched):
    async with client_of(database(watched), authenticate=SecurityKey("k")) as client:
        for path in OPEN - {"/"}:
            assert (await client.get(path)).status_code == 200, path


async def test_a_rate_limit_says_when_to_come_again(watched: Watched):
    """S0.35: the hook knows the caller and the address; the storage is not asked."""
    seen: list[tuple[str, str | None, str | None]] = []

    async def limit(asking: Asking, caller: Caller, address: str | None) -> float:
        seen.append((asking.path, caller.user_id, address))
        return 2.4 if len(seen) > 1 else 0

    who = SignedTokens([SECRET], ["HS256"])
    async with client_of(database(watched), authenticate=who, limit=limit) as client:
        assert (await client.get("/sessions", headers=token(sub="ann"))).status_code == 200
        watched.verbs.clear()
        answer = await client.get("/sessions/x", headers=token(sub="ann"))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
        assert watched.verbs == []
        assert (await client.get("/healthz")).status_code == 200
    assert seen == [("/sessions", "ann", "127.0.0.1"), ("/sessions/x", "ann", "127.0.0.1")]


async def test_tokens_of_another_algorithm_are_refused(watched: Watched):
    """Neither an unsigned token nor one that takes the public key for a secret gets in."""
    async with client_of(database(watched), authenticate=SignedTokens([SECRET], ["HS512"])) as client:
        for claims in ({}, {"sub": "ann"}):
            assert (await client.get("/sessions", headers=token(**claims))).status_code == 401
        unsigned = jwt.encode({"sub": "ann", "scopes": ["agent_os:admin"]}, "", "none")
        assert (await client.get("/sessions", headers={"authorization": f"Bearer {unsigned}"})).status_code == 401
    assert watched.verbs == []


async def test_an_audience_has_to_be_met_where_one_is_set(watched: Watched):
    who = SignedTokens([SECRET], ["HS256"], audience="here")
    async with client_of(database(watched), authenticate=who) as client:
        assert (await client.get("/sessions", headers=token(sub="a", aud="here"))).status_code == 200
        for claims in ({"aud": "there"}, {}):
            assert (await client.get("/sessions", headers=token(sub="a", **claims))).status_code == 401


async def test_somebody_elses_session_is_as_one_that_is_not_there(databases: Databases):
    """T4.12: on every route the answers differ in the id alone, and nothing is changed."""
    who = SignedTokens([SECRET], ["HS256"], isolated=True)
    async with client_of(databases, authenticate=who) as client:
        ann, bob = token(sub="ann"), token(sub="bob")
        await client.post("/sessions", json={"session_id": "theirs", "session_state": {"n": 1}}, headers=ann)
        before = (await client.get("/sessions/theirs", headers=ann)).json()
        for params in ({}, {"user_id": "ann"}):
            for method, path, body in _requests():
                there = await _asked(client, method, path.format("theirs"), body, params, bob)
                absent = await _asked(client, method, path.format("absent"), body, params, bob)
                assert there == (absent[0], absent[1].replace("absent", "theirs")), (method, path)
        assert (await client.get("/sessions/theirs", headers=ann)).json() == before
        taken = await client.post("/sessions", json={"session_id": "theirs"}, headers=bob)
        assert taken.status_code == 409
        assert "theirs" not in taken.text
        listed = (await client.get("/sessions", headers=bob)).json()
        assert (listed["data"], listed["meta"]["total_count"]) == ([], 0)
        many = {"session_ids": ["theirs"], "session_types": ["agent"]}
        assert (await client.request("DELETE", "/sessions", json=many, headers=bob)).status_code == 204
        assert (await client.get("/sessions/theirs", headers=ann)).json() == before


def _requests() -> list[tuple[str, str, dict[str, Any] | None]]:
    return [
        ("GET", "/sessions/{}", None),
        ("GET", "/sessions/{}/runs", None),
        ("GET", "/sessions/{}/run-previews", None),
        ("GET", "/sessions/{}/runs/r", None),
        ("PATCH", "/sessions/{}", {"session_state": {"n": 2}}),
        ("POST", "/sessions/{}/rename", {"session_name": "mine"}),
        ("DELETE", "/sessions/{}", None),
    ]


async def _asked(
    client: httpx.AsyncClient, method: str, path: str, body: Any, params: dict[str, str], headers: dict[str, str]
) -> tuple[int, str]:
    answer = await client.request(method, path, json=body, params=params, headers=headers)
    return answer.status_code, answer.text


async def test_who_writes_is_told_by_the_token(databases: Databases):
    """A body that names another user makes no session of his."""
    who = SignedTokens([SECRET], ["HS256"], isolated=True)
    async with client_of(databases, authenticate=who) as client:
        answer = await client.post("/sessions", json={"user_id": "ann"}, headers=token(sub="bob"))
        assert answer.json()["user_id"] == "bob"


def test_keys_are_not_shown():
    assert SECRET not in repr(SignedTokens([SECRET]))
    assert "hunter2" not in repr(SecurityKey("hunter2"))
