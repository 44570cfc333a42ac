"""Talks of agents of openai-agents with a scripted model: the same on any session of theirs or ours.

Each is told how to make its session, once a turn, as a program does that serves each turn by itself. It gives back what
the model was told at every call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from agents import Agent, RunConfig, Runner, RunState, function_tool, set_tracing_disabled
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call

Make = Callable[[], Any]
Told = list[Any]

set_tracing_disabled(True)
QUIET = RunConfig(tracing_disabled=True)


@function_tool
def price(of: str) -> str:
    """What something costs."""
    return f"{of}: {len(of)} euros"


@function_tool(needs_approval=True)
def order(what: str) -> str:
    """Order something."""
    return f"ordered {what}"


def agent(*steps: Any, name: str = "clerk", tools: tuple[Any, ...] = (price,)) -> Agent[Any]:
    return Agent(name=name, instructions="Help.", model=ScriptedModel(steps), tools=list(tools))


def told(*agents: Agent[Any]) -> Told:
    """What the models of *agents* were given at each call."""
    return [call.input for one in agents for call in one.model.calls]


def calls(*called: tuple[str, dict[str, Any]]) -> list[Any]:
    return [function_call(name, arguments, call_id=f"c{at}") for at, (name, arguments) in enumerate(called)]


async def several_turns(make: Make) -> Told:
    clerk = agent([assistant_message("Hello")], [assistant_message("Fine")], [assistant_message("Bye")])
    for text in ("Hi", "How are you?", "Well then"):
        await Runner.run(clerk, text, session=make(), run_config=QUIET)
    return told(clerk)


async def tool_calls(make: Make) -> Told:
    clerk = agent(
        [assistant_message("I look it up"), *calls(("price", {"of": "tea"}), ("price", {"of": "milk"}))],
        [assistant_message("Tea is cheaper")],
        [assistant_message("As I said")],
    )
    for text in ("Tea or milk?", "Sure?"):
        await Runner.run(clerk, text, session=make(), run_config=QUIET)
    return told(clerk)


async def approval_in_another_program(make: Make) -> Told:
    first = agent(calls(("order", {"what": "tea"})), tools=(order,))
    result = await Runner.run(first, "Order tea", session=make(), run_config=QUIET)
    assert len(result.interruptions) == 1
    kept = json.dumps(result.to_state().to_json())

    second = agent([assistant_message("It is on its way")], [assistant_message("Yes")], tools=(order,))
    state = await RunState.from_json(second, json.loads(kept))
    state.approve(state.get_interruptions()[0])
    resumed = await Runner.run(second, state, session=make(), run_config=QUIET)
    assert resumed.final_output == "It is on its way"
    await Runner.run(second, "Really?", session=make(), run_config=QUIET)
    return told(first, second)


async def two_agents(make: Make) -> Told:
    clerk = agent([assistant_message("Ask the cook")], [assistant_message("See?")])
    cook = agent([assistant_message("Soup"), *calls(("price", {"of": "soup"}))], [assistant_message("4")], name="cook")
    for one, text in ((clerk, "What is there?"), (cook, "What is there?"), (clerk, "Thanks")):
        await Runner.run(one, text, session=make(), run_config=QUIET)
    return told(clerk, cook)


async def streamed_and_broken_off(make: Make) -> Told:
    waiting = asyncio.Event()

    async def never(call: Any) -> Any:
        waiting.set()
        await asyncio.sleep(3600)

    clerk = agent(calls(("price", {"of": "tea"})), ModelStep.respond(never), [assistant_message("Here I am again")])
    run = Runner.run_streamed(clerk, "How much is tea?", session=make(), run_config=QUIET)

    async def listened() -> None:
        async for _ in run.stream_events():
            pass

    listening = asyncio.create_task(listened())
    await waiting.wait()
    run.cancel()
    await listening
    await Runner.run(clerk, "Are you there?", session=make(), run_config=QUIET)
    return told(clerk)


async def a_model_that_fails(make: Make) -> Told:
    clerk = agent([assistant_message("Hello")], RuntimeError("away"), [assistant_message("Back")])
    await Runner.run(clerk, "Hi", session=make(), run_config=QUIET)
    try:
        await Runner.run(clerk, "And?", session=make(), run_config=QUIET)
    except RuntimeError:
        await Runner.run(clerk, "And now?", session=make(), run_config=QUIET)
    return told(clerk)


TALKS = (
    several_turns,
    tool_calls,
    approval_in_another_program,
    two_agents,
    streamed_and_broken_off,
    a_model_that_fails,
)
