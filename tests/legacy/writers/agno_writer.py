"""agno at work: ``python agno_writer.py URL SEED``.

Sessions come and go, get runs, have runs replaced, and change their state and name many times a second, until the input
ends. It says when it begins, and in the end how often it did what.
"""

from __future__ import annotations

import json
import random
import select
import sys
import time
from collections import Counter
from typing import Any

from agno.db.base import SessionType
from agno.db.postgres import PostgresDb
from agno.db.sqlite import SqliteDb
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.session import AgentSession

MOST = 30


def main(url: str, seed: int) -> None:
    print("ready", flush=True)
    db = SqliteDb(db_url=url) if url.startswith("sqlite") else PostgresDb(db_url=url, db_schema=f"agno_{seed}")
    choice, done = random.Random(seed), Counter[str]()
    there: list[str] = []
    while not has_ended():
        act = choice.choices(("create", "run", "state", "rename", "delete"), (2, 5, 5, 1, 1))[0]
        if act == "create" and len(there) < MOST:
            id = f"s{seed}-{done['create']}"
            db.upsert_session(session_of(id, 0))
            there.append(id)
        elif act == "delete" and len(there) > 3:
            db.delete_session(there.pop(choice.randrange(len(there))))
        elif act == "run" and there:
            id = choice.choice(there)
            run = choice.randrange(4) if choice.random() < 0.3 else done["run"]
            db.upsert_run(run_of(id, run, done["run"]), session_id=id)
        elif act == "state" and there:
            db.upsert_session(session_of(choice.choice(there), done["state"]))
        elif act == "rename" and there:
            db.rename_session(choice.choice(there), SessionType.AGENT, f"name {done['rename']}")
        else:
            continue
        done[act] += 1
    print(json.dumps(done))


def session_of(id: str, number: int) -> Any:
    return AgentSession(
        session_id=id,
        agent_id="a",
        user_id="ann",
        session_data={"session_state": {"n": number}},
        created_at=int(time.time()),
    )


def run_of(session_id: str, run: int, number: int) -> Any:
    return RunOutput(
        run_id=f"{session_id}-r{run}",
        agent_id="a",
        session_id=session_id,
        messages=[Message(role="user", content=f"message {number}")],
    )


def has_ended() -> bool:
    """Whether whoever started this wants no more."""
    return bool(select.select([sys.stdin], [], [], 0.002)[0])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
