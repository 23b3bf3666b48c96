"""What the terminal shows of a conversation: the answer as it is, reasoning apart."""

from __future__ import annotations

import sys

from .._transport.collectors import DefaultTextChannelCollector

__all__ = ["TerminalCollector"]

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class TerminalCollector(DefaultTextChannelCollector):
    """Prints the channel ``answer`` without a title, others dimmed under theirs."""

    async def on_channel_start(self, channel_name: str) -> None:
        """Begin a message."""
        await super().on_channel_end(channel_name)
        if channel_name != "answer":
            self._parts.append(f"{_code(_DIM)}[{channel_name}] ")

    async def on_channel_end(self, channel_name: str) -> None:
        """End the line."""
        await super().on_channel_end(channel_name)
        if channel_name != "answer":
            self._parts.append(_code(_PLAIN))


def _code(sequence: str) -> str:
    """A control sequence where the output is a terminal that knows it."""
    return sequence if sys.stdout is not None and sys.stdout.isatty() else ""
