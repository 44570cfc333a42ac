"""Paths with a slash at the end, which are served as those without. ASGI."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class SlashlessPaths:
    """Takes slashes off the end of paths, so that nobody is sent elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path.endswith("/") and path.rstrip("/"):
            # in place, so that what stands around sees the route that is found for it
            scope["path"], scope["raw_path"] = path.rstrip("/"), (scope.get("raw_path") or b"").rstrip(b"/")
        await self._app(scope, receive, send)
