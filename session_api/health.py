"""Whether the service runs, whether it can work, and how it does."""

from __future__ import annotations

import asyncio
import logging

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from session_api.databases import Databases
from session_api.encoding import answer
from session_api.tables import SessionTables
from unified_storage.errors import StorageError

log = logging.getLogger("session_api")

PATIENCE = 5.0
"""Seconds that a database has to answer in."""

router = APIRouter(tags=["Health"], redirect_slashes=False)


@router.get("/healthz", operation_id="get_liveness")
async def healthz() -> Response:
    """That the service runs."""
    return answer({"status": "ok"})


@router.get("/health", operation_id="get_health")
async def health(request: Request) -> Response:
    """That the service runs, and since when."""
    since = request.app.state.instantiated_at.isoformat().replace("+00:00", "Z")
    return answer({"status": "ok", "instantiated_at": since})


@router.get("/readyz", operation_id="get_readiness", responses={503: {"description": "A database does not answer"}})
async def readyz(request: Request) -> Response:
    """Whether every database answers."""
    databases: Databases = request.app.state.databases
    found = await asyncio.gather(*(_answers(name, tables) for name, tables in databases.by_id.items()))
    states = dict(zip(databases.by_id, ("ok" if one else "unavailable" for one in found), strict=True))
    ready = all(found)
    return answer({"status": "ok" if ready else "unavailable", "databases": states}, 200 if ready else 503)


@router.get("/metrics", operation_id="get_metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(generate_latest(request.app.state.figures.registry), media_type=CONTENT_TYPE_LATEST)


async def _answers(name: str, tables: SessionTables) -> bool:
    try:
        async with asyncio.timeout(PATIENCE):
            await tables.check()
    except (StorageError, TimeoutError) as error:
        log.warning("database not ready", extra={"database": name, "failure": type(error).__name__})
        return False
    return True
