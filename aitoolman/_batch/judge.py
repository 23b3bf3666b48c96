"""Answers held against labels: how many are right, of which class, and which rows are not."""

from __future__ import annotations

import enum
import html
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import LLMApplicationError, did_you_mean
from .binding import is_missing
from .frame import answer_columns
from .result import BAD_ANSWER, rows_of
from .words import money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .engine import RowResult
    from .result import Batch

__all__ = ["NO_ANSWER", "ClassScore", "Judged", "Judgement", "judge", "judged_rows", "wilson"]

NO_ANSWER = "(no answer)"
"""The class of answers that could not be used: they count as wrong."""


class ClassScore(NamedTuple):
    """How one label fares."""

    label: Any
    support: int
    """Rows that have this label."""
    precision: float | None
    """Of the rows answered so, the share that are so; None where none is answered so."""
    recall: float | None
    """Of the rows that are so, the share answered so; None where none is so."""
    f1: float | None


class Judged(NamedTuple):
    """One row with a label and an answer."""

    position: int
    label: Any
    answer: Any
    result: RowResult

    @property
    def correct(self) -> bool:
        return bool(self.label == self.answer)


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927), good for few trials and shares near 0 or 1."""
    if trials == 0:
        return 0.0, 1.0
    share, scale = successes / trials, 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / scale
    return max(0.0, middle - spread), min(1.0, middle + spread)


def judged_rows(batch: Batch, labels: str | Sequence[Any], answer: str | None) -> list[Judged]:
    """The rows that have both a label and an answer, or an answer that could not be used.

    Raises:
        LLMApplicationError: There are no such columns, or not a label for each row.
    """
    known = _labels(batch, labels)
    answers = _answers(batch, answer)
    rows = []
    for n, result in enumerate(batch.results):
        if result is None or is_missing(known[n]) or not (result.ok or result.status in BAD_ANSWER):
            continue
        said = _plain(answers[n]) if result.ok and not is_missing(answers[n]) else NO_ANSWER
        rows.append(Judged(n, _plain(known[n]), said, result))
    return rows


def _labels(batch: Batch, labels: str | Sequence[Any]) -> list[Any]:
    source, rows = batch.plan.source, len(batch)
    if isinstance(labels, str):
        if labels not in source.columns:
            hint = did_you_mean(labels, source.columns)
            raise LLMApplicationError(f"labels: there is no column {labels!r}; {hint}")
        return [value for (value,) in source.values([labels], 0, rows)]
    given = list(labels)
    if len(given) != rows:
        raise LLMApplicationError(f"labels: {len(given):,} labels for {rows:,} rows")
    return given


def _answers(batch: Batch, answer: str | None) -> list[Any]:
    plan = batch.plan
    columns = answer_columns(batch.results, plan.output, plan.declared, nested=True)
    names = [column.name for column in columns]
    if answer is None and len(columns) > 1 and plan.output not in names:
        raise LLMApplicationError(f"the answers have parts: say answer= one of {', '.join(names)}")
    wanted = answer or (plan.output if plan.output in names else names[0])
    if wanted not in names:
        raise LLMApplicationError(f"there is no answer {wanted!r}; {did_you_mean(wanted, names)}")
    return columns[names.index(wanted)].values


def _plain(value: Any) -> Any:
    """For comparing: enum members as their values, text without white space around it."""
    if isinstance(value, enum.Enum):
        value = value.value
    return value.strip() if isinstance(value, str) else value


class Judgement:
    """Answers against labels. Shows itself as text, table and picture."""

    def __init__(self, batch: Batch, rows: list[Judged]) -> None:
        self.batch = batch
        self.rows = rows

    @property
    def correct(self) -> int:
        return sum(row.correct for row in self.rows)

    @property
    def accuracy(self) -> float | None:
        """The share of judged rows that are right; None where none is judged."""
        return self.correct / len(self.rows) if self.rows else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson(self.correct, len(self.rows))

    @property
    def labels(self) -> list[Any]:
        """All labels and answers, labels first, each group sorted."""
        own = {row.label for row in self.rows}
        said = {row.answer for row in self.rows} - own
        return [*sorted(own, key=str), *sorted(said, key=str)]

    @property
    def confusion(self) -> dict[tuple[Any, Any], int]:
        """How often each label (first) got each answer (second)."""
        return dict(Counter((row.label, row.answer) for row in self.rows))

    @property
    def classes(self) -> list[ClassScore]:
        """Precision and recall of each label."""
        table = self.confusion
        return [
            self._score(label, table)
            for label in self.labels
            if any(pair[0] == label for pair in table)
        ]

    @staticmethod
    def _score(label: Any, table: dict[tuple[Any, Any], int]) -> ClassScore:
        hits = table.get((label, label), 0)
        support = sum(times for (own, _), times in table.items() if own == label)
        said = sum(times for (_, answer), times in table.items() if answer == label)
        precision, recall = hits / said if said else None, hits / support if support else None
        f1 = 2 * hits / (said + support) if said + support else None
        return ClassScore(label, support, precision, recall, f1)

    @property
    def disagreements(self) -> Any:
        """The rows of the batch's frame whose answer is not their label."""
        return rows_of(self.batch.frame, [row.position for row in self.rows if not row.correct])

    @property
    def cost_per_correct(self) -> float | None:
        """Money for the judged rows, reused answers at what they cost, by the rows that are right.

        None where a price is missing or nothing is right.
        """
        costs = [row.result.cost for row in self.rows]
        if not self.correct or None in costs:
            return None
        return sum(cost or 0.0 for cost in costs) / self.correct

    def first_line(self) -> str:
        """Whether all rows are in it, and how many."""
        left_out = len(self.batch) - len(self.rows)
        state = "" if self.batch.complete else "INCOMPLETE batch: "
        without = f", {left_out:,} without label or answer" if left_out else ""
        return f"{state}{len(self.rows):,} of {len(self.batch):,} rows judged{without}"

    def _headline(self) -> str:
        if not self.rows:
            return "nothing to judge"
        low, high = self.interval
        return (
            f"accuracy {self.accuracy:.1%} ({self.correct:,} of {len(self.rows):,}; 95 % interval"
            f" {low:.1%} to {high:.1%}), cost per correct row {money(self.cost_per_correct)}"
        )

    def _cells(self) -> list[list[str]]:
        rows = [["label", "rows", "precision", "recall", "F1"]]
        for score in self.classes:
            shares = [_share(score.precision), _share(score.recall), _share(score.f1)]
            rows.append([str(score.label), f"{score.support:,}", *shares])
        return rows

    def _confusion_cells(self) -> list[list[str]]:
        table, labels = self.confusion, self.labels
        own = [label for label in labels if any(pair[0] == label for pair in table)]
        return [
            ["label \\ answer", *map(str, labels)],
            *[[str(a), *[str(table.get((a, b), 0)) for b in labels]] for a in own],
        ]

    def __repr__(self) -> str:
        parts = [self.first_line(), self._headline()]
        if self.rows:
            parts += ["", *_aligned(self._cells()), "", *_aligned(self._confusion_cells())]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        head = f"<b>{html.escape(self.first_line())}</b><br>{html.escape(self._headline())}"
        return head + _table(self._cells()) + _table(self._confusion_cells())

    def plot(self, ax: Any = None) -> Any:
        """The confusion matrix as a matplotlib picture; returns its axes.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        from .picture import plot_confusion

        return plot_confusion(self, ax)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _aligned(cells: list[list[str]]) -> list[str]:
    cells = [[cell[:40] for cell in row] for row in cells]
    widths = [max(len(row[n]) for row in cells) for n in range(len(cells[0]))]
    return [
        "  ".join(
            cell.ljust(w) if n == 0 else cell.rjust(w)
            for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _table(cells: list[list[str]]) -> str:
    def line(row: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"

    return f"<table>{line(cells[0], 'th')}{''.join(line(row, 'td') for row in cells[1:])}</table>"


def judge(batch: Batch, labels: str | Sequence[Any], answer: str | None) -> Judgement:
    """See `Batch.judge`."""
    return Judgement(batch, judged_rows(batch, labels, answer))
