"""What stands around every request: its id and log line, crashes, time-outs, addresses, paths, figures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from session_adapter.writing import replace_document
from session_api.addresses import ForwardedAddresses
from session_api.app import create_app
from session_api.callers import Asking, Caller
from session_api.observing import WithRequestId
from tests.places import Place
from tests.session_api.clients import client_of, database
from tests.session_api.serving import served
from unified_storage import IUnifiedStorage, StorageConnectionError, StorageError, open_storage
from unified_storage.delegate import Delegate

T = TypeVar("T")
SECRET = "hunter2"


class Broken(Delegate):
    """A storage that fails, with words that nobody should read."""

    def __init__(self, inner: IUnifiedStorage, failure: Exception) -> None:
        super().__init__(inner)
        self.failure: Exception | None = failure

    async def _call(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        if self.failure is not None and verb != "close":
            raise self.failure
        return await call()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "session_api")
    caplog.handler.addFilter(WithRequestId())
    return caplog


async def test_every_answer_and_every_line_has_the_requests_id(
    client: httpx.AsyncClient, lines: pytest.LogCaptureFixture
):
    """S4.17: one that is brought is kept where it can stand in a log, else there is a new one."""
    kept = await client.get("/sessions/none", headers={"x-request-id": "abc-1.2_3"})
    assert kept.headers["x-request-id"] == "abc-1.2_3"
    assert [getattr(line, "request_id", None) for line in lines.records] == ["abc-1.2_3"]
    for brought in ("with space", "x" * 129, 'quote"', ""):
        made = (await client.get("/healthz", headers={"x-request-id": brought})).headers["x-request-id"]
        assert made != brought
        assert len(made) == 32


async def test_the_access_log_says_what_was_answered_and_no_query(
    client: httpx.AsyncClient, lines: pytest.LogCaptureFixture
):
    await client.get("/sessions/s1/", params={"user_id": SECRET})
    [line] = [vars(record) for record in lines.records if record.name == "session_api.access"]
    assert (line["method"], line["path"], line["status"], line["client"]) == ("GET", "/sessions/s1", 404, "127.0.0.1")
    assert line["milliseconds"] > 0
    assert SECRET not in str(line)


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (RuntimeError(f"SELECT {SECRET}"), 500),
        (StorageError(f"SELECT {SECRET}"), 500),
        (StorageConnectionError(f"no {SECRET} there"), 503),
    ],
)
async def test_a_failure_is_an_answer_without_a_word_of_what_failed(
    failure: Exception, status: int, lines: pytest.LogCaptureFixture
):
    """S4.17, T4.10: the service goes on, and neither answer nor log holds what the database said."""
    async with open_storage("memory://") as inner:
        broken = Broken(inner, failure)
        async with client_of(database(broken)) as client:
            for path in ("/sessions", "/sessions/x", "/sessions/x/runs"):
                answer = await client.get(path)
                assert answer.status_code == status
                assert answer.json()["detail"]
                assert SECRET not in answer.text
            broken.failure = None
            assert (await client.get("/sessions")).status_code == 200
    assert SECRET not in str([vars(record) for record in lines.records])
    assert any("places" in vars(record) for record in lines.records)


async def test_readiness_tells_of_the_databases_and_liveness_does_not():
    """S4.2, T4.18."""
    async with open_storage("memory://") as inner:
        broken = Broken(inner, StorageConnectionError(SECRET))
        async with client_of(database(broken)) as client:
            assert ((await client.get("/healthz")).status_code, (await client.get("/healthz")).content) == (
                200,
                b'{"status":"ok"}',
            )
            down = await client.get("/readyz")
            assert (down.status_code, down.json()["databases"]) == (503, {"primary": "unavailable"})
            broken.failure = None
            assert (await client.get("/readyz")).status_code == 200


async def test_a_request_that_takes_too_long_leaves_no_open_transaction(place: Place, monkeypatch: pytest.MonkeyPatch):
    """S4.17, T4.15: it is answered, what it had written is not there, and the next writer does not wait for it."""
    slow = True

    async def replace_slowly(*arguments: Any) -> None:
        await replace_document(*arguments)
        if slow:
            await asyncio.sleep(30)

    monkeypatch.setattr("session_api.our_tables.replace_document", replace_slowly)
    async with place.open() as storage, client_of(database(storage), request_timeout=1.0) as client:
        await client.post("/sessions", json={"session_id": "s", "session_state": {"n": 1}})
        late = await client.patch("/sessions/s", json={"session_state": {"n": 2}})
        assert (late.status_code, late.json()) == (504, {"detail": "The request took too long"})
        assert (await client.get("/sessions/s")).json()["session_state"] == {"n": 1}
        slow = False
        assert (await client.patch("/sessions/s", json={"session_state": {"n": 3}})).status_code == 200


async def test_a_client_that_goes_away_leaves_no_open_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What it asked for is wholly done, and the next writer does not wait for more than that."""

    async def replace_slowly(*arguments: Any) -> None:
        await replace_document(*arguments)
        await asyncio.sleep(0.5)

    app = create_app(database(open_storage(f"sqlite:///{tmp_path}/s.db")))
    with served(app) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            await client.post("/sessions", json={"session_id": "s", "metadata": {"n": 1}})
            with monkeypatch.context() as slow:
                slow.setattr("session_api.our_tables.replace_document", replace_slowly)
                with pytest.raises(httpx.ReadTimeout):
                    await client.patch("/sessions/s", json={"session_state": {"n": 2}}, timeout=0.2)
            answer = await client.patch("/sessions/s", json={"metadata": {"n": 2}}, timeout=30)
        assert answer.status_code == 200
        assert (answer.json()["session_state"], answer.json()["metadata"]) == ({"n": 2}, {"n": 2})


