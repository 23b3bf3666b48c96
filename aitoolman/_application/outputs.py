"""Where the text of one call goes: sinks found, fragments passed on, messages ended once."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from .._datamodel import LLMApplicationError, LLMUnknownNameError, did_you_mean
from .._provider.reply import ReplyWriter
from .._transport.channels import open_writer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._datamodel import LLMProviderResponse, Output, TextSink

__all__ = ["ReplyOutputs", "find_sink"]

_log = logging.getLogger("aitoolman.application")

CLOSE_SECONDS = 0.25
"""How long a call that was cut off waits for a slow sink to take the end of its message."""


def find_sink(target: Output, channels: Mapping[str, Any]) -> TextSink | None:
    """The sink behind a channel's name or a sink given directly; None for nowhere.

    Raises:
        LLMUnknownNameError: No channel has this name.
        LLMApplicationError: The target cannot be written to.
    """
    if target is None or target == "":
        return None
    if isinstance(target, str):
        if target not in channels:
            hint = did_you_mean(target, channels)
            raise LLMUnknownNameError(f"there is no channel {target!r}; {hint}")
        target = channels[target]
    if not callable(getattr(target, "write", None)):
        kind = type(target).__name__
        raise LLMApplicationError(
            f"a {kind} is no output channel: give a channel's name or an object with `write`"
        )
    return target  # type: ignore[return-value]


class ReplyOutputs:
    """The two sinks of one reply, as a client sees them.

    Whatever the client does with them, each gets its message ended exactly once: by the client, or
    by `complete` or `close`. What the client did not write, `complete` writes.
    """

    __slots__ = ("_complete", "_reply", "output", "reasoning")

    def __init__(self, output: TextSink | None, reasoning: TextSink | None) -> None:
        self._complete = False
        writer = None if output is None else open_writer(output)
        if reasoning is output:
            self._reply = ReplyWriter(writer, writer)
        else:
            self._reply = ReplyWriter(writer, None if reasoning is None else open_writer(reasoning))
        self.output: TextSink | None = None if output is None else _OutputTap(self._reply)
        """What the client writes answer text to."""
        self.reasoning: TextSink | None = self.output
        """What the client writes reasoning to; the same object where both go to one sink."""
        if reasoning is not output:
            self.reasoning = None if reasoning is None else _ReasoningTap(self._reply)

    async def complete(self, response: LLMProviderResponse) -> None:
        """Write what the client only put into its response, and end both messages."""
        if not self._reply.started:
            await self._reply.whole(response.response_reasoning, response.response_text)
        await self._reply.finish()
        self._complete = True

    async def close(self) -> None:
        """End both messages of a call that went wrong; nothing to do after `complete`.

        A failing sink raises nothing here, and one that dawdles does not hold a cancelled caller.
        """
        if self._complete:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._reply.finish()
        except Exception:  # noqa: BLE001 - a user's channel may raise anything
            _log.warning("an output channel failed while its message was ended", exc_info=True)


class _OutputTap:
    __slots__ = ("_reply",)

    def __init__(self, reply: ReplyWriter) -> None:
        self._reply = reply

    async def write(self, message: str | None) -> None:
        if message is None:
            await self._reply.finish()
        else:
            await self._reply.text(message)


class _ReasoningTap:
    __slots__ = ("_reply",)

    def __init__(self, reply: ReplyWriter) -> None:
        self._reply = reply

    async def write(self, message: str | None) -> None:
        if message is None:
            await self._reply.end_reasoning()
        else:
            await self._reply.reasoning(message)
