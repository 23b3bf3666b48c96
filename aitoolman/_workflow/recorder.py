"""The history that a workflow writes while it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .history import WorkflowHistory
from .snapshots import snapshot
from .steps import StepCall, StepRecord
from .tasks import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .._application.call import Call
    from .._datamodel import LLMModuleResult
    from .tasks import Task

__all__ = ["RunningHistory"]


class _Open(NamedTuple):
    """A step that runs."""

    task: Task
    number: int
    started: float
    clock: float
    inputs: Any
    calls: list[StepCall]


class RunningHistory(WorkflowHistory):
    """Hears of everything that happens in a workflow, and writes a step down when it ends.

    As a sequence it holds what has ended; its table also shows what runs.

    Attributes:
        on_change: Called after every change; a live view redraws itself there.
    """

    def __init__(self, records: Iterable[StepRecord] = ()) -> None:
        super().__init__(records)
        self._count = max((r.number for r in self._records), default=0)
        self._open: dict[str, _Open] = {}  # by task id
        self.on_change: list[Callable[[], Any]] = []

    # As a WorkflowObserver

    def task_added(self, task: Task) -> None:
        self._changed()

    def task_started(self, task: Task, inputs: Mapping[str, Any]) -> None:
        kept = snapshot(dict(inputs))
        self._open[task.task_id] = _Open(
            task, self._next(), time.time(), time.perf_counter(), kept, []
        )
        self._changed()

    def task_called(self, task: Task, call: Call, result: LLMModuleResult) -> None:
        if task.task_id in self._open:
            self._open[task.task_id].calls.append(_step_call(call, result))
        self._changed()

    def task_waits(self, task: Task, targets: Sequence[Task]) -> None:
        self._changed()

    def task_goes_on(self, task: Task) -> None:
        self._changed()

    def task_ended(self, task: Task, reason: str) -> None:
        step = self._open.pop(task.task_id, None)
        self._records.append(self._record(task, step, reason))
        self._changed()

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _changed(self) -> None:
        for tell in self.on_change:
            tell()

    # Records

    def current(self, task: Task) -> StepRecord | None:
        """A running step as it is now, else the last one that ended; None before it started."""
        step = self._open.get(task.task_id)
        return self.of(task) if step is None else self._record(task, step, "")

    def with_running(self) -> list[StepRecord]:
        running = [self._record(step.task, step, "") for step in list(self._open.values())]
        return self._records + running

    def _record(self, task: Task, step: _Open | None, reason: str) -> StepRecord:
        node = task._node
        assert node is not None
        ended = task.status.is_final
        after = task.next_task if task.status is TaskStatus.COMPLETED else None
        waits = [] if ended else [n.task.task_id for w in node.waiting_for for n in w.targets]
        return StepRecord(
            number=step.number if step else self._next(),
            task_id=task.task_id,
            task_name=task.task_name,
            description=task.description,
            status="WAITING" if waits else task.status.name,
            started=step.started if step else None,
            ended=time.time() if ended else None,
            seconds=time.perf_counter() - step.clock if step else None,
            parents=tuple(parent.task.task_id for parent in node.parents),
            inside=node.inside.task.task_id if node.inside else None,
            input=step.inputs if step else None,
            calls=tuple(step.calls) if step else (),
            output=snapshot(task.output_data) if ended else None,
            next_task=after.task_id if after else None,
            next_name=after.task_name if after else None,
            why=reason,
            error=None if task.error is None else _error_text(task.error),
            waits_for=tuple(waits),
        )


def _error_text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _step_call(call: Call, result: LLMModuleResult) -> StepCall:
    request = result.request
    sent = [{k: v for k, v in m._asdict().items() if v is not None} for m in request.messages]
    return StepCall(
        model_name=result.model_name,
        module_name=result.module_name,
        messages=snapshot(sent),
        status=result.status.value,
        text=result.response_text,
        reasoning=result.response_reasoning,
        tool_calls=snapshot([tool_call._asdict() for tool_call in result.tool_calls]),
        error=result.error_text,
        attempts=[attempt._asdict() for attempt in result.attempts],
        prompt_tokens=result.prompt_tokens,
        completion_tokens=result.completion_tokens,
        cost=result.cost,
        from_ledger=result.from_ledger,
        sample=call.sample or 0,
        tools=snapshot(request.tools or {}),
        options=snapshot(request.options or {}),
    )
