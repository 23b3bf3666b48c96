"""Ctrl-C, once or often, in a command that has something to bring home."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import FrameType

__all__ = ["INTERRUPTED", "ignore_further_ones", "run_interruptible"]

T = TypeVar("T")

INTERRUPTED = 130
"""The exit code that shells give to Ctrl-C."""
PATIENCE_SECONDS = 10.0
"""So long after the first Ctrl-C a command may tidy up; a later one then ends it at once."""


class _Interrupts:
    """Cancels a task at the first Ctrl-C; an impatient second one changes nothing."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._first: float | None = None

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        return await work

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._task is None:
            raise KeyboardInterrupt
        if self._first is None:
            self._first = now
            self._loop.call_soon_threadsafe(self._task.cancel)
        elif now - self._first > PATIENCE_SECONDS:
            os._exit(INTERRUPTED)


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, where the first Ctrl-C cancels and those after it break nothing off.

    After an interrupt the process goes on to ignore them, so that the caller can write down what
    there is.

    Raises:
        KeyboardInterrupt: It was interrupted, and has ended.
    """
    interrupts = _Interrupts()
    before = signal.signal(signal.SIGINT, interrupts)
    try:
        result = asyncio.run(interrupts.run(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except BaseException:
        signal.signal(signal.SIGINT, before)
        raise
    signal.signal(signal.SIGINT, before)
    return result


def ignore_further_ones() -> None:
    """The process is about to end with the right exit code, which another Ctrl-C would change."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
