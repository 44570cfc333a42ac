"""``Parallel``: isolated branches, and one merge in branch order (S3.14 to S3.20)."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from session_adapter.workflow import (
    ExecutionContext,
    Parallel,
    SessionState,
    StateConflictError,
    StateCopyError,
    Step,
    Workflow,
)
from session_adapter.workflow.steps import Function
from tests.session_adapter.workflow import merge_reference as reference
from tests.session_adapter.workflow.test_merging import history, value
from unified_storage.errors import StorageCapacityError, StorageValidationError


def setting(**values: Any) -> Function:
    async def branch(ctx: ExecutionContext) -> ExecutionContext:
        for key, item in values.items():
            ctx.set_session_state(key, item)
        return ctx

    return branch


def failing(error: BaseException) -> Function:
    async def branch(ctx: ExecutionContext) -> ExecutionContext:
        ctx.set_session_state("failed", True)
        await asyncio.sleep(0)
        raise error

    return branch


def parallel(*branches: Function, **options: Any) -> Parallel:
    made = Parallel(**options)
    for branch in branches:
        made.add_node(branch)
    return made


async def test_a_branch_never_sees_what_another_writes() -> None:
    """S3.14, T3.5: B reads after A has written, and the other way round."""
    wrote, read = asyncio.Event(), asyncio.Event()
    seen: list[Any] = []

    async def writes(ctx: ExecutionContext) -> ExecutionContext:
        assert ctx.input["items"] == [1]
        for holder in (ctx.input, ctx.output, ctx.data, ctx.metadata):
            holder["items"].append("a")
        state = ctx.session_state["deep"]
        state["items"].append("a")
        ctx.set_session_state("deep", state)
        ctx.set_session_state("new", 1)
        ctx.session_state.delete("gone")
        wrote.set()
        await read.wait()
        return ctx

    async def reads(ctx: ExecutionContext) -> ExecutionContext:
        await wrote.wait()
        seen.extend(holder["items"] for holder in (ctx.input, ctx.output, ctx.data, ctx.metadata))
        seen.append(ctx.session_state.get_all())
        read.set()
        return ctx

    deep = {"items": [1]}
    ctx = ExecutionContext(deep, deep, deep, deep, {"deep": deep, "gone": 1}, "s", "u", "a")
    await parallel(writes, reads).execute(ctx)
    assert seen == [[1]] * 4 + [{"deep": {"items": [1]}, "gone": 1}]
    assert deep == {"items": [1]}
    assert ctx.data == ctx.metadata == {"items": [1, "a"]}
    assert ctx.session_state.get_all() == {"deep": {"items": [1, "a"]}, "new": 1}


async def test_branches_know_the_session() -> None:
    """S3.14."""
    seen = []

    async def looks(ctx: ExecutionContext) -> ExecutionContext:
        seen.append((ctx.session_id, ctx.user_id, ctx.app_name))
        return ctx

    await parallel(looks).execute(ExecutionContext(session_id="s", user_id="u", app_name="a"))
    assert seen == [("s", "u", "a")]


async def test_a_branch_that_left_a_key_alone_overwrites_nothing() -> None:
    """S3.15, T3.1."""
    ctx = await parallel(setting(k=1), setting(other=2)).execute(ExecutionContext(session_state={"k": 0}))
    assert ctx.session_state.get_all() == {"k": 1, "other": 2}


async def test_the_order_of_the_branches_decides_whichever_ends_first(scaled: Callable[..., int]) -> None:
    """S3.15, T3.7: 1 000 random schedules in full, each with the one answer of the reference."""
    draw = random.Random(1)

    def branch(operations: list[reference.Operation]) -> Function:
        async def acts(ctx: ExecutionContext) -> ExecutionContext:
            for act, key, item in operations:
                for _ in range(draw.randrange(4)):
                    await asyncio.sleep(0)
                if act == "set":
                    ctx.set_session_state(key, item)
                else:
                    ctx.session_state.delete(key)
            for _ in range(draw.randrange(9)):
                await asyncio.sleep(0)
            return ctx

        return acts

    start = {key: value(draw) for key in "abc"}
    histories = [[*history(draw, "abcd", start), ("set", "k", number)] for number in (1, 2, 3)]
    wanted = reference.merged(start, [reference.played(start, operations) for operations in histories])
    for _ in range(scaled(1_000)):
        ctx = await parallel(*map(branch, histories)).execute(ExecutionContext(session_state=start))
        assert reference.text_of(ctx.session_state.get_all()) == reference.text_of(wanted)
        assert ctx.session_state["k"] == 3


async def test_deletions_type_changes_and_an_empty_start_survive() -> None:
    """S3.16, T3.2, T3.3."""

    async def deletes(ctx: ExecutionContext) -> ExecutionContext:
        ctx.session_state.delete("gone")
        return ctx

    ctx = ExecutionContext(session_state={"gone": 1, "typed": True})
    await parallel(deletes, setting(typed=1), setting(new=1)).execute(ctx)
    assert ctx.to_json() == ExecutionContext(output=[None] * 3, session_state={"typed": 1, "new": 1}).to_json()
    ctx = await parallel(setting(a=1), setting(b=2)).execute(ExecutionContext())
    assert ctx.session_state.get_all() == {"a": 1, "b": 2}


async def test_fifty_branches_with_fifty_keys_all_survive() -> None:
    """S3.17."""
    branches = [setting(**{f"branch_{n}_result": n}) for n in range(50)]
    ctx = await parallel(*branches).execute(ExecutionContext(session_state={"common": 1}))
    assert ctx.session_state.get_all() == {"common": 1} | {f"branch_{n}_result": n for n in range(50)}


async def test_outputs_data_and_metadata_come_together() -> None:
    """S3.14: outputs in branch order, the others as the state."""

    def branch(n: int) -> Function:
        async def acts(ctx: ExecutionContext) -> ExecutionContext:
            await asyncio.sleep(0.002 * (3 - n))
            ctx.output, ctx.data[f"d{n}"], ctx.metadata["m"] = n, n, n
            return ctx

        return acts

    ctx = await parallel(*map(branch, (1, 2, 3))).execute(ExecutionContext(data={"d": 0}))
    assert (ctx.output, ctx.data, ctx.metadata) == ([1, 2, 3], {"d": 0, "d1": 1, "d2": 2, "d3": 3}, {"m": 3})


async def test_conflicts_are_reported_and_policies_apply() -> None:
    """S3.18, S3.19."""
    made = Parallel(policies={"n": "sum"}, deep=True)
    for name, values in (("x", {"n": 11, "cfg": {"db": 1}, "k": 1}), ("y", {"n": 12, "cfg": {"cache": 2}, "k": 2})):
        made.add_node(Step(name, setting(**values)))
    inner = Parallel("inner").add_node(setting(k=7)).add_node(setting(k=8))
    ctx = await made.add_node(inner).execute(ExecutionContext(session_state={"n": 10}))
    assert ctx.session_state.get_all() == {"n": 13, "cfg": {"db": 1, "cache": 2}, "k": 8}
    assert [(found.key, found.branches, found.values) for found in ctx.conflicts] == [
        ("k", ("branch", "branch"), (7, 8)),
        ("n", ("x", "y"), (11, 12)),
        ("k", ("x", "y", "inner"), (1, 2, 8)),
    ]


async def test_the_policy_error_leaves_the_context_as_it_was() -> None:
    """S3.18, S3.20."""
    ctx = ExecutionContext(session_state={"k": 0})
    with pytest.raises(StateConflictError, match="k: branch has 1, branch has 2"):
        await parallel(setting(k=1, a=1), setting(k=2), default="error").execute(ctx)
    assert ctx.to_json() == ExecutionContext(session_state={"k": 0}).to_json()
    with pytest.raises(StorageValidationError, match="no policy"):
        Parallel(default="nonsense")
    with pytest.raises(StorageValidationError, match="no policy"):
        Parallel(policies={"k": "nonsense"})


async def test_a_failing_branch_leaves_the_context_as_it_was() -> None:
    """S3.20: the other branches are cancelled, and have ended when the failure is raised."""
    ended = []

    async def endless(ctx: ExecutionContext) -> ExecutionContext:
        ctx.set_session_state("partial", 1)
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            ended.append(True)
        return ctx

    start = {"k": [0]}
    ctx = ExecutionContext(data={"d": [0]}, session_state=start)
    with pytest.raises(RuntimeError, match="boom") as failure:
        await parallel(setting(k=1), failing(RuntimeError("boom")), endless, name="fan").execute(ctx)
    assert failure.value.__notes__ == ["in the branch 'branch' of 'fan'"]
    assert ended == [True]
    assert ctx.to_json() == ExecutionContext(data={"d": [0]}, session_state=start).to_json()


async def test_completed_branches_are_merged_where_that_is_wanted() -> None:
    """S3.20."""

    async def late(ctx: ExecutionContext) -> ExecutionContext:
        await asyncio.sleep(0.01)
        ctx.set_session_state("late", 1)
        ctx.output = "late"
        return ctx

    ctx = ExecutionContext(session_state={"k": 0})
    branches = setting(k=1), failing(RuntimeError("first")), failing(ValueError("second")), late
    with pytest.raises(RuntimeError, match="first"):
        await parallel(*branches, merge_completed=True).execute(ctx)
    assert ctx.session_state.get_all() == {"k": 1, "late": 1}
    assert ctx.output == [None, "late"]


@pytest.mark.parametrize("merge_completed", [False, True])
async def test_a_cancelled_branch_is_a_failed_one(merge_completed: bool) -> None:
    """S3.20."""
    ctx = ExecutionContext(session_state={"k": 0})
    branches = setting(k=1), failing(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await parallel(*branches, merge_completed=merge_completed).execute(ctx)
    assert ctx.session_state.get_all() == {"k": 1 if merge_completed else 0}


@pytest.mark.parametrize("merge_completed", [False, True])
async def test_when_the_caller_is_cancelled_all_branches_have_ended(merge_completed: bool) -> None:
    """S3.20: also when he is cancelled again while they end."""
    ended = asyncio.Event()

    async def slow_to_end(ctx: ExecutionContext) -> ExecutionContext:
        ctx.set_session_state("partial", 1)
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.05)
            ended.set()
        return ctx

    ctx = ExecutionContext(session_state={"k": 0})
    task = asyncio.create_task(parallel(setting(k=1), slow_to_end, merge_completed=merge_completed).execute(ctx))
    await asyncio.sleep(0.01)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.005)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    assert ctx.session_state.get_all() == {"k": 1 if merge_completed else 0}


async def test_a_merge_that_is_refused_hides_neither_a_failure_nor_a_cancellation() -> None:
    """S3.20."""
    options: dict[str, Any] = {"merge_completed": True, "default": "error"}
    ctx = ExecutionContext(session_state={"k": 0})
    with pytest.raises(RuntimeError, match="boom") as failure:
        await parallel(setting(k=1), setting(k=2), failing(RuntimeError("boom")), **options).execute(ctx)
    assert "could not be merged: branches changed the same key differently" in failure.value.__notes__[1]

    async def endless(own: ExecutionContext) -> ExecutionContext:
        await asyncio.sleep(1000)
        return own

    task = asyncio.create_task(parallel(setting(k=1), setting(k=2), endless, **options).execute(ctx))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ctx.session_state.get_all() == {"k": 0}


async def test_what_cannot_be_copied_is_refused_before_anything_runs() -> None:
    """S3.6, T3.5: wherever it stands in the context."""
    lock, ran = threading.Lock(), []

    async def runs(ctx: ExecutionContext) -> ExecutionContext:
        ran.append(ctx)
        return ctx

    for name in ("input", "output", "data", "metadata", "session_state"):
        given: Any = lock if name in ("input", "output") else {"lock": lock}
        with pytest.raises(StateCopyError, match=name if given is lock else "lock"):
            await parallel(runs).execute(ExecutionContext(**{name: given}))
        assert ran == []
        for sharing in ({"on_uncopyable": "share"}, {"share": ["lock", "input", "output"]}):
            ctx = await parallel(runs, runs, **sharing).execute(ExecutionContext(**{name: given}))
            branches = [getattr(ran.pop(), name) for _ in range(2)]
            assert [branch if given is lock else branch["lock"] for branch in branches] == [lock, lock]
            assert ctx.data == ({"lock": lock} if name == "data" else {})


async def test_a_merged_state_over_its_limit_leaves_the_context_as_it_was() -> None:
    """S3.20, S3.25."""
    ctx = ExecutionContext(data={"d": 1}, session_state=SessionState(max_total_bytes=100))
    with pytest.raises(StorageCapacityError):
        await parallel(setting(a="x" * 60), setting(b="x" * 60)).execute(ctx)
    assert ctx.to_json() == ExecutionContext(data={"d": 1}).to_json()


async def test_what_others_wrote_meanwhile_stays() -> None:
    """Only what the branches changed is put into the caller's state."""
    ctx = ExecutionContext(session_state={"k": 0, "l": 0})

    async def disturbs(own: ExecutionContext) -> ExecutionContext:
        ctx.set_session_state("l", 5)
        own.set_session_state("k", 1)
        return own

    await parallel(disturbs).execute(ctx)
    assert ctx.session_state.get_all() == {"k": 1, "l": 5}


