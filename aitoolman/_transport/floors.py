"""One message at a time for sinks that are no channels: filters and a user's own objects.

Whoever writes first has the floor and writes straight through. The others fill buffers of their
own. Each empties its buffer itself, in its own call, when the floor is its own: so a sink that
raises or dawdles does so to the call whose text it gets.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

from .._datamodel import LLMApplicationError
from .waiter import Waiter

if TYPE_CHECKING:
    from .._datamodel import TextSink

__all__ = ["FloorWriter"]

_log = logging.getLogger("aitoolman.channel")


class _Line:
    """The writers of one sink, in the order of their first write; the first has the floor."""

    def __init__(self, sink: TextSink) -> None:
        self.sink: TextSink | None = sink  # kept alive while somebody is in the line
        self.parts: deque[_Part] = deque()


class _Part:
    """What one writer has yet to say."""

    __slots__ = ("buffer", "left", "waiter")

    def __init__(self) -> None:
        self.buffer: deque[str | None] = deque()
        self.waiter: Waiter | None = None
        self.left = False
        """Its writer is gone; whoever comes next says the rest."""


# Sinks with an open message, and those that live on with the rest of a message left behind.
_lines: dict[int, _Line] = {}
_lock = threading.Lock()


class FloorWriter:
    """Writes one message into any sink, when no other writer's message is open there.

    Text is taken at once. The None that ends the message waits until the sink has got all of it.
    """

    __slots__ = ("__weakref__", "_ended", "_line", "_part", "_sink", "_speaking")

    def __init__(self, sink: TextSink) -> None:
        self._sink = sink
        self._line: _Line | None = None
        self._part = _Part()
        self._ended = False
        self._speaking = False

    async def write(self, message: str | None) -> None:
        """Add a fragment, or end the message with None; after that, nothing more happens.

        Raises:
            LLMApplicationError: The sink raised; its exception is the cause.
        """
        if self._ended:
            return
        self._ended = message is None
        self._part.buffer.append(message)
        line = self._join()
        if message is None:
            await self._finish(line)
        elif self._has_floor(line):
            await self._say(line)

    def _join(self) -> _Line:
        if self._line is None:
            with _lock:
                line = _lines.setdefault(id(self._sink), _Line(self._sink))
                line.sink = self._sink
                line.parts.append(self._part)
            self._line = line
        return self._line

    def _has_floor(self, line: _Line) -> bool:
        return next(part for part in line.parts.copy() if not part.left) is self._part

    async def _finish(self, line: _Line) -> None:
        try:
            await self._floor(line)
            await self._say(line)
        except LLMApplicationError:
            await self._end_after_failure()
            raise
        finally:
            self._leave(line)

    async def _end_after_failure(self) -> None:
        if self._part.buffer:  # the None is still to come: the sink's next message starts clean
            self._part.buffer.clear()
            with contextlib.suppress(LLMApplicationError):
                await _write(self._sink, None)

    async def _floor(self, line: _Line) -> None:
        while True:
            waiter = self._part.waiter = Waiter()
            if self._has_floor(line) and not self._speaking:
                return
            await waiter.wait()

    async def _say(self, line: _Line) -> None:
        if self._speaking:  # another task is at it and says this too
            return
        self._speaking = True
        try:
            await self._say_for_the_gone(line)
            while self._part.buffer:
                await _write(self._sink, self._part.buffer.popleft())
        finally:
            self._speaking = False
            if self._part.waiter is not None:
                self._part.waiter.wake()

    async def _say_for_the_gone(self, line: _Line) -> None:
        while line.parts[0] is not self._part:
            buffer = line.parts[0].buffer
            try:
                while buffer:
                    await _write(self._sink, buffer.popleft())
            except LLMApplicationError:
                _log.warning("an abandoned message was not written to the end", exc_info=True)
            with _lock:
                line.parts.popleft()

    def _leave(self, line: _Line) -> None:
        """Pass the floor on; what a cancelled call has not said stays for whoever comes next."""
        with _lock:
            if self._part.buffer:
                self._part.left = True
            else:
                line.parts.remove(self._part)
            if all(part.left for part in line.parts):
                self._leave_alone(line)
        _wake_first(line)

    def _leave_alone(self, line: _Line) -> None:
        """A line with no writer in it lives on with its sink if it has a rest, and no longer."""
        line.sink = None
        key = id(self._sink)
        try:
            if line.parts:
                weakref.finalize(self._sink, _lines.pop, key, None).atexit = False
                return
        except TypeError:  # a class that allows no weak references
            pass
        _lines.pop(key, None)

    def __del__(self) -> None:
        # A finalizer may run while its own thread holds the lock, so it takes none.
        if not self._ended and self._line is not None:
            self._part.buffer.append(None)
            self._part.left = True
            if all(part.left for part in self._line.parts.copy()):
                self._leave_alone(self._line)
            _wake_first(self._line)


def _wake_first(line: _Line) -> None:
    for part in line.parts.copy():
        if not part.left:
            if part.waiter is not None:
                part.waiter.wake()
            return


async def _write(sink: TextSink, message: str | None) -> None:
    try:
        await sink.write(message)
    except Exception as exc:
        name = type(sink).__qualname__
        raise LLMApplicationError(f"the output sink {name} failed: {exc!r}") from exc
