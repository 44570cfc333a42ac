"""``Parallel``: branches that run at the same time, each on a context of its own, and the merge of what they did."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from session_adapter.policies import PolicyName, policies_of, policy_of
from session_adapter.workflow.context import ExecutionContext
from session_adapter.workflow.merging import Path, changes_between, merge_parallel_session_states
from session_adapter.workflow.state import OnUncopyable, SessionState
from session_adapter.workflow.steps import Function, Node, as_node
from unified_storage.errors import StorageError

Task = asyncio.Task[ExecutionContext]


class Parallel(Node):
    """Branches that run at the same time.

    Each branch has a deep copy of the context, so that no branch sees what another one writes. When all have ended,
    what each changed in ``session_state``, ``data`` and ``metadata`` is put into the caller's context, in the order in
    which the branches were added, whichever ended first; ``output`` is the list of the branches' outputs in that order.
    Conflicts in the state are added to ``ctx.conflicts``.

    Args:
        policies, default, deep: how branches meet in the state; see ``merge_parallel_session_states``.
        merge_completed: where a branch fails, let the others end, and merge those that did not fail, before the
            failure is raised. Else the others are cancelled, and the context is left as it was.
        share, on_uncopyable: which values the branches share; as ``SessionState`` takes them.
    """

    def __init__(
        self,
        name: str = "parallel",
        *,
        policies: Mapping[str | Path, PolicyName] | None = None,
        default: PolicyName = "last",
        deep: bool = False,
        merge_completed: bool = False,
        share: Iterable[str] = (),
        on_uncopyable: OnUncopyable | None = None,
    ) -> None:
        super().__init__(name)
        policies_of(policies)
        policy_of(default)
        self._policies = policies
        self._default = default
        self._deep = deep
        self._merge_completed = merge_completed
        self._share = frozenset(share)
        self._on_uncopyable = on_uncopyable
        self._nodes: list[Node] = []

    def add_node(self, node: Node | Function) -> Parallel:
        """Add a branch: a step, an async function, a workflow, or another ``Parallel``; with all that follow it."""
        self._nodes.append(as_node(node))
        return self

    async def execute(self, ctx: ExecutionContext) -> ExecutionContext:
        """Run all branches, merge what they did into *ctx*, and hand it out.

        Raises:
            StateCopyError: a value of the context cannot be copied, and is not shared; nothing has run.
            StateConflictError: branches differ where the policy is ``error``; the context is as before.
            StorageCapacityError: the merged state is over a limit; the context is as before.
            Exception: whatever the first branch that failed raised.
        """
        start = _Start(ctx, self._share, self._on_uncopyable)
        nodes = list(self._nodes)
        contexts = [start.branch() for _ in nodes]
        tasks = [asyncio.create_task(_run(node, own)) for node, own in zip(nodes, contexts, strict=True)]
        try:
            failed = await _first_failed(tasks, wait_for_all=self._merge_completed)
            if failed is not None:
                raise _failure(failed, self.name, nodes[tasks.index(failed)].name)
        except BaseException as error:
            if self._merge_completed:
                self._keep_completed(error, ctx, start, nodes, tasks)
            raise
        self._merge(ctx, start, nodes, tasks)
        return ctx

    def _keep_completed(
        self, error: BaseException, ctx: ExecutionContext, start: _Start, nodes: Sequence[Node], tasks: Sequence[Task]
    ) -> None:
        """Merge what was completed when *error* ended the others; it is what the caller hears of in any case."""
        try:
            self._merge(ctx, start, nodes, tasks)
        except StorageError as refusal:
            error.add_note(f"what was completed could not be merged: {refusal}")

    def _merge(self, ctx: ExecutionContext, start: _Start, nodes: Sequence[Node], tasks: Sequence[Task]) -> None:
        ended = [(node.name, task.result()) for node, task in zip(nodes, tasks, strict=True) if not _has_failed(task)]
        results = [result for _, result in ended]
        merged = merge_parallel_session_states(
            start.state,
            [result.session_state for result in results],
            policies=self._policies,
            default=self._default,
            deep=self._deep,
            names=[name for name, _ in ended],
        )
        data, metadata = start.merged("data", results), start.merged("metadata", results)
        ctx.session_state.apply(changes_between(start.state.snapshot(), merged.snapshot()))
        ctx.data, ctx.metadata = data, metadata
        ctx.output = [result.output for result in results]
        ctx.conflicts += [conflict for result in results for conflict in result.conflicts] + list(merged.conflicts)


class _Start:
    """What all branches begin with."""

    def __init__(self, ctx: ExecutionContext, share: Iterable[str], on_uncopyable: OnUncopyable | None) -> None:
        self.state = ctx.session_state.clone(share=share, on_uncopyable=on_uncopyable)
        self._ctx = ctx
        self._share, self._on_uncopyable = share, on_uncopyable or "error"
        self._held = {name: self._holding(getattr(ctx, name)) for name in ("data", "metadata")}
        self._values = self._holding({"input": ctx.input, "output": ctx.output})

    def _holding(self, values: Mapping[str, Any]) -> SessionState:
        return SessionState(values, share=self._share, on_uncopyable=self._on_uncopyable)

    def branch(self) -> ExecutionContext:
        """The context of one branch, which shares nothing with another but what is shared on purpose."""
        return ExecutionContext(
            self._values["input"],
            self._values["output"],
            self._held["data"].get_all(),
            self._held["metadata"].get_all(),
            self.state.clone(),
            self._ctx.session_id,
            self._ctx.user_id,
            self._ctx.app_name,
        )

    def merged(self, name: str, results: Iterable[ExecutionContext]) -> dict[str, Any]:
        """``data`` or ``metadata`` with what the branches changed in it."""
        branches = [self._holding(getattr(result, name)) for result in results]
        return merge_parallel_session_states(self._held[name], branches).get_all()


async def _run(node: Node, ctx: ExecutionContext) -> ExecutionContext:
    for link in node.chain():
        ctx = await link.execute(ctx)
    return ctx


async def _first_failed(tasks: Sequence[Task], *, wait_for_all: bool) -> Task | None:
    """Wait for the end of all *tasks*; the first of them, in order, that failed on its own.

    Args:
        wait_for_all: let the others go on when one fails; else they are cancelled.
    """
    pending = set(tasks)
    failed: list[Task] = []
    try:
        while pending and (wait_for_all or not failed):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            failed += [task for task in done if _has_failed(task)]
    finally:
        await _ended(pending)
    return min(failed, key=tasks.index, default=None)


async def _ended(pending: set[Task]) -> None:
    """Cancel *pending*, and wait until they have ended, though we are cancelled meanwhile."""
    for task in pending:
        task.cancel()
    cancelled = None
    left = set(pending)
    while left:
        try:
            _, left = await asyncio.wait(left)
        except asyncio.CancelledError as error:
            cancelled = error
            left = {task for task in left if not task.done()}
    for task in pending:
        _has_failed(task)  # or the loop would complain that nobody asked
    if cancelled is not None:
        raise cancelled


def _has_failed(task: Task) -> bool:
    return task.cancelled() or task.exception() is not None


def _failure(task: Task, parallel: str, branch: str) -> BaseException:
    """What *task* failed with, and a note that says where."""
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    assert error is not None
    error.add_note(f"in the branch {branch!r} of {parallel!r}")
    return error
