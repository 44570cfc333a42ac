"""The service as the recorded contract is replayed against it, with a hook that writes sessions as they are given.

The hook is for tests alone: it knows no keys, and stands before the gate.

    python tests/contract/serve.py --port 7101 [--db sqlite:////tmp/sessions.db] [--profile multidb]

With ``--db agno+sqlite:////tmp/agno.db`` the sessions stand on AgentOS's own tables, which are made where they are
missing; that is for the profiles with one database.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).parents[2]))

from fastapi import FastAPI, Request, Response

from session_adapter.entries import history_of
from session_api.app import create_app
from session_api.callers import Authenticator, SecurityKey, SignedTokens
from session_api.databases import Database, Databases
from session_api.encoding import answer
from session_api.found_tables import AGNO, database_at
from session_api.our_rows import new_record
from session_api.our_tables import OurTables
from session_api.tables import SessionTables
from tests.session_api.agno_places import insert_session, make_tables
from unified_storage import IUnifiedStorage, open_storage

SECURITY_KEY = "ct-security-key"
SECRET = "ct-jwt-secret-ct-jwt-secret-ct-jwt-secret"
PROFILES: dict[str, Authenticator | None] = {
    "default": None,
    "multidb": None,
    "seckey": SecurityKey(SECURITY_KEY),
    "jwt": SignedTokens([SECRET], ("HS256",), isolated=True),
}
TABLES = {"primary": "agno_sessions", "secondary": "agno_sessions_b"}
SEED = "/__seed__"


def database_ids(profile: str) -> tuple[str, ...]:
    """The databases that *profile* has."""
    return tuple(TABLES) if profile == "multidb" else ("primary",)


class Seeded(Protocol):
    """Where sessions are, and can be put as they are given."""

    tables: SessionTables

    async def seed(self, given: Mapping[str, Any]) -> None:
        """Store *given*, a session as AgentOS's table has it with its runs, with the times that it tells."""


class OnStorage:
    """On one of our storages, which is closed with its tables."""

    def __init__(self, storage: IUnifiedStorage) -> None:
        self.tables: SessionTables = OurTables(storage)
        self._storage = storage

    async def seed(self, given: Mapping[str, Any]) -> None:
        await write_seed(self._storage, given)


class OnAgnos:
    """On AgentOS's own tables in the database *url*, a URL of the engine."""

    def __init__(self, url: str) -> None:
        self.tables = database_at("primary", AGNO + url).tables
        self._url = url

    async def seed(self, given: Mapping[str, Any]) -> None:
        session = {"session_type": "agent", **{name: given[name] for name in given if name != "runs"}}
        await insert_session(self._url, session, given.get("runs") or [])


def contract_app(profile: str, places: Mapping[str, Seeded]) -> FastAPI:
    """The service set up for *profile*.

    Args:
        places: one for each of its database ids; closed with the service.
    """
    databases = [Database(name, places[name].tables, TABLES[name]) for name in database_ids(profile)]
    app = create_app(Databases(databases), authenticate=PROFILES[profile])

    async def seed(request: Request) -> Response:
        body = await request.json()
        place = places[body.get("db_id") or "primary"]
        for given in body["sessions"]:
            await place.seed(given)
        return answer({"seeded": len(body["sessions"])})

    app.add_api_route(SEED, seed, methods=["POST"], include_in_schema=False)
    return app


async def write_seed(storage: IUnifiedStorage, given: Mapping[str, Any]) -> None:
    """As :meth:`Seeded.seed`, on one of our storages."""
    runs = given.get("runs") or []
    document = seeded_document(given)
    record = new_record(document, runs)
    times = {name: datetime.fromtimestamp(given[name], UTC) for name in ("created_at", "updated_at")}
    record |= {"thread_id": None, "version": 1, "expires_at": None, **times}
    blank = {"created_at": times["updated_at"]}
    entries = [{**blank, "seq": seq, "key": run["run_id"], "body": run} for seq, run in enumerate(runs, 1)]
    log = {"log_id": history_of(record["id"]), "last_seq": len(entries), "entries": entries}
    await storage.restore([record], [log])


def seeded_document(given: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical document of *given*."""
    data = dict(given.get("session_data") or {})
    kind = given.get("session_type", "agent")
    document: dict[str, Any] = {"session_id": given["session_id"], "kind": kind, "app_name": None}
    names = ("user_id", "agent_id", "team_id", "workflow_id", "agent_data", "team_data", "workflow_data", "summary")
    document |= {name: given.get(name) for name in names}
    document |= {"name": data.pop("session_name", None), "metadata": given.get("metadata")}
    if "session_state" in data:
        document["state"] = data.pop("session_state")
    return document | {"session_data": data}


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--db", default="memory://")
    parser.add_argument("--profile", default="default", choices=PROFILES)
    told = parser.parse_args()
    places = {name: _place(told.db, name) for name in database_ids(told.profile)}
    uvicorn.run(contract_app(told.profile, places), host="127.0.0.1", port=told.port, log_level="warning")


def _place(url: str, name: str) -> Seeded:
    if not url.startswith(AGNO):
        return OnStorage(open_storage(url, namespace=f"contract_{name}"))
    asyncio.run(make_tables(url.removeprefix(AGNO)))
    return OnAgnos(url.removeprefix(AGNO))


if __name__ == "__main__":
    main()