async def test_a_branch_may_be_a_chain_a_parallel_or_a_workflow() -> None:
    """S3.14: and hand out another context than its own."""

    async def replaces(ctx: ExecutionContext) -> ExecutionContext:
        return ExecutionContext(output="new", session_state=ctx.session_state.get_all() | {"replaced": 1})

    chain = Step("one", setting(a=1))
    chain.then(Step("two", setting(b=2))).then(replaces)
    inner = Parallel("inner").add_node(setting(c=3)).add_node(setting(d=4))
    flow = Workflow("flow").add_step(setting(e=5))
    ctx = await Parallel().add_node(chain).add_node(inner).add_node(flow).execute(ExecutionContext())
    assert ctx.session_state.get_all() == {"a": 1, "b": 2, "replaced": 1, "c": 3, "d": 4, "e": 5}
    assert (await Parallel().execute(ExecutionContext(output=1))).output == []


class Part:
    """A part of a large state, which counts how often one is copied."""

    copies = 0

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __deepcopy__(self, _: object) -> Part:
        Part.copies += 1
        return Part(bytes(bytearray(self.content)))


async def test_a_large_state_is_not_copied_for_each_branch() -> None:
    """T3.11: 10 MB and 50 branches, of which each reads and writes a hundredth."""
    ctx = ExecutionContext(session_state={f"part{n}": Part(bytes(100_000)) for n in range(100)})

    def branch(n: int) -> Function:
        async def acts(own: ExecutionContext) -> ExecutionContext:
            part = own.session_state[f"part{n}"]
            part.content += b"more"
            own.set_session_state(f"part{n}", part)
            return own

        return acts

    Part.copies = 0
    await parallel(*map(branch, range(50))).execute(ctx)
    assert Part.copies == 100, "one for each value read, and one for each value set"
    parts = ctx.session_state.get_all()
    assert [len(parts[f"part{n}"].content) for n in range(100)] == [100_004] * 50 + [100_000] * 50
