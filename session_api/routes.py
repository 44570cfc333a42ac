"""The ten routes of sessions: each chooses a database, asks it once, and shows what it says."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from session_api.callers import Caller
from session_api.databases import Databases
from session_api.encoding import StrictRequest, answer
from session_api.models import (
    CreateSession,
    CreateSessionWithHistory,
    DeleteSessions,
    Refusal,
    RunPreview,
    SessionDetail,
    SessionPage,
    ShownRun,
    UpdateSession,
    without_the_runtimes,
)
from session_api.runs_shown import STATUSES, preview, selected, shown_run, single_run
from session_api.sessions_shown import Shown, detail, list_item, without_null
from session_api.tables import (
    COMPONENTS,
    UNCHANGED,
    Changes,
    Listing,
    NewSession,
    SessionTables,
    SessionTaken,
    SessionType,
    StoredSession,
)

BIGGEST = 2**63 - 1
_TAKEN = (
    "Could not create a session with the supplied session_id. "
    "Omit session_id to have one generated, or choose a different one."
)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Kind = Annotated[SessionType | None, Query(alias="type", description="agent, team or workflow")]
User = Annotated[str | None, Query(description="Whose session it has to be")]
DbId = Annotated[str | None, Query(description="Which database; there has to be one where there is no default")]
Table = Annotated[str | None, Query(description="The database's table of sessions; goes with db_id")]
Media = Annotated[bool, Query(description="There is no media storage here, so true is refused")]
Bound = Annotated[int | None, Query(description="Seconds since 1970, included")]
Statuses = Annotated[list[str] | None, Query(description=f"Any of {', '.join(STATUSES)}, in any case; repeatable")]


class SortOrder(StrEnum):
    """Whether the smallest comes first."""

    ASC = "asc"
    DESC = "desc"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a request looks for sessions; the database is chosen when it is asked for, after what else it says."""

    request: Request
    user_id: str | None
    db_id: str | None
    table: str | None

    @property
    def tables(self) -> SessionTables:
        """Those of the database that it names."""
        databases: Databases = self.request.app.state.databases
        return databases.chosen(self.db_id, self.table)

    @property
    def owner(self) -> str | None:
        """Whose sessions there are, and no others; None for everybody's."""
        return _caller(self.request).scope(self.user_id)


async def _place(request: Request, user_id: User = None, db_id: DbId = None, table: Table = None) -> _Place:
    return _Place(request, user_id, db_id, table)


Place = Annotated[_Place, Depends(_place)]


class _StrictRoute(APIRoute):
    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict


_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "The request contradicts itself, or its body cannot be read"},
    401: {"model": Refusal, "description": "Nobody vouches for the caller"},
    403: {"model": Refusal, "description": "The caller may not"},
    404: {"model": Refusal, "description": "There is no such session, or database"},
    429: {"model": Refusal, "description": "Too many requests"},
    503: {"model": Refusal, "description": "The database does not answer"},
}
_TAKEN_OR_SEVERAL: dict[int | str, dict[str, Any]] = {
    409: {"model": Refusal, "description": "The id is in use, or several users' sessions have it"},
    413: {"model": Refusal, "description": "Too large to be stored"},
}


router = APIRouter(route_class=_StrictRoute, tags=["Sessions"], responses=_REFUSALS, redirect_slashes=False)


def session_routes(*, accept_history: bool = False) -> APIRouter:
    """The routes, on the databases of the app that they are in.

    Args:
        accept_history: new sessions may bring runs and a summary.
    """
    routes = APIRouter(route_class=_StrictRoute, redirect_slashes=False)
    routes.include_router(router)
    routes.add_api_route(
        "/sessions",
        create_session_with_history if accept_history else create_session,
        methods=["POST"],
        response_model=SessionDetail,
        status_code=201,
        operation_id="create_session",
        tags=["Sessions"],
        responses={**_REFUSALS, **_TAKEN_OR_SEVERAL},
    )
    return routes


