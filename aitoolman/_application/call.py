"""One call: a request to the client, its answer through the post-processor, a result back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import (
    CallInfo,
    FinishReason,
    LLMApplicationError,
    LLMModuleResult,
    LLMProviderResponse,
    Message,
    current_call,
)
from .._ledger.memory import memory_log
from .._sync import on_background_loop
from .exchange import Route, ask, status_of
from .outputs import find_sink
from .processors import processor_name, resolve_processor, run_processor

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._datamodel import LLMDirectRequest
    from .._transport.client import LLMClient

__all__ = ["Call", "Caller", "checked_params", "run_call"]

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
    route = _route(caller, call)
    request, responses = call.request, list[LLMProviderResponse]()
    while True:
        response = await ask(caller.client, route, request)
        responses.append(response)
        if caller.client.ledger_path is None:
            memory_log(caller.client).add(route.model_name, route.info.source, response, request)
        result = _result(call, request, route, response)
        usable = await _process(result, route.processor)
        if usable or len(responses) > call.format_retries:
            result.responses = responses
            return result
        request = _asking_again(request, response, result.error_text)


def _route(caller: Caller, call: Call) -> Route:
    """Everything that names in a request stand for."""
    request = call.request
    return Route(
        caller.alias(request.model_name),
        caller.context_id,
        _call_info(caller, call),
        find_sink(request.output_channel, caller.channels),
        find_sink(request.reasoning_channel, caller.channels),
        resolve_processor(request.post_processor, caller.processors),
        processor_name(request.post_processor),
    )


def _call_info(caller: Caller, call: Call) -> CallInfo:
    around = current_call()
    return CallInfo(
        around.source or caller.source,
        around.sample if call.sample is None else call.sample,
        around.fresh if call.fresh is None else call.fresh,
    )


def _result(
    call: Call, request: LLMDirectRequest, route: Route, response: LLMProviderResponse
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
        status=status_of(response),
        error_text=response.error_text,
        request_params=dict(call.params),
        response_message=response.response_message,
    )


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
