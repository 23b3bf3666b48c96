"""What would be sent for the rows of a frame, and then sending it."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Literal

from .._application.call import Caller
from .._datamodel import LLMApplicationError
from .._sync import Sync
from .answers import is_async
from .estimate import Estimate, estimate
from .frame import build_frame
from .history import (
    Experience,
    experience_of_calls,
    experience_of_results,
    source_name,
)
from .home import with_ledger
from .result import Batch
from .runner import RunLimits, Runner
from .source import IteratorSource, ListSource
from .state import BatchState
from .survey import Survey, survey_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from .._application.app import LLMApplication
    from .._datamodel import Message, ModelDescription
    from .._transport.client import LLMClient
    from .binding import Binding
    from .prepare import RowMaker

__all__ = ["Plan"]

STREAMED_ROWS = 1000
"""So many rows are answered before they are handed over."""
_ANSWER_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def _answer_limit(body: Mapping[str, Any]) -> int | None:
    """The most tokens that an answer may have, as a request says it."""
    limits = (body.get(name) for name in _ANSWER_LIMITS)
    return next((n for n in limits if isinstance(n, int)), None)


class Plan:
    """A module over rows of data, frozen: what it shows is what `run` sends.

    Attributes:
        batch: The results so far; the same object before, during and after each run.
        survey: What was counted.
        output: The column of plain answers.
    """

    def __init__(
        self,
        app: LLMApplication,
        maker: RowMaker,
        output: str,
        declared: Any,
        ledger: Path | None,
    ) -> None:
        self.app = app
        self.maker = maker
        self.source = maker.source
        self.output = output
        self.declared = declared
        self.ledger = ledger
        """Where a ledger is put around the client; None where that has its own, or none is kept."""
        self.batch_id = secrets.token_hex(4)
        self.state = BatchState()
        self.batch = Batch(self)
        self.survey = Survey(self.source.length)
        self._model: ModelDescription | None = None
        self._longest: int | None = None
        self._scale = 1.0
        self._history = Experience()
        self._runner: Runner | None = None

    # Looking

    @property
    def module_name(self) -> str:
        return self.maker.frozen.module.name

    @property
    def model_name(self) -> str:
        """The model that is asked, after the application's aliases."""
        return self.maker.frozen.model_name

    @property
    def binding(self) -> Binding:
        return self.maker.frozen.binding

    @property
    def limits(self) -> dict[str, Any]:
        """``parallel``, ``rpm``, ``tpm`` as they were when the plan was made."""
        return dict(self._model.limits) if self._model else {}

    @property
    def can_travel(self) -> bool:
        """False where a post-processor has to be awaited on its user's own loop."""
        return not is_async(self.maker.frozen.module.post_processor)

    @property
    def sync(self) -> Any:
        """The same names for code that does not await."""
        return Sync(self, self.app.client)

    def caller(self, client: LLMClient) -> Caller:
        """Who the calls of this plan come from."""
        name = source_name(self.module_name, self.batch_id)
        return Caller(client, f"{self.app.context_id}/{self.batch_id}", name, {}, {}, str)

    async def _look(self, whole: bool) -> None:
        """Count what a run would send."""
        self._model = await self.app.client.describe(self.model_name)
        reuses = self.ledger_mode in ("read_write", "replay")
        async with with_ledger(self.app.client, self.ledger) as client:
            caller = self.caller(client)
            self.survey = await survey_rows(self.maker, caller, reuses=reuses, whole=whole)
            self._check_variables()
            await self._look_at_request()
        path = self.ledger or self.app.client.ledger_path
        if path is not None:
            self._history = await asyncio.to_thread(
                experience_of_calls, path, self.module_name, self.model_name
            )

    @property
    def ledger_mode(self) -> str:
        """How answers are kept and reused."""
        return "read_write" if self.ledger is not None else self.app.client.ledger_mode

    def _check_variables(self) -> None:
        """Raise where a variable has no source, and the templates need it."""
        unfilled, survey = self.binding.unfilled, self.survey
        if not unfilled or not survey.unrenderable:
            return
        names = ", ".join(map(repr, unfilled))
        raise LLMApplicationError(
            f"nothing fills {names} of module {self.module_name!r}: there is no such column (there"
            f" are {', '.join(map(repr, self.source.columns))}); say columns={{{unfilled[0]!r}:"
            " 'COLUMN'} or constants={...}"
        )

    async def _look_at_request(self) -> None:
        """Learn the longest answer, and how this model's tokens compare with the estimate."""
        call = self.survey.first_call
        if call is None:
            return
        request = call.request
        self._longest = _answer_limit(request.options or {})
        if self.app.client.ledger_mode == "replay":  # there may be no vendor to ask
            return
        shown = await self.app.client.preview(
            request.model_name, request.messages, request.tools, request.options
        )
        self._longest = _answer_limit(shown.body)
        if self.survey.first_tokens:
            self._scale = shown.prompt_tokens / self.survey.first_tokens

    @property
    def left_to_send(self) -> int:
        """Requests that were counted and have no answer yet."""
        return max(0, self.survey.to_send - self.state.asked)

    @property
    def estimate(self) -> Estimate:
        """Tokens, cost and time of the rows that are still to be sent; better after a trial."""
        survey = self.survey
        if not survey.complete:
            return estimate(None, None, self._longest, self._experience, self._model)
        rows = self.left_to_send
        share = rows / survey.to_send if survey.to_send else 0.0
        tokens = round(survey.prompt_tokens * self._scale * share)
        return estimate(rows, tokens, self._longest, self._experience, self._model)

    @property
    def _experience(self) -> Experience:
        own = experience_of_results(self.state.results)
        return own if own.answers else self._history

    @property
    def cost_per_row(self) -> float:
        """Expected money for one row, as far as anything is known."""
        survey = self.survey
        rows, tokens = survey.to_send, round(survey.prompt_tokens * self._scale)
        known = estimate(rows, tokens, self._longest, self._experience, self._model).cost
        costs = [c for c in (known.expected, known.low) if c is not None]
        return costs[0] / rows if costs and rows else 0.0

    # Running

    async def run(
        self,
        limit: int | None = None,
        *,
        max_cost: float | None = None,
        on_error: Literal["keep", "stop"] = "keep",
        max_errors: float | None = None,
        progress: bool = True,
    ) -> Batch:
        """Answer the rows that have no result yet.

        Args:
            limit: So many rows at most, for a trial.
            max_cost: Money for this run, in the currency of the prices; no row is sent that would
                lead beyond it, as far as earlier rows tell.
            on_error: ``"stop"`` ends the run at the first row that fails.
            max_errors: The most rows that may fail, as a number, or from 0 to 1 as a share.
            progress: Show a bar.

        Returns:
            `batch`, which holds all results, those of earlier runs included.

        Raises:
            LLMBatchError: Ended by `on_error`, `max_errors`, an exhausted quota or a bad key; what
                was answered is in `batch`.
            LLMApplicationError: An argument means nothing, or a run is under way.
            asyncio.CancelledError: Interrupted; what was answered is in `batch`.
        """
        if self.state.floor:
            raise LLMApplicationError("the rows of this plan were streamed; make a new one")
        limits = RunLimits(limit, max_cost, on_error, max_errors)
        return await self._run(limits, None, progress)

    async def _run(
        self, limits: RunLimits, again: Mapping[int, int] | None, progress: bool
    ) -> Batch:
        limits.check()
        if self._runner is not None:
            raise LLMApplicationError("this plan is running already")
        if limits.max_cost is not None and not (self._model and self._model.price):
            name = self._model.entries[0] if self._model and self._model.entries else "..."
            raise LLMApplicationError(
                f"max_cost needs prices: set price = {{ input = ..., output = ... }} in"
                f" [api.{name}]"
            )
        self._runner = Runner(self, limits, again)
        try:
            await self._runner.run(progress)
        finally:
            self._runner = None
        return self.batch

    async def rows(self, *, on_error: Literal["keep", "stop"] = "keep") -> AsyncIterator[Any]:
        """Answer the rows of an iterator and hand them over in order, keeping none of them.

        Rows are asked a window at a time, so that memory does not grow with their number (but for
        some bytes each). ``async for row in plan.rows(): ...`` gives dicts as `Batch.frame` has
        them.

        Raises:
            LLMBatchError: As for `run`.
            LLMApplicationError: The data is no iterator: it is in memory anyway.
        """
        if not isinstance(self.source, IteratorSource):
            raise LLMApplicationError("rows() is for iterators; for other data: run, batch.frame")
        limits, start = RunLimits(STREAMED_ROWS, on_error=on_error), self.state.floor
        while self.source.length is None or start < self.source.length:
            await self._run(limits, None, False)
            stop = len(self.state.results)
            part = ListSource(self.source.rows[start:stop], self.source.columns)
            found = build_frame(part, self.state.results[start:stop], self.output, self.declared)
            self.state.forget(stop)
            self.source.forget(start, stop)
            start = stop
            for row in found:
                yield row

    def stop(self) -> None:
        """End a run that is under way; `run` returns the batch as it is. From any thread."""
        runner = self._runner
        if runner is not None:
            runner.stop()

    # Shown

    def facts(self) -> list[tuple[str, str]]:
        """What the plan shows, as name and sentence."""
        from .planview import plan_facts

        return plan_facts(self)

    def samples(self) -> list[tuple[int, list[Message]]]:
        """Some rows as they are sent: position and messages."""
        return list(self.survey.samples)

    def __repr__(self) -> str:
        from .planview import plan_text

        return plan_text(self)

    def _repr_html_(self) -> str:
        from .planview import plan_html

        return plan_html(self)