@router.get("/sessions", response_model=SessionPage, operation_id="get_sessions")
async def get_sessions(
    place: Place,
    session_type: Kind = None,
    component_id: Annotated[str | None, Query(description="Of an agent, team or workflow")] = None,
    session_name: Annotated[str | None, Query(description="Part of the name; % and _ are wildcards")] = None,
    limit: Annotated[int, Query(ge=1, le=BIGGEST)] = 20,
    page: Annotated[int, Query(ge=0, le=BIGGEST, description="From 1")] = 1,
    sort_by: Annotated[str, Query(description="A column; an unknown one means no order")] = "created_at",
    sort_order: SortOrder = SortOrder.DESC,
) -> Response:
    """A page of sessions. The count is that of all pages."""
    _check_page(page, limit)
    descending, skip = sort_order is SortOrder.DESC, (page - 1) * limit
    wanted = Listing(session_type, component_id, place.owner, session_name, sort_by, descending, limit, skip)
    rows, total = await place.tables.page(wanted)
    meta = {"page": page, "limit": limit, "total_pages": -(-total // limit), "total_count": total}
    return answer({"data": [list_item(row) for row in rows], "meta": {**meta, "search_time_ms": 0.0}})


@router.get(
    "/sessions/{session_id}",
    response_model=SessionDetail,
    operation_id="get_session_by_id",
    responses=_TAKEN_OR_SEVERAL,
)
async def get_session(place: Place, session_id: str, session_type: Kind = None) -> Response:
    """One session with its chat, as the type asked for, else as its own."""
    told = f"{session_type.title()} Session" if session_type else "Session"
    stored = _found(await place.tables.get(session_id, place.owner), f"{told} with id '{session_id}'")
    return answer(without_null(detail(stored, session_type)))


async def create_session(
    request: Request,
    given: Annotated[CreateSession, Body(default_factory=CreateSession)],
    session_type: Annotated[SessionType, Query(alias="type")] = SessionType.AGENT,
    db_id: DbId = None,
) -> Response:
    """Make a session. An id that is in use is refused, and nothing is changed."""
    return await _created(request, given, session_type, db_id)


async def create_session_with_history(
    request: Request,
    given: Annotated[CreateSessionWithHistory, Body(default_factory=CreateSessionWithHistory)],
    session_type: Annotated[SessionType, Query(alias="type")] = SessionType.AGENT,
    db_id: DbId = None,
) -> Response:
    """Make a session, with its history if it has one. An id that is in use is refused, and nothing is changed."""
    return await _created(request, given, session_type, db_id)


async def _created(request: Request, given: CreateSession, session_type: SessionType, db_id: str | None) -> Response:
    tables, caller = _Place(request, None, db_id, None).tables, _caller(request)
    new = _new_session(given, session_type, caller)
    try:
        row = await tables.create(new)
    except SessionTaken as error:
        raise HTTPException(409, _taken(new, error, caller)) from error
    stored = await tables.get(row.session_id, row.user_id) if new.runs else None
    return answer(without_null(detail(stored or StoredSession(row))), 201)


@router.delete("/sessions", status_code=204, operation_id="delete_sessions")
async def delete_sessions(place: Place, wanted: DeleteSessions, delete_media: Media = False) -> Response:
    """Delete sessions with their histories in one step; ids that are not there are no error."""
    if len(wanted.session_ids) != len(wanted.session_types):
        raise HTTPException(400, "Session IDs and session types must have the same length")
    tables = place.tables
    _check_media(delete_media)
    await tables.delete_many(wanted.session_ids, place.owner)
    return _nothing()


@router.patch(
    "/sessions/{session_id}",
    response_model=SessionDetail,
    operation_id="update_session",
    responses=_TAKEN_OR_SEVERAL,
)
async def update_session(place: Place, session_id: str, given: UpdateSession, session_type: Kind = None) -> Response:
    """Replace the fields given, each whole, and no others."""
    return await _changed(place, session_id, _changes(given, session_type))


@router.delete("/sessions/{session_id}", status_code=204, operation_id="delete_session", responses=_TAKEN_OR_SEVERAL)
async def delete_session(place: Place, session_id: str, delete_media: Media = False) -> Response:
    """Delete a session with its history; one that is not there is no error."""
    tables = place.tables
    _check_media(delete_media)
    await tables.delete(session_id, place.owner)
    return _nothing()


@router.post(
    "/sessions/{session_id}/rename",
    response_model=SessionDetail,
    operation_id="rename_session",
    responses=_TAKEN_OR_SEVERAL,
)
async def rename_session(
    place: Place, session_id: str, session_name: Annotated[str, Body(embed=True)], session_type: Kind = None
) -> Response:
    """Name a session, and change nothing else of it."""
    return await _changed(place, session_id, Changes(name=session_name))


async def _shown_runs(
    place: Place,
    session_id: str,
    session_type: Kind = None,
    created_after: Bound = None,
    created_before: Bound = None,
    status: Statuses = None,
) -> list[Shown]:
    wanted = _checked_statuses(status or [])
    stored = await _session_of_runs(place, session_id)
    runs = selected(stored.runs, created_after, created_before, wanted)
    return [shown for run in runs if (shown := shown_run(run, stored.row)) is not None]


@router.get("/sessions/{session_id}/runs", response_model=list[ShownRun], operation_id="get_session_runs")
async def get_runs(shown: Annotated[list[Shown], Depends(_shown_runs)]) -> Response:
    """The runs of a session, oldest first."""
    return answer([without_null(run) for run in shown])


@router.get(
    "/sessions/{session_id}/run-previews",
    response_model=list[RunPreview],
    operation_id="get_session_run_previews",
)
async def get_run_previews(shown: Annotated[list[Shown], Depends(_shown_runs)]) -> Response:
    """The runs of a session in short, oldest first."""
    return answer([without_null(preview(run)) for run in shown])


@router.get(
    "/sessions/{session_id}/runs/{run_id}",
    response_model=ShownRun,
    operation_id="get_session_run",
)
async def get_run(place: Place, session_id: str, run_id: str, session_type: Kind = None) -> Response:
    """One run of a session."""
    stored = await _session_of_runs(place, session_id)
    if not stored.runs:
        raise HTTPException(404, f"Session with ID {session_id} has no runs")
    run = next((run for run in stored.runs if run.get("run_id") == run_id), None)
    if run is None:
        raise HTTPException(404, f"Run with ID {run_id} not found in session {session_id}")
    return answer(single_run(run, stored.row))


# what the handlers share


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


def _new_session(given: CreateSession, session_type: SessionType, caller: Caller) -> NewSession:
    history = given if isinstance(given, CreateSessionWithHistory) else None
    return NewSession(
        session_id=given.session_id or str(uuid.uuid4()),
        session_type=session_type,
        user_id=caller.user_id if caller.user_id is not None else given.user_id,
        component_id=getattr(given, COMPONENTS[session_type]),
        name=given.session_name,
        state=given.session_state,
        metadata=None if given.metadata is None else without_the_runtimes(given.metadata),
        summary=history.summary if history else None,
        runs=(history.runs if history else None) or (),
    )


def _taken(new: NewSession, error: SessionTaken, caller: Caller) -> str:
    """Why it was not made, without a word on sessions that the caller does not see."""
    if caller.pinned and error.user_id != caller.user_id:
        return _TAKEN
    return f"Session with id '{new.session_id}' already exists. Use PATCH /sessions/{new.session_id} to update it."


def _changes(given: UpdateSession, session_type: SessionType | None) -> Changes:
    return Changes(
        name=UNCHANGED if given.session_name is None else given.session_name,
        state=UNCHANGED if given.session_state is None else given.session_state,
        metadata=UNCHANGED if given.metadata is None else without_the_runtimes(given.metadata),
        summary=UNCHANGED if given.summary is None else given.summary,
        as_type=session_type,
    )


async def _changed(place: _Place, session_id: str, changes: Changes) -> Response:
    stored = await place.tables.change(session_id, place.owner, changes)
    return answer(detail(_found(stored, f"Session with id '{session_id}'")))


async def _session_of_runs(place: _Place, session_id: str) -> StoredSession:
    return _found(await place.tables.get(session_id, place.owner), f"Session with ID {session_id}")


def _found(stored: StoredSession | None, called: str) -> StoredSession:
    if stored is None:
        raise HTTPException(404, f"{called} not found")
    return stored


def _nothing() -> Response:
    return Response(status_code=204, media_type="application/json")


def _check_media(delete_media: bool) -> None:
    if delete_media:
        raise HTTPException(503, "Media storage is not configured on AgentOS")


def _checked_statuses(given: list[str]) -> set[str]:
    wanted = {status.upper() for status in given}
    if unknown := sorted(wanted - {*STATUSES}):
        raise HTTPException(400, f"Invalid status value(s) {unknown}; expected one of {[*STATUSES]}")
    return wanted


def _check_page(page: int, limit: int) -> None:
    """Refuse a page that cannot be: AgentOS fails on these."""
    if page == 0:
        raise _refused_page("greater_than_equal", "Input should be greater than or equal to 1", page, {"ge": 1})
    if (page - 1) * limit > BIGGEST:
        most = BIGGEST // limit
        raise _refused_page("less_than_equal", f"Input should be less than or equal to {most}", page, {"le": most})


def _refused_page(kind: str, message: str, page: int, context: dict[str, int]) -> RequestValidationError:
    return RequestValidationError(
        [{"type": kind, "loc": ("query", "page"), "msg": message, "input": str(page), "ctx": context}]
    )
