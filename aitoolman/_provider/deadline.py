"""A bound on a vendor's silence that costs nothing per token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from .clock import Clock, Timer

__all__ = ["Deadline"]


class Deadline:
    """``with deadline:`` raises TimeoutError inside when the vendor is silent for too long.

    The timer is not moved for every sign of life: when it fires, it looks at the last one and
    starts again for what is left.

    Args:
        clock: The source of time.
        seconds: How long a silence may be.
    """

    __slots__ = (
        *("_cancelling", "_clock", "_expired", "_last", "_paused", "_task", "_timer"),
        "seconds",
    )

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self.seconds = seconds
        self._last = 0.0
        self._paused: float | None = None
        self._expired = False
        self._timer: Timer | None = None

    def pause(self) -> None:
        """From now on silence does not count: we are busy ourselves."""
        self._paused = self._clock.monotonic()

    def resume(self, *, alive: bool) -> None:
        """From now on it counts again; `alive` when what came was a sign of life."""
        now = self._clock.monotonic()
        self._last = now if alive or self._paused is None else self._last + now - self._paused
        self._paused = None

    def go_on(self) -> None:
        """Nothing came of it: the pause was silence too, or a flood of nothing would not end."""
        self._paused = None

    def shorten(self, seconds: float) -> None:
        """Allow only a shorter silence from now on."""
        if seconds < self.seconds:
            self.seconds = seconds
            self._arm(seconds)

    def __enter__(self) -> Deadline:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._last = self._clock.monotonic()
        self._arm(self.seconds)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._expired:
            return
        # A cancel from elsewhere at the same moment wins.
        alone = self._task.uncancel() <= self._cancelling
        if alone and exc_type is not None and issubclass(exc_type, asyncio.CancelledError):
            raise TimeoutError from exc

    def _arm(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_later(delay, self._fire)

    def _fire(self) -> None:
        now = self._clock.monotonic()
        silent = (now if self._paused is None else self._paused) - self._last
        # A timer may fire a hair early.
        if self._paused is None and silent >= self.seconds - 1e-6:
            self._expired = True
            self._task.cancel()
        else:
            self._arm(max(self.seconds - silent, self.seconds / 10))
