"""The record of a workflow: every step that ran, what went in, what came out, what it chose.

A step is written once, when its task ends, and never changed: inputs and outputs are copies. It
saves to JSON for reading later; nothing in the file is ever executed.
"""

from __future__ import annotations

import html
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, overload

from .snapshots import from_json, snapshot, to_json
from .tasks import TaskStatus

if TYPE_CHECKING:
    import pandas as pd

    from .._datamodel import LLMModuleResult
    from .call import Call
    from .tasks import Task

__all__ = ["History", "StepCall", "StepRecord", "WorkflowHistory"]

FORMAT_VERSION = 1


class StepCall(NamedTuple):
    """One call of a model that a step made."""

    model_name: str
    module_name: str | None
    messages: list[dict[str, Any]]
    """As sent, fields that are not set left out."""
    status: str
    text: str = ""
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = []  # noqa: RUF012 - never changed
    error: str | None = None
    attempts: list[dict[str, Any]] = []  # noqa: RUF012 - never changed
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    from_ledger: bool = False
    sample: int = 0


class StepRecord(NamedTuple):
    """One step, as it was when it ended."""

    number: int
    """Counts the steps in the order they started, from 1."""
    task_id: str
    task_name: str
    description: str
    status: str
    """Name of a `TaskStatus`."""
    started: float | None
    """Unix time; None for a step that never started."""
    ended: float
    seconds: float | None
    parents: list[str]
    """Task ids of the tasks before it."""
    inside: str | None
    """Task id of the step that added it while running, if any."""
    input: Any
    """The arguments it ran with."""
    calls: list[StepCall]
    output: Any
    next_task: str | None
    """Task id of what follows in sequence."""
    next_name: str | None
    why: str
    """How the next task was chosen: ``"next_task"``, or ``"tool call"`` with the tool's name."""
    error: str | None

    @property
    def tokens(self) -> int | None:
        """Tokens of all calls; None where there was no call or a vendor did not say."""
        counts = [(c.prompt_tokens, c.completion_tokens) for c in self.calls]
        known = [p + c for p, c in counts if p is not None and c is not None]
        return sum(known) if known and len(known) == len(counts) else None

    @property
    def cost(self) -> float | None:
        """Money of all calls; None where there was no call or a price is missing."""
        costs = [c.cost for c in self.calls]
        known = [c for c in costs if c is not None]
        return sum(known) if known and len(known) == len(costs) else None

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in _facts(self).items())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            "<td><pre style='margin:0;white-space:pre-wrap'>"
            f"{html.escape(str(value))}</pre></td></tr>"
            for name, value in _facts(self).items()
        )
        return f"<table>{rows}</table>"


def _facts(record: StepRecord) -> dict[str, Any]:
    facts = {
        "step": f"{record.number} {record.task_name} ({record.task_id})",
        "status": record.status,
        "seconds": record.seconds if record.seconds is None else round(record.seconds, 3),
        "input": record.input,
    }
    for index, call in enumerate(record.calls, 1):
        which = "" if len(record.calls) == 1 else f" {index}"
        sent = "\n".join(f"[{m.get('role')}] {m.get('content')}" for m in call.messages)
        facts[f"sent{which}"] = sent
        facts[f"answer{which}"] = call.text or call.tool_calls or call.error
    facts |= {"output": record.output, "next": record.next_name, "error": record.error}
    return {name: value for name, value in facts.items() if value is not None}


class History(Sequence[StepRecord]):
    """Steps in the order they ended; shows itself as a table."""

    def __init__(self, records: Sequence[StepRecord] = ()) -> None:
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> StepRecord: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> StepRecord | History:
        if isinstance(index, slice):
            return History(self._records[index])
        return self._records[index]

    def __iter__(self) -> Iterator[StepRecord]:
        return iter(list(self._records))

    def of(self, task: Task | str) -> StepRecord | None:
        """The step of a task (or of a task id), None where it has not ended."""
        task_id = task if isinstance(task, str) else task.task_id
        return next((r for r in self._records if r.task_id == task_id), None)

    # As a table

    def dicts(self) -> list[dict[str, Any]]:
        """One dictionary per step, with tokens and cost summed."""
        return [r._asdict() | {"tokens": r.tokens, "cost": r.cost} for r in self._records]

    def frame(self) -> pd.DataFrame:
        """One row per step.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        import pandas as pd

        return pd.DataFrame(self.dicts(), columns=[*StepRecord._fields, "tokens", "cost"])

    def __repr__(self) -> str:
        if not self._records:
            return "no steps"
        cells = [list(_COLUMNS), *self._cells()]
        widths = [max(len(row[i]) for row in cells) for i in range(len(_COLUMNS))]
        return "\n".join(
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in cells
        )

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._cells()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _cells(self) -> list[list[str]]:
        return [[_cell(show(r)) for show in _COLUMNS.values()] for r in self._records]

    # As a file

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the steps as JSON; what JSON has no word for is kept as marked text."""
        content = {
            "aitoolman": "workflow history",
            "version": FORMAT_VERSION,
            "steps": [to_json(record._asdict()) for record in self._records],
        }
        target = Path(path)
        scratch = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            scratch.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The steps of a file that `save` wrote, for reading.

        Raises:
            ValueError: The file is no saved history, or of a newer version.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["aitoolman"] != "workflow history":
                raise KeyError
            if content["version"] > FORMAT_VERSION:
                raise ValueError(f"{path} is of a newer aitoolman; update aitoolman")
            return cls([_record(step) for step in content["steps"]])
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as exc:
            raise ValueError(f"{path} is no saved workflow history") from exc


