"""AgentOS on a database: ``python agent_os.py PORT URL``, a URL as SQLAlchemy spells it, run where agno is installed.

Its models answer without asking anybody.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["AGNO_TELEMETRY"] = "false"

import uvicorn
from agno.agent import Agent
from agno.db.postgres import PostgresDb
from agno.db.sqlite import SqliteDb
from agno.models.base import Model
from agno.models.response import ModelResponse
from agno.os import AgentOS
from agno.team import Team
from agno.workflow import Step, StepInput, StepOutput, Workflow


class Answering(Model):  # type: ignore[misc]  # agno is not installed where types are checked
    """A model with one answer."""

    def __init__(self) -> None:
        super().__init__(id="answering", name="Answering", provider="Nobody")

    def invoke(self, *args: Any, **options: Any) -> ModelResponse:
        return ModelResponse(role="assistant", content="It is sold out.")

    async def ainvoke(self, *args: Any, **options: Any) -> ModelResponse:
        return self.invoke()

    def invoke_stream(self, *args: Any, **options: Any) -> Any:
        yield self.invoke()

    async def ainvoke_stream(self, *args: Any, **options: Any) -> Any:
        yield self.invoke()

    def _parse_provider_response(self, response: Any, **options: Any) -> Any:
        return response

    def _parse_provider_response_delta(self, response: Any) -> Any:
        return response


def echoed(given: StepInput) -> StepOutput:
    return StepOutput(content=f"echo: {given.input}")


def main(port: int, url: str) -> None:
    db = SqliteDb(id="primary", db_url=url) if url.startswith("sqlite") else PostgresDb(id="primary", db_url=url)
    member = Agent(id="member", model=Answering(), telemetry=False)
    system = AgentOS(
        id="tests",
        agents=[Agent(id="agent", model=Answering(), db=db, telemetry=False, add_history_to_context=True)],
        teams=[Team(id="team", members=[member], model=Answering(), db=db, telemetry=False)],
        workflows=[Workflow(id="workflow", steps=[Step(name="echo", executor=echoed)], db=db, telemetry=False)],
        telemetry=False,
    )
    uvicorn.run(system.get_app(), host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
