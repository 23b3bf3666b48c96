"""Collectors: several channels heard by one listener, one channel speaking at a time."""

from __future__ import annotations

import abc
import asyncio
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from .._datamodel import LLMApplicationError
from .channel_base import Channel
from .waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ChannelCollector", "DefaultTextChannelCollector"]

BATCH = 256
"""How many fragments are delivered before other tasks get a turn."""


class _Lane:
    """One channel as its collector sees it."""

    __slots__ = ("began", "channel", "eof", "left", "name", "pending")

    def __init__(self, name: str, channel: Channel[Any]) -> None:
        self.name = name
        self.channel = channel
        self.pending: deque[Any] = deque()
        self.began = 0
        self.eof = False
        self.left: int | None = None  # how much more is told before listening ends

    def fill(self, *, speaking: bool) -> None:
        """Take what is there, if nothing is left. An end where nothing began is left out."""
        while not self.pending:
            self.began = self.channel._began
            self.pending.extend(self.channel._take_batch(self._allowed()))
            if self.left is not None:
                self.left -= len(self.pending)
            if speaking or not self.pending or self.pending[0] is not None:
                return
            self.pending.clear()

    def _allowed(self) -> int:
        return BATCH if self.left is None else min(BATCH, self.left)


class ChannelCollector(abc.ABC):
    """Listens to several channels and tells what they say, one at a time.

    A channel that speaks has the floor until its message ends, or until it pauses while another
    has something to say. Of those that wait, the one whose message began first comes next.

    Subclasses implement the four ``on_...`` methods; `on_flush` is there for those that gather
    fragments and show them together. One collector is run by one `start_listening` at a time.

    Args:
        channels: The channels by the names under which they are announced.

    Attributes:
        pause: Seconds of silence after which a channel gives the floor to one that waits for it.
    """

    pause: float = 0.3

    def __init__(self, channels: Mapping[str, Channel[Any]]) -> None:
        self.channels = dict(channels)
        for name, channel in self.channels.items():
            if not isinstance(channel, Channel):
                kind = type(channel).__name__
                raise TypeError(f"channels[{name!r}]: a collector reads channels, not a {kind}")
        self._lanes = [_Lane(name, channel) for name, channel in self.channels.items()]
        self._floor: _Lane | None = None
        self._spoke_at = 0.0
        self._waiter: Waiter | None = None
        self._listening = False
        self._closing = False

    @abc.abstractmethod
    async def on_channel_start(self, channel_name: str) -> None:
        """A channel begins to speak: its first text is here, or it got the floor back."""

    @abc.abstractmethod
    async def on_channel_read(self, channel_name: str, message: Any) -> None:
        """A channel says something: a fragment of text, or an item of a plain channel."""

    @abc.abstractmethod
    async def on_channel_end(self, channel_name: str) -> None:
        """A channel stops speaking: its message ended, or it gives up the floor."""

    @abc.abstractmethod
    async def on_channel_eof(self, channel_name: str) -> None:
        """A channel will never speak again. Called once per channel, last."""

    async def on_flush(self) -> None:  # noqa: B027 - optional
        """What was there to be read in one go has been told; nothing is kept back after this."""

    def follow(self, source: Any) -> None:  # noqa: B027 - optional
        """What the channels belong to, for collectors that tell more about it than its text."""

    async def start_listening(self) -> None:
        """Listen until all channels are at EOF, or until `close`.

        It may be started again afterwards, and goes on where it stopped.

        Raises:
            LLMApplicationError: It is running already.
            Exception: Whatever an ``on_...`` method raises ends the listening.
        """
        if self._listening:
            raise LLMApplicationError("this collector is listening already; make another one")
        self._listening = True
        try:
            await self._listen()
            self._closing = False
        finally:
            self._listening = False
            self._floor = None
            for lane in self._lanes:
                lane.left = None

    def close(self) -> None:
        """End the listening after what was written so far is delivered. Any thread; again is fine.

        Called before `start_listening`, that one delivers what is there and returns.
        """
        self._closing = True
        waiter = self._waiter
        if waiter is not None:
            waiter.wake()

    async def _listen(self) -> None:
        closing = False
        while True:
            if self._closing and not closing:
                closing = True
                self._limit_to_what_is_there()
            if not await self._fill():
                break
            lane = self._next_lane(closing)
            if lane is not None:
                await self._tell(lane)
                await asyncio.sleep(0)
            elif closing:
                break
            else:
                await self.on_flush()
                await self._wait()
        await self._take_floor(None)
        await self.on_flush()

    def _limit_to_what_is_there(self) -> None:
        for lane in self._lanes:
            lane.left = lane.channel._backlog()

    async def _fill(self) -> bool:
        """Take from each channel what is there; False when all are at EOF."""
        for lane in self._lanes:
            if not lane.eof:
                lane.fill(speaking=lane is self._floor)
                if not lane.pending and lane.channel._at_eof():
                    await self._end_lane(lane)
        return not all(lane.eof for lane in self._lanes)

    async def _end_lane(self, lane: _Lane) -> None:
        if lane is self._floor:
            await self._take_floor(None)
        lane.eof = True
        await self.on_channel_eof(lane.name)

    def _next_lane(self, closing: bool) -> _Lane | None:
        """Who speaks now; None when nobody has anything to say, or the floor is not free yet."""
        if self._floor is not None and self._floor.pending:
            return self._floor
        waiting = [lane for lane in self._lanes if lane.pending]
        if self._floor is not None and not closing and self._patience() > 0:
            return None
        return min(waiting, key=lambda lane: lane.began, default=None)

    def _patience(self) -> float:
        return self._spoke_at + self.pause - asyncio.get_running_loop().time()

    async def _tell(self, lane: _Lane) -> None:
        while lane.pending:
            if lane.pending[0] is None:
                await self._take_floor(None)
            elif self._floor is not lane:
                await self._take_floor(lane)
            item = lane.pending.popleft()
            if item is not None:
                await self.on_channel_read(lane.name, item)
        await self.on_flush()
        self._spoke_at = asyncio.get_running_loop().time()

    async def _take_floor(self, lane: _Lane | None) -> None:
        before, self._floor = self._floor, None
        if before is not None:
            await self.on_channel_end(before.name)
        if lane is not None:
            await self.on_channel_start(lane.name)
            self._floor = lane

    async def _wait(self) -> None:
        """Return when a silent channel has something, on `close`, or when the floor gets free."""
        silent = [lane for lane in self._lanes if not lane.pending and not lane.eof]
        somebody_waits = len(silent) < sum(not lane.eof for lane in self._lanes)
        waiter = self._waiter = Waiter()
        watched: list[_Lane] = []
        timer = None
        try:
            if self._closing or not self._watch(silent, waiter, watched):
                return
            if somebody_waits:
                loop = asyncio.get_running_loop()
                timer = loop.call_later(max(self._patience(), 0), waiter.wake)
            await waiter.wait()
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
            for lane in watched:
                lane.channel._unwatch(waiter)

    def _watch(self, silent: Iterable[_Lane], waiter: Waiter, watched: list[_Lane]) -> bool:
        for lane in silent:
            if not lane.channel._watch(waiter):
                return False
            watched.append(lane)
        return True


