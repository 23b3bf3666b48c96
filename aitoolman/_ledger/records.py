"""What the ledger keeps of a call: the answer whole, its fragments, and a row of numbers."""

from __future__ import annotations

import json
import operator
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from .._datamodel import Attempt, FinishReason, LLMProviderResponse, Message, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._datamodel import LLMProviderRequest

__all__ = [
    "CALL_COLUMNS",
    "CALL_NAMES",
    "Fragment",
    "attempts_json",
    "call_row",
    "call_with_answer",
    "decode_fragments",
    "decode_response",
    "encode_fragments",
    "encode_response",
    "event_row",
    "is_reusable",
    "restore_response",
    "storable",
    "with_words",
    "without_words",
]

T = TypeVar("T")


class Fragment(NamedTuple):
    """A piece of a stream: which text it belongs to, when it came, what it said."""

    kind: str
    """``"r"`` reasoning, ``"t"`` text."""
    at: float
    """Seconds after the request was started."""
    text: str


def _kept_form(kind: type[Any], *, omit_defaults: bool = False, **types: Any) -> Any:
    """The fields of a named tuple as msgspec reads and writes them as an object, in their order.

    A client of one's own may have put in anything, so only what `types` says is checked.
    """
    defaults = kind._field_defaults
    fields = [
        (name, types.get(name, Any), *([defaults[name]] if name in defaults else []))
        for name in kind._fields
    ]
    return msgspec.defstruct(f"_Stored{kind.__name__}", fields, omit_defaults=omit_defaults)


_StoredAttempt: Any = _kept_form(Attempt)
_StoredCall: Any = _kept_form(ToolCall)
_StoredMessage: Any = _kept_form(Message, omit_defaults=True, tool_calls=list[_StoredCall] | None)


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
    response_tool_calls: list[_StoredCall] = []
    finish_reason: str | None = None
    error_text: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    response_message: _StoredMessage | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    attempts: list[_StoredAttempt] = []
    cost: float | None = None
    notes: list[str] = []


_stored_fields_of = operator.attrgetter(*_StoredResponse.__struct_fields__)
_values = msgspec.structs.astuple
_encoder = msgspec.json.Encoder(enc_hook=str)
_response_decoder = msgspec.json.Decoder(_StoredResponse)
_fragments_decoder = msgspec.json.Decoder(list[tuple[str, float, str]])


def _to_json(value: Any) -> bytes:
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:  # lone surrogates of a broken stream: escaped, they survive
        return json.dumps(msgspec.to_builtins(value, enc_hook=str)).encode()


