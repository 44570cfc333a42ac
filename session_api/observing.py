"""What is known of every request: its id, one line in the log, its time, and an answer also where it crashed. ASGI."""

from __future__ import annotations

import logging
import re
import time
import uuid
from contextvars import ContextVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from session_api.encoding import answer
from session_api.failures import INTERNAL, places_of

log = logging.getLogger("session_api")
access = logging.getLogger("session_api.access")

REQUEST_ID = "x-request-id"
_ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,128}")
_current: ContextVar[str] = ContextVar("request_id", default="-")


class WithRequestId(logging.Filter):
    """Gives every line of a log the id of the request that it was written for."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = _current.get()
        return True


class Figures:
    """How many requests there were, and how long they took, for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._answered = Counter("session_api_requests", "Requests answered", labels, registry=self.registry)
        self._seconds = Histogram("session_api_request_seconds", "Time taken", labels[:2], registry=self.registry)
        self.running = Gauge("session_api_requests_running", "Requests under way", registry=self.registry)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Add one request; *route* is its pattern, so that ids make no labels."""
        known = method if method in _METHODS else "other"
        self._answered.labels(known, route, status).inc()
        self._seconds.labels(known, route).observe(seconds)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observed:
    """Stands around everything else, so that nothing is unseen and nothing falls through."""

    def __init__(self, app: ASGIApp, figures: Figures) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = _told_id(scope)
        token = _current.set(told)
        self._figures.running.inc()
        begun, sent = time.perf_counter(), _Sent(send, told)
        try:
            await self._answered(scope, receive, sent)
        finally:
            seconds = time.perf_counter() - begun
            self._figures.running.dec()
            self._figures.count(scope["method"], _route(scope), sent.status, seconds)
            _write_line(scope, sent.status, seconds)
            _current.reset(token)

    async def _answered(self, scope: Scope, receive: Receive, sent: _Sent) -> None:
        try:
            await self._app(scope, receive, sent)
        except Exception as error:  # the process goes on whatever a handler does
            log.error("a request crashed", extra={"places": places_of(error)})
            if sent.status:
                raise  # half an answer is out: the server has to cut the connection
            await answer({"detail": INTERNAL, "request_id": sent.request_id}, 500)(scope, receive, sent)


class _Sent:
    """Sends on, with the request's id in the headers; knows the status, 0 before there is one."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = self.request_id
        await self._send(message)


def _told_id(scope: Scope) -> str:
    """The id that the request brings, where that can stand in a header and a log; else a new one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID.encode() and _ACCEPTED.fullmatch(value.decode("latin-1")):
            told: str = value.decode("latin-1")
            return told
    return uuid.uuid4().hex


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", None) or "other"


def _write_line(scope: Scope, status: int, seconds: float) -> None:
    client = scope.get("client")
    facts = {
        "method": scope["method"],
        "path": scope["path"],  # without the query, which may hold names
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "client": client[0] if client else None,
    }
    access.info("%s %s %d", facts["method"], facts["path"], status, extra=facts)
