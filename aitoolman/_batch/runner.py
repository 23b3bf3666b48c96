"""One run of a plan: which rows, until when, and what is seen of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .._datamodel import LLMApplicationError, LLMBatchError
from .._sync import on_background_loop
from .home import at_home, with_ledger
from .local import LocalEngine
from .prepare import CHUNK
from .progress import Snapshot, open_progress
from .words import clock, count, money, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .._transport.client import LLMClient
    from .engine import PreparedRow, RowResult
    from .plan import Plan

__all__ = ["RunLimits", "Runner"]

MIN_SHARE_ROWS = 20
"""A share of errors means nothing before so many rows."""
STOP_SECONDS = 5.0
"""How long a stopped run waits for its requests to end."""


class RunLimits(NamedTuple):
    """When a run ends before the last row."""

    limit: int | None = None
    max_cost: float | None = None
    on_error: Literal["keep", "stop"] = "keep"
    max_errors: float | None = None

    def check(self) -> None:
        """Raise `LLMApplicationError` for values that mean nothing."""
        if self.on_error not in ("keep", "stop"):
            raise LLMApplicationError(f"on_error is 'keep' or 'stop', not {self.on_error!r}")
        for name in ("limit", "max_cost", "max_errors"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise LLMApplicationError(f"{name} must not be below 0; it is {value!r}")

    def too_many(self, errors: int, rows: int) -> bool:
        """True where more rows failed than `max_errors` allows."""
        most = self.max_errors
        if most is None or errors == 0:
            return False
        if 0 < most < 1:
            return rows >= MIN_SHARE_ROWS and errors > most * rows
        return errors > most


class Runner:
    """Runs rows of a plan.

    Args:
        plan: Whose rows.
        limits: When to end early.
        again: Row to sample, for rows that have a result and are asked again; None: those without.
    """

    def __init__(
        self, plan: Plan, limits: RunLimits, again: Mapping[int, int] | None = None
    ) -> None:
        self._plan = plan
        self._state = plan.state
        self._limits = limits
        self._again = again
        self._flying: set[int] = set()
        self._rows = self._errors = 0
        self._asked_before, self._spent_before = plan.state.asked, plan.state.spent
        self._started = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._engine: LocalEngine | None = None
        self._ended = False
        self.reason: str | None = None
        """Why it ended early: one sentence."""
        self.is_failure = False

    async def run(self, progress: bool) -> None:
        """Run until there are no more rows, a limit is reached or somebody stops it.

        Raises:
            LLMBatchError: Too many failures, or one that all rows would share.
            asyncio.CancelledError: Interrupted; results so far are in the plan's batch.
        """
        plan = self._plan
        bar = open_progress(progress, self.snapshot(), None if on_background_loop() else self.stop)
        ticker = asyncio.create_task(self._tick(bar))
        try:
            async with with_ledger(plan.app.client, plan.ledger) as client:
                await self._answer(client)
        finally:
            self._ended = True
            ticker.cancel()
            bar.close(self.last_words())
        if self.is_failure:
            raise LLMBatchError(f"{self.last_words()}", plan.batch)

    async def _answer(self, client: LLMClient) -> None:
        plan = self._plan
        caller = plan.caller(client)
        engine = self._engine = LocalEngine(caller, plan.model_name, plan.limits)
        rows = self._pending()
        self._task = asyncio.create_task(
            at_home(client, lambda: engine.run(rows, self._keep, self._go))
            if plan.can_travel
            else engine.run(rows, self._keep, self._go)
        )
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            self.reason = self.reason or "interrupted"
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=STOP_SECONDS)
            raise
        if not self._task.cancelled():
            self._task.result()
        elif self.reason is None:
            raise asyncio.CancelledError

    # What the engine calls, on whichever loop it runs

    def _pending(self) -> Iterator[PreparedRow]:
        """The rows to answer, read from the data a window at a time."""
        maker, position, left = self._plan.maker, self._state.floor, self._limits.limit
        while self.reason is None and (left is None or left > 0):
            step = CHUNK if left is None else min(CHUNK, left)
            if self._is_settled(position, position + step):
                position += step
                continue
            rows = maker.cells(position, position + step)
            for n, values in enumerate(rows, position):
                if self._wants(n) and left != 0:
                    left = None if left is None else left - 1
                    yield maker.row(n, values, (self._again or {}).get(n))
            if not rows:
                return
            position += len(rows)

    def _wants(self, position: int) -> bool:
        if self._again is not None:
            return position in self._again
        return self._state[position] is None

    def _is_settled(self, start: int, stop: int) -> bool:
        """True where none of these rows is wanted; unknown rows are."""
        if stop > len(self._state.results) and self._again is None:
            return False
        if start >= self._plan.source.seen:
            return False
        return not any(self._wants(n) for n in range(start, stop))

    def _go(self, position: int) -> bool:
        if self.reason is not None:
            return False
        most = self._limits.max_cost
        if most is not None and self._money_ahead() > most:
            self._halt(f"max_cost = {money(most)} reached", failure=False)
            return False
        self._flying.add(position)
        return True

    def _money_ahead(self) -> float:
        """What this run has cost when the rows under way and one more are answered."""
        state = self._state
        asked, spent = state.asked - self._asked_before, state.spent - self._spent_before
        each = spent / asked if asked else self._plan.cost_per_row
        return spent + each * (len(self._flying) + 1)

    def _keep(self, position: int, result: RowResult) -> None:
        self._flying.discard(position)
        if result.fatal is not None:
            self._halt(f"{result.fatal}. No other row was sent", failure=True, at_once=True)
            return
        self._state.put(position, result)
        self._rows += 1
        self._errors += result.failed
        if result.failed and self._limits.on_error == "stop":
            self._halt(f"row {position} failed: {result.error or result.status}", failure=True)
        elif self._limits.too_many(self._errors, self._rows):
            self._halt(f"{plural(self._errors, 'row')} failed, more than max_errors", failure=True)

    def _halt(self, reason: str, *, failure: bool, at_once: bool = False) -> None:
        if self.reason is None:
            self.reason, self.is_failure = reason, failure
        if at_once:
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def stop(self) -> None:
        """End the run now; from any thread. `run` returns, rows under way stay unanswered."""
        if not self._ended:
            self._halt("stopped", failure=False, at_once=True)

    # What is seen

    async def _tick(self, bar: Any) -> None:
        while True:
            await asyncio.sleep(bar.interval)
            bar.show(self.snapshot())

    def snapshot(self) -> Snapshot:
        """The run now."""
        state, engine = self._state, self._engine
        return Snapshot(
            done=state.settled,
            total=self._plan.source.length,
            failed=state.failed,
            tokens=state.prompt_tokens + state.completion_tokens,
            cost=state.cost,
            attempts=state.attempts,
            limit=engine.window.limit if engine else None,
            active=engine.active if engine else 0,
            seconds=time.monotonic() - self._started,
            asked=state.asked - self._asked_before,
            to_ask=self._to_ask(),
        )

    def _to_ask(self) -> int | None:
        """How many rows this run still sends; those that repeat others count where none looked."""
        plan, again = self._plan, self._again
        if again is not None:
            return max(0, len(again) - self._rows)
        if plan.survey.complete:
            left = plan.left_to_send
        elif plan.source.length is not None:
            left = plan.source.length - plan.state.settled
        else:
            return None
        most = self._limits.limit
        return left if most is None else max(0, min(left, most - self._rows))

    def last_words(self) -> str:
        """The run in one line."""
        now, state = self.snapshot(), self._state
        total = "" if now.total is None else f" of {now.total:,}"
        parts = [f"{state.good:,} answered"]
        parts += [f"{state.failed:,} failed"] if state.failed else []
        parts += [f"{state.skipped:,} skipped"] if state.skipped else []
        parts += [f"{state.from_ledger:,} from the ledger"] if state.from_ledger else []
        text = f"{now.done:,}{total} rows in {clock(now.seconds)}: {', '.join(parts)}"
        text += f"; {count(now.tokens)} tokens, cost {money(now.cost)}"
        if self.reason is None:
            return text
        done = now.total is not None and now.done == now.total
        return f"{self.reason}. {text}" + ("" if done else "; run again to continue")
