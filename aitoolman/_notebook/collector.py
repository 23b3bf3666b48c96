"""`NotebookChannelCollector`: several channels in one cell, live, and static in the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from .._transport.collectors import ChannelCollector
from .picture import Picture
from .status import live_status
from .view import Section, bundle, make_view

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from .._datamodel import LLMProviderResponse
    from .._transport.channels import Channel
    from .view import View

__all__ = ["NotebookChannelCollector"]

TICK = 0.05
"""Seconds between two updates of the text."""
STATUS_TICKS = 5
"""Updates of the text between two of the status line."""
PICTURE_TICKS = 10
"""Updates of the text between two of a workflow's picture."""


class NotebookChannelCollector(ChannelCollector):
    """Shows channels in a notebook cell as they speak.

    Reasoning is shown apart and folded when it ends. A status line tells what is waited for and how
    fast text comes; where the cell awaits, a Stop button ends it. When listening ends, the cell
    holds static Markdown and plain text. ``async with aitoolman.show(app):`` makes one of these.

    Args:
        channels: The channels by their labels.
        reasoning: The labels whose text is reasoning; those that hold the word unless given.
        stop: What the Stop button calls, from any thread; None shows no button.
        reason: Tells why the cell ends early, None where it does not.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel[Any]],
        *,
        reasoning: Collection[str] | None = None,
        stop: Callable[[], None] | None = None,
        reason: Callable[[], str | None] | None = None,
    ) -> None:
        super().__init__(channels)
        folded = (
            {n for n in channels if "reasoning" in n.lower()} if reasoning is None else reasoning
        )
        self._sections = {name: Section(name, name in folded) for name in channels}
        self._fresh: dict[str, list[str]] = {}
        self._source: Any = None
        self._picture: Picture | None = None
        self._stop = stop
        self._reason = reason
        self._view: View | None = None
        self._started = self._first = 0.0
        self._status = ""
        self._error: str | None = None

    def conclude(self, status: str, error: str | None = None) -> None:
        """Set the last status line, and what went wrong; call it before listening ends."""
        self._status, self._error = status, error

    def follow(self, source: Any) -> None:
        """Tell of an application's requests under way, and show a workflow's graph and steps."""
        self._source = source if hasattr(source, "client") else getattr(source, "workflow", None)
        self._picture = Picture.of(source)

    def _under_way(self) -> Sequence[LLMProviderResponse]:
        client = getattr(self._source, "client", None)
        return () if client is None else client.under_way(self._source.context_id)

    async def start_listening(self) -> None:
        """Listen, show, and leave the static output, whatever happens."""
        several = sum(not s.folded for s in self._sections.values()) > 1
        self._view = make_view(self._stop, several)
        self._view.open()
        self._started = time.monotonic()
        ticker = asyncio.create_task(self._tick())
        try:
            await super().start_listening()
        except Exception as exc:
            self._error = self._error or f"{type(exc).__name__}: {exc}"
            raise
        finally:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
            self._finish()

    def _finish(self) -> None:
        assert self._view is not None
        status = self._status or self._last_words()
        why = self._reason() if self._reason is not None else None
        error = self._error or (f"{why}; what was under way is ended" if why else None)
        final = bundle(list(self._sections.values()), status, error)
        if self._picture is not None:
            self._picture.close()
            final = self._picture.with_texts(self._sections.values(), error)
        self._view.finish(final)

    def _last_words(self) -> str:
        pieces = sum(s.pieces for s in self._sections.values())
        seconds = time.monotonic() - self._started
        return f"≈{pieces} tokens · {seconds:.1f} s" if pieces else ""

    async def _tick(self) -> None:
        count = 0
        while True:
            self._draw()
            if count % STATUS_TICKS == 0:
                self._draw_status()
            if count % PICTURE_TICKS == 0:
                self._draw_picture()
            count += 1
            await asyncio.sleep(TICK)

    def _draw(self) -> None:
        assert self._view is not None
        fresh, self._fresh = self._fresh, {}
        for name, parts in fresh.items():
            if self._sections[name].said:
                self._view.add(self._sections[name], "".join(parts))
            else:
                self._fresh[name] = parts

    def _draw_picture(self) -> None:
        if self._picture is not None and self._view is not None:
            self._picture.draw(self._view)

    def _draw_status(self) -> None:
        assert self._view is not None
        now = time.monotonic()
        pieces = sum(s.pieces for s in self._sections.values())
        line = live_status(
            self._under_way(), pieces, now - self._started, now - self._first if pieces else 0.0
        )
        hint = "" if self._stop else " · Interrupt (■) stops it"
        self._view.status(line + hint)

    async def on_channel_start(self, channel_name: str) -> None:
        """Begin the channel's section, or go on with it."""
        section = self._sections[channel_name]
        now = time.monotonic()
        section.started = section.started or now
        self._first = self._first or now
        if section.parts and section.whole:
            self._say(section, "\n\n")
        section.whole = False

    async def on_channel_read(self, channel_name: str, message: Any) -> None:
        """Take a fragment; it is shown with the next update."""
        section = self._sections[channel_name]
        section.pieces += 1
        self._say(section, str(message))

    def _say(self, section: Section, text: str) -> None:
        section.parts.append(text)
        self._fresh.setdefault(section.name, []).append(text)

    async def on_channel_end(self, channel_name: str) -> None:
        """Fold reasoning that is over."""
        section = self._sections[channel_name]
        section.ended = time.monotonic()
        section.whole = self._message_ends(channel_name)
        if section.folded and section.whole and self._view is not None:
            self._draw()
            self._view.end(section)

    def _message_ends(self, channel_name: str) -> bool:
        """True where the channel's message is over; False where it only gives up the floor."""
        lane = next(lane for lane in self._lanes if lane.name == channel_name)
        return bool(lane.pending) and lane.pending[0] is None

    async def on_channel_eof(self, channel_name: str) -> None:
        """Nothing more to do: the section stays."""
