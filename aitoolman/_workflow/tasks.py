"""Tasks: the steps of a workflow, written by the developer.

A `Task` runs a function of yours, an `LLMTask` a call of a model. Neither decides anything by
itself: what comes next is what your code puts into `next_task` or adds to the workflow.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import enum
import secrets
from typing import TYPE_CHECKING, Any, Self

from .._datamodel import (
    FinishReason,
    LLMApplicationError,
    LLMDirectRequest,
    LLMModuleRequest,
    LLMModuleResult,
    LLMWorkflowError,
    did_you_mean,
)
from .._sync import call_user_function
from .snapshots import duplicate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._datamodel import ToolCall
    from .scheduling import Given, Node
    from .workflow import LLMWorkflow

__all__ = ["LLMTask", "Task", "TaskStatus"]

_STATE = frozenset(
    {"task_id", "status", "output_data", "error", "workflow", "module_result", "_node"}
)
"""Attributes that say how far a task is; all others are the task's own."""


class TaskStatus(enum.Enum):
    """Where a task stands."""

    INIT = 0
    """Made, in no workflow yet."""
    WAITING = 1
    """In a workflow, not started."""
    RUNNING = 2
    COMPLETED = 3
    FAILED = 4
    """Its own code, call or input failed, or it was cancelled: see `Task.error`."""
    DEPENDENCY_FAILED = 5
    """A task before it failed, so it never started."""

    @property
    def is_final(self) -> bool:
        """True once nothing more happens to the task."""
        return self not in (TaskStatus.INIT, TaskStatus.WAITING, TaskStatus.RUNNING)


class Task:
    """A step that runs a function: override `run`, or give one to `set_func`.

    Args:
        input_data: Arguments for `run`, by name. What is missing comes from the tasks before it,
            see docs/workflow.md.
        workflow: The workflow to belong to; else the one it is added to.

    Attributes:
        input_data: As given.
        output_data: What `run` returned; None before.
        next_task: The task that follows in sequence; set it before or while the task runs.
        status: A `TaskStatus`.
        error: Why the task failed, None otherwise.
        workflow: The workflow it belongs to.
        task_id: Unique; a clone has another one.
        task_name: The class's name, or the tool's name when a tool call led here.
    """

    description: str = ""
    """A sentence for people, shown in tables and pictures."""

    def __init__(
        self,
        input_data: Any = None,
        workflow: LLMWorkflow | None = None,
    ) -> None:
        self.input_data = input_data
        self.task_name = type(self).__name__
        self._func: Callable[..., Any] | None = None
        self._reset()
        if workflow is not None:
            workflow.add_task(self)

    def _reset(self) -> None:
        """The state of a task that has not run."""
        self.task_id = secrets.token_hex(6)
        self.status = TaskStatus.INIT
        self.output_data: Any = None
        self.next_task: Task | None = None
        self.chosen_by = "next_task"
        self.error: BaseException | None = None
        self.workflow: LLMWorkflow | None = None
        self._node: Node | None = None

    def __repr__(self) -> str:
        return f"{self.task_name}({self.task_id}, {self.status.name})"

    def __getstate__(self) -> dict[str, Any]:
        """A pickled or deep copy stands alone: it belongs to no workflow and to no other task."""
        alone = {"workflow": None, "_node": None, "next_task": None}
        return {**vars(self), **alone}

    def set_func(self, fn: Callable[..., Any]) -> None:
        """Run `fn`, sync or async, instead of the `run` method."""
        self._func = fn

    async def run(self, **input_data: Any) -> Any:
        """The step itself; what it returns becomes `output_data`. Override it, sync or async."""
        raise NotImplementedError(
            f"{type(self).__name__} has nothing to run: override run() or call set_func()"
        )

    def clone(self) -> Self:
        """A task of the same class with the same input and function, that has not run."""
        twin = copy.copy(self)
        twin._reset()
        return twin

    # For the workflow

    @property
    def function(self) -> Callable[..., Any]:
        """What will be run."""
        return self._func if self._func is not None else self.run

    async def _perform(self, inputs: dict[str, Any]) -> Any:
        """Do the step with the inputs that were bound."""
        return await call_user_function(self.function, **inputs)

    async def _perform_given(self, given: Given) -> Any:
        """The step with its output given by a fork: nothing runs."""
        self.next_task, self.chosen_by = given.next_task, given.chosen_by
        return given.output

    def _attributes(self) -> dict[str, Any]:
        """The task's own attributes as they are now, copied where they can be."""
        own = {name: value for name, value in vars(self).items() if name not in _STATE}
        return {name: duplicate(value) for name, value in own.items()}

    def _restore(self, attributes: dict[str, Any] | None) -> None:
        """Be as before the run, with attributes that `_attributes` gave."""
        if attributes is not None:
            for name in vars(self).keys() - _STATE - attributes.keys():
                delattr(self, name)
            vars(self).update(attributes)
        self.output_data = self.error = None


class TaskEnds(BaseException):
    """Leaves `post_process` early. No Exception, so that user code does not catch it by chance."""


