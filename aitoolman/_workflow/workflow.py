"""LLMWorkflow: tasks in sequence, as a DAG, or both at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._application.app import LLMApplication
from .engine import Engine
from .failures import raise_failures
from .history import WorkflowHistory
from .samples import SampleNumbers
from .scheduling import running_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .._application.modules import ModuleSet
    from .._transport.client import LLMClient
    from .debug import DebugRun
    from .observers import WorkflowObserver
    from .steps import StepRecord
    from .tasks import Task

__all__ = ["LLMWorkflow", "running_task"]


class LLMWorkflow(LLMApplication):
    """An application whose steps are tasks.

    In sequence: `run` follows each task's `next_task`. As a DAG: `add_task` draws edges and
    `wait_tasks` runs what is needed. Both can be mixed, and tasks may add tasks and wait for them
    while they run. Nothing runs that nobody waits for.

    Args:
        client: Carries the requests.
        config_dict: The prompt configuration.
        processors: Post-processors by name.
        channels: Channels by name.
        context_id: Names this workflow in requests and audit records; random unless given.
        max_parallel_tasks: The most tasks that work at the same time; waiting is not work.
        history: Keep a record of every step; without it, memory stays flat however many tasks
            run, and there is no picture and no stepping.

    Raises:
        LLMConfigError: The configuration has mistakes; all of them are in the message.
        ValueError: `max_parallel_tasks` is below 1.
    """

    def __init__(
        self,
        client: LLMClient,
        config_dict: Mapping[str, Any] | ModuleSet | None = None,
        processors: Mapping[str, Callable[[str], Any]] | None = None,
        channels: Mapping[str, Any] | None = None,
        context_id: str | None = None,
        *,
        source: str | None = None,
        max_parallel_tasks: int | None = None,
        history: bool = True,
    ) -> None:
        super().__init__(client, config_dict, processors, channels, context_id, source=source)
        if max_parallel_tasks is not None and max_parallel_tasks < 1:
            raise ValueError(f"max_parallel_tasks must be at least 1, not {max_parallel_tasks}")
        self.max_parallel_tasks = max_parallel_tasks
        self._start_over(history)

    def _start_over(self, history: bool, shared: Iterable[StepRecord] = ()) -> None:
        """An engine without tasks, and a history that begins with the steps of `shared`."""
        from .recorder import RunningHistory

        self._engine = Engine(self, self.max_parallel_tasks, history)
        self._samples = SampleNumbers()
        self.history: WorkflowHistory = RunningHistory(shared) if history else WorkflowHistory()
        """Every step that ended, in order; empty where it was switched off."""
        if isinstance(self.history, RunningHistory):
            self._engine.observers.append(self.history)

    # Building

    def add_task(self, task: Task, next_task: Task | None = None) -> None:
        """Put `task` into the workflow, to run before `next_task`; nothing is started.

        Adding a task or an edge again changes nothing. May be called from any thread.

        Args:
            task: The task to add.
            next_task: A task that runs after it and gets its output.

        Raises:
            LLMWorkflowError: A task belongs to another workflow, the edge would close a cycle, or
                `next_task` has already started.
        """
        engine = self._engine
        if next_task is None:
            engine.on_loop(lambda: engine.node(task, running_node()))
        else:
            engine.on_loop(lambda: engine.connect(task, next_task))

    @property
    def tasks(self) -> list[Task]:
        """All tasks, in the order they came; without a history, those that have not ended."""
        return [node.task for node in self._engine.nodes]

    def parents(self, task: Task) -> list[Task]:
        """The tasks that run before `task`, in the order they were added."""
        node = task._node if task.workflow is self else None
        return [parent.task for parent in node.parents] if node else []

    def observe(self, observer: WorkflowObserver) -> Callable[[], None]:
        """Tell `observer` of everything that happens from now on; returns how to stop that."""
        self._engine.observers.append(observer)
        return lambda: self._engine.observers.remove(observer)

    # Running

    async def run(self, start_task: Task) -> Task:
        """Run `start_task` and what follows it in sequence; returns the last task.

        Raises:
            TaskDependencyError: A task failed; all that failed are in ``failed_tasks``.
            LLMWorkflowError: The task belongs to another workflow.
        """
        await self.wait_tasks(start_task)
        return self._engine.node(start_task).tail.task

    async def wait_tasks(self, *tasks: Task, timeout: float | None = None) -> None:
        """Run `tasks` and all that they depend on, and wait until every one of them has ended.

        Args:
            tasks: What to wait for; unknown ones are added. Finished ones do not run again.
            timeout: Seconds. Does not count in tasks that are being stepped.

        Raises:
            TaskDependencyError: One of them failed, itself or through another; all tasks that
                failed are in ``failed_tasks``.
            asyncio.TimeoutError: Time is up. What ran for these tasks alone has been cancelled.
            LLMWorkflowError: A task belongs to another workflow, or would wait for itself; or
                tasks of this workflow run on another event loop.
        """
        added_by = running_node()
        targets = list(dict.fromkeys(self._engine.node(task, added_by) for task in tasks))
        await self._engine.wait_for(targets, timeout)
        raise_failures(targets)

    def debug(self, *tasks: Task) -> DebugRun:
        """A run of `tasks` and all that they depend on that goes on step by step.

        Args:
            tasks: What `run` or `wait_tasks` would be given. Nothing is started.

        Raises:
            LLMWorkflowError: A task belongs to another workflow, or the history is switched off.
        """
        from .debug import DebugRun

        return DebugRun.start(self, tasks)

    # To look at

    def __repr__(self) -> str:
        count = len(self._engine.nodes)
        return f"LLMWorkflow({self.context_id!r}, {count} task{'' if count == 1 else 's'})"

    def mermaid(self) -> str:
        """The graph as Mermaid text."""
        from .graph import graph_of
        from .mermaid import mermaid

        return mermaid(graph_of(self))

    def svg(self) -> str:
        """The graph with statuses, durations and tokens as an SVG picture."""
        from .graph import graph_of
        from .picture import svg

        return svg(graph_of(self))

    def _repr_html_(self) -> str:
        return self.svg()


def running_task() -> Task | None:
    """The task whose code this is, None outside of tasks."""
    node = running_node()
    return node.task if node is not None else None
