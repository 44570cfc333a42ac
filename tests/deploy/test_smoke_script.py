"""The script that tries a service out: content with a right one, and stopped by the first wrong answer."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from session_api.app import create_app
from session_api.callers import SecurityKey
from tests.places import engines, place_on
from tests.servers import start_private
from tests.session_api.clients import database
from tests.session_api.processes import free_port, running
from tests.session_api.serving import served
from tests.support import REPOSITORY
from unified_storage import open_storage

SCRIPT = REPOSITORY / "scripts" / "test-session-api.sh"
STEPS = ("health", "readiness", "list", "create", "fetch", "rename", "delete")

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the script needs curl")


def tried(*url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the script says of the service at *url*."""
    bare = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = ["sh", str(SCRIPT), *url]
    return subprocess.run(command, env=bare | environment, capture_output=True, text=True, timeout=120, check=False)


def passed(done: subprocess.CompletedProcess[str]) -> tuple[str, ...]:
    return tuple(line.removeprefix("ok   ") for line in done.stdout.splitlines() if line.startswith("ok   "))


def sessions_of(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{url}/sessions").json()["data"]
    return found


@pytest.mark.parametrize("engine", engines("sqlite", "postgresql"))
async def test_a_right_service_passes_every_step_and_keeps_nothing(engine: str, tmp_path: Path):
    async with place_on(engine, tmp_path) as place:
        with running(place.address, tmp_path) as (url, _, _):
            done = tried(url)
            assert (done.returncode, done.stderr, passed(done)) == (0, "", STEPS)
            assert sessions_of(url) == []


def test_a_service_that_is_not_there_fails():
    done = tried(f"http://127.0.0.1:{free_port()}")
    assert (done.returncode, passed(done)) == (1, ())
    assert "FAIL health" in done.stderr


def test_the_default_is_the_port_of_the_service_on_this_machine(tmp_path: Path):
    """Seen by what curl is asked for, since somebody else may have that port."""
    curl = tmp_path / "curl"
    curl.write_text('#!/bin/sh\nfor last; do :; done\necho "$last" >&2\nexit 7\n')
    curl.chmod(0o755)
    done = tried(PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 1
    assert "http://localhost:8080/healthz" in done.stderr.splitlines()


def test_a_service_whose_database_is_gone_fails(tmp_path: Path):
    with running(f"postgresql://nobody@127.0.0.1:{free_port()}/none?connect_timeout=1", tmp_path) as (url, _, _):
        done = tried(url)
    assert (done.returncode, passed(done)) == (1, ("health",))
    assert "FAIL readiness: status 503" in done.stderr


@pytest.mark.servers
def test_a_service_whose_database_is_stopped_fails(tmp_path: Path):
    with start_private("postgresql") as server, running(f"{server.url}?connect_timeout=2", tmp_path) as (url, _, _):
        assert tried(url).returncode == 0
        server.stop()
        done = tried(url)
        assert (done.returncode, passed(done)) == (1, ("health",))
        server.start()
        assert tried(url).returncode == 0


def test_a_key_is_sent_and_shown_to_nobody(tmp_path: Path):
    key = 'with "quotes" and \\ signs'
    app = create_app(database(open_storage("memory://")), authenticate=SecurityKey(key))
    with served(app) as url:
        without, wrong, right = tried(url), tried(url, OS_SECURITY_KEY="no"), tried(url, OS_SECURITY_KEY=key)
        token = tried(url, SESSION_TOKEN=key, OS_SECURITY_KEY="no")
    assert [done.returncode for done in (without, wrong, right, token)] == [1, 1, 0, 0]
    assert "FAIL list: status 401" in wrong.stderr
    assert key not in wrong.stderr + right.stdout + right.stderr


Told = MutableMapping[str, Any]


class Wrong:
    """A service that is right but for one answer.

    Args:
        app: the right one.
        where: says of a method and a path whether that is the answer.
        spoil: changes the answer, a mapping of ``status`` and ``body``.
    """

    def __init__(self, app: ASGIApp, where: Callable[[str, str], bool], spoil: Callable[[Told], None]) -> None:
        self._app, self._where, self._spoil = app, where, spoil

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._where(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        told: Told = {"status": 0, "body": b""}

        async def keep(message: Message) -> None:
            told["status"] = message.get("status", told["status"])
            told["body"] += message.get("body", b"")

        await self._app(scope, receive, keep)
        self._spoil(told)
        await send({"type": "http.response.start", "status": told["status"], "headers": []})
        await send({"type": "http.response.body", "body": told["body"]})


def status(number: int) -> Callable[[Told], None]:
    return lambda told: told.update(status=number)


def without(field: str) -> Callable[[Told], None]:
    def spoil(told: Told) -> None:
        body = json.loads(told["body"])
        (body["data"][0] if body.get("data") else body).pop(field, None)
        told["body"] = json.dumps(body).encode()

    return spoil


def instead(old: bytes, new: bytes) -> Callable[[Told], None]:
    return lambda told: told.update(body=told["body"].replace(old, new))


def is_path(method: str, path: str) -> Callable[[str, str], bool]:
    return lambda asked, at: (asked, at) == (method, path)


def is_one(method: str, end: str = "") -> Callable[[str, str], bool]:
    return lambda asked, at: asked == method and at.startswith("/sessions/") and at.endswith(end)


WRONG = {
    "health-says-more": ("health", is_path("GET", "/healthz"), instead(b"}", b',"more":1}')),
    "not-ready": ("readiness", is_path("GET", "/readyz"), status(503)),
    "list-crashes": ("list", is_path("GET", "/sessions"), status(500)),
    "list-without-meta": ("list", is_path("GET", "/sessions"), without("meta")),
    "create-is-200": ("create", is_path("POST", "/sessions"), status(200)),
    "create-forgets-the-id": ("create", is_path("POST", "/sessions"), without("session_id")),
    "fetch-finds-nothing": ("fetch", is_one("GET"), status(404)),
    "fetch-loses-the-state": ("fetch", is_one("GET"), without("session_state")),
    "list-shows-no-name": ("fetch", is_path("GET", "/sessions"), without("session_id")),
    "rename-keeps-the-name": ("rename", is_one("POST", "/rename"), instead(b"-new", b"-old")),
    "rename-is-forgotten": ("rename", is_one("GET"), instead(b"-new", b"-old")),
    "delete-is-200": ("delete", is_one("DELETE"), status(200)),
    "delete-leaves-it": ("delete", is_one("GET"), lambda told: told.update(status=200)),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_first_wrong_answer_ends_it_and_the_session_is_taken_away(name: str):
    step, where, spoil = WRONG[name]
    storage = open_storage("memory://")
    with served(Wrong(create_app(database(storage)), where, spoil)) as url:
        done = tried(url)
        left = asyncio.run(storage.list())
    assert (done.returncode, passed(done)) == (1, STEPS[: STEPS.index(step)])
    assert done.stderr.startswith(f"FAIL {step}: ")
    assert left == []
