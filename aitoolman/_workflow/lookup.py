"""Which task is meant: by a task, a step, its number, its id or its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._datamodel import LLMWorkflowError, did_you_mean
from .steps import StepRecord
from .tasks import Task

if TYPE_CHECKING:
    from .scheduling import Node
    from .workflow import LLMWorkflow

__all__ = ["find_node"]


def find_node(workflow: LLMWorkflow, which: Task | StepRecord | int | str) -> Node:
    """The node of a task, a step, its number, its id or its name.

    Raises:
        LLMWorkflowError: There is none, or a name fits several.
    """
    nodes = workflow._engine.nodes
    if isinstance(which, bool) or not isinstance(which, Task | StepRecord | int | str):
        raise LLMWorkflowError(f"a step is a record, its number, a task or a name, not {which!r}")
    if isinstance(which, int):
        which = _numbered(workflow, which)
    task_id = which if isinstance(which, str) else which.task_id
    found = [node for node in nodes if node.task.task_id == task_id]
    if not found and isinstance(which, str):
        found = [node for node in nodes if node.task.task_name == which]
    if not found:
        names = {node.task.task_name for node in nodes}
        hint = did_you_mean(str(getattr(which, "task_name", which)), names)
        raise LLMWorkflowError(f"{which!r} is no step of this run; {hint}")
    if len(found) > 1:
        raise LLMWorkflowError(f"{which!r} names several tasks; say which: {_list(found)}")
    return found[0]


def _numbered(workflow: LLMWorkflow, number: int) -> StepRecord:
    for record in workflow.history:
        if record.number == number:
            return record
    raise LLMWorkflowError(f"there is no step {number}; {len(workflow.history)} have ended")


def _list(nodes: list[Node]) -> str:
    shown = ", ".join(node.task.task_id for node in nodes[:10])
    return shown + (", ..." if len(nodes) > 10 else "")
