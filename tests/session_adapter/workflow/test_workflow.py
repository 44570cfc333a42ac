"""``Workflow`` and ``Step`` (S3.13)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from session_adapter.workflow import ExecutionContext, Node, Parallel, Step, Workflow
from session_adapter.workflow.steps import Function
from unified_storage.errors import StorageValidationError


async def user_info(ctx: ExecutionContext) -> ExecutionContext:
    ctx.set_session_state("user_info", {"name": "Ann", "customer": 7})
    ctx.output = "user"
    return ctx


async def orders(ctx: ExecutionContext) -> ExecutionContext:
    user, exists = ctx.get_session_state("user_info")
    assert exists
    ctx.set_session_state("orders", [f"{user['customer']}-{n}" for n in (1, 2)])
    ctx.output = f"{ctx.output}, orders"
    return ctx


def logging(name: str) -> Step:
    async def logs(ctx: ExecutionContext) -> ExecutionContext:
        ctx.set_session_state("log", [*ctx.session_state.get_value("log", []), name])
        return ctx

    return Step(name, logs)


async def log_of(node: Node) -> list[str]:
    return (await node.execute(ExecutionContext())).session_state.get_value("log", [])


async def test_later_steps_read_what_earlier_ones_stored() -> None:
    """S3.13: user info, then orders."""
    workflow = Workflow("shop")
    workflow.add_step(Step("user info", user_info)).add_step(Step("orders", orders))
    ctx = ExecutionContext("hello")
    result = await workflow.execute(ctx)
    assert result.output == "user, orders"
    assert result.session_state["orders"] == ["7-1", "7-2"]
    assert result.input == "hello"


async def test_steps_are_chained_by_then() -> None:
    """S3.13."""
    first, last = Step("user info", user_info), Step("orders", orders)
    assert first.then(last) is last
    assert (await Workflow("shop").add_step(first).execute(ExecutionContext())).output == "user, orders"


async def test_a_step_that_was_reached_already_runs_once() -> None:
    """S3.13."""
    a, b, c, d = map(logging, "abcd")
    a.then(b).then(c)
    assert await log_of(Workflow("w").add_step(a).add_step(b).add_step(d).add_step(a)) == ["a", "b", "c", "d"]
    assert await log_of(Workflow("w")) == []


async def test_functions_parallels_and_workflows_are_steps() -> None:
    """S3.13."""
    inner = Workflow("inner").add_step(user_info)
    inner.then(Parallel("both").add_node(orders).add_node(logging("x")))
    ctx = await Workflow("outer").add_step(inner).execute(ExecutionContext())
    assert (ctx.session_state["log"], ctx.session_state["orders"]) == (["x"], ["7-1", "7-2"])
    assert ctx.output == ["user, orders", "user"]


async def test_a_step_may_hand_on_another_context() -> None:
    """S3.13."""

    async def replaces(_: ExecutionContext) -> ExecutionContext:
        return ExecutionContext("other", session_state={"log": ["new"]})

    result = await Workflow("w").add_step(replaces).add_step(logging("a")).execute(ExecutionContext())
    assert (result.input, result.session_state["log"]) == ("other", ["new", "a"])


async def test_a_step_that_forgets_the_context_is_an_error() -> None:
    async def forgets(_: ExecutionContext) -> Any:
        return None

    with pytest.raises(TypeError, match="step 'forgets' must return the context, not NoneType"):
        await Workflow("w").add_step(forgets).execute(ExecutionContext())


async def test_the_failure_of_a_step_ends_the_run() -> None:
    async def fails(ctx: ExecutionContext) -> ExecutionContext:
        raise RuntimeError("boom")

    ctx = ExecutionContext()
    with pytest.raises(RuntimeError, match="boom"):
        await Workflow("w").add_step(logging("a")).add_step(fails).add_step(logging("b")).execute(ctx)
    assert ctx.session_state["log"] == ["a"]


def test_steps_of_one_name_are_refused() -> None:
    a = logging("a")
    a.then(logging("b"))
    workflow = Workflow("w").add_step(a)
    with pytest.raises(StorageValidationError, match="two steps of 'w' are called 'b'"):
        workflow.add_step(logging("b"))
    workflow.add_step(logging("c"))


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_step_needs_a_name(name: Any) -> None:
    for made in (lambda: Step(name, user_info), lambda: Workflow(name), lambda: Parallel(name)):
        with pytest.raises(StorageValidationError, match="needs a name"):
            made()


def test_a_chain_has_one_line_and_an_end() -> None:
    a, b, c = map(logging, "abc")
    a.then(b).then(c)
    with pytest.raises(StorageValidationError, match="followed by 'b' already"):
        a.then(c)
    for first in (a, c):
        with pytest.raises(StorageValidationError, match="leads to 'c'"):
            c.then(first)


async def test_functions_are_called_by_their_name() -> None:
    class Callable:
        async def __call__(self, ctx: ExecutionContext) -> ExecutionContext:
            return ctx

    function: Function = Callable()
    with pytest.raises(StorageValidationError, match="'Callable'"):
        Workflow("w").add_step(function).add_step(Callable())


def test_importing_sessions_does_not_import_workflows() -> None:
    program = "import sys, session_adapter; print(*(name for name in sys.modules if 'workflow' in name))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
