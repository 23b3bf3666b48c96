"""The record of a workflow: its steps as a table, a dataframe, a picture, a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from .jsonable import from_json, to_json
from .snapshots import as_text, snapshot
from .steps import StepCall, StepRecord
from .tables import table_html, table_text

if TYPE_CHECKING:
    import pandas as pd

    from .tasks import Task

__all__ = ["WorkflowHistory"]

FORMAT_VERSION = 1
T = TypeVar("T", StepCall, StepRecord)


class WorkflowHistory(Sequence[StepRecord]):
    """Steps in the order they ended; shows itself as a table."""

    def __init__(self, records: Iterable[StepRecord] = ()) -> None:
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> StepRecord: ...
    @overload
    def __getitem__(self, index: slice) -> WorkflowHistory: ...
    def __getitem__(self, index: int | slice) -> StepRecord | WorkflowHistory:
        if isinstance(index, slice):
            return WorkflowHistory(self._records[index])
        return self._records[index]

    def __iter__(self) -> Iterator[StepRecord]:
        return iter(list(self._records))

    def of(self, task: Task | str) -> StepRecord | None:
        """The last step of a task (or of a task id), None where it has not ended."""
        task_id = task if isinstance(task, str) else task.task_id
        return next((r for r in reversed(self._records) if r.task_id == task_id), None)

    # As a table

    def dicts(self) -> list[dict[str, Any]]:
        """One dictionary per step, with tokens and cost summed."""
        return [
            snapshot(record._asdict()) | {"tokens": record.tokens, "cost": record.cost}
            for record in self._records
        ]

    def frame(self) -> pd.DataFrame:
        """One row per step.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        import pandas as pd

        return pd.DataFrame(self.dicts(), columns=[*StepRecord._fields, "tokens", "cost"])

    def __repr__(self) -> str:
        return table_text(self.with_running())

    def _repr_html_(self) -> str:
        return table_html(self.with_running())

    def with_running(self) -> list[StepRecord]:
        """The steps that ended, and after them those that run, as they are now."""
        return list(self._records)

    def svg(self) -> str:
        """The graph of these steps as an SVG picture."""
        from .graph import graph_of_steps
        from .picture import svg

        return svg(graph_of_steps(self.with_running()))

    def mermaid(self) -> str:
        """The graph of these steps as Mermaid text."""
        from .graph import graph_of_steps
        from .mermaid import mermaid

        return mermaid(graph_of_steps(self.with_running()))

    # As a file

    def to_json(self) -> str:
        """The steps as JSON text; what JSON has no word for is kept as marked text."""
        content = {
            "aitoolman": "workflow history",
            "version": FORMAT_VERSION,
            "steps": [to_json(record._asdict()) for record in self._records],
        }
        return json.dumps(content, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The steps of a text that `to_json` gave, for reading. Nothing in it is executed.

        Raises:
            ValueError: The text is no saved history, or of a newer version.
        """
        try:
            return cls(_records(json.loads(text)))
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as exc:
            if isinstance(exc, _NewerError):
                raise
            raise ValueError(f"no saved workflow history ({type(exc).__name__}: {exc})") from exc

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` to a file; readers see the old file or the new one."""
        target = Path(path)
        scratch = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            scratch.write_text(self.to_json(), encoding="utf-8")
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The steps of a file that `save` wrote, for reading. Nothing in it is executed.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file is no saved history, or of a newer version.
        """
        content = Path(path).read_bytes()
        try:
            return cls.from_json(content)
        except ValueError as exc:
            raise ValueError(f"{os.fspath(path)}: {exc}") from exc


class _NewerError(ValueError):
    pass


def _records(content: Any) -> list[StepRecord]:
    if content["aitoolman"] != "workflow history" or type(content["version"]) is not int:
        raise ValueError("other content")
    if content["version"] > FORMAT_VERSION:
        raise _NewerError("a saved workflow history of a newer aitoolman; update aitoolman")
    return [_record(step) for step in content["steps"]]


def _record(step: dict[str, Any]) -> StepRecord:
    values = {name: from_json(step[name]) for name in StepRecord._fields}
    values["calls"] = tuple(_typed(StepCall(**call), _CALL_TYPES) for call in values["calls"])
    return _typed(StepRecord(**values), _STEP_TYPES)


def _typed(record: T, types: Mapping[str, Any]) -> T:
    """`record`, or `TypeError` where a field is not what its table and picture expect."""
    for name, kind in types.items():
        value = getattr(record, name)
        if not isinstance(value, kind) or not _items_fit(name, value):
            raise TypeError(f"{name} is {as_text(value)[:50]}")
    return record


def _items_fit(name: str, value: Any) -> bool:
    return (
        all(isinstance(item, _ITEM_TYPES[name]) for item in value) if name in _ITEM_TYPES else True
    )


_NUMBER = int | float | None
_STEP_TYPES: dict[str, Any] = {
    "number": int,
    "parents": tuple,
    "waits_for": tuple,
    **dict.fromkeys(["task_id", "task_name", "description", "status", "why"], str),
    **dict.fromkeys(["inside", "next_task", "next_name", "error"], str | None),
    **dict.fromkeys(["started", "ended", "seconds"], _NUMBER),
}
_ITEM_TYPES: dict[str, type] = {"parents": str, "waits_for": str, "messages": dict}
_CALL_TYPES: dict[str, Any] = {
    "messages": list,
    **dict.fromkeys(["prompt_tokens", "completion_tokens", "cost"], _NUMBER),
}
