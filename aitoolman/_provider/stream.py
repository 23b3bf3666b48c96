"""A streamed answer: blocks to events, events to fragments, fragments to the caller's sinks.

The loop in `StreamReader.read` runs for every token of every call; tests/benchmarks holds it to a
few microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._datamodel import LLMApiRequestError, LLMResponseFormatError
from .errors import SinkFailed
from .sse import EventSplitter

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent

    from .._datamodel import LLMProviderResponse
    from .clock import Clock
    from .deadline import Deadline
    from .formats.base import LLMFormatStrategy, StreamEvent
    from .http import HttpReply
    from .reply import ReplyWriter

__all__ = ["StreamReader", "not_understood"]

TAIL_SECONDS = 10.0
"""How long usage and the end of a stream may take once the vendor gave a finish reason."""

DRAIN_SECONDS = 0.1
"""How long the end of the body may take after the vendor's last event."""

DRAIN_BYTES = 65536


def not_understood(exc: Exception) -> LLMResponseFormatError:
    """Whatever a strategy raises over a strange answer: it could not be understood."""
    return LLMResponseFormatError(
        f"the answer could not be understood: {type(exc).__name__}: {exc}"
    )


class StreamReader:
    """Reads one streamed answer into a response and a writer."""

    def __init__(
        self,
        strategy: LLMFormatStrategy,
        response: LLMProviderResponse,
        writer: ReplyWriter,
        clock: Clock,
    ) -> None:
        self._strategy = strategy
        self._response = response
        self._writer = writer
        self._clock = clock
        self.first_token: float | None = None
        """When the first fragment came, on the clock."""

    async def read(self, reply: HttpReply, deadline: Deadline, blocks: list[bytes]) -> None:
        """Read to the end, or to the vendor's last event.

        Args:
            reply: The answer.
            deadline: Told when silence counts.
            blocks: Keeps what was read.

        Raises:
            TransportError: The connection broke.
            LLMApiRequestError: The vendor sent an error.
            LLMResponseFormatError: An event cannot be understood.
            SinkFailed: A channel of the caller raised.
        """
        splitter = EventSplitter()
        while block := await reply.block():
            deadline.pause()
            blocks.append(block)
            # A request for no stream has one time limit for all of it, and so has a stream's tail.
            counts = self._response.stream and self._response.finish_reason is None
            alive, done = await self._events(splitter.feed(block))
            if alive:
                deadline.resume(alive=counts)
            else:
                deadline.go_on()
            if done:
                return await _drain(reply, deadline, blocks)
            if self._response.finish_reason is not None:
                deadline.shorten(TAIL_SECONDS)
        await self._events(splitter.flush())
        return None

    async def _events(self, events: list[ServerSentEvent]) -> tuple[bool, bool]:
        """Parse and pass on; was there a sign of life, and did the vendor say that it is done?"""
        parse, response = self._strategy.parse_stream_event, self._response
        alive = False
        for event in events:
            try:
                delta = parse(response, event)
            except (LLMApiRequestError, LLMResponseFormatError):
                raise
            except Exception as exc:
                raise not_understood(exc) from exc
            if delta.text or delta.reasoning:
                alive = True
                await self._pass_on(delta)
            elif (
                delta.working
            ):  # a comment, a ping or an empty object shows only that a proxy lives
                alive = True
            if delta.done:
                return True, True
        return alive, False

    async def _pass_on(self, delta: StreamEvent) -> None:
        if self.first_token is None:
            self.first_token = self._clock.monotonic()
        try:
            if delta.reasoning:
                await self._writer.reasoning(delta.reasoning)
            if delta.text:
                await self._writer.text(delta.text)
        except Exception as exc:
            raise SinkFailed(exc) from exc

    def finish(self) -> None:
        """Assemble message and tool calls.

        Raises:
            LLMResponseFormatError: What came does not fit together.
        """
        try:
            self._strategy.finish_stream(self._response)
        except Exception as exc:
            raise not_understood(exc) from exc


async def _drain(reply: HttpReply, deadline: Deadline, blocks: list[bytes]) -> None:
    """Read what little is left, so that the connection can be used again."""
    deadline.shorten(DRAIN_SECONDS)
    left = DRAIN_BYTES
    while left > 0 and not reply.at_end and (block := await reply.block()):
        blocks.append(block)
        left -= len(block)
