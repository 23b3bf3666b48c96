"""Channels for text: one message at a time, whoever writes, and no more unread text than agreed."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Optional

from .channel_base import Channel, ChannelStatistics, ticks
from .floors import FloorWriter

if TYPE_CHECKING:
    from .._datamodel import TextSink
    from .waiter import Waiter

__all__ = [
    "UNREAD_LIMIT",
    "Channel",
    "ChannelStatistics",
    "MessageWriter",
    "TextFragmentChannel",
    "open_writer",
]

UNREAD_LIMIT = 1_000_000
"""Characters of unread text that a text channel keeps before it forgets old messages."""

_log = logging.getLogger("aitoolman.channel")


class _Message:
    """One message: its unread fragments, and whether its None was written."""

    __slots__ = ("began", "empty", "finished", "fragments", "size")

    def __init__(self) -> None:
        self.began = next(ticks)
        self.fragments: Any = []
        self.size = 0
        self.finished = False
        self.empty = False


class TextFragmentChannel(Channel[Optional[str]]):  # noqa: UP045 - as specified
    """Text in fragments; None ends a message.

    It carries one message at a time. While one writer's message is open, what others write (see
    `open_message`) is held back and follows in the order in which their messages began. A plain
    `write` is one writer too, the anonymous one. Empty fragments are left out.

    Args:
        limit: How many characters of unread text are kept. When more is written, the oldest
            finished messages are forgotten whole, with one warning in the log. Messages being
            written, the one being read, and one that just ended are kept whole.
    """

    # A reader sees `_ready`, the fragments of the first message. Those of later messages wait in
    # lists of their own and move there when everything before them has been read.

    def __init__(self, limit: int = UNREAD_LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"limit={limit}: it is a number of characters, at least 1")
        super().__init__()
        self.limit = limit
        self._messages: deque[_Message] = deque()
        self._anonymous: _Message | None = None
        self._whole_waiters: list[Waiter] = []
        self._begun = False  # a reader has taken some of the first message
        self._size = 0
        self._empty = 0  # unread messages without text: one character each, or they would pile up
        self._forgettable = 0  # finished messages of which nothing has been read
        self._forgotten = 0
        self._warn = False
        self._dropped: list[_Message] = []  # their writers were garbage-collected

    def write_nowait(self, message: str | None) -> None:
        """Add a fragment to the anonymous writer's message, or end it with None, from any thread.

        Raises:
            LLMApplicationError: The channel is complete.
            TypeError: Neither a string nor None.
        """
        if message is not None and not isinstance(message, str):
            raise TypeError(_not_text(message))
        with self._lock:
            self._check_open()
            if message != "":
                target = self._anonymous
                if target is None:
                    target = self._anonymous = self._begin()
                self._append(target, message)
                if message is None:
                    self._anonymous = None
        if self._warn or self._dropped:
            self._tidy()

    def open_message(self) -> MessageWriter:
        """A writer for one message, which no other writer's text gets into."""
        return MessageWriter(self)

    async def read_whole_message(self) -> str:
        """The next message, or what is left of it, in one piece; waits for its end.

        At EOF an unfinished message is returned as it is. Cancelled, it leaves the message unread;
        of several readers each gets a whole one.

        Raises:
            EOFError: Writing is complete and everything has been read.
        """
        while True:
            with self._lock:
                if self._ready and (self._complete or self._messages[0].finished):
                    return self._take_message()
                waiter = self._register(self._whole_waiters)
            await self._wait(waiter, self._whole_waiters)

    def discard_unread(self) -> int:
        """Drop the finished messages of which nothing was read; returns how many there were."""
        with self._lock:
            return self._remove_finished(-1)

    def statistics(self) -> ChannelStatistics:
        """How much is waiting and how much was forgotten, as a snapshot."""
        with self._lock:
            return ChannelStatistics(
                unread=len(self._ready),
                waiting_readers=len(self._waiters) + len(self._whole_waiters),
                complete=self._complete,
                unread_characters=self._size,
                unread_messages=len(self._messages),
                forgotten_messages=self._forgotten,
            )

    # -- called with the lock held

    def _begin(self) -> _Message:
        message = _Message()
        self._messages.append(message)
        if len(self._messages) == 1:
            self._promote()
        return message

    def _append(self, message: _Message, fragment: str | None) -> None:
        message.fragments.append(fragment)
        if fragment is None:
            self._finish(message)
        else:
            size = len(fragment)
            message.size += size
            self._size += size
        if self._forgettable and self._size + self._empty > self.limit:
            self._forget(keep=message)
        if self._waiters and message.fragments is self._ready:
            self._wake(self._waiters)

    def _finish(self, message: _Message) -> None:
        message.finished = True
        first = message is self._messages[0]
        if not (first and self._begun):
            self._forgettable += 1
            message.empty = not message.size
            self._empty += message.empty
        if first:
            self._wake(self._whole_waiters)

    def _take(self) -> str | None:
        fragment = self._ready.popleft()
        first = self._messages[0]
        if not self._begun:
            self._begun = True
            self._forgettable -= first.finished
        if fragment is None:
            self._drop_first()
        else:
            size = len(fragment)
            first.size -= size
            self._size -= size
        return fragment

    def _take_message(self) -> str:
        text = "".join(fragment for fragment in self._ready if fragment is not None)
        self._forgettable -= self._messages[0].finished and not self._begun
        self._drop_first()
        return text

    def _drop_first(self) -> None:
        first = self._messages.popleft()
        self._size -= first.size
        self._empty -= first.empty
        self._ready.clear()
        self._begun = False
        if self._messages:
            self._promote()

    def _promote(self) -> None:
        """Let readers at the fragments of the message that has become the first."""
        first = self._messages[0]
        self._began = first.began
        self._ready.extend(first.fragments)
        first.fragments = self._ready
        for _ in range(min(len(self._waiters), len(self._ready))):
            self._wake(self._waiters)
        if first.finished:
            self._wake(self._whole_waiters)

    def _forget(self, keep: _Message) -> None:
        """Drop old messages until the rest fits."""
        forgotten = self._remove_finished(self.limit, keep)
        self._warn = self._warn or (forgotten > 0 and not self._forgotten)
        self._forgotten += forgotten

    def _remove_finished(self, limit: int, keep: _Message | None = None) -> int:
        """Drop finished messages that nobody has begun to read, the oldest first, down to a size.

        Returns:
            How many there were.
        """
        removed, index = 0, int(self._begun)
        while self._size + self._empty > limit and index < len(self._messages):
            message = self._messages[index]
            if message.finished and message is not keep:
                self._remove_at(index)
                removed += 1
            else:
                index += 1
        return removed

    def _remove_at(self, index: int) -> None:
        self._forgettable -= 1
        if index == 0:
            self._drop_first()
            return
        self._size -= self._messages[index].size
        self._empty -= self._messages[index].empty
        del self._messages[index]

    def _end(self) -> None:
        """Open messages end here; the last one needs no None, for EOF ends it."""
        for message in list(self._messages)[:-1]:
            self._abandon(message)
        super()._end()
        self._wake_all(self._whole_waiters)

    def _abandon(self, message: _Message) -> None:
        if not message.finished:
            self._append(message, None)

    # -- called without the lock

    def _tidy(self) -> None:
        if self._dropped:
            with self._lock:
                self._end_dropped()
        if self._warn:
            self._warn = False
            _log.warning(
                "nobody reads a text channel: more than %d characters are waiting in it, so its"
                " oldest messages are forgotten; statistics() counts them. Read the channel, show"
                ' it, or send the text nowhere (output_channel = "")',
                self.limit,
            )

    def _backlog(self) -> int:
        count = 0
        with self._lock:
            for message in self._messages:
                count += len(message.fragments)
                if not message.finished:
                    break
        return count

    def _drop(self, message: _Message) -> None:
        """End the message of a writer that is gone: runs in a finalizer, so never waits."""
        self._dropped.append(message)
        if self._lock.acquire(blocking=False):
            try:
                self._end_dropped()
            finally:
                self._lock.release()

    def _end_dropped(self) -> None:
        while self._dropped:
            message = self._dropped.pop(0)
            if not self._complete:
                self._abandon(message)