_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\r\t"}
_VISIBLE |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
"""Control characters as pictures: a model's text must not steer the terminal."""


class DefaultTextChannelCollector(ChannelCollector):
    """Prints text channels to the console as it comes, each under its name.

    The name stands above the text whenever another channel than before has the floor. What arrives
    together is written and flushed together, to whatever ``sys.stdout`` is then.
    """

    def __init__(self, channels: Mapping[str, Channel[Any]]) -> None:
        super().__init__(channels)
        self._shown: str | None = None
        self._parts: list[str] = []
        self._at_line_start = True

    async def on_channel_start(self, channel_name: str) -> None:
        """Print the channel's name, unless it spoke last."""
        await self.on_channel_end(channel_name)  # where listening was cut short in mid-line
        if channel_name != self._shown:
            gap = "" if self._shown is None else "\n"
            self._parts.append(f"{gap}[{channel_name}]\n")
            self._shown = channel_name

    async def on_channel_read(self, channel_name: str, message: Any) -> None:
        """Print a fragment."""
        text = str(message)
        if text:
            self._parts.append(text)
            self._at_line_start = text.endswith("\n")

    async def on_channel_end(self, channel_name: str) -> None:
        """End the line."""
        if not self._at_line_start:
            self._parts.append("\n")
            self._at_line_start = True

    async def on_channel_eof(self, channel_name: str) -> None:
        """Print nothing."""

    async def on_flush(self) -> None:
        """Write and flush what has come together."""
        if self._parts:
            text = "".join(self._parts)
            self._parts.clear()
            _print(text)


def _print(text: str) -> None:
    out = sys.stdout
    if out is None:  # a program without a console
        return
    if out.isatty():
        text = text.translate(_VISIBLE)
    try:
        out.write(text)
    except UnicodeEncodeError:
        encoding = out.encoding or "ascii"
        out.write(text.encode(encoding, "backslashreplace").decode(encoding))
    out.flush()