def _record(step: dict[str, Any]) -> StepRecord:
    values = {name: from_json(step.get(name)) for name in StepRecord._fields}
    values["calls"] = [StepCall(**call) for call in values["calls"]]
    return StepRecord(**values)


_COLUMNS: dict[str, Callable[[StepRecord], Any]] = {
    "step": lambda r: r.number,
    "task": lambda r: r.task_name,
    "status": lambda r: r.status,
    "seconds": lambda r: None if r.seconds is None else f"{r.seconds:.2f}",
    "tokens": lambda r: r.tokens,
    "cost": lambda r: None if r.cost is None else f"{r.cost:.6f}",
    "input": lambda r: r.input,
    "output": lambda r: r.output if r.error is None else r.error,
    "next": lambda r: r.next_name,
}
_SHOWN = 50


def _cell(value: Any) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


class _Open(NamedTuple):
    """A step that runs."""

    number: int
    started: float
    clock: float
    inputs: Any


class WorkflowHistory(History):
    """The history that a workflow writes while it runs."""

    def __init__(self, records: Sequence[StepRecord] = ()) -> None:
        super().__init__(records)
        self._count = max((r.number for r in records), default=0)
        self._open: dict[Task, _Open] = {}
        self._calls: dict[Task, list[StepCall]] = {}
        self._inside: dict[Task, str] = {}
        self.on_change: list[Callable[[], None]] = []
        """Called after every change; a live view redraws itself there."""

    def task_added(self, task: Task) -> None:
        from .workflow import running_task

        parent = running_task()
        if parent is not None and parent is not task and parent.workflow is task.workflow:
            self._inside[task] = parent.task_id
        self._changed()

    def task_started(self, task: Task, inputs: Mapping[str, Any]) -> None:
        self._count += 1
        kept = snapshot(dict(inputs))
        self._open[task] = _Open(self._count, time.time(), time.perf_counter(), kept)
        self._changed()

    def task_called(self, task: Task, call: Call, result: LLMModuleResult) -> None:
        self._calls.setdefault(task, []).append(_step_call(call, result))
        self._changed()

    def task_waits(self, task: Task, targets: Sequence[Task]) -> None:
        self._changed()

    def task_ended(self, task: Task, reason: str) -> None:
        opened = self._open.pop(task, None)
        if opened is None:
            self._count += 1
        after = task.next_task if task.status is TaskStatus.COMPLETED else None
        assert task.workflow is not None
        self._records.append(
            StepRecord(
                number=opened.number if opened else self._count,
                task_id=task.task_id,
                task_name=task.task_name,
                description=task.description,
                status=task.status.name,
                started=opened.started if opened else None,
                ended=time.time(),
                seconds=time.perf_counter() - opened.clock if opened else None,
                parents=[parent.task_id for parent in task.workflow.parents(task)],
                inside=self._inside.pop(task, None),
                input=opened.inputs if opened else None,
                calls=self._calls.pop(task, []),
                output=snapshot(task.output_data),
                next_task=after.task_id if after else None,
                next_name=after.task_name if after else None,
                why=reason,
                error=None if task.error is None else _error_text(task.error),
            )
        )
        self._changed()

    def _changed(self) -> None:
        for tell in self.on_change:
            tell()


def _error_text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _step_call(call: Call, result: LLMModuleResult) -> StepCall:
    messages = [
        {k: to_json(v) for k, v in message._asdict().items() if v is not None}
        for message in result.request.messages
    ]
    return StepCall(
        model_name=result.model_name,
        module_name=result.module_name,
        messages=messages,
        status=result.status.value,
        text=result.response_text,
        reasoning=result.response_reasoning,
        tool_calls=[to_json(c._asdict()) for c in result.tool_calls],
        error=result.error_text,
        attempts=[a._asdict() for a in result.attempts],
        prompt_tokens=result.prompt_tokens,
        completion_tokens=result.completion_tokens,
        cost=result.cost,
        from_ledger=result.from_ledger,
        sample=call.sample or 0,
    )
