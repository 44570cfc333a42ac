"""The service as a process: logs, uvicorn, and an end that loses nothing."""

from __future__ import annotations

import json
import logging
import socket
from datetime import UTC, datetime
from typing import Any

import uvicorn

from session_api.app import create_app
from session_api.databases import Databases
from session_api.found_tables import database_at
from session_api.observing import WithRequestId
from session_api.settings import Settings

log = logging.getLogger("session_api")

DRAINING = 6
"""Seconds that requests under way have when the service is to end; closing the databases comes after that."""

_QUOTED = "Traceback (most recent call last)"
_USUAL = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "color_message", "taskName"})


def app_of(settings: Settings) -> Any:
    """The application that *settings* describe."""
    opened = [database_at(name, url) for name, url in settings.urls.items()]
    return create_app(
        Databases(opened, settings.default_id),
        authenticate=settings.authenticate,
        accept_history=settings.accept_history,
        trusted_proxies=settings.trusted_proxies,
        request_timeout=settings.request_timeout,
    )


def serve(settings: Settings, *, host: str = "127.0.0.1") -> None:
    """Answer until SIGTERM or Ctrl-C; then finish what is under way, and close."""
    prepare_logs()
    config = uvicorn.Config(
        app_of(settings),
        host=host,
        port=settings.port,
        log_config=None,
        access_log=False,  # ours says more, and no query
        proxy_headers=False,  # ours asks who the proxy is
        server_header=False,
        timeout_graceful_shutdown=DRAINING,
    )
    _Server(config).run()


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            log.info("session service listening on :%d", self.config.port)


def prepare_logs() -> None:
    """One JSON object a line on stderr, each with the id of its request."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    handler.addFilter(WithRequestId())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info and record.exc_info[1] is not None:
            from session_api.failures import places_of

            line["places"] = places_of(record.exc_info[1])
        return json.dumps(line, default=str)


def _message(record: logging.LogRecord) -> str:
    """What *record* says; of an exception that the server quotes as text no word, since it may quote a database's."""
    said = record.getMessage()
    return "the application failed" if _QUOTED in said else said
