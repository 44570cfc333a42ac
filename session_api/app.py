"""The application: routes, and what stands before them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI

from session_api import health
from session_api.addresses import ForwardedAddresses, Networks
from session_api.callers import Authenticator
from session_api.databases import Databases
from session_api.deadlines import Deadline
from session_api.failures import add_failures, places_of
from session_api.gate import Gate, RateLimit
from session_api.observing import Figures, Observed
from session_api.paths import SlashlessPaths
from session_api.routes import session_routes
from unified_storage.errors import StorageError

log = logging.getLogger("session_api")


def create_app(
    databases: Databases,
    *,
    authenticate: Authenticator | None = None,
    limit: RateLimit | None = None,
    accept_history: bool = False,
    trusted_proxies: Networks = (),
    request_timeout: float = 60.0,
) -> FastAPI:
    """The service as an ASGI application, to be served alone or mounted into another one.

    Args:
        databases: opened when the application starts, closed when it ends.
        authenticate: says who a caller is; None lets everybody in.
        limit: says how long a caller has to wait.
        accept_history: new sessions may bring runs and a summary.
        trusted_proxies: whose ``X-Forwarded-For`` says who the client is.
        request_timeout: seconds that a request may take.
    """
    figures = Figures()

    @asynccontextmanager
    async def lifetime(_: FastAPI) -> AsyncIterator[None]:
        try:
            await databases.open()
        except StorageError as error:
            log.error("a database cannot be used", extra={"error_code": error.error_code, "places": places_of(error)})
            raise
        try:
            yield
        finally:
            await databases.close()

    app = FastAPI(title="Sessions", lifespan=lifetime, redirect_slashes=False)
    app.state.databases = databases
    app.state.figures = figures
    app.state.instantiated_at = datetime.now(UTC)
    app.include_router(session_routes(accept_history=accept_history))
    app.include_router(health.router)
    add_failures(app)
    app.add_middleware(Gate, authenticate=authenticate, limit=limit)
    app.add_middleware(SlashlessPaths)
    app.add_middleware(Deadline, seconds=request_timeout)
    app.add_middleware(ForwardedAddresses, trusted=trusted_proxies)
    app.add_middleware(Observed, figures=figures)  # the last one added stands before all others
    return app
