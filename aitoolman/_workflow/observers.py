"""Who wants to hear of what happens in a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._application.call import Call
    from .._datamodel import LLMModuleResult
    from .tasks import Task

__all__ = ["WorkflowObserver"]


class WorkflowObserver(Protocol):
    """Hears of everything that happens in a workflow, in order, on its loop.

    An exception of an observer is logged and changes nothing else.
    """

    def task_added(self, task: Task) -> Any:
        """A task has come into the workflow."""

    def task_started(self, task: Task, inputs: Mapping[str, Any]) -> Any:
        """A task begins, with these arguments."""

    def task_called(self, task: Task, call: Call, result: LLMModuleResult) -> Any:
        """A task's code has called a model."""

    def task_waits(self, task: Task, targets: Sequence[Task]) -> Any:
        """A task's code waits for other tasks."""

    def task_goes_on(self, task: Task) -> Any:
        """A task's code has stopped waiting."""

    def task_ended(self, task: Task, reason: str) -> Any:
        """A task has ended; `reason` says who chose its next task, empty where it has none."""
