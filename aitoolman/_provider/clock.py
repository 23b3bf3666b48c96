"""The provider's one source of time, so that tests can put a virtual one in its place."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "Timer"]


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Call it off; again, or too late, is fine."""


class Clock:
    """Real time. All waiting in the provider goes through `sleep` and `call_later`."""

    # No methods of their own around these: each call of a model looks ten times.
    monotonic = staticmethod(time.monotonic)
    """Seconds on a clock that never goes back."""

    wall = staticmethod(time.time)
    """Unix time."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the running loop after `delay` seconds."""
        return asyncio.get_running_loop().call_later(delay, callback)

    async def sleep(self, seconds: float) -> None:
        """Wait; cancelling the waiter ends the wait and its timer."""
        woken = asyncio.Event()
        timer = self.call_later(seconds, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()
