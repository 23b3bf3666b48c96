"""The rules by which one answer's fragments reach its two sinks, in one place.

Used by everything that plays an answer: the provider manager, the scripted client, a ledger's
replay and the remote client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._datamodel import TextSink

__all__ = ["ReplyWriter"]


class ReplyWriter:
    """Writes reasoning and answer text of one reply, and ends both messages exactly once.

    Reasoning ends when the first answer text comes; later reasoning is not streamed, unless the
    sink says that it ``takes_late`` reasoning. One sink for both gets everything, and one None;
    where it has a method ``write_reasoning``, that one takes the reasoning. Empty fragments are not
    written.
    """

    __slots__ = (
        *("_ended", "_output", "_reasoning", "_shared", "_takes_late", "_write_reasoning"),
        "started",
    )

    def __init__(self, output: TextSink | None, reasoning: TextSink | None) -> None:
        self._output = output
        self._reasoning = reasoning
        self._shared = output is reasoning
        self._takes_late = self._shared or getattr(reasoning, "takes_late", False)
        self._write_reasoning = getattr(reasoning, "write", None)
        if self._shared:
            self._write_reasoning = getattr(reasoning, "write_reasoning", self._write_reasoning)
        self._ended = False
        self.started = False
        """True once a fragment was given to a sink (or would have been, had there been one)."""

    async def reasoning(self, fragment: str) -> None:
        """Pass on a fragment of reasoning."""
        if fragment and not self._ended:
            self.started = True
            if self._reasoning is not None and self._write_reasoning is not None:
                await self._write_reasoning(fragment)

    async def text(self, fragment: str) -> None:
        """Pass on a fragment of the answer."""
        if not fragment:
            return
        self.started = True
        if self._reasoning is not None and not self._takes_late:
            await self.end_reasoning()
        if self._output is not None and not self._ended:
            await self._output.write(fragment)

    async def whole(self, reasoning: str, text: str) -> None:
        """Pass on a reply that came in one piece."""
        await self.reasoning(reasoning)
        await self.text(text)

    async def finish(self) -> None:
        """End both messages; again is fine."""
        if self._ended:
            return
        self._ended = True
        try:
            if not self._shared:
                await self.end_reasoning()
        finally:
            if self._output is not None:
                output, self._output = self._output, None
                await output.write(None)

    async def end_reasoning(self) -> None:
        """End the reasoning; what comes later is not streamed. Again is fine."""
        if self._reasoning is not None:
            sink, self._reasoning = self._reasoning, None
            await sink.write(None)
