"""From responses and results of calls to rows; which failures end a whole batch."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from .._application.exchange import status_of
from .._application.processors import run_processor
from .._datamodel import UNUSABLE_ENTRY, FinishReason
from .engine import RowResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._application.processors import Processed
    from .._datamodel import Attempt, LLMModuleResult, LLMProviderResponse

__all__ = ["fatal_reason", "is_async", "process_now", "row_of_response", "row_of_result"]

_DENIED = {
    401: "the vendor refuses the key",
    402: "the account has no money left",
    403: "the vendor denies access",
    404: "the vendor has no such model or address",
    429: "the quota is used up",
}
"""What a request that is not to be repeated says about all the others."""


def _unusable(attempt: Attempt) -> bool:
    return attempt.vendor_code == UNUSABLE_ENTRY


def fatal_reason(status: FinishReason, error: str | None, attempts: Sequence[Attempt]) -> str:
    """Why no other row can succeed either; empty where this failure is the row's own."""
    if status is not FinishReason.error_request or not attempts:
        return ""
    if all(map(_unusable, attempts)):
        return (error or attempts[-1].reason).rstrip(".")
    last = attempts[-1]
    if last.outcome != "stop" or last.status not in _DENIED:
        return ""
    return f"{_DENIED[last.status]}: {(error or last.reason).rstrip('.')}"


def row_of_result(result: LLMModuleResult, sample: int) -> RowResult:
    """The row that a call gave."""
    attempts = result.attempts
    return RowResult(
        result.status.value,
        result.data,
        result.response_text,
        result.error_text,
        result.prompt_tokens,
        result.completion_tokens,
        _tokens(result),
        result.total_response_time,
        result.cost,
        len(attempts),
        result.from_ledger,
        sample,
        fatal_reason(result.status, result.error_text, attempts) or None,
    )


def row_of_response(
    response: LLMProviderResponse, processed: Processed | None, sample: int
) -> RowResult:
    """The row that a kept answer gives; `processed` is what the post-processor made of its text."""
    status, error, data = status_of(response), response.error_text, None
    if status is FinishReason.stop:
        data = response.response_text if processed is None else processed.data
        if processed is not None and processed.error is not None:
            status, error = FinishReason.error_format, processed.error
    return RowResult(
        status.value,
        data,
        response.response_text,
        error,
        response.prompt_tokens,
        response.completion_tokens,
        _tokens(response),
        response.total_response_time,
        response.cost,
        len(response.attempts),
        response.from_ledger,
        sample,
    )


def _tokens(answer: LLMModuleResult | LLMProviderResponse) -> int | None:
    if answer.total_tokens is not None:
        return answer.total_tokens
    if answer.prompt_tokens is None or answer.completion_tokens is None:
        return None
    return answer.prompt_tokens + answer.completion_tokens


def is_async(processor: Any) -> bool:
    """True for a post-processor that has to be awaited, on its user's own loop."""
    return inspect.iscoroutinefunction(processor) or inspect.iscoroutinefunction(
        getattr(processor, "__call__", None)  # noqa: B004 - an object with an async __call__
    )


def process_now(processor: Callable[[str], Any], text: str) -> Processed | None:
    """What a post-processor makes of `text`, without a loop; None where it has to be awaited."""
    work = run_processor(processor, text, in_thread=False)
    try:
        work.send(None)
    except StopIteration as done:
        processed: Processed = done.value
        return processed
    work.close()
    return None
