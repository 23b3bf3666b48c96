"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from aitoolman._provider.clock import Clock

__all__ = ["VirtualClock", "settle", "until"]


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualClock(Clock):
    """Time for the provider under test.

    Args:
        jump: True: whoever sleeps moves the time himself, at once; for tests of one request.
    """

    START = 1_800_000_000.0
    """Unix time at the beginning."""

    def __init__(self, *, jump: bool = False) -> None:
        self.now = 1000.0
        self.jump = jump
        self.sleeps: list[float] = []
        """Every wait asked for through `sleep`."""
        self._heap: list[tuple[float, int, _Timer]] = []
        self._numbers = itertools.count()
        self._slept = asyncio.Event()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.START + self.now - 1000.0

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(callback)
        heapq.heappush(self._heap, (self.now + delay, next(self._numbers), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self._slept.set()
        if self.jump:
            await self.advance(seconds)
        else:
            await super().sleep(seconds)

    async def slept(self, times: int = 1) -> None:
        """Wait until `sleep` was called so many times in all."""
        while len(self.sleeps) < times:
            self._slept.clear()
            await self._slept.wait()

    async def advance(self, seconds: float) -> None:
        """Move the time, calling what is due on the way, each at its moment."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end + 1e-9:
            due, _, timer = heapq.heappop(self._heap)
            if timer.callback is not None:
                self.now = max(self.now, due)
                timer.callback()
                await settle()
        self.now = max(self.now, end)
        await settle()

    @property
    def timers(self) -> int:
        """Calls still to come."""
        return sum(timer.callback is not None for _, _, timer in self._heap)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a state; the test's own time limit is the bound."""
    while not condition():  # noqa: ASYNC110 - nothing announces these states
        await asyncio.sleep(0.001)


async def settle() -> None:
    """Let tasks that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)
