"""A service compared with another: what is found, what is not shown, and how it ends."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from session_api.app import create_app
from session_api.callers import SecurityKey
from session_api.client import Answer, Service
from session_api.shadow import places_between
from session_api.targets import logged
from tests.cli.running import Ran, run
from tests.session_api.clients import database
from tests.session_api.processes import free_port
from tests.session_api.serving import served
from unified_storage import IUnifiedStorage, open_storage

SECRET_NAME = "what nobody else may read"


class Asked:
    """An app, and the requests that came to it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.requests: list[tuple[str, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            query = scope["query_string"].decode()
            self.requests.append((scope["method"], scope["raw_path"].decode() + (f"?{query}" if query else "")))
        await self._app(scope, receive, send)


def service(storage: IUnifiedStorage, **options: Any) -> Asked:
    return Asked(create_app(database(storage), accept_history=True, **options))


@contextmanager
def two(old: Any, new: Any) -> Iterator[tuple[str, str]]:
    with served(old) as right, served(new) as candidate:
        yield right, candidate


def fill(url: str) -> None:
    """Three sessions, one of each type; that of a team with a run and an id that has to be escaped."""
    with httpx.Client(base_url=url) as client:
        client.post("/sessions", json={"session_id": "a", "session_name": SECRET_NAME, "session_state": {"n": 1}})
        run = {"run_id": "r 1", "team_id": "t", "content": "Hello", "messages": [{"role": "user", "content": "Hi"}]}
        team = {"session_id": "b?ü", "team_id": "t", "runs": [run]}
        assert client.post("/sessions?type=team", json=team).status_code == 201
        client.post("/sessions?type=workflow", json={"session_id": "c", "workflow_id": "w"})


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two services with the same sessions, each on a file of its own."""
    with served(service(open_storage(f"sqlite:///{tmp_path}/old.db"))) as url:
        fill(url)
    shutil.copy(tmp_path / "old.db", tmp_path / "new.db")
    with two(*(service(open_storage(f"sqlite:///{tmp_path}/{name}.db")) for name in ("old", "new"))) as urls:
        yield urls


def places_of(done: Ran) -> dict[str, list[str]]:
    return {one["target"]: one["places"] for one in done.facts["differences"]}


def test_a_copy_answers_the_same_and_everything_was_looked_at(capsys, tmp_path: Path):
    storage = open_storage(f"sqlite:///{tmp_path}/s.db")
    old, new = service(storage), service(storage)
    with two(old, new) as (right, candidate):
        fill(right)
        old.requests.clear()
        done = run(capsys, "shadow", right, candidate, "--json")
    assert (done.code, done.facts["different"], done.facts["differences"]) == (0, 0, [])
    asked = {target for method, target in new.requests if method == "GET"}
    assert {method for method, _ in new.requests + old.requests} == {"GET"}
    for path in ("a", "b%3F%C3%BC", "c"):
        assert {f"/sessions/{path}", f"/sessions/{path}/runs", f"/sessions/{path}/run-previews"} <= asked
    assert "/sessions/b%3F%C3%BC/runs/r%201" in asked
    assert done.facts["compared"] == len(asked) - 1  # but /health, by which they are found


def test_what_differs_is_found_where_it_is_and_not_shown(capsys, copies: tuple[str, str]):
    old, new = copies
    httpx.post(f"{new}/sessions/a/rename", json={"session_name": "other"})
    done = run(capsys, "shadow", old, new, "--json")
    assert done.code == done.facts["exit_code"] == 3
    found = places_of(done)
    assert {*found["/sessions/a"]} - {"body.updated_at"} == {"body.session_name"}  # the time is in whole seconds
    assert "/sessions/c" not in found
    assert 0 < done.facts["different"] < done.facts["compared"]
    shown = run(capsys, "shadow", old, new)
    assert "GET /sessions/a\n" in shown.out
    assert "body.session_name" in shown.out
    assert SECRET_NAME not in done.out + shown.out


def test_values_are_shown_when_asked_for(capsys, copies: tuple[str, str]):
    old, new = copies
    httpx.post(f"{new}/sessions/a/rename", json={"session_name": "other"})
    shown = run(capsys, "shadow", old, new, "--show-values")
    assert f'body.session_name: "{SECRET_NAME}" -> "other"' in shown.out
    facts = run(capsys, "shadow", old, new, "--show-values", "--json").facts
    places = [place for one in facts["differences"] for place in one["places"]]
    assert {"path": "body.session_name", "old": SECRET_NAME, "new": "other"} in places


def test_the_threshold_decides_the_exit_code(capsys, copies: tuple[str, str]):
    old, new = copies
    httpx.post(f"{new}/sessions/a/rename", json={"session_name": "other"})
    percent = run(capsys, "shadow", old, new, "--json").facts["percent"]
    for threshold, code in ((0, 3), (percent - 0.1, 3), (percent + 0.1, 0), (100, 0)):
        assert run(capsys, "shadow", old, new, "--threshold", threshold).code == code
    assert run(capsys, "shadow", old, new, "--ignore", "session_name", "--ignore", "updated_at").code == 0
    assert run(capsys, "shadow", old, new, "--ignore", "created_at").code == 3


LOG = """\
INFO:     10.0.0.7:52114 - "GET /sessions?type=team&limit=1 HTTP/1.1" 200 OK
10.0.0.7 - ann [21/Nov/2026:10:00:00 +0000] "GET /sessions/b%3F%2F%C3%BC/runs HTTP/1.1" 200 812 "-" "curl/8"
10.0.0.7 - - [21/Nov/2026:10:00:01 +0000] "POST /sessions HTTP/1.1" 201 99 "-" "curl/8"
10.0.0.7 - - [21/Nov/2026:10:00:01 +0000] "DELETE /sessions/a HTTP/1.1" 204 0 "-" "curl/8"
10.0.0.7 - - [21/Nov/2026:10:00:02 +0000] "GET /agents HTTP/1.1" 200 9 "-" "curl/8"
10.0.0.7 - - [21/Nov/2026:10:00:02 +0000] "GET /sessionsother HTTP/1.1" 404 9 "-" "curl/8"
{"level": "info", "message": "GET /sessions/b?/ü 200", "method": "GET", "path": "/sessions/b?/ü", "status": 200}
{"level": "info", "message": "session service listening on :8080"}
{"cut off
Traceback (most recent call last):
"""
FROM_LOG = ["/sessions?type=team&limit=1", "/sessions/b%3F%2F%C3%BC/runs", "/sessions/b%3F/%C3%BC"]


def test_a_log_says_what_to_ask():
    assert list(logged(LOG.splitlines())) == FROM_LOG


def test_what_a_log_says_is_asked_and_nothing_else(capsys, tmp_path: Path):
    log = tmp_path / "access.log"
    log.write_text(LOG, "utf-8")
    old, new = service(open_storage("memory://")), service(open_storage("memory://"))
    with two(old, new) as (right, candidate):
        assert run(capsys, "shadow", right, candidate, "--log", log).code == 0
    for asked in (old, new):
        assert [target for _, target in asked.requests if target != "/health"] == FROM_LOG


def test_a_log_is_read_from_a_pipe(copies: tuple[str, str]):
    command = [sys.executable, "-m", "unified_storage_cli", "shadow", *copies, "--log", "-", "--json"]
    done = subprocess.run(command, input=LOG.encode(), capture_output=True, timeout=60, check=False)
    assert (done.returncode, json.loads(done.stdout)["compared"]) == (0, len(FROM_LOG))


def test_nothing_to_compare_is_no_success(capsys, tmp_path: Path, copies: tuple[str, str]):
    log = tmp_path / "empty.log"
    log.write_text("nothing was asked\n")
    done = run(capsys, "shadow", *copies, "--log", log)
    assert (done.code, done.out) == (1, "")
    assert "nothing was compared" in done.err


@pytest.mark.parametrize("place", [0, 1])
def test_a_service_that_is_not_there_is_told(capsys, place: int):
    with served(service(open_storage("memory://"))) as url:
        urls = [url, url]
        urls[place] = f"http://ann:hunter2@127.0.0.1:{free_port()}"
        done = run(capsys, "shadow", *urls)
    assert (done.code, done.out) == (4, "")
    assert "no service answers under http://ann:***@127.0.0.1" in done.err


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://localhost", "http://", "http://localhost:port"])
def test_what_is_no_url_of_a_service_is_refused(capsys, url: str):
    done = run(capsys, "shadow", url, url)
    assert (done.code, done.out) == (1, "")
    assert "write http://host:8080" in done.err


def test_the_key_of_both_comes_from_the_environment(capsys, monkeypatch: pytest.MonkeyPatch):
    app = service(open_storage("memory://"), authenticate=SecurityKey("hunter2"))
    with two(app, app) as urls:
        fill_with_key(urls[0], "hunter2")
        monkeypatch.setenv("SERVICE_KEY", "hunter2")
        with_key = run(capsys, "shadow", *urls, "--key-env", "SERVICE_KEY", "--json")
        without = run(capsys, "shadow", *urls, "--key-env", "NO_SUCH_KEY")
        shut = run(capsys, "shadow", *urls, "--json")
    assert with_key.code == 0
    assert (shut.code, shut.facts["same"]) == (3, 0)  # that both let nobody in says nothing
    assert ("GET", "/sessions/a/runs") in app.requests
    assert (without.code, without.out) == (1, "")
    assert "hunter2" not in with_key.out + with_key.err


def fill_with_key(url: str, key: str) -> None:
    made = httpx.post(f"{url}/sessions", json={"session_id": "a"}, headers={"authorization": f"Bearer {key}"})
    assert made.status_code == 201


def saying(answer: Callable[[Scope], Awaitable[Response]]) -> ASGIApp:
    """An app that answers every request as told, /health aside."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for told in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{told}.complete"})
            return
        said = PlainTextResponse("ok") if scope["path"] == "/health" else await answer(scope)
        await said(scope, receive, send)

    return app


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_two_that_are_both_broken_or_shut_do_not_agree(capsys, status: int):
    async def broken(_: Scope) -> Response:
        return JSONResponse({"detail": "no"}, status)

    app = saying(broken)
    with two(app, app) as urls:
        done = run(capsys, "shadow", *urls, "--json")
    assert done.code == 3
    assert done.facts["same"] == 0
    assert all(one["places"] == ["status"] for one in done.facts["differences"])


class CutOff(Response):
    """Ends the connection in the middle of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"99")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        raise ConnectionAbortedError


def test_no_answer_is_a_difference_and_the_rest_is_compared_all_the_same(capsys, tmp_path: Path):
    async def cut_off(scope: Scope) -> Response:
        return CutOff() if scope["path"] == "/sessions/1" else JSONResponse({"n": 1})

    async def right(_: Scope) -> Response:
        return JSONResponse({"n": 1})

    log = tmp_path / "access.log"
    log.write_text("".join(f'"GET /sessions/{n} HTTP/1.1"\n' for n in range(3)))
    with two(saying(right), saying(cut_off)) as urls:
        done = run(capsys, "shadow", *urls, "--log", log, "--json", "--show-values")
    assert (done.code, done.facts["same"], done.facts["different"]) == (3, 2, 1)
    assert [one["target"] for one in done.facts["differences"]] == ["/sessions/1"]
    assert done.facts["differences"][0]["places"][0] == {"path": "status", "old": 200, "new": 0}


def test_a_connection_that_the_service_has_closed_is_no_difference():
    with served(service(open_storage("memory://")), timeout_keep_alive=0) as url, closing(Service(url)) as client:
        assert client.get("/sessions").status == 200
        time.sleep(0.5)
        assert client.get("/sessions").status == 200


def test_a_service_mounted_under_a_path(capsys):
    async def answer(scope: Scope) -> Response:
        return JSONResponse({"path": scope["path"]})

    app = Asked(saying(answer))
    with served(app) as url:
        assert run(capsys, "shadow", f"{url}/api/", f"{url}/api", "--sessions", 0).code == 0
    assert all(target.startswith("/api/") for _, target in app.requests[1:])


def answered(body: Any, status: int = 200, media_type: str = "application/json") -> Answer:
    return Answer(status, media_type, body, 0.01)


@pytest.mark.parametrize(
    ("old", "new", "paths"),
    [
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}, []),
        ({"a": 1}, {"a": 1.0}, ["body.a"]),
        ({"a": 1}, {"a": True}, ["body.a"]),
        ({"a": None}, {}, ["body.a"]),
        ({}, {"a": None}, ["body.a"]),
        ({"a": {}}, {"a": None}, ["body.a"]),
        ([1, 2, 3], [1, 3], ["body.1", "body.2"]),
        ({"data": [{"x": 1}]}, {"data": [{"x": 2}]}, ["body.data.0.x"]),
        ({"meta": {"search_time_ms": 1.5}}, {"meta": {"search_time_ms": 0.0}}, []),
        ("text", "other", ["body"]),
    ],
    ids=json.dumps,
)
def test_where_two_bodies_differ(old: Any, new: Any, paths: list[str]):
    assert [place.path for place in places_between(answered(old), answered(new))] == paths


def test_status_and_media_type_count():
    places = places_between(answered({}, 200), answered({}, 404, "text/plain"))
    assert [(place.path, place.old, place.new) for place in places] == [
        ("status", 200, 404),
        ("media_type", "application/json", "text/plain"),
    ]


def test_asking_changes_nothing(capsys):
    storage = open_storage("memory://")
    with served(service(storage)) as url:
        fill(url)
        before = asyncio.run(storage.list())
        assert run(capsys, "shadow", url, url).code == 0
        assert asyncio.run(storage.list()) == before
