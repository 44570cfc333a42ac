"""The state that the steps of a workflow hand on: isolated, merged after parallel branches, kept with the session."""

from session_adapter.workflow.context import ExecutionContext, new_execution_context_with_session
from session_adapter.workflow.errors import StateConflictError, StateCopyError, StateTypeError
from session_adapter.workflow.merging import Conflict, MergedState, merge_parallel_session_states
from session_adapter.workflow.parallel import Parallel
from session_adapter.workflow.state import SessionState
from session_adapter.workflow.steps import Node, Step
from session_adapter.workflow.structured import PlainData, StateTypes
from session_adapter.workflow.workflow import Workflow

__all__ = [
    "Conflict",
    "ExecutionContext",
    "MergedState",
    "Node",
    "Parallel",
    "PlainData",
    "SessionState",
    "StateConflictError",
    "StateCopyError",
    "StateTypeError",
    "StateTypes",
    "Step",
    "Workflow",
    "merge_parallel_session_states",
    "new_execution_context_with_session",
]
