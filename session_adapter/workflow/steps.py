"""``Step``: one thing that a workflow does, and the chain that steps make."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator

from session_adapter.workflow.context import ExecutionContext
from unified_storage.errors import StorageValidationError

Function = Callable[[ExecutionContext], Awaitable[ExecutionContext]]


class Node(ABC):
    """What can stand in a workflow, and be a branch of a ``Parallel``.

    Attributes:
        name: what it is called in errors, in conflicts and in stored runs.
    """

    def __init__(self, name: str) -> None:
        if not name or not isinstance(name, str):
            raise StorageValidationError("a step needs a name", details={"path": "name"})
        self.name = name
        self._following: Node | None = None

    @abstractmethod
    async def execute(self, ctx: ExecutionContext) -> ExecutionContext:
        """Do it, and hand out the context for what comes next."""

    def then(self, following: Node | Function) -> Node:
        """Let *following* come after this one; it is handed back, so that calls make a chain.

        Raises:
            StorageValidationError: something follows already, or the chain would lead back here.
        """
        node = as_node(following)
        if self._following is not None:
            message = f"{self.name!r} is followed by {self._following.name!r} already"
            raise StorageValidationError(message, details={"path": "then"})
        if any(later is self for later in node.chain()):
            message = f"{node.name!r} leads to {self.name!r}, so it cannot follow it"
            raise StorageValidationError(message, details={"path": "then"})
        self._following = node
        return node

    def chain(self) -> Iterator[Node]:
        """This one and all that follow it."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node._following


class Step(Node):
    """One step.

    Args:
        function: an async function that takes the context, and returns it or another one.
    """

    def __init__(self, name: str, function: Function) -> None:
        super().__init__(name)
        self._function = function

    async def execute(self, ctx: ExecutionContext) -> ExecutionContext:
        """Call the function.

        Raises:
            TypeError: it did not return a context.
        """
        result = await self._function(ctx)
        if not isinstance(result, ExecutionContext):
            raise TypeError(f"step {self.name!r} must return the context, not {type(result).__name__}")
        return result


def as_node(node: Node | Function) -> Node:
    """*node* itself, or the step that an async function is; its name is the function's."""
    return node if isinstance(node, Node) else Step(getattr(node, "__name__", type(node).__name__), node)
