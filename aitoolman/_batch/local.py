"""The engine of this process: a window of rows asked at once, kept answers found in bulk."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from .._application.call import run_call
from .._application.processors import resolve_processor
from .._datamodel import (
    CallInfo,
    FinishReason,
    LLMApplicationError,
    LLMError,
    LLMProviderRequest,
)
from .answers import process_now, row_of_response, row_of_result
from .engine import RowResult
from .prepare import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._application.call import Call, Caller
    from .._datamodel import LLMProviderResponse
    from .engine import PreparedRow

__all__ = ["LocalEngine", "lookup_request", "window_for"]

MARGIN = 2
"""Rows under way beyond the limit, so that a free slot never waits for us."""
UNKNOWN_LIMIT = 20
"""The window where nobody says how many requests may be under way."""
LIMIT_SECONDS = 1.0
"""How often the limit in force is asked for."""


class Window(NamedTuple):
    """How many rows may be under way."""

    limit: int | None
    """`parallel` in force; None where unknown."""

    @property
    def size(self) -> int:
        return UNKNOWN_LIMIT if self.limit is None else self.limit + MARGIN + self.limit // 20


def window_for(limits: dict[str, Any]) -> Window:
    """The window that suits a model's limits."""
    return Window(limits.get("parallel"))


def lookup_request(caller: Caller, call: Call) -> LLMProviderRequest:
    """The request that a call will make, for looking it up before it is made."""
    request = call.request
    return LLMProviderRequest(
        getattr(caller.client, "client_id", ""),
        caller.context_id,
        "",
        request.model_name,
        request.messages,
        request.tools or {},
        request.options or {},
        call=CallInfo(caller.source, call.sample or 0, bool(call.fresh)),
    )


class LocalEngine:
    """Asks the caller's client, as many rows at once as its limits allow.

    Args:
        caller: Client and names of the batch.
        model_name: Whose limits count.
        limits: Those in force at the start.
    """

    def __init__(self, caller: Caller, model_name: str, limits: dict[str, Any]) -> None:
        self.window = window_for(limits)
        self.active = 0
        self._caller = caller
        self._model_name = model_name
        self._ready: deque[PreparedRow] = deque()
        self._exhausted = False
        self._stopped = False
        self._running = 0

    async def run(
        self,
        rows: Iterator[PreparedRow],
        keep: Callable[[int, RowResult], None],
        go: Callable[[int], bool],
    ) -> None:
        """Answer all `rows`; see `RowEngine`."""
        self._rows, self._keep, self._go = rows, keep, go
        self._filling = asyncio.Lock()
        watch = asyncio.create_task(self._watch_limit())
        try:
            async with asyncio.TaskGroup() as self._workers:
                self._open_window()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            watch.cancel()
            await asyncio.wait({watch})

    def _open_window(self) -> None:
        for _ in range(self.window.size - self._running):
            self._running += 1
            self._workers.create_task(self._work())

    async def _watch_limit(self) -> None:
        """Follow the limit in force, which learning and vendors change."""
        while True:
            await asyncio.sleep(LIMIT_SECONDS)
            try:
                described = await self._caller.client.describe(self._model_name)
            except LLMError:
                continue
            self.window = window_for(described.limits)
            if self._running and not (self._stopped or self._exhausted):
                self._open_window()

    async def _work(self) -> None:
        try:
            while self._running <= self.window.size and await self._one():
                pass
        finally:
            self._running -= 1

    async def _one(self) -> bool:
        """Ask one row; False where there is no more to do."""
        row = await self._next()
        if row is None or self._stopped or not self._go(row.position):
            self._stopped = self._stopped or row is not None
            return False
        self.active += 1
        try:
            self._keep(row.position, await self._ask(row))
        finally:
            self.active -= 1
        await self._refill()
        return True

    async def _refill(self) -> None:
        """Read on before the line is empty."""
        if self._refill_is_due:
            async with self._filling:
                await self._fill()

    @property
    def _refill_is_due(self) -> bool:
        waiting = len(self._ready) < self.window.size // 2
        return waiting and not self._exhausted and not self._filling.locked()

    async def _next(self) -> PreparedRow | None:
        while not self._ready and not self._exhausted:
            async with self._filling:
                if not self._ready and not self._exhausted:
                    await self._fill()
        return self._ready.popleft() if self._ready else None

    async def _ask(self, row: PreparedRow) -> RowResult:
        assert row.call is not None
        sample = row.call.sample or 0
        try:
            return row_of_result(await run_call(self._caller, row.call), sample)
        except LLMApplicationError as exc:
            return RowResult(FinishReason.error_app.value, error=str(exc), sample=sample)

    # Ahead of the workers

    async def _fill(self) -> None:
        """Read the next rows; settle what needs no model, and put the rest in line."""
        rows = list(itertools.islice(self._rows, CHUNK))
        self._exhausted = len(rows) < CHUNK
        asking = []
        for row in rows:
            if row.settled is not None:
                self._keep(row.position, row.settled)
            else:
                asking.append(row)
        self._ready.extend(await self._settle_known(asking))
        await asyncio.sleep(0)

    async def _settle_known(self, rows: list[PreparedRow]) -> list[PreparedRow]:
        """Keep the answers that a ledger has; returns the rows that have to be asked."""
        if not rows or self._caller.client.ledger_mode == "off":
            return rows
        calls = [row.call for row in rows if row.call is not None]
        requests = [lookup_request(self._caller, call) for call in calls]
        found = await self._caller.client.lookup(requests)
        hits = [(r, f) for r, f in zip(rows, found, strict=True) if f is not None]
        settled = await asyncio.to_thread(self._read, hits) if hits else {}
        for position, result in settled.items():
            self._keep(position, result)
        return [row for row in rows if row.position not in settled]

    def _read(self, hits: list[tuple[PreparedRow, LLMProviderResponse]]) -> dict[int, RowResult]:
        """Post-process kept answers, in a worker thread; what cannot be read is left out."""
        settled = {}
        for row, response in hits:
            assert row.call is not None
            result = self._reading(row.call, response)
            if result is not None:
                settled[row.position] = result
        return settled

    def _reading(self, call: Call, response: LLMProviderResponse) -> RowResult | None:
        processor = resolve_processor(call.request.post_processor, self._caller.processors)
        if processor is None or response.finish_reason != FinishReason.stop.value:
            return row_of_response(response, None, call.sample or 0)
        processed = process_now(processor, response.response_text)
        if processed is None or (processed.error is not None and call.format_retries):
            return None
        return row_of_response(response, processed, call.sample or 0)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they are gone."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