class MessageWriter:
    """Writes one message into a text channel; `TextFragmentChannel.open_message` makes it.

    None ends the message, and whatever comes after it is ignored. A writer that is dropped without
    it ends its message then.
    """

    __slots__ = ("__weakref__", "_channel", "_ended", "_message")

    def __init__(self, channel: TextFragmentChannel) -> None:
        self._channel = channel
        self._message: _Message | None = None
        self._ended = False

    def __repr__(self) -> str:
        return f"<MessageWriter {'ended' if self._ended else 'open'} on {self._channel!r}>"

    async def write(self, message: str | None) -> None:
        """Add a fragment, or end the message with None; see `write_nowait`."""
        self.write_nowait(message)

    def write_nowait(self, message: str | None) -> None:
        """Add a fragment, or end the message with None, from any thread.

        Raises:
            LLMApplicationError: The channel is complete and text is written.
            TypeError: Neither a string nor None.
        """
        if message is not None and not isinstance(message, str):
            raise TypeError(_not_text(message))
        if self._ended or message == "":
            return
        channel = self._channel
        with channel._lock:
            if message is None:
                self._ended = True
                if channel._complete:  # EOF has ended the message already
                    return
            channel._check_open()
            target = self._message
            if target is None:
                target = self._message = channel._begin()
            channel._append(target, message)
        if channel._warn or channel._dropped:
            channel._tidy()

    def close(self) -> None:
        """End the message if it has not ended. Again is fine."""
        self.write_nowait(None)

    def __del__(self) -> None:
        if not self._ended and self._message is not None:
            self._channel._drop(self._message)


def open_writer(sink: TextSink) -> TextSink:
    """A writer for one message into `sink`, where it gets mixed with no other message.

    A text channel opens a message of its own. Any other sink hears one writer at a time; what the
    others write waits in their writers until it is their turn.

    Args:
        sink: A text channel, an XML filter, or an object of your own with ``async write``.
    """
    # A subclass with a `write` of its own must see everything that is written.
    if (
        isinstance(sink, TextFragmentChannel)
        and type(sink).write is TextFragmentChannel.write
        and type(sink).write_nowait is TextFragmentChannel.write_nowait
    ):
        return sink.open_message()
    return FloorWriter(sink)


def _not_text(message: object) -> str:
    kind = type(message).__name__
    return f"a text channel takes strings, and None for a message's end, not {kind}"