def _from_json(blob: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(blob)
    except msgspec.DecodeError:
        value: T = msgspec.convert(json.loads(blob), decoder.type)
        return value


# Answers


_REUSABLE = frozenset({"stop", "length", "tool_calls"})


def is_reusable(response: LLMProviderResponse) -> bool:
    """True for an answer that is worth having again; a client of one's own may give no reason."""
    if response.finish_reason is None:
        return not response.error_text
    return response.finish_reason in _REUSABLE


def encode_response(response: LLMProviderResponse) -> bytes:
    """The response as JSON, without ids, exchange and whatever belongs to one call only."""
    stored = _StoredResponse(*_stored_fields_of(response))
    stored.response_tool_calls = [_StoredCall(*call) for call in response.response_tool_calls]
    stored.attempts = _stored_attempts(response)
    if response.response_message is not None:
        stored.response_message = message = _StoredMessage(*response.response_message)
        if message.tool_calls is not None:
            message.tool_calls = [_StoredCall(*call) for call in message.tool_calls]
    return _to_json(stored)


def _stored_attempts(response: LLMProviderResponse) -> list[Any]:
    return [_StoredAttempt(*attempt) for attempt in response.attempts]


def decode_response(blob: bytes, request: LLMProviderRequest) -> LLMProviderResponse:
    """The kept response as the answer to `request`, marked ``from_ledger``.

    Raises:
        ValueError: The bytes are no kept response.
    """
    response = restore_response(blob)
    response.client_id, response.context_id = request.client_id, request.context_id
    response.request_id, response.stream = request.request_id, request.stream
    response.from_ledger = True
    return response


def restore_response(blob: bytes) -> LLMProviderResponse:
    """The kept response as it was given, without the ids of its request.

    Raises:
        ValueError: The bytes are no kept response.
    """
    s = _from_json(blob, _response_decoder)
    message = None
    if s.response_message is not None:
        if s.response_message.tool_calls is not None:
            s.response_message.tool_calls = _tuples(ToolCall, s.response_message.tool_calls)
        message = Message(*_values(s.response_message))
    return LLMProviderResponse(  # in the order of its fields: by name, it takes twice as long
        "", None, "", s.model_name, s.stream,
        s.start_time, s.queue_time, s.queue_length, s.time_to_first_token, s.total_response_time,
        s.response_text, s.response_reasoning, _tuples(ToolCall, s.response_tool_calls),
        s.finish_reason, s.error_text, s.prompt_tokens, s.completion_tokens, message,
        s.cached_tokens, s.reasoning_tokens, s.total_tokens, _tuples(Attempt, s.attempts), s.cost,
        False, None, s.notes,
    )  # fmt: skip


def _tuples(kind: type[T], kept: list[Any]) -> list[T]:
    return [kind(*_values(item)) for item in kept]


def encode_fragments(fragments: Sequence[Fragment]) -> bytes | None:
    """The fragments as JSON arrays, None where there was no stream."""
    return _to_json(fragments) if fragments else None


def decode_fragments(blob: bytes | None) -> list[Fragment]:
    """The fragments of a stream, in order.

    Raises:
        ValueError: The bytes are no kept stream.
    """
    return [Fragment(*f) for f in _from_json(blob, _fragments_decoder)] if blob else []


# Rows of `calls`


CALL_COLUMNS = (
    "kind, time, client, context, source, request_id, model, answered_by, fingerprint, sample,"
    " answer, status, error, attempts, prompt_tokens, completion_tokens, cached_tokens,"
    " reasoning_tokens, total_tokens, cost, from_ledger, queue_time, time_to_first_token,"
    " total_response_time, event, fields"
)
CALL_NAMES = CALL_COLUMNS.split(", ")
"""The columns one by one."""
_ANSWER, _ERROR, _ATTEMPTS = (CALL_NAMES.index(name) for name in ("answer", "error", "attempts"))
_WORDS = (_ERROR, _ATTEMPTS, CALL_NAMES.index("fields"))


def call_row(
    request: LLMProviderRequest,
    response: LLMProviderResponse,
    key: bytes | None,
    answer: int | None = None,
) -> tuple[Any, ...]:
    """One row of `calls` for a finished call, in the order of `CALL_COLUMNS`."""
    clean = storable
    return (
        "call", time.time(), request.client_id, clean(request.context_id),
        clean(request.call.source), request.request_id, clean(request.model_name),
        clean(response.model_name), key, request.call.sample,
        answer, _status_of(response), clean(response.error_text), attempts_json(response),
        response.prompt_tokens, response.completion_tokens, response.cached_tokens,
        response.reasoning_tokens, response.total_tokens, response.cost,
        int(response.from_ledger), response.queue_time, response.time_to_first_token,
        response.total_response_time, None, None,
    )  # fmt: skip


def _status_of(response: LLMProviderResponse) -> str:
    if response.finish_reason is not None:
        return response.finish_reason
    if not is_reusable(response):
        return str(FinishReason.error.value)
    reason = FinishReason.tool_calls if response.response_tool_calls else FinishReason.stop
    return str(reason.value)


def attempts_json(response: LLMProviderResponse) -> str:
    """The attempts of a call as its row tells them."""
    if not response.attempts:
        return "[]"
    return _to_json(_stored_attempts(response)).decode()


def storable(text: str | None) -> str | None:
    """A text that SQLite takes: lone surrogates are spelt out."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def call_with_answer(row: tuple[Any, ...], answer: int | None) -> tuple[Any, ...]:
    """A row of a call with the number of its answer put in."""
    return (*row[:_ANSWER], answer, *row[_ANSWER + 1 :])


def without_words(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of a call with numbers only: errors can quote the prompt."""
    attempts = [attempt | {"reason": ""} for attempt in json.loads(row[_ATTEMPTS])]
    kept = list(row)
    kept[_ERROR], kept[_ATTEMPTS] = None, _to_json(attempts).decode()
    return tuple(kept)


def with_words(row: tuple[Any, ...], change: Callable[[str], str]) -> tuple[Any, ...]:
    """A row with what others wrote changed."""
    kept = list(row)
    for place in _WORDS:
        if kept[place]:
            kept[place] = change(kept[place])
    return tuple(kept)


def event_row(
    client_id: str, context_id: str | None, event: str, fields: dict[str, Any]
) -> tuple[Any, ...]:
    """One row of `calls` for a business event."""
    text = _to_json(fields).decode()
    return (
        "event", time.time(), client_id, storable(context_id), *([None] * 16), 0, None, None, None,
        storable(event), text,
    )  # fmt: skip
