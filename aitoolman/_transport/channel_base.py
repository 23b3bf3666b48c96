"""The channel under all channels: what one part of a program writes, another reads.

The writing side never waits. A reader takes what is there, or registers a `Waiter` and is woken to
look again: an item changes hands only when a running reader takes it, so a cancelled reader loses
nothing. One lock per channel guards a few steps at a time; a token costs no task, no log record and
no allocation but its place in a deque.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import Generic, NamedTuple, TypeVar

from .._datamodel import LLMApplicationError
from .waiter import Waiter

__all__ = ["Channel", "ChannelStatistics"]

T = TypeVar("T")

ticks = itertools.count(1)
"""Stamps messages of all channels in the order in which they began."""


class ChannelStatistics(NamedTuple):
    """A channel at one moment. The last three stay 0 where a channel holds no text."""

    unread: int
    """Items that a reader would get without waiting."""
    waiting_readers: int
    complete: bool
    """True after EOF was written."""
    unread_characters: int = 0
    """All unread text, that of messages still held back included."""
    unread_messages: int = 0
    """Messages begun and not yet read to their end."""
    forgotten_messages: int = 0
    """Finished messages dropped unread because too much text was waiting."""


class Channel(Generic[T]):
    """Items in order, from any number of writers to any number of readers; each goes to one reader.

    It needs no loop to be made, writing never blocks, and both sides may be in any thread and on
    any loop. A plain channel keeps everything until it is read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready: deque[T] = deque()
        self._waiters: list[Waiter] = []
        self._complete = False
        self._began = 0  # when that which is ready began to be written, on the common clock

    def __repr__(self) -> str:
        state = "complete" if self._complete else "open"
        return f"<{type(self).__name__} {state}, {len(self._ready)} unread>"

    async def read(self) -> T:
        """The next item, as soon as there is one.

        Raises:
            EOFError: Writing is complete and everything has been read.
        """
        while True:
            with self._lock:
                if self._ready:
                    return self._take()
                waiter = self._register(self._waiters)
            await self._wait(waiter, self._waiters)

    async def write(self, message: T) -> None:
        """Add an item; see `write_nowait`."""
        self.write_nowait(message)

    def write_nowait(self, message: T) -> None:
        """Add an item, from any thread.

        Raises:
            LLMApplicationError: The channel is complete.
        """
        with self._lock:
            self._check_open()
            if not self._ready:
                self._began = next(ticks)
            self._ready.append(message)
            if self._waiters:
                self._wake(self._waiters)

    async def write_complete(self) -> None:
        """Mark the end of all writing; see `complete`."""
        self.complete()

    def complete(self) -> None:
        """Mark the end of all writing (EOF), from any thread. Again is fine."""
        with self._lock:
            if not self._complete:
                self._complete = True
                self._end()

    def statistics(self) -> ChannelStatistics:
        """How much is waiting, as a snapshot."""
        with self._lock:
            return ChannelStatistics(len(self._ready), len(self._waiters), self._complete)

    def __aiter__(self) -> Channel[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.read()
        except EOFError:
            raise StopAsyncIteration from None

    # -- called with the lock held

    def _take(self) -> T:
        return self._ready.popleft()

    def _end(self) -> None:
        self._wake_all(self._waiters)

    def _check_open(self) -> None:
        if self._complete:
            raise LLMApplicationError(
                "this channel is complete: write_complete() ended it for good, so nothing more can"
                " be written (None is what ends a single message)"
            )

    def _register(self, waiters: list[Waiter]) -> Waiter:
        if self._complete:
            raise EOFError("the channel is complete and everything in it has been read")
        waiter = Waiter()
        waiters.append(waiter)
        return waiter

    def _wake(self, waiters: list[Waiter]) -> None:
        while waiters and not waiters.pop(0).wake():
            pass

    def _wake_all(self, waiters: list[Waiter]) -> None:
        while waiters:
            self._wake(waiters)

    # -- called without the lock

    def _tidy(self) -> None:
        """Do what could not be done while the lock was held."""

    async def _wait(self, waiter: Waiter, waiters: list[Waiter]) -> None:
        self._tidy()
        try:
            await waiter.wait()
        except BaseException:
            self._leave(waiter, waiters)
            raise

    def _leave(self, waiter: Waiter, waiters: list[Waiter]) -> None:
        with self._lock:
            try:
                waiters.remove(waiter)
            except ValueError:  # woken, but not coming: another reader may take its place
                if self._ready:
                    self._wake(waiters)

    # -- for collectors, which wait for several channels at once

    def _take_batch(self, count: int) -> list[T]:
        """Up to `count` items, ending after the first None."""
        batch: list[T] = []
        with self._lock:
            while self._ready and len(batch) < count:
                batch.append(self._take())
                if batch[-1] is None:
                    break
        return batch

    def _backlog(self) -> int:
        """How many items are there to be read."""
        with self._lock:
            return len(self._ready)

    def _watch(self, waiter: Waiter) -> bool:
        """Wake `waiter` at the next change; False if something is there to take, or EOF."""
        with self._lock:
            if self._ready or self._complete:
                return False
            self._waiters.append(waiter)
        self._tidy()
        return True

    def _unwatch(self, waiter: Waiter) -> None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _at_eof(self) -> bool:
        with self._lock:
            return self._complete and not self._ready
