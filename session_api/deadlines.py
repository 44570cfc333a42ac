"""The time a request may take. ASGI."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from session_api.encoding import answer

TOO_LATE = "The request took too long"


class Deadline:
    """Ends a request that takes too long, and what it was doing with it: its transaction is rolled back.

    Args:
        seconds: until then it is answered, or 504.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with asyncio.timeout(self._seconds) as limit:
                await self._app(scope, receive, noted)
        except TimeoutError:
            if begun or not limit.expired():
                raise
            await answer({"detail": TOO_LATE}, 504)(scope, receive, send)
