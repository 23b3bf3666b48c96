"""One call of a remote client, from its caller's view."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from .._datamodel import FinishReason, LLMProviderResponse
from .._provider.reply import ReplyWriter
from .._transport import wire

if TYPE_CHECKING:
    from .._datamodel import LLMError, LLMProviderRequest, Message
    from .link import Link
    from .remote import RemoteEngine

__all__ = ["RemoteCall"]

END_SECONDS = 0.5
"""How long a cancelled call waits for a sink that does not return."""


class RemoteCall:
    """A request, what came of its answer so far, and who is to bring the rest.

    Args:
        request: Its ``response`` gets exactly one answer; cancelling that ends the call.
        engine: Told when the call has ended.
    """

    __slots__ = (
        "__weakref__",
        "_arrived",
        "_drainer",
        "_engine",
        "_future",
        "_texts",
        "_writer",
        "boot",
        "busy_since",
        "cancelling",
        "ended",
        "have",
        "last_link",
        "link",
        "messages",
        "refusals",
        "request",
        "since",
        "tied",
    )  # fmt: skip

    def __init__(self, request: LLMProviderRequest, engine: RemoteEngine) -> None:
        self.request = request
        self.messages: list[Message] = request.messages
        self.link: Link | None = None
        """Who has it now."""
        self.last_link: Link | None = None
        self.boot = ""
        """The start of the server that it was sent to last."""
        self.tied: Link | None = None
        """The only server that can go on with it."""
        self.have = (0, 0)
        """Characters of reasoning and text that came."""
        self.ended = False
        self.cancelling = False
        self.busy_since = 0.0
        self.refusals = 0
        self.since = asyncio.get_running_loop().time()
        self._engine = engine
        self._writer: ReplyWriter | None = None
        if request.output_channel is not None or request.reasoning_channel is not None:
            self._writer = ReplyWriter(request.output_channel, request.reasoning_channel)
        self._texts: dict[str, list[str]] = {"r": [], "t": []}
        self._arrived: deque[tuple[str, str] | LLMProviderResponse] = deque()
        self._drainer: asyncio.Task[None] | None = None
        self._future = request.response
        self._future.add_done_callback(self._on_future_done)

    @property
    def has_any(self) -> bool:
        """True once something of the answer was passed on."""
        return self.have != (0, 0)

    def pack(self) -> wire.WireRequest:
        """The request as it travels, with what is here already."""
        packed = wire.pack_request(self.request, self.have)
        packed.again = bool(self.boot)
        if self.messages is not self.request.messages:
            packed.messages = wire.pack_messages(self.messages)
        return packed

    # What comes in

    def take(self, pieces: wire.Pieces) -> None:
        """Fragments; what is here already is left out, what is missing comes with the answer."""
        if self.ended:
            return
        at = {"r": pieces.at[0], "t": pieces.at[1]}
        have = {"r": self.have[0], "t": self.have[1]}
        for kind, text in pieces.pieces:
            known = have[kind] - at[kind]
            at[kind] += len(text)
            if 0 <= known < len(text):
                self._keep(kind, text[known:] if known else text)
                have[kind] = at[kind]
        self.have = (have["r"], have["t"])
        self._drain_soon()

    def _keep(self, kind: str, text: str) -> None:
        self._texts[kind].append(text)
        if self._writer is not None:
            self._arrived.append((kind, text))

    def answer(self, wired: wire.WireResponse) -> None:
        """The answer whole: what was not streamed of it is passed on first."""
        if self.ended:
            return
        response = wire.unpack_response(wired, self.request)
        if response.finish_reason == FinishReason.cancelled.value:
            self.request.is_cancelled = True
        self._rest("r", response.response_reasoning, self.have[0])
        self._rest("t", response.response_text, self.have[1])
        self._end(response)

    def _rest(self, kind: str, text: str, have: int) -> None:
        if len(text) > have:
            self._keep(kind, text[have:])

    def fail(self, error: LLMError) -> None:
        """End with an error, and the text so far."""
        self._end(self._bare(FinishReason.of_error(error), str(error)))

    def end_cancelled(self) -> None:
        """End as cancelled, with the text so far; one that has ended stays as it is."""
        self.request.is_cancelled = True
        self._end(self._bare(FinishReason.cancelled, "the request was cancelled"))

    def _bare(self, reason: FinishReason, text: str) -> LLMProviderResponse:
        request = self.request
        return LLMProviderResponse(
            request.client_id,
            request.context_id,
            request.request_id,
            request.model_name,
            request.stream,
            response_text="".join(self._texts["t"]),
            response_reasoning="".join(self._texts["r"]),
            finish_reason=reason.value,
            error_text=text,
        )

    def _end(self, response: LLMProviderResponse) -> None:
        if self.ended:
            return
        self.ended = True
        self._engine.leave(self)
        if self._writer is None:
            self._settle(response)
        else:
            self._arrived.append(response)
            self._drain_soon()
            if self.request.is_cancelled:
                self.hurry()

    def hurry(self) -> None:
        """Nobody waits for the text any more: a sink that dawdles does not hold the answer."""
        asyncio.get_running_loop().call_later(END_SECONDS, self._stop_draining)

    def _stop_draining(self) -> None:
        if self._drainer is not None:
            self._drainer.cancel()

    # What goes out, to the caller

    def _drain_soon(self) -> None:
        if self._arrived and self._drainer is None:
            self._drainer = self._engine.spawn(self._drain())

    async def _drain(self) -> None:
        """Pass on what has arrived, in order; a slow sink holds up nobody else."""
        writer = self._writer
        assert writer is not None
        try:
            while self._arrived:
                item = self._arrived.popleft()
                if isinstance(item, LLMProviderResponse):
                    await self._finish(writer, item)
                else:
                    await (writer.text if item[0] == "t" else writer.reasoning)(item[1])
        except Exception as exc:  # noqa: BLE001 - a caller's sink may raise anything
            await self._on_sink_failed(writer, exc)
        except asyncio.CancelledError:
            self._settle_hurried()
            raise
        finally:
            self._drainer = None

    async def _finish(self, writer: ReplyWriter, response: LLMProviderResponse) -> None:
        await writer.finish()
        self._settle(response)

    def _settle_hurried(self) -> None:
        """Give the answer without the text that was not passed on."""
        last = self._arrived[-1] if self._arrived else None
        if isinstance(last, LLMProviderResponse):
            last.finish_reason = FinishReason.cancelled.value
            last.error_text = "the request was cancelled"
            self._settle(last)
        self._settle(self._bare(FinishReason.cancelled, "the request was cancelled"))

    async def _on_sink_failed(self, writer: ReplyWriter, exc: Exception) -> None:
        text = f"the output channel failed: {type(exc).__name__}: {exc}"
        response = next((i for i in self._arrived if isinstance(i, LLMProviderResponse)), None)
        self._arrived.clear()
        if not self.ended:
            self._engine.drop(self)
            self.ended = True
            self._engine.leave(self)
        if response is None or response.error_text is None:
            response = self._bare(FinishReason.error_app, text)
        await _finish_quietly(writer)
        self._settle(response)

    def _settle(self, response: LLMProviderResponse) -> None:
        if not self._future.done():
            self._future.set_result(response)

    def _on_future_done(self, future: asyncio.Future[Any]) -> None:
        self._engine.forget(self)
        if future.cancelled() and self.ended:
            self.hurry()
        elif future.cancelled():
            self.request.is_cancelled = True
            self._engine.drop(self)
            self.end_cancelled()


async def _finish_quietly(writer: ReplyWriter) -> None:
    with contextlib.suppress(Exception):  # it failed before, and that was told
        await writer.finish()
