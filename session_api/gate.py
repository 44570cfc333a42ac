"""The gate before everything: who asks, how often he may, and what is open to all. ASGI."""

from __future__ import annotations

from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from session_api.callers import ANYBODY, Asking, Authenticator, Caller, Refused
from session_api.encoding import answer

OPEN = frozenset({"/", "/health", "/healthz", "/readyz", "/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"})
"""Paths that need no key."""


class RateLimit(Protocol):
    """Says how many seconds a caller has to wait; 0 lets the request through."""

    async def __call__(self, asking: Asking, caller: Caller, address: str | None) -> float: ...


class Gate:
    """Lets in who may come in, and tells the app who it is as ``request.state.caller``."""

    def __init__(self, app: ASGIApp, authenticate: Authenticator | None, limit: RateLimit | None) -> None:
        self._app = app
        self._authenticate = authenticate
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = ANYBODY
        if scope["path"] not in OPEN and (self._authenticate or self._limit):
            asking = Asking(scope["method"], scope["path"], _headers(scope))
            try:
                caller = await self._let_in(asking, scope)
            except Refused as refused:
                await answer({"detail": refused.detail}, refused.status, refused.headers)(scope, receive, send)
                return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    async def _let_in(self, asking: Asking, scope: Scope) -> Caller:
        caller = await self._authenticate(asking) if self._authenticate else ANYBODY
        if self._limit is not None:
            client = scope.get("client")
            wait = await self._limit(asking, caller, client[0] if client else None)
            if wait > 0:
                raise Refused(429, "Too many requests", {"retry-after": str(max(1, round(wait)))})
        return caller


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
