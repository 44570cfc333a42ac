"""AgentOS as a process of its own, as its documentation starts it: one agent, its synchronous database, one worker.

Sessions with runs are stored as its agents store them, before it answers: its HTTP interface takes none. What it has
to know stands in the environment, as ``http_services`` puts it there.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

os.environ["AGNO_TELEMETRY"] = "false"  # read when agno is imported

import uvicorn
from agno.agent import Agent
from agno.db.postgres import PostgresDb
from agno.db.sqlite import SqliteDb
from agno.os import AgentOS
from agno.run.agent import RunOutput
from agno.session import AgentSession
from sqlalchemy import make_url

from benchmarks.http_data import AGENT, LONG_USER, long_id, runs_of


def database(engine: str, place: str) -> Any:
    if engine == "sqlite":
        return SqliteDb(id="bench", db_file=str(Path(place) / "agentos.db"))
    url = make_url(place).set(drivername="postgresql+psycopg")
    return PostgresDb(id="bench", db_url=url.render_as_string(hide_password=False))


def store_long_sessions(db: Any, count: int, runs: int) -> None:
    """Sessions without a name, older than all others, with a history."""
    then = int(time.time()) - 3600
    for number in range(count):
        session_id = long_id(number)
        made = {"session_id": session_id, "agent_id": AGENT, "user_id": LONG_USER, "session_data": {}}
        db.upsert_session(AgentSession(**made, created_at=then, updated_at=then))
        for index, run in enumerate(runs_of(session_id, runs)):
            db.upsert_run(RunOutput.from_dict(run), session_id=session_id, user_id=LONG_USER, run_index=index)


def main() -> None:
    told = {name: os.environ[f"BENCH_{name}"] for name in ("ENGINE", "PLACE", "PORT", "LONG", "RUNS")}
    db = database(told["ENGINE"], told["PLACE"])
    app = AgentOS(agents=[Agent(id=AGENT, name="Assistant", db=db, telemetry=False)], telemetry=False).get_app()
    db._create_all_tables()  # as AgentOS does when it starts
    store_long_sessions(db, int(told["LONG"]), int(told["RUNS"]))
    uvicorn.run(app, host="127.0.0.1", port=int(told["PORT"]), log_level="error", access_log=False)


if __name__ == "__main__":
    main()
