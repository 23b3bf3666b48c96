"""One call: a request to the client, its answer through the post-processor, a result back."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import (
    CallInfo,
    FinishReason,
    LLMApplicationError,
    LLMError,
    LLMModuleResult,
    LLMProviderResponse,
    Message,
    current_call,
    use_call,
)
from .._ledger.memory import memory_log
from .._sync import on_background_loop
from .outputs import ReplyOutputs, find_sink
from .processors import processor_name, resolve_processor, run_processor

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._datamodel import LLMDirectRequest, LLMProviderRequest, TextSink
    from .._transport.client import LLMClient

__all__ = ["Call", "Caller", "checked_params", "run_call"]

_log = logging.getLogger("aitoolman.application")

CANCEL_SECONDS = 2.0
"""How long a cancelled call waits for its client to end the request."""

_RETRY_PROMPT = (
    "Your answer could not be used: {error}\n"
    "Answer again, correct this, and keep to the format that was asked for."
)


class Caller(NamedTuple):
    """What a call needs of its application, taken at the moment of the call."""

    client: LLMClient
    context_id: str
    source: str
    channels: Mapping[str, Any]
    processors: Mapping[str, Any]
    alias: Callable[[str], str]


class Call(NamedTuple):
    """A request that is complete, and what belongs to it besides."""

    request: LLMDirectRequest
    module_name: str | None = None
    params: Mapping[str, Any] = {}
    format_retries: int = 0
    sample: int | None = None
    fresh: bool | None = None


def checked_params(params: Any) -> Mapping[str, Any]:
    """`params`, or `LLMApplicationError` where they are no mapping of names."""
    if not isinstance(params, Mapping):
        kind = type(params).__name__
        raise LLMApplicationError(f"template_params must be a dict of variables, not a {kind}")
    return params


async def run_call(caller: Caller, call: Call) -> LLMModuleResult:
    """Send a request, ask again where the answer has a bad format, and return the result.

    Raises:
        LLMApplicationError: The caller's mistake: an unknown channel or post-processor. Nothing was
            sent.
        asyncio.CancelledError: The awaiting task was cancelled; the request has been ended.
    """
    route = _Route.of(caller, call)
    request, responses = call.request, list[LLMProviderResponse]()
    while True:
        response = await _ask(caller.client, route, request)
        responses.append(response)
        if caller.client.ledger_path is None:
            memory_log(caller.client).add(route.model_name, route.info.source, response)
        result = _result(call, request, route, response)
        usable = await _process(result, route.processor)
        if usable or len(responses) > call.format_retries:
            result.responses = responses
            return result
        request = _asking_again(request, response, result.error_text)


class _Route(NamedTuple):
    """Everything that names in a request stand for."""

    model_name: str
    context_id: str
    info: CallInfo
    output: TextSink | None
    reasoning: TextSink | None
    processor: Any
    processor_name: str | None

    @classmethod
    def of(cls, caller: Caller, call: Call) -> _Route:
        request = call.request
        processor = resolve_processor(request.post_processor, caller.processors)
        return cls(
            caller.alias(request.model_name),
            caller.context_id,
            _call_info(caller, call),
            find_sink(request.output_channel, caller.channels),
            find_sink(request.reasoning_channel, caller.channels),
            processor,
            processor_name(request.post_processor),
        )


def _call_info(caller: Caller, call: Call) -> CallInfo:
    around = current_call()
    return CallInfo(
        around.source or caller.source,
        around.sample if call.sample is None else call.sample,
        around.fresh if call.fresh is None else call.fresh,
    )


async def _ask(client: LLMClient, route: _Route, request: LLMDirectRequest) -> LLMProviderResponse:
    """The client's response, a failure of any kind included; both messages are ended by then."""
    outputs = ReplyOutputs(route.output, route.reasoning)
    try:
        response = await _exchange(client, route, request, outputs)
        return await _delivered(response, outputs)
    finally:
        await outputs.close()


async def _exchange(
    client: LLMClient, route: _Route, request: LLMDirectRequest, outputs: ReplyOutputs
) -> LLMProviderResponse:
    task = asyncio.current_task()
    assert task is not None
    cancels = task.cancelling()
    sent: LLMProviderRequest | None = None
    try:
        with use_call(route.info):
            sent = await client.request(
                model_name=route.model_name,
                messages=request.messages,
                tools=request.tools or {},
                options=request.options or {},
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
        if _status(response).is_error:
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
    route: _Route,
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


def _result(
    call: Call, request: LLMDirectRequest, route: _Route, response: LLMProviderResponse
) -> LLMModuleResult:
    return LLMModuleResult(
        model_name=response.model_name or route.model_name,
        module_name=call.module_name,
        request=request,
        post_processor=route.processor_name,
        response_text=response.response_text,
        response_reasoning=response.response_reasoning,
        text=response.response_text,
        tool_calls=list(response.response_tool_calls),
        status=_status(response),
        error_text=response.error_text,
        request_params=dict(call.params),
        response_message=response.response_message,
    )


def _status(response: LLMProviderResponse) -> FinishReason:
    if response.finish_reason is not None:
        return FinishReason.of(response.finish_reason)
    # A client of the user's own need not give a reason.
    if response.error_text:
        return FinishReason.error
    return FinishReason.tool_calls if response.response_tool_calls else FinishReason.stop


async def _process(result: LLMModuleResult, processor: Any) -> bool:
    """Fill `data` of a good answer; False where the post-processor could not use the text."""
    if result.status is not FinishReason.stop:
        return True
    if processor is None:
        result.data = result.response_text
        return True
    done = await run_processor(processor, result.response_text, in_thread=on_background_loop())
    if done.error is not None:
        result.status, result.error_text = FinishReason.error_format, done.error
        return False
    result.data, result.repaired = done.data, done.repaired
    if isinstance(done.data, str):
        result.text = done.data
    return True


def _asking_again(
    request: LLMDirectRequest, response: LLMProviderResponse, error: str | None
) -> LLMDirectRequest:
    """The same conversation, carried on with the model's own answer and what is wrong with it."""
    answer = response.response_message or Message("assistant", response.response_text)
    complaint = Message("user", _RETRY_PROMPT.format(error=error))
    return request._replace(messages=[*request.messages, answer, complaint])
