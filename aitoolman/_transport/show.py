"""`show`: what an application's channels say, while a block of code runs."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .._loops import background, running_loop
from .channel_base import Channel
from .channels import TextFragmentChannel
from .collectors import ChannelCollector, DefaultTextChannelCollector

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ShowFactory", "set_show_factory", "show"]

ShowFactory = Callable[[Mapping[str, Channel[Any]]], ChannelCollector]
"""Makes the collector that shows channels by their labels."""

_factory: ShowFactory = DefaultTextChannelCollector


def set_show_factory(factory: ShowFactory | None) -> None:
    """Choose what `show` shows with from now on; None is the console again."""
    global _factory
    _factory = DefaultTextChannelCollector if factory is None else factory


class show:  # noqa: N801 - reads as a verb: `async with show(app):`
    """Shows streamed text while its block runs; on leaving, all that was written is shown first.

    ``async with`` listens on the running loop, a plain ``with`` on the library's background loop.
    One `show` serves one block. What earlier calls of an application wrote and nobody read is
    dropped when the block begins; channels given by label are shown from what is in them.

    Args:
        source: An application (its ``stdout``, ``reasoning`` and added text channels), a workflow,
            a stepped run, or channels by label.

    Attributes:
        collector: The collector that listens.

    Raises:
        TypeError: `source` is neither.
    """

    def __init__(self, source: Any) -> None:
        channels = _channels_of(source)
        self._stale = () if isinstance(source, Mapping) else tuple(channels.values())
        self.collector = _factory(channels)
        self.collector.follow(source)
        self._task: asyncio.Task[None] | None = None
        self._future: concurrent.futures.Future[None] | None = None

    def _discard_stale(self) -> None:
        for channel in self._stale:
            channel.discard_unread()

    async def __aenter__(self) -> ChannelCollector:
        self._discard_stale()
        self._task = asyncio.create_task(self.collector.start_listening())
        return self.collector

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self.collector.close()
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:  # again, while the rest was being shown
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        _report(self._task, exc)

    def __enter__(self) -> ChannelCollector:
        if background.running is not None and running_loop() is background.running:
            raise RuntimeError(
                "`with show(...)` would wait for its own loop; use `async with` here"
            )
        self._discard_stale()
        listening = self.collector.start_listening()
        self._future = asyncio.run_coroutine_threadsafe(listening, background.loop)
        return self.collector

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._future is not None
        self.collector.close()
        try:
            concurrent.futures.wait([self._future])
        except BaseException:  # Ctrl-C, while the rest was being shown
            self._future.cancel()
            raise
        _report(self._future, exc)


def _report(done: asyncio.Future[None] | concurrent.futures.Future[None], exc: object) -> None:
    """Raise the error of the listening, unless the block itself failed."""
    if not done.cancelled() and done.exception() is not None and exc is None:
        done.result()


def _channels_of(source: Any) -> dict[str, Any]:
    if isinstance(source, Mapping):
        return dict(source)
    owner = source if hasattr(source, "channels") else getattr(source, "workflow", None)
    channels = getattr(owner, "channels", None)
    if not isinstance(channels, Mapping):
        kind = type(source).__name__
        raise TypeError(f"show() takes an application or channels by label, not a {kind}")
    return {
        name: channel
        for name, channel in channels.items()
        if name != "stdin" and isinstance(channel, TextFragmentChannel)
    }