class LLMTask(Task):
    """A step that calls a model and looks at its answer in `post_process`.

    Args:
        input_data: The request. Template variables that a module request leaves open come from the
            tasks before it.
        workflow: The workflow to belong to; else the one it is added to.

    Attributes:
        output_data: The result's ``data``, unless `post_process` sets something else.
        module_result: The whole result, once the model has answered.
    """

    module_result: LLMModuleResult | None

    def __init__(
        self,
        input_data: LLMModuleRequest | LLMDirectRequest | None = None,
        workflow: LLMWorkflow | None = None,
    ) -> None:
        super().__init__(input_data, workflow)

    def _reset(self) -> None:
        super()._reset()
        self.module_result = None

    async def post_process(self, module_result: LLMModuleResult) -> None:
        """Look at the answer; override it to choose `next_task` or to handle tool calls."""

    def on_tool_call_goto(self, **kwargs: Callable[[], Task]) -> None:
        """For `post_process`: let the model's first tool call choose the next task.

        Returns where the model called no tool. Otherwise the task class (or function) given under
        the tool's name is called without arguments and becomes `next_task`; the call's arguments
        become its input, for an `LLMTask` its template parameters. The rest of `post_process` is
        skipped.

        Raises:
            LLMApplicationError: Nothing is given for the tool, or its arguments are no JSON object.
        """
        result = self._answered()
        if not result.tool_calls:
            return
        call = result.tool_calls[0]
        arguments = _checked_call(self.task_name, call, kwargs)
        target = kwargs[call.name]()
        target.task_name = call.name
        take_arguments(target, arguments)
        self.next_task = target
        self.chosen_by = f"tool call {call.name}"
        raise TaskEnds

    async def run_tool_calls(self, **kwargs: Callable[..., Any]) -> None:
        """For `post_process`: run the tools the model called, and carry on the dialogue.

        Returns where the model called no tool. Otherwise the functions given under the tools' names
        are run, `next_task` becomes a clone of this task that carries the follow-up request, and
        the rest of `post_process` is skipped.
        """
        follow_up = await self._answered().run_tool_calls(kwargs)
        if follow_up is None:
            return
        twin = self.clone()
        twin.input_data = follow_up
        self.next_task = twin
        self.chosen_by = "tool results"
        raise TaskEnds

    def _answered(self) -> LLMModuleResult:
        if self.module_result is None:
            raise LLMWorkflowError(
                f"{self.task_name}: there is no answer yet; call this in post_process"
            )
        return self.module_result

    async def _perform(self, inputs: dict[str, Any]) -> Any:
        assert self.workflow is not None
        result = await self.workflow.call(self._request_with(inputs))
        self.module_result = result
        result.raise_for_status()
        return await self._look_at(result)

    async def _perform_given(self, given: Given) -> Any:
        """The model is not asked; `post_process` sees the answer with the data that was given."""
        result = given.result or LLMModuleResult("", None, LLMDirectRequest("", []))
        self.module_result = dataclasses.replace(
            result, data=given.output, status=FinishReason.stop, error_text=None
        )
        return await self._look_at(self.module_result)

    async def _look_at(self, result: LLMModuleResult) -> Any:
        self.output_data = result.data
        with contextlib.suppress(TaskEnds):
            await call_user_function(self.post_process, result)
        return self.output_data

    def _restore(self, attributes: dict[str, Any] | None) -> None:
        super()._restore(attributes)
        self.module_result = None

    def _request_with(self, inputs: dict[str, Any]) -> LLMModuleRequest | LLMDirectRequest:
        """The request with the variables that came along the edges."""
        request = self.input_data
        if isinstance(request, LLMModuleRequest):
            return request._replace(template_params=inputs)
        if isinstance(request, LLMDirectRequest):
            return request
        raise LLMWorkflowError(
            f"{self.task_name} has no request: give it an LLMModuleRequest or an LLMDirectRequest"
        )


def _checked_call(task_name: str, call: ToolCall, targets: Iterable[str]) -> dict[str, Any]:
    """The arguments of a tool call that leads to one of `targets`."""
    if call.name not in targets:
        raise LLMApplicationError(
            f"{task_name}: the model called {call.name!r}, but no task is given for it;"
            f" {did_you_mean(call.name, targets)}"
        )
    if call.arguments is None:
        raise LLMApplicationError(
            f"{task_name}: the arguments of {call.name!r} are no JSON object:"
            f" {call.arguments_text[:200]}"
        )
    return call.arguments


def take_arguments(task: Task, arguments: dict[str, Any]) -> None:
    """Make a tool call's arguments the input of the task it leads to."""
    if isinstance(task.input_data, LLMModuleRequest):
        params = {**task.input_data.template_params, **arguments}
        task.input_data = task.input_data._replace(template_params=params)
    elif isinstance(task, LLMTask):
        raise LLMWorkflowError(
            f"{type(task).__name__} is reached by a tool call, so it needs an LLMModuleRequest that"
            " the call's arguments can fill"
        )
    else:
        task.input_data = {**(task.input_data or {}), **arguments}
