"""Agents of ADK whose model follows a script: what it answers depends on what it is sent, and on nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import LlmAgent, ParallelAgent, SequentialAgent
from google.adk.agents.base_agent import BaseAgent
from google.adk.events.event import Event
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.base_session_service import BaseSessionService
from google.adk.tools.long_running_tool import LongRunningFunctionTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types

from tests.session_bridges.adk_services import APP, ID, USER


class Scripted(BaseLlm):  # type: ignore[misc]  # a class of a framework that is not installed where types are checked
    """Asks for what it is told to, tells what tools said, and counts what was said before."""

    model: str = "scripted"

    async def generate_content_async(self, request: LlmRequest, stream: bool = False) -> AsyncGenerator[LlmResponse]:
        said = [part for content in request.contents for part in content.parts or ()]
        parts = _answer(said, len(request.contents))
        if stream and parts[0].text:
            for piece in parts[0].text.split(" "):
                yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text=piece)]), partial=True)
        yield LlmResponse(content=types.Content(role="model", parts=parts))


def _answer(said: list[types.Part], count: int) -> list[types.Part]:
    last = said[-1]
    if last.function_response is not None:
        return [types.Part(text=f"{last.function_response.name} says {last.function_response.response}")]
    match (last.text or "").split(" "):
        case ["stock", *teas]:
            return [_call("stock", {"tea": tea}) for tea in teas]
        case ["pay", amount]:
            return [_call("pay", {"amount": int(amount)})]
        case ["ask", agent]:
            return [_call("transfer_to_agent", {"agent_name": agent})]
    return [types.Part(text=f"answer to {count} messages")]


def _call(name: str, arguments: dict[str, Any]) -> types.Part:
    return types.Part(function_call=types.FunctionCall(name=name, args=arguments))


def stock(tea: str, tool_context: ToolContext) -> dict[str, Any]:
    """How many tins there are."""
    asked = [*tool_context.state.get("asked", []), tea]
    tool_context.state.update({"asked": asked, "user:likes": tea, "app:asked": len(asked), "temp:now": tea})
    return {"tea": tea, "tins": 3}


def pay(amount: int) -> dict[str, Any] | None:
    """Pays, as soon as somebody has agreed."""
    return {"status": "pending", "amount": amount}


def waiter(**fields: Any) -> LlmAgent:
    """An agent with a tool that answers at once, and one that waits for a person."""
    tools = [stock, LongRunningFunctionTool(func=pay)]
    return LlmAgent(name="waiter", model=Scripted(), tools=tools, **fields)


def with_a_cook() -> LlmAgent:
    """An agent that another one may take over from."""
    return waiter(sub_agents=[LlmAgent(name="cook", model=Scripted(), description="cooks")])


def one_after_the_other() -> SequentialAgent:
    """Two agents of which the second reads what the first left in temporary state."""
    first = LlmAgent(name="first", model=Scripted(), output_key="temp:draft")
    second = LlmAgent(name="second", model=Scripted(), instruction="Draft: {temp:draft}", output_key="final")
    return SequentialAgent(name="row", sub_agents=[first, second])


def side_by_side() -> ParallelAgent:
    """Agents that speak at the same time."""
    return ParallelAgent(
        name="choir",
        sub_agents=[LlmAgent(name=f"voice{n}", model=Scripted(), output_key=f"song{n}") for n in range(4)],
    )


def runner_of(service: BaseSessionService, agent: BaseAgent) -> Runner:
    return Runner(app_name=APP, agent=agent, session_service=service, auto_create_session=True)


def message(text: str) -> types.Content:
    return types.Content(role="user", parts=[types.Part(text=text)])


async def turn(runner: Runner, said: str | types.Content, **options: Any) -> list[Event]:
    """One message, and the events that it leads to."""
    content = message(said) if isinstance(said, str) else said
    return [event async for event in runner.run_async(user_id=USER, session_id=ID, new_message=content, **options)]
