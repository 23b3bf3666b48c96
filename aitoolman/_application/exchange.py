"""One request to a client: whatever happens, a response comes back and the messages are ended."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import CallInfo, FinishReason, LLMError, LLMProviderResponse, use_call
from .outputs import ReplyOutputs

if TYPE_CHECKING:
    from .._datamodel import LLMDirectRequest, LLMProviderRequest, TextSink
    from .._transport.client import LLMClient

__all__ = ["Route", "ask", "status_of"]

_log = logging.getLogger("aitoolman.application")

CANCEL_SECONDS = 2.0
"""How long a cancelled call waits for its client to end the request."""


class Route(NamedTuple):
    """Everything that names in a request stand for."""

    model_name: str
    context_id: str
    info: CallInfo
    output: TextSink | None
    reasoning: TextSink | None
    processor: Any
    processor_name: str | None


def status_of(response: LLMProviderResponse) -> FinishReason:
    """How the call ended."""
    if response.finish_reason is not None:
        return FinishReason.of(response.finish_reason)
    # A client of the user's own need not give a reason.
    if response.error_text:
        return FinishReason.error
    return FinishReason.tool_calls if response.response_tool_calls else FinishReason.stop


async def ask(client: LLMClient, route: Route, request: LLMDirectRequest) -> LLMProviderResponse:
    """The client's response, a failure of any kind included; both messages are ended by then."""
    outputs = ReplyOutputs(route.output, route.reasoning)
    try:
        response = await _exchange(client, route, request, outputs)
        return await _delivered(response, outputs)
    finally:
        await outputs.close()


async def _exchange(
    client: LLMClient, route: Route, request: LLMDirectRequest, outputs: ReplyOutputs
) -> LLMProviderResponse:
    task = asyncio.current_task()
    assert task is not None
    cancels = task.cancelling()
    sent: LLMProviderRequest | None = None
    try:
        with use_call(route.info):
            sent = await client.request(
                model_name=route.model_name,
                messages=list(request.messages),
                tools=dict(request.tools or {}),
                options=dict(request.options or {}),
                stream=request.stream,
                context_id=route.context_id,
                output_channel=outputs.output,
                reasoning_channel=outputs.reasoning,
            )
        return _checked(await sent.response)
    except asyncio.CancelledError:
        if task.cancelling() == cancels:  # the client gave up the request, nobody cancelled us
            return _failure(route, request, sent, FinishReason.cancelled, "the client cancelled it")
        if sent is not None:
            await _end_request(client, sent.request_id)
        raise
    except Exception as exc:  # noqa: BLE001 - a user's client may raise anything
        status = FinishReason.of_error(exc)
        return _failure(route, request, sent, status, _describe(exc))


def _checked(response: Any) -> LLMProviderResponse:
    if not isinstance(response, LLMProviderResponse):
        kind = type(response).__name__
        raise TypeError(f"the client answered with a {kind} instead of an LLMProviderResponse")
    return response


async def _delivered(response: LLMProviderResponse, outputs: ReplyOutputs) -> LLMProviderResponse:
    """`response`, its text in the channels; a channel that fails makes it a failure."""
    try:
        await outputs.complete(response)
    except Exception as exc:  # noqa: BLE001 - a user's channel may raise anything
        if status_of(response).is_error:
            return response
        return dataclasses.replace(
            response,
            finish_reason=FinishReason.error_app.value,
            error_text=f"the output channel failed: {_describe(exc)}",
        )
    return response


_ending: set[asyncio.Task[None]] = set()


async def _end_request(client: LLMClient, request_id: str) -> None:
    """Have the client end a request; a second cancellation cuts the wait, not the ending."""
    task = asyncio.ensure_future(_cancel_quietly(client, request_id))
    _ending.add(task)
    task.add_done_callback(_ending.discard)
    await asyncio.wait({task}, timeout=CANCEL_SECONDS)


async def _cancel_quietly(client: LLMClient, request_id: str) -> None:
    try:
        await client.cancel(request_id)
    except Exception:  # noqa: BLE001 - a user's client may raise anything
        _log.warning("the client could not cancel request %s", request_id, exc_info=True)


def _failure(
    route: Route,
    request: LLMDirectRequest,
    sent: LLMProviderRequest | None,
    status: FinishReason,
    error_text: str,
) -> LLMProviderResponse:
    """The response of a client that gave none."""
    return LLMProviderResponse(
        client_id=sent.client_id if sent else "",
        context_id=route.context_id,
        request_id=sent.request_id if sent else "",
        model_name=route.model_name,
        stream=request.stream,
        finish_reason=status.value,
        error_text=error_text,
    )


def _describe(exc: Exception) -> str:
    return str(exc) if isinstance(exc, LLMError) else f"{type(exc).__name__}: {exc}"
