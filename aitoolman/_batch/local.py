"""The engine of this process: a window of rows asked at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from .._application.call import run_call
from .._datamodel import FinishReason, LLMApplicationError, LLMError
from .answers import row_of_result
from .engine import RowResult
from .line import RowLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._application.call import Caller
    from .engine import PreparedRow

__all__ = ["LocalEngine", "Window"]

MARGIN = 4
"""Rows under way beyond the limit (and an eighth of it), so that a free slot waits neither for us
nor for an answer that is being written down."""
UNKNOWN_LIMIT = 20
"""The window where nobody says how many requests may be under way."""
LIMIT_SECONDS = 1.0
"""How often the limit in force is asked for."""


class Window(NamedTuple):
    """How many rows may be under way."""

    limit: int | None = None
    """`parallel` in force; None where unknown."""

    @property
    def size(self) -> int:
        return UNKNOWN_LIMIT if self.limit is None else self.limit + MARGIN + self.limit // 8

    @classmethod
    def within(cls, limits: dict[str, Any]) -> Window:
        """What suits a model's limits."""
        return cls(limits.get("parallel"))


class LocalEngine:
    """Asks the caller's client, as many rows at once as its limits allow; see `RowEngine`.

    Args:
        caller: Client and names of the batch.
        model_name: Whose limits count.
        limits: Those in force at the start.
    """

    def __init__(self, caller: Caller, model_name: str, limits: dict[str, Any]) -> None:
        self.window = Window.within(limits)
        self.active = 0
        """Rows under way."""
        self._caller = caller
        self._model_name = model_name
        self._running = 0
        self._stopped = False

    async def run(
        self,
        rows: Iterator[PreparedRow],
        keep: Callable[[int, RowResult], None],
        go: Callable[[int], bool],
    ) -> None:
        """Answer all `rows`; see `RowEngine`."""
        self._keep, self._go = keep, go
        self._line = RowLine(rows, self._caller, keep)
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
            self.window = Window.within(described.limits)
            if self._running and not (self._stopped or self._line.exhausted):
                self._open_window()

    async def _work(self) -> None:
        try:
            while self._running <= self.window.size and await self._one():
                pass
        finally:
            self._running -= 1

    async def _one(self) -> bool:
        """Ask one row; False where there is no more to do."""
        row = await self._line.next()
        if row is None or self._stopped or not self._go(row.position):
            self._stopped = self._stopped or row is not None
            return False
        self.active += 1
        try:
            self._keep(row.position, await self._ask(row))
        finally:
            self.active -= 1
        await self._line.read_on(self.window.size // 2)
        return True

    async def _ask(self, row: PreparedRow) -> RowResult:
        assert row.call is not None
        sample = row.call.sample or 0
        try:
            return row_of_result(await run_call(self._caller, row.call), sample)
        except LLMApplicationError as exc:
            return RowResult(FinishReason.error_app.value, error=str(exc), sample=sample)
