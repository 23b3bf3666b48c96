"""The results of a plan: a frame, sums, and what can be done about rows that failed."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from .._application.processors import resolve_processor
from .._datamodel import FinishReason
from .._loops import run_sync
from .._sync import Sync
from .answers import is_async, process_now
from .frame import build_frame
from .runner import RunLimits
from .words import count, money, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .engine import RowResult
    from .judge import Judgement
    from .plan import Plan

__all__ = ["BAD_ANSWER", "Batch", "rows_of"]

BAD_ANSWER = frozenset(
    {
        FinishReason.error_format.value,
        FinishReason.length.value,
        FinishReason.content_filter.value,
        FinishReason.unknown.value,
    }
)
"""The model answered, and the answer is no use: only another one can help."""


class Batch:
    """The results of a plan so far. It lives with its plan: a later run fills the same batch."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._state = plan.state

    def __len__(self) -> int:
        """How many rows are known."""
        return self.plan.source.seen

    @property
    def sync(self) -> Any:
        """The same names for code that does not await."""
        return Sync(self, self.plan.app.client)

    @property
    def results(self) -> list[RowResult | None]:
        """Row by row: status, data, the model's text, numbers; None where nothing is known yet."""
        known = self._state.results[: len(self)]
        return known + [None] * (len(self) - len(known))

    @property
    def complete(self) -> bool:
        """True once every row has a result, whichever; False for a part."""
        return self.plan.source.length == self._state.settled

    @property
    def frame(self) -> Any:
        """The input with answers and results beside it: same kind, index, order and length."""
        plan = self.plan
        return build_frame(plan.source, self.results, plan.output, plan.declared)

    @property
    def failed(self) -> Any:
        """The rows of `frame` that failed."""
        positions = [n for n, r in enumerate(self.results) if r is not None and r.failed]
        return rows_of(self.frame, positions)

    # Again

    async def retry_failed(self, *, progress: bool = True, **limits: Any) -> Batch:
        """Ask again for the rows that failed.

        Where the answer itself was bad (not to be understood, cut off), the next sample of the
        answer is asked for, since a ledger would give the same one again.

        Args:
            progress: Show a bar.
            limits: As for `Plan.run`.

        Raises:
            LLMBatchError: As for `Plan.run`.
        """
        again = {
            n: result.sample + (result.status in BAD_ANSWER)
            for n, result in enumerate(self._state.results)
            if result is not None and result.failed
        }
        return await self.plan._run(RunLimits(**limits), again, progress)

    def reprocess(self, processor: Callable[[str], Any] | str | type | None = None) -> Batch:
        """Run the post-processor again on the answers that are there; no model is asked.

        Args:
            processor: Another one; None: the module's own as it is now in the application.

        Raises:
            LLMApplicationError: There is no such post-processor.
        """
        from .making import declared_type

        plan = self.plan
        spec = plan.app[plan.module_name].config.post_processor if processor is None else processor
        function = resolve_processor(spec, plan.app.processors)
        plan.declared = declared_type(spec, plan.app.processors)
        for position, result in enumerate(self._state.results):
            if result is not None and result.status in ("stop", "error: format") and result.text:
                self._state.replace(position, _read_again(function, result))
        return self

    # Sums

    def summary(self) -> dict[str, Any]:
        """Counts and sums; money that is unknown is None."""
        state = self._state
        length = self.plan.source.length
        return {
            "rows": length,
            "complete": self.complete,
            "answered": state.good,
            "failed": state.failed,
            "skipped": state.skipped,
            "pending": None if length is None else length - state.settled,
            "from_ledger": state.from_ledger,
            "asked": state.asked,
            "attempts": state.attempts,
            "prompt_tokens": state.prompt_tokens,
            "completion_tokens": state.completion_tokens,
            "cost": state.cost,
            "cost_saved": state.cost_saved,
            "errors": self._errors(),
        }

    def _errors(self) -> dict[str, int]:
        """How often each error came, the most frequent first."""
        counts: dict[str, int] = {}
        for result in self._state.results:
            if result is not None and result.failed:
                name = result.error or result.status
                counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1])[:10])

    def judge(self, labels: str | Sequence[Any], *, answer: str | None = None) -> Judgement:
        """The answers held against labels.

        Args:
            labels: A column of the input, or a label for each row.
            answer: The column of `frame` to judge; None: the plain answers, or the only part.

        Raises:
            LLMApplicationError: There are no such columns, or not a label for each row.
        """
        from .judge import judge

        return judge(self, labels, answer)

    # Shown

    def first_line(self) -> str:
        """How far it is."""
        length = self.plan.source.length
        settled = self._state.settled
        name = self.plan.module_name
        if self.complete:
            return f"Batch of {name!r}: complete, {plural(settled, 'row')}"
        total = "an unknown number of" if length is None else f"{length:,}"
        return f"Batch of {name!r}: INCOMPLETE, {settled:,} of {total} rows have a result"

    def _lines(self) -> list[tuple[str, str]]:
        state = self._state
        tokens = f"{count(state.prompt_tokens)} in, {count(state.completion_tokens)} out"
        saved = f", cost saved {money(state.cost_saved)}" if state.from_ledger else ""
        return [
            ("answered", f"{state.good:,}"),
            ("failed", f"{state.failed:,}"),
            ("skipped", f"{state.skipped:,}"),
            (
                "asked now",
                f"{plural(state.asked, 'answer')}, {plural(state.attempts, 'attempt')}, {tokens}",
            ),
            ("cost now", money(state.cost)),
            ("from ledger", f"{plural(state.from_ledger, 'answer')}{saved}"),
            *[("error", f"{times:,} x {text[:200]}") for text, times in self._errors().items()],
        ]

    def __repr__(self) -> str:
        lines = [f"  {name:<12} {text}" for name, text in self._lines()]
        return "\n".join([self.first_line(), *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{name}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for name, text in self._lines()
        )
        return f"<b>{html.escape(self.first_line())}</b><table>{rows}</table>"


def rows_of(frame: Any, positions: list[int]) -> Any:
    """Some rows of a frame of any kind."""
    if isinstance(frame, list):
        return [frame[n] for n in positions]
    if hasattr(frame, "iloc"):
        return frame.iloc[positions]
    return frame.take(positions) if hasattr(frame, "take") else frame[positions]


def _read_again(function: Callable[[str], Any] | None, result: RowResult) -> RowResult:
    if function is None:
        return result._replace(status="stop", data=result.text, error=None)
    processed = None if is_async(function) else process_now(function, result.text)
    if processed is None:
        from .._application.processors import run_processor

        processed = run_sync(run_processor(function, result.text, in_thread=False))
    status = "stop" if processed.error is None else FinishReason.error_format.value
    return result._replace(status=status, data=processed.data, error=processed.error)
