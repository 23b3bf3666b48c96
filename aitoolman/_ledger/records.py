"""What the ledger keeps of a call: the answer whole, its fragments, and a row of numbers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from .._datamodel import Attempt, LLMProviderResponse, Message, ToolCall

if TYPE_CHECKING:
    from .._datamodel import LLMProviderRequest

__all__ = [
    "CALL_COLUMNS",
    "Fragment",
    "call_row",
    "decode_fragments",
    "decode_response",
    "encode_fragments",
    "encode_response",
    "event_row",
]

REUSABLE = frozenset({"stop", "length", "tool_calls"})
"""The finish reasons of answers that are worth having again."""


class Fragment(NamedTuple):
    """A piece of a stream: which text it belongs to, when it came, what it said."""

    kind: str
    """``"r"`` reasoning, ``"t"`` text."""
    at: float
    """Seconds after the request was started."""
    text: str


class _StoredResponse(msgspec.Struct, omit_defaults=True):
    """The kept fields of an LLMProviderResponse; fields may only be added, with defaults."""

    model_name: str
    stream: bool = False
    start_time: float | None = None
    queue_time: float | None = None
    queue_length: int | None = None
    time_to_first_token: float | None = None
    total_response_time: float | None = None
    response_text: str = ""
    response_reasoning: str = ""
    response_tool_calls: list[dict[str, Any]] = []
    finish_reason: str | None = None
    error_text: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    response_message: dict[str, Any] | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    attempts: list[dict[str, Any]] = []
    cost: float | None = None
    notes: list[str] = []


_PLAIN = [
    f
    for f in _StoredResponse.__struct_fields__
    if f not in ("response_tool_calls", "response_message", "attempts")
]
_encoder = msgspec.json.Encoder(enc_hook=str)
_decoder = msgspec.json.Decoder(_StoredResponse)
_fragments_decoder = msgspec.json.Decoder(list[tuple[str, float, str]])


def encode_response(response: LLMProviderResponse) -> bytes:
    """The response as JSON, without ids, exchange and whatever belongs to one call only."""
    stored = _StoredResponse(**{name: getattr(response, name) for name in _PLAIN})
    stored.response_tool_calls = [call._asdict() for call in response.response_tool_calls]
    stored.attempts = [attempt._asdict() for attempt in response.attempts]
    if response.response_message is not None:
        stored.response_message = _lean(response.response_message)
    return _encoder.encode(stored)


def _lean(message: Message) -> dict[str, Any]:
    values = {k: v for k, v in message._asdict().items() if v is not None}
    if message.tool_calls is not None:
        values["tool_calls"] = [call._asdict() for call in message.tool_calls]
    return values


def decode_response(blob: bytes, request: LLMProviderRequest) -> LLMProviderResponse:
    """The kept response as the answer to `request`, marked ``from_ledger``."""
    stored = _decoder.decode(blob)
    response = LLMProviderResponse(
        client_id=request.client_id,
        context_id=request.context_id,
        request_id=request.request_id,
        **{name: getattr(stored, name) for name in _PLAIN},
    )
    response.stream = request.stream
    response.response_tool_calls = [ToolCall(**call) for call in stored.response_tool_calls]
    response.attempts = [Attempt(**attempt) for attempt in stored.attempts]
    if stored.response_message is not None:
        response.response_message = _message(stored.response_message)
    response.from_ledger = True
    return response


def _message(values: dict[str, Any]) -> Message:
    if values.get("tool_calls") is not None:
        values["tool_calls"] = [ToolCall(**call) for call in values["tool_calls"]]
    return Message(**values)


def encode_fragments(fragments: list[Fragment]) -> bytes | None:
    """The fragments as JSON arrays, None where there was no stream."""
    return _encoder.encode(fragments) if fragments else None


def decode_fragments(blob: bytes | None) -> list[Fragment]:
    """The fragments of a stream, in order."""
    return [Fragment(*f) for f in _fragments_decoder.decode(blob)] if blob else []


CALL_COLUMNS = (
    "kind, time, client, context, source, request_id, model, answered_by, fingerprint, sample,"
    " answer, status, error, attempts, prompt_tokens, completion_tokens, cached_tokens,"
    " reasoning_tokens, total_tokens, cost, from_ledger, queue_time, time_to_first_token,"
    " total_response_time, event, fields"
)


def call_row(
    request: LLMProviderRequest,
    response: LLMProviderResponse,
    key: bytes | None,
    answer: int | None,
) -> tuple[Any, ...]:
    """One row of `calls` for a finished call, in the order of `CALL_COLUMNS`."""
    attempts = _encoder.encode([a._asdict() for a in response.attempts]).decode()
    return (
        "call", time.time(), request.client_id, request.context_id, request.call.source,
        request.request_id, request.model_name, response.model_name, key, request.call.sample,
        answer, response.finish_reason, response.error_text, attempts,
        response.prompt_tokens, response.completion_tokens, response.cached_tokens,
        response.reasoning_tokens, response.total_tokens, response.cost,
        int(response.from_ledger), response.queue_time, response.time_to_first_token,
        response.total_response_time, None, None,
    )  # fmt: skip


def event_row(
    client_id: str, context_id: str | None, event: str, fields: dict[str, Any]
) -> tuple[Any, ...]:
    """One row of `calls` for a business event."""
    text = _encoder.encode(fields).decode()
    return (
        "event", time.time(), client_id, context_id, *([None] * 16), 0, None, None, None,
        event, text,
    )  # fmt: skip
