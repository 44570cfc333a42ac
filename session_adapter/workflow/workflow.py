"""``Workflow``: steps one after the other, and the state that stays in the session between them."""

from __future__ import annotations

from session_adapter.service import SessionService
from session_adapter.workflow.context import ExecutionContext
from session_adapter.workflow.saving import SavedRun
from session_adapter.workflow.steps import Function, Node, as_node
from session_adapter.workflow.structured import Types, state_types
from unified_storage.errors import StorageValidationError


class Workflow(Node):
    """Steps that run one after the other; each reads what those before it stored.

    With *sessions*, the state is loaded from the context's session before the first step. After each step what it
    changed is saved there in one step, with how far the run is, so that a run whose process died can be taken up
    behind its last finished step. A session that is not there is made by the first save. Keys that others put into the
    session meanwhile are not touched. What is shared (see ``SessionState``) is not saved.

    Args:
        sessions: where states are kept; None keeps them in memory only. A workflow within another one, or within a
            branch, is better off without: the outer one saves.
        types: the classes whose objects come back as such; see ``StateTypes``.
    """

    def __init__(
        self,
        name: str,
        *,
        sessions: SessionService | None = None,
        types: Types = (),
    ) -> None:
        super().__init__(name)
        self._sessions = sessions
        self._types = state_types(types)
        self._added: list[Node] = []

    def add_step(self, step: Node | Function) -> Workflow:
        """Add a step, or an async function, with all that follow it (``then``).

        A step runs once: one that was reached before is not added again.

        Raises:
            StorageValidationError: another step has this name.
        """
        self._added.append(as_node(step))
        try:
            self._steps()
        except StorageValidationError:
            self._added.pop()
            raise
        return self

    async def execute(self, ctx: ExecutionContext) -> ExecutionContext:
        """Run all steps from the first; the context that the last one returned.

        Values that *ctx* brings win over those in the session.

        Raises:
            SessionIdRequiredError: states are kept in sessions, and *ctx* belongs to none.
            SessionNotFoundError: the session is another user's, or was deleted meanwhile.
            StorageConflictError: another run of this workflow got ahead in the same session; the step is not saved.
            StorageValidationError: a step left something that cannot be stored; ``error.path`` names the place.
        """
        return await self._run(ctx, self._steps(), resume=False)

    async def resume(self, ctx: ExecutionContext) -> ExecutionContext:
        """Bring the session's last run of this workflow to its end; without one, begin.

        Finished steps do not run again. Output, data, metadata and state are what the last finished step left; they
        win over what *ctx* brings. A run that is at its end is handed out as it was.

        Raises:
            StorageValidationError: the steps that the run has finished are not the first ones of this workflow.
        """
        return await self._run(ctx, self._steps(), resume=True)

    async def _run(self, ctx: ExecutionContext, steps: list[Node], *, resume: bool) -> ExecutionContext:
        if self._sessions is None:
            for step in steps:
                ctx = await step.execute(ctx)
            return ctx
        run = SavedRun(self._sessions, ctx, self.name, self._types)
        finished = await run.load(ctx, [step.name for step in steps], resume=resume)
        for step in steps[finished:]:
            ctx = await step.execute(ctx)
            await run.save(ctx, step.name)
        return ctx

    def _steps(self) -> list[Node]:
        steps: dict[str, Node] = {}
        for added in self._added:
            for step in added.chain():
                if steps.setdefault(step.name, step) is not step:
                    message = f"two steps of {self.name!r} are called {step.name!r}"
                    raise StorageValidationError(message, details={"path": "name", "name": step.name})
        return list(steps.values())