async def test_a_body_beyond_all_measure_is_refused_before_it_is_there(client: httpx.AsyncClient):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 1 << 20
            yield b" " * (1 << 20)

    answer = await client.post("/sessions", content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert sent <= 66 << 20


async def test_a_session_larger_than_a_record_is_refused(client: httpx.AsyncClient):
    answer = await client.post("/sessions", json={"session_id": "s", "session_state": {"x": "y" * (16 << 20)}})
    assert (answer.status_code, answer.json()) == (413, {"detail": "The request is too large to be stored"})
    assert (await client.get("/sessions/s")).status_code == 404


async def test_a_step_that_fails_half_way_leaves_no_trace(place: Place, monkeypatch: pytest.MonkeyPatch):
    """S4.10: a session with runs is there with them, or not at all."""

    class NoRuns:
        def __init__(self, tx: IUnifiedStorage) -> None:
            pass

        async def append(self, *_: Any) -> None:
            raise RuntimeError("between two statements")

    monkeypatch.setattr("session_api.our_tables.Runs", NoRuns)
    async with place.open() as storage, client_of(database(storage), accept_history=True) as client:
        answer = await client.post("/sessions", json={"session_id": "s", "runs": [{"run_id": "r"}]})
        assert answer.status_code == 500
        assert (await client.get("/sessions")).json()["meta"]["total_count"] == 0
        assert (await client.get("/sessions/s")).status_code == 404


@pytest.mark.parametrize(
    ("peer", "written", "client"),
    [
        ("10.1.1.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.1.1.1", ["9.9.9.9, 1.2.3.4, 10.2.2.2"], "1.2.3.4"),  # what stands before may be forged
        ("10.1.1.1", ["9.9.9.9", "1.2.3.4"], "1.2.3.4"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["unknown"], "10.1.1.1"),
        ("10.1.1.1", ["evil, 10.3.3.3"], "10.3.3.3"),
        ("10.1.1.1", ["1.2.3.4:5678"], "1.2.3.4"),
        ("10.1.1.1", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("::ffff:10.1.1.1", ["1.2.3.4"], "1.2.3.4"),
        ("8.8.8.8", ["1.2.3.4"], "8.8.8.8"),  # nobody trusts it
    ],
)
async def test_only_trusted_proxies_say_who_the_client_is(peer: str, written: list[str], client: str):
    """S4.17, T4.14."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])

    headers = [(b"x-forwarded-for", line.encode()) for line in written]
    asking = {"type": "http", "client": (peer, 1), "headers": headers}
    await ForwardedAddresses(app, (ip_network("10.0.0.0/8"),))(asking, None, None)  # type: ignore[arg-type]  # not used
    assert seen == [client]


async def test_the_limit_is_asked_about_the_clients_address(storage: IUnifiedStorage):
    seen: list[str | None] = []

    async def limit(asking: Asking, caller: Caller, address: str | None) -> float:
        seen.append(address)
        return 0

    trusted = (ip_network("127.0.0.0/8"),)
    async with client_of(database(storage), limit=limit, trusted_proxies=trusted) as client:
        await client.get("/sessions", headers={"x-forwarded-for": "1.2.3.4"})
    assert seen == ["1.2.3.4"]


async def test_a_slash_at_the_end_changes_nothing(client: httpx.AsyncClient):
    assert (await client.get("/sessions/")).json() == (await client.get("/sessions")).json()
    assert (await client.get("/sessions//")).status_code == 200


async def test_figures_count_by_route_and_not_by_id(client: httpx.AsyncClient):
    for id in ("a", "b", "c/"):
        await client.get(f"/sessions/{id}")
    await client.request("MADEUP", "/sessions")
    told = (await client.get("/metrics")).text
    assert 'session_api_requests_total{method="GET",route="/sessions/{session_id}",status="404"} 3.0' in told
    assert "MADEUP" not in told


async def test_the_document_of_the_interface_names_every_route(client: httpx.AsyncClient):
    """S4.19."""
    document = (await client.get("/openapi.json")).json()
    found = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    sessions = {(method, path) for method, path in found if path.startswith("/sessions")}
    assert len(sessions) == 10
    assert found - sessions == {("GET", path) for path in ("/health", "/healthz", "/readyz", "/metrics")}
