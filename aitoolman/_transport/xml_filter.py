"""XML filters: each known tag's content goes its own way while it arrives."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from .channels import open_writer
from .xml_scanner import TagScanner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._datamodel import TextSink
    from .xml_scanner import Event

__all__ = ["BaseXmlTagFilter", "XmlTagToChannelFilter"]


class BaseXmlTagFilter(abc.ABC):
    """Finds known tags in streamed text, one layer of them.

    Inside a known tag everything up to its first closing tag is its text, other markup included;
    nothing is decoded. Tags may have attributes, whose values must be quoted if they hold ``>`` and
    cannot hold ``<``. ``<tag/>`` is an empty message. Names are case-sensitive, as in XML. Whatever
    is no known tag is text of the surrounding message, the default one.

    Subclasses implement `on_text` and `on_end`. A filter takes one message after the other; where
    several calls write to one, each goes through `open_writer`, as applications do.

    Args:
        tags: The names to look for.

    Raises:
        ValueError: A name that no XML tag can have.
    """

    def __init__(self, tags: Iterable[str]) -> None:
        self._scanner = TagScanner(dict.fromkeys(tags))

    @abc.abstractmethod
    async def on_text(self, tag: str | None, fragment: str) -> None:
        """Text inside `tag`, or outside of all known tags where it is None; never empty."""

    @abc.abstractmethod
    async def on_end(self, tag: str | None) -> None:
        """`tag` was closed (or the message ended in it); None: the whole message ended."""

    async def write(self, message: str | None) -> None:
        """Take the next piece of text; None ends the message, and the next one starts clean.

        Raises:
            TypeError: Neither a string nor None.
        """
        if message is None:
            await self._end()
        elif isinstance(message, str):
            await self._tell(self._scanner.feed(message))
        else:
            raise TypeError(f"a filter takes strings and None, not {type(message).__name__}")

    async def _end(self) -> None:
        try:
            await self._tell(self._scanner.end())
        finally:
            await self.on_end(None)

    async def _tell(self, events: list[Event]) -> None:
        for tag, fragment in events:
            if fragment is None:
                await self.on_end(tag)
            else:
                await self.on_text(tag, fragment)


class XmlTagToChannelFilter(BaseXmlTagFilter):
    """Sends each known tag's content to a channel of its own, and other text to the default one.

    A closing tag ends the message in its tag's channel. The filter can stand wherever an output
    channel can.

    Args:
        default_channel: Takes the text outside of the known tags.
        channel_map: Channels by tag name; any object with ``async write`` will do.
    """

    def __init__(self, default_channel: TextSink, channel_map: Mapping[str, TextSink]) -> None:
        super().__init__(channel_map)
        self._sinks: dict[str | None, TextSink] = {None: default_channel}
        self._sinks.update(channel_map)
        self._writers: dict[int, TextSink] = {}

    async def on_text(self, tag: str | None, fragment: str) -> None:
        """Write to the tag's channel, as part of its message."""
        sink = self._sinks[tag]
        writer = self._writers.get(id(sink))
        if writer is None:
            writer = self._writers[id(sink)] = open_writer(sink)
        await writer.write(fragment)

    async def on_end(self, tag: str | None) -> None:
        """End the message in the tag's channel."""
        sink = self._sinks[tag]
        writer = self._writers.pop(id(sink), None) or open_writer(sink)
        await writer.write(None)
