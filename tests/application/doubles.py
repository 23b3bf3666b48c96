"""A client with the three methods that a user's own client has, and things to write to."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from aitoolman._datamodel import (
    LLMProviderRequest,
    LLMProviderResponse,
    ToolCall,
    current_call,
)
from aitoolman._transport.client import LLMClient


class Worker(LLMClient):
    """Answers from a list of replies, the last one repeating, and keeps what it was asked.

    A reply is a text, an exception to raise, or a dict of `LLMProviderResponse` fields;
    ``fragments`` and ``thoughts`` in it are streamed. With `gate`, answers wait until it is set.
    """

    def __init__(self, *replies: Any, gate: asyncio.Event | None = None) -> None:
        self.replies = list(replies or ["ok"])
        self.gate = gate
        self.requests: list[LLMProviderRequest] = []
        self.cancelled: list[str] = []
        self.events: list[tuple[Any, ...]] = []
        self.started = asyncio.Event()
        self.cancelling = asyncio.Event()
        self._numbers = itertools.count(1)

    async def request(
        self,
        model_name,
        messages,
        tools=None,
        options=None,
        stream=False,
        context_id=None,
        output_channel=None,
        reasoning_channel=None,
    ):
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, BaseException):
            raise reply
        request = LLMProviderRequest(
            "worker",
            context_id,
            f"r{next(self._numbers)}",
            model_name,
            messages,
            tools,
            options,
            stream,
            output_channel,
            reasoning_channel,
            call=current_call(),
        )
        self.requests.append(request)
        task = asyncio.ensure_future(self._answer(request, reply))
        request.response.add_done_callback(lambda _: task.cancel())
        return request

    async def _answer(self, request: LLMProviderRequest, reply: Any) -> None:
        fields = {"response_text": reply} if isinstance(reply, str) else dict(reply)
        for thought in fields.pop("thoughts", ()):
            await request.reasoning_channel.write(thought)
        for fragment in fields.pop("fragments", ()):
            await request.output_channel.write(fragment)
        self.started.set()
        if self.gate is not None:
            await self.gate.wait()
        fields.setdefault("finish_reason", "stop")
        response = LLMProviderResponse(
            "worker",
            request.context_id,
            request.request_id,
            request.model_name,
            request.stream,
            **fields,
        )
        if not request.response.done():
            request.response.set_result(response)

    async def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)
        self.cancelling.set()
        for request in self.requests:
            if request.request_id == request_id:
                request.response.cancel()

    async def audit_event(self, context_id: str, event_type: str, **kwargs: Any) -> None:
        self.events.append((context_id, event_type, kwargs))

    @property
    def last(self) -> LLMProviderRequest:
        return self.requests[-1]

    def sent(self, index: int = -1) -> list[tuple[str | None, str | None]]:
        """Role and text of each message of a request."""
        return [(m.role, m.content) for m in self.requests[index].messages]


class Sink:
    """Keeps every write."""

    def __init__(self) -> None:
        self.writes: list[str | None] = []

    async def write(self, message: str | None) -> None:
        self.writes.append(message)


class BrokenSink:
    """Fails at every write."""

    async def write(self, message: str | None) -> None:
        raise OSError("the pipe is closed")


def module(user: str = "{{text}}", **table: Any) -> dict[str, Any]:
    """A configuration with one module, ``m``."""
    template = {"user": user} | table.pop("template", {})
    return {"module": {"m": {"model": "fast", "template": template} | table}}


WEATHER = ToolCall("weather", '{"city": "Oslo"}', {"city": "Oslo"}, "call_1")
