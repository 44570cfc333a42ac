"""Failures as answers: statuses from one table, and no word of what a database said."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from session_api.encoding import answer
from session_api.tables import SeveralSessions
from unified_storage.errors import (
    StorageCapacityError,
    StorageClosedError,
    StorageConflictError,
    StorageConnectionError,
    StorageError,
    StorageTimeoutError,
    StorageTransactionError,
    StorageValidationError,
)

log = logging.getLogger("session_api")

UNAVAILABLE = "The database is not available"
_STATUS: dict[type[StorageError], tuple[int, str]] = {
    SeveralSessions: (409, "Several sessions have this id; say whose it is by user_id"),
    StorageValidationError: (422, "The request holds something that cannot be stored"),
    StorageCapacityError: (413, "The request is too large to be stored"),
    StorageConnectionError: (503, UNAVAILABLE),
    StorageTimeoutError: (503, UNAVAILABLE),
    StorageClosedError: (503, UNAVAILABLE),
    StorageConflictError: (503, "Others are writing the same; try again"),
}
INTERNAL = "Internal server error"


def add_failures(app: FastAPI) -> None:
    """Have *app* answer with what its handlers raise."""
    app.add_exception_handler(RequestValidationError, _unprocessable)
    app.add_exception_handler(StorageError, _failed)


async def _unprocessable(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return answer({"detail": [_told(one) for one in error.errors()]}, 422)


def _told(error: Any) -> dict[str, Any]:
    told = {name: error[name] for name in ("type", "loc", "msg", "input", "ctx") if name in error}
    if isinstance(told.get("input"), bytes):  # a body that is no JSON
        told["input"] = told["input"].decode("utf-8", "replace")
    return told


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, StorageError)
    failure = _deepest(error)
    status, detail = _meaning(failure)
    if status == 422:
        return answer({"detail": [_invalid(failure)]}, 422)
    level = logging.ERROR if status == 500 else logging.WARNING
    facts = {"status": status, "error_code": failure.error_code, "places": places_of(error)}
    log.log(level, "a storage failed", extra=facts)
    return answer({"detail": detail}, status, {"retry-after": "1"} if status == 503 else None)


def _meaning(failure: StorageError) -> tuple[int, str]:
    otherwise = (503, UNAVAILABLE) if failure.retryable else (500, INTERNAL)
    return next((known for kind, known in _STATUS.items() if isinstance(failure, kind)), otherwise)


def _deepest(error: StorageError) -> StorageError:
    """What a transaction failed of, where it says so."""
    while isinstance(error, StorageTransactionError) and isinstance(error.cause, StorageError):
        error = error.cause
    return error


def _invalid(error: StorageError) -> dict[str, Any]:
    path = str(error.details.get("path") or "")
    return {"type": "value_error", "loc": ["body", *path.split(".")], "msg": error.message, "input": None}


def places_of(error: BaseException) -> list[str]:
    """Where *error* and what it came of arose. Their own words may quote values and statements: no log shows them."""
    places: list[str] = []
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        places.append(f"{type(at).__name__} at {_place(at)}")
        at = at.__cause__ or at.__context__
    return places


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
