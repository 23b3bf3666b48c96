"""The results of a batch so far, by row, with their sums."""

from __future__ import annotations

from dataclasses import dataclass, field

from .engine import RowResult

__all__ = ["BatchState"]


_FORGOTTEN = RowResult("streamed")


@dataclass
class BatchState:
    """Grows while a batch runs. Sums of money and tokens count all that was asked, retries too."""

    results: list[RowResult | None] = field(default_factory=list)
    floor: int = 0
    """All rows before this one are settled, and forgotten."""
    settled: int = 0
    good: int = 0
    failed: int = 0
    skipped: int = 0
    from_ledger: int = 0
    asked: int = 0
    """Answers that came from a model now."""
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """Of the models' work, summed over `asked`."""
    spent: float = 0.0
    saved: float = 0.0
    unpriced_saved: int = 0
    """Answers among those from the ledger whose cost is unknown."""
    unpriced: int = 0
    """Answers among `asked` whose cost is unknown."""

    def __getitem__(self, position: int) -> RowResult | None:
        return self.results[position] if position < len(self.results) else None

    def put(self, position: int, result: RowResult) -> None:
        """Take in a row's result, in place of an earlier one."""
        self.results += [None] * (position + 1 - len(self.results))
        old = self.results[position]
        if old is not None:
            self._tally(old, -1)
        self.results[position] = result
        self._tally(result, 1)
        self._account(result)

    def replace(self, position: int, result: RowResult) -> None:
        """Put another reading of the same answer in place; it costs nothing."""
        old = self.results[position]
        if old is not None:
            self._tally(old, -1)
        self.results[position] = result
        self._tally(result, 1)

    def _tally(self, result: RowResult, sign: int) -> None:
        self.settled += sign
        if result.status == "skipped":
            self.skipped += sign
        elif result.ok:
            self.good += sign
        else:
            self.failed += sign

    def _account(self, result: RowResult) -> None:
        if result.from_ledger:
            self.from_ledger += 1
            self.saved += result.cost or 0.0
            self.unpriced_saved += result.cost is None
        elif result.attempts or result.tokens is not None:
            self.asked += 1
            self.attempts += result.attempts
            self.prompt_tokens += result.prompt_tokens or 0
            self.completion_tokens += result.completion_tokens or 0
            self.seconds += result.seconds or 0.0
            self.spent += result.cost or 0.0
            self.unpriced += result.cost is None

    def forget(self, stop: int) -> None:
        """Let go of the results before `stop`; the sums stay."""
        self.results[self.floor : stop] = [_FORGOTTEN] * (stop - self.floor)
        self.floor = stop

    @property
    def cost(self) -> float | None:
        """Money for all that was asked now; None where some of it is unknown."""
        return None if self.unpriced else self.spent

    @property
    def cost_saved(self) -> float | None:
        """What the answers from the ledger cost when they were asked; None as for `cost`."""
        return None if self.unpriced_saved else self.saved
