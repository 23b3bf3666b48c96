"""A run that goes on step by step: look at what comes next, let it go, look at what came."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from .._datamodel import LLMWorkflowError, did_you_mean
from .._sync import Sync
from .failures import raise_failures
from .peek import Peek, peek_at
from .recorder import RunningHistory
from .scheduling import Node, Wait
from .stepper import Stepper
from .tasks import Task

if TYPE_CHECKING:
    from types import TracebackType

    from .steps import StepRecord
    from .workflow import LLMWorkflow

__all__ = ["DebugRun"]

Stop = str | type[Task] | Task | Callable[[Task], Any]


class DebugRun:
    """Steps through tasks of a workflow: made by ``workflow.debug(*tasks)``.

    One step runs one ready task until it ends, or until it waits in `wait_tasks` for others, which
    are ready then; when they have ended, going on with the waiting task is a step of its own. A
    step that is cancelled or interrupted is taken back: it is ready again.

    Attributes:
        workflow: What the tasks belong to; a fork has one of its own.
        history: The workflow's record, growing with each step.
        parent: The run that this one was forked from, None where it was not.
        forked_at: The step that a fork is paused before, None where it is no fork.
    """

    def __init__(
        self,
        workflow: LLMWorkflow,
        targets: list[Node],
        *,
        parent: DebugRun | None = None,
        start: Node | None = None,
    ) -> None:
        self.workflow = workflow
        self.parent = parent
        self.forked_at = start.task if start else None
        self._first = start
        self._stepper = stepper = Stepper(workflow._engine)
        stepper.wait = Wait(targets, stepper=stepper)
        workflow._engine.demand(targets, stepper.wait)
        self._drop = weakref.finalize(self, stepper.drop)
        self._drop.atexit = False

    @classmethod
    def start(cls, workflow: LLMWorkflow, tasks: tuple[Task, ...]) -> Self:
        """A run of `tasks`, paused before the first step.

        Raises:
            LLMWorkflowError: There is no task, or no history to step by.
        """
        if not isinstance(workflow.history, RunningHistory):
            raise LLMWorkflowError("stepping needs the record: LLMWorkflow(..., history=True)")
        if not tasks:
            raise LLMWorkflowError("give debug() the tasks that run() or wait_tasks() would get")
        targets = dict.fromkeys(workflow._engine.node(task) for task in tasks)
        return cls(workflow, list(targets))

    # Looking

    @property
    def history(self) -> RunningHistory:
        """Every step that ended, in order; its table also shows what waits."""
        assert isinstance(self.workflow.history, RunningHistory)
        return self.workflow.history

    @property
    def ready(self) -> list[Task]:
        """The tasks that `step` can take, the next one first."""
        return [node.task for node in self._ready()]

    @property
    def done(self) -> bool:
        """True once everything that the run is for has ended."""
        return all(node.settled for node in self._targets)

    @property
    def last_task(self) -> Task:
        """Where the sequence of the (last) task given has got to."""
        node = self._targets[-1]
        while node.follower is not None:
            node = node.follower
        return node.task

    def task(self, which: Task | StepRecord | int | str) -> Task:
        """The task of this run for a task of its parent, a step, its number, id or name.

        Raises:
            LLMWorkflowError: There is none, or a name fits several.
        """
        from .lookup import find_node

        return find_node(self.workflow, which).task

    def peek(self, name: str | type[Task] | Task | None = None) -> Peek | None:
        """What the next task would receive and, for an `LLMTask`, the exact messages it would send.

        Nothing is run or sent. None where nothing is ready.

        Args:
            name: Of another ready task, see `step`.
        """
        if name is None and not self._ready():
            return None
        return peek_at(self.workflow, self._choose(name))

    # Going on

    async def step(self, name: str | type[Task] | Task | None = None) -> StepRecord:
        """Run one ready task until it ends or waits for others, and return its record.

        A task that fails is a record with its error; nothing is raised.

        Args:
            name: Which one, where several are ready: its name, class or the task itself.

        Raises:
            LLMWorkflowError: Nothing is ready, or not this task; or the run is closed.
        """
        node = self._choose(name)
        self.workflow._engine.enter_loop()
        await self._stepper.step(node)
        record = self.history.current(node.task)
        assert record is not None
        return record

    async def until(self, stop: Stop) -> Task | None:
        """Step until `stop` is next, and return it; None where the run ends before.

        Args:
            stop: The next task's name, class, the task itself, or a condition that is called with
                the next task before each step.
        """
        while ready := self._ready():
            if _is_at(stop, ready[0]):
                return ready[0].task
            await self.step(ready[0].task)
        return None

    async def finish(self) -> Task:
        """Run all the rest without pauses; returns the last task, as ``workflow.run`` does.

        Cancelled or interrupted, what worked is taken back and the run is paused there.

        Raises:
            TaskDependencyError: A task failed; all that failed are in ``failed_tasks``.
            LLMWorkflowError: The run is closed.
        """
        self._check_open()
        self.workflow._engine.enter_loop()
        await self._stepper.finish()
        raise_failures(self._targets)
        return self.last_task

    def fork(
        self,
        step: StepRecord | int | Task | str,
        *,
        input_data: Any = None,
        output_data: Any = ...,
        task: Task | None = None,
    ) -> DebugRun:
        """A new run, paused before a step of this one, for another way to go on.

        It has a workflow of its own and shares what does not come after the step; only the step
        and what comes after it run again, with modules and templates as they are now. A step
        inside of a task that waited for it cannot be repeated alone: the fork begins with the
        outermost such task, whose functions run again. This run stays as it is.

        Args:
            step: The record, its number, the task, or its name.
            input_data: Changed arguments (for an `LLMTask`, template parameters) over those the
                task was given; or a whole request in place of the `LLMTask`'s.
            output_data: The output, in place of running the step. `LLMTask.post_process` still
                runs, with this as the answer's data; any other task chooses what it chose.
            task: A task that has not run, in place of the step's.

        Raises:
            LLMWorkflowError: There is no such step; or a change for a step that another task will
                make anew.
        """
        from .fork import Change, fork_run

        return fork_run(self, step, Change(input_data, output_data, task))

    @property
    def sync(self) -> Any:
        """The same names for code that does not await."""
        return Sync(self, self.workflow.client)

    # Ending

    async def close(self) -> None:
        """End what is half-way; steps that have ended stay in the record. Again is fine."""
        self._drop.detach()
        await self._stepper.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # Inside

    @property
    def _targets(self) -> list[Node]:
        return self._stepper.wait.targets

    def _ready(self) -> list[Node]:
        """Ready nodes; where a fork begins, the step that it is about is the first."""
        return sorted(self._stepper.ready, key=lambda node: node is not self._first)

    def _choose(self, name: str | type[Task] | Task | None) -> Node:
        self._check_open()
        ready = self._ready()
        if not ready:
            raise LLMWorkflowError(self._nothing_ready())
        if name is None:
            return ready[0]
        found = [node for node in ready if _is_called(name, node.task)]
        if not found:
            hint = did_you_mean(str(name), {node.task.task_name for node in ready})
            raise LLMWorkflowError(f"{name!r} is not ready; {hint}")
        return found[0]

    def _nothing_ready(self) -> str:
        failed = [t for t in self.workflow.tasks if t.status.name == "FAILED"]
        if failed:
            return f"nothing is ready: {failed[-1]!r} failed; fork(...) to try again from a step"
        return "nothing is ready: the run has ended" if self.done else "nothing is ready"

    def _check_open(self) -> None:
        if self._stepper.closed:
            raise LLMWorkflowError("this run is closed; fork() it to go on from one of its steps")

    # To look at

    def __repr__(self) -> str:
        names = ", ".join(task.task_name for task in self.ready[:5]) or "nothing"
        state = "closed" if self._stepper.closed else "ended" if self.done else f"next: {names}"
        return f"DebugRun({len(self.history)} steps, {state})"

    def svg(self) -> str:
        """The graph as it stands, as an SVG picture."""
        return self.workflow.svg()

    def mermaid(self) -> str:
        """The graph as it stands, as Mermaid text."""
        return self.workflow.mermaid()

    def _repr_html_(self) -> str:
        return self.svg() + self.history._repr_html_()


def _is_called(name: str | type[Task] | Task, task: Task) -> bool:
    if isinstance(name, type):
        return isinstance(task, name)
    return name is task or name in (task.task_name, task.task_id)


def _is_at(stop: Stop, node: Node) -> bool:
    task = node.task
    if not isinstance(stop, str | type | Task):
        return bool(stop(task))
    starts = node.job is None
    return starts and _is_called(stop, task)
