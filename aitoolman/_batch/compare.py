"""Two batches over the same rows: which answers differ, and whether one prompt is better."""

from __future__ import annotations

import html
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import LLMApplicationError
from .judge import Judgement, judge, judged_rows
from .result import rows_of
from .words import money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .judge import Judged
    from .result import Batch

__all__ = ["Comparison", "Flip", "compare", "mcnemar"]

SHOWN_FLIPS = 10


class Flip(NamedTuple):
    """A row that one batch has right and the other wrong."""

    position: int
    label: Any
    before: Any
    after: Any

    @property
    def better(self) -> bool:
        return bool(self.after == self.label)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p of McNemar's test: how likely such a difference is by chance alone."""
    flips = gained + lost
    if flips == 0:
        return 1.0
    tail = sum(math.comb(flips, k) for k in range(min(gained, lost) + 1))
    return min(1.0, float(Fraction(2 * tail, 2**flips)))


def compare(
    batch_a: Batch, batch_b: Batch, labels: str | Sequence[Any], *, answer: str | None = None
) -> Comparison:
    """Two batches over the same rows, held against the same labels, row by row.

    Args:
        batch_a: The one before.
        batch_b: The one after.
        labels: A column of the input, or a label for each row.
        answer: The column of the frames to judge, as for `Batch.judge`.

    Raises:
        LLMApplicationError: The batches have different rows, or there are no such columns.
    """
    if len(batch_a) != len(batch_b):
        raise LLMApplicationError(
            f"the batches have different rows: {len(batch_a):,} and {len(batch_b):,}"
        )
    before = {row.position: row for row in judged_rows(batch_a, labels, answer)}
    after = {row.position: row for row in judged_rows(batch_b, labels, answer)}
    pairs = [(before[n], after[n]) for n in sorted(before.keys() & after.keys())]
    if any(a.label != b.label for a, b in pairs):
        raise LLMApplicationError(
            "the batches have different labels: they are not of the same rows"
        )
    return Comparison(judge(batch_a, labels, answer), judge(batch_b, labels, answer), pairs)


class Comparison:
    """What changed from batch `a` to batch `b`, on the rows that both have judged."""

    def __init__(self, a: Judgement, b: Judgement, pairs: list[tuple[Judged, Judged]]) -> None:
        self.a = a
        self.b = b
        self.pairs = pairs

    @property
    def flips(self) -> list[Flip]:
        """The rows that are right in one batch and wrong in the other."""
        return [
            Flip(one.position, one.label, one.answer, other.answer)
            for one, other in self.pairs
            if one.correct != other.correct
        ]

    @property
    def gained(self) -> int:
        """Rows that were wrong and are right."""
        return sum(flip.better for flip in self.flips)

    @property
    def lost(self) -> int:
        """Rows that were right and are wrong."""
        return sum(not flip.better for flip in self.flips)

    @property
    def difference(self) -> float | None:
        """By how much the accuracy changed on the rows of both; None without such rows."""
        return (self.gained - self.lost) / len(self.pairs) if self.pairs else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference (Wald's, for paired shares)."""
        n = len(self.pairs)
        if n == 0:
            return -1.0, 1.0
        middle = (self.gained - self.lost) / n
        spread = 1.959964 * math.sqrt(max(0.0, (self.gained + self.lost) / n - middle**2) / n)
        return max(-1.0, middle - spread), min(1.0, middle + spread)

    @property
    def p_value(self) -> float:
        """McNemar's exact p: small where chance alone would hardly give such a difference."""
        return mcnemar(self.gained, self.lost)

    @property
    def changed(self) -> Any:
        """The rows of the second batch's frame whose answer is another, right or wrong."""
        positions = [a.position for a, b in self.pairs if a.answer != b.answer]
        return rows_of(self.b.batch.frame, positions)

    def first_line(self) -> str:
        """Whether all rows are in it, and how many."""
        whole = self.a.batch.complete and self.b.batch.complete
        state = "" if whole else "INCOMPLETE batch: "
        return f"{state}{len(self.pairs):,} of {len(self.a.batch):,} rows judged in both"

    def _lines(self) -> list[str]:
        if not self.pairs:
            return ["nothing to compare"]
        low, high = self.interval
        n = len(self.pairs)
        before, after = (
            sum(side.correct for side in sides) for sides in zip(*self.pairs, strict=True)
        )
        return [
            f"accuracy {before / n:.1%} -> {after / n:.1%}: {self.difference:+.1%}"
            f" (95 % interval {low:+.1%} to {high:+.1%}; McNemar's p = {self.p_value:.3g})",
            f"{self.gained:,} rows became right, {self.lost:,} became wrong",
            f"cost per correct row {money(self.a.cost_per_correct)} ->"
            f" {money(self.b.cost_per_correct)}",
        ]

    def _flip_cells(self) -> list[list[str]]:
        return [
            [str(f.position), str(f.label)[:40], str(f.before)[:40], str(f.after)[:40]]
            for f in self.flips[:SHOWN_FLIPS]
        ]

    def __repr__(self) -> str:
        flips = [
            f"  row {position}: {label}: {before} -> {after}"
            for position, label, before, after in self._flip_cells()
        ]
        more = len(self.flips) - len(flips)
        return "\n".join(
            [self.first_line(), *self._lines(), *flips, *([f"  ... {more:,} more"] if more else [])]
        )

    def _repr_html_(self) -> str:
        head = "<br>".join(html.escape(line) for line in [self.first_line(), *self._lines()])
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
            for cells in self._flip_cells()
        )
        names = "".join(f"<th>{name}</th>" for name in ("row", "label", "before", "after"))
        return f"<p>{head}</p><table><tr>{names}</tr>{rows}</table>"
