"""What earlier answers say about the next ones: how long they are, how long they take."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from .._ledger.table import CallRow
    from .engine import RowResult

__all__ = ["Experience", "experience_of_calls", "experience_of_results", "source_name"]

RECENT = 500
"""So many of the latest calls are looked at."""


class Experience(NamedTuple):
    """Of past answers; None where there are none."""

    answers: int = 0
    seconds: float | None = None
    """Mean time of an answer, queueing left out."""
    completion_tokens: float | None = None
    """Mean length of an answer."""
    shortest: float | None = None
    """The length that one answer in ten does not reach."""


def source_name(module_name: str, batch_id: str) -> str:
    """The source of a batch's calls, which tells the module again."""
    return f"batch/{module_name}/{batch_id}"


def _experience(seconds: Sequence[float], lengths: Sequence[int]) -> Experience:
    return Experience(
        max(len(seconds), len(lengths)),
        statistics.fmean(seconds) if seconds else None,
        statistics.fmean(lengths) if lengths else None,
        sorted(lengths)[len(lengths) // 10] if lengths else None,
    )


def experience_of_results(results: Iterable[RowResult | None]) -> Experience:
    """What this batch has seen so far; reused answers count where there are no others."""
    good = [r for r in results if r is not None and r.ok]
    seen = [r for r in good if not r.from_ledger] or good
    return _experience(
        [r.seconds for r in seen if r.seconds is not None],
        [r.completion_tokens for r in seen if r.completion_tokens is not None],
    )


def experience_of_calls(path: Path, module_name: str, model_name: str) -> Experience:
    """What a ledger has seen: of this module's batches where there are any, else of the model."""
    from .._ledger.reader import Ledger

    if path.suffix == ".jsonl" or not path.exists():
        return Experience()
    calls = Ledger(path).calls(RECENT, model=model_name, status="stop")
    asked = [row for row in calls if row.kind == "call" and not row.from_ledger]
    prefix = source_name(module_name, "")
    own = [row for row in asked if (row.source or "").startswith(prefix)]
    return _of_rows(own) if own else _of_rows(asked)._replace(completion_tokens=None, shortest=None)


def _of_rows(rows: Sequence[CallRow]) -> Experience:
    return _experience(
        [r.total_response_time for r in rows if r.total_response_time is not None],
        [r.completion_tokens for r in rows if r.completion_tokens is not None],
    )
