"""What travels between a client and a server: structures and their bytes, for both ends.

A message is a header frame and, for most kinds, a body frame, both MessagePack. Fields are named:
either end ignores those it does not know, and a field that is added has a default. The header alone
names kind and id, so that a body which cannot be read is still refused by id. Nothing on the wire
can carry a vendor's address, headers or keys, nor the name of a file to be read at the other end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from .._datamodel import (
    Attempt,
    CallInfo,
    LLMApplicationError,
    LLMProviderResponse,
    MediaContent,
    Message,
    ModelDescription,
    RequestPreview,
    ToolCall,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._datamodel import LLMProviderRequest

__all__ = [
    "MAX_BYTES",
    "VERSION",
    "Answer",
    "Ask",
    "Audit",
    "Beat",
    "Busy",
    "Event",
    "Header",
    "Hello",
    "Page",
    "Pieces",
    "Refusal",
    "Rows",
    "Said",
    "Welcome",
    "WireRequest",
    "WireResponse",
    "decode",
    "encode",
    "pack_messages",
    "pack_request",
    "unpack_messages",
    "unpack_response",
    "without_surrogates",
]

VERSION = 1
"""Of the protocol; an end that meets another one says so and goes no further."""
MAX_BYTES = 32_000_000
"""The most bytes of one message, checked by the sender and by the receiver."""
HEADER_BYTES = 1_000
"""The most bytes of a header."""

T = TypeVar("T")


class Wire(msgspec.Struct, omit_defaults=True):
    """The base of all structures on the wire."""


class Header(Wire):
    """The first frame: what this is about."""

    v: int
    op: str
    id: str = ""
    """The request's id, chosen by the client, unique in its session."""


# From client to server


class Hello(Wire):
    """The first message on every connection."""

    challenge: bytes = b""
    """Random; the server answers with a proof that it knows the token."""
    session: str = ""
    """The session to go on with; empty for a new one."""
    monitor: bool = False
    """Asks for the audit only."""


class WireMedia(Wire):
    media_type: str
    raw_value: dict[str, Any] | None = None
    data: bytes | None = None
    mime_type: str | None = None
    url: str | None = None
    options: dict[str, Any] | None = None
    name: str | None = None
    """What the vendor is told of a file's name; its data are here."""


class WireToolCall(Wire):
    name: str
    arguments_text: str
    arguments: dict[str, Any] | None = None
    id: str | None = None
    type: str = "function"


class WireMessage(Wire):
    role: str | None = None
    content: str | None = None
    media: list[WireMedia] = []
    reasoning_content: str | None = None
    tool_call_id: str | None = None
    raw_value: dict[str, Any] | None = None
    tool_calls: list[WireToolCall] | None = None
    dialect: str | None = None


class WireRequest(Wire):
    """A call, or (as the body of ``preview``) what would be one."""

    model_name: str
    messages: list[WireMessage]
    tools: dict[str, dict[str, Any]] = {}
    options: dict[str, Any] = {}
    stream: bool = False
    context_id: str | None = None
    source: str | None = None
    sample: int = 0
    fresh: bool = False
    have: tuple[int, int] = (0, 0)
    """Characters of reasoning and of text that the client already passed on."""
    again: bool = False
    """True where it was sent before, perhaps to a server that is no more."""


class Ask(Wire):
    """A question about a model."""

    model_name: str


class Audit(Wire):
    """A business event of an application."""

    context_id: str | None
    event: str
    fields: dict[str, Any] = {}


class Page(Wire):
    """A part of the audit: rows after `after`, at most `limit`."""

    after: int
    limit: int = 500


# From server to client


class Welcome(Wire):
    """The answer to hello."""

    proof: bytes = b""
    session: str = ""
    boot: str = ""
    """Random, new with every start of the server."""
    client: str = ""
    max_bytes: int = MAX_BYTES
    max_requests: int = 1
    """How many requests the session may have under way."""
    on_restart: str = "resend"
    ledger: str = ""
    """Names the numbered sequence of the audit."""
    head: int = 0
    """Its last number."""


class Pieces(Wire):
    """Fragments of one answer, in order: pairs of kind (``r``, ``t``) and text."""

    at: tuple[int, int]
    """Characters of reasoning and of text before these."""
    pieces: list[tuple[str, str]]


class WireAttempt(Wire):
    model_name: str
    start_time: float
    duration: float
    outcome: str
    status: int | None = None
    vendor_code: str | None = None
    reason: str = ""
    wait: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None


class WireResponse(Wire):
    """An answer, all but ids and the raw exchange."""

    model_name: str
    stream: bool = False
    start_time: float | None = None
    queue_time: float | None = None
    queue_length: int | None = None
    time_to_first_token: float | None = None
    total_response_time: float | None = None
    response_text: str = ""
    response_reasoning: str = ""
    response_tool_calls: list[WireToolCall] = []
    finish_reason: str | None = None
    error_text: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    response_message: WireMessage | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    attempts: list[WireAttempt] = []
    cost: float | None = None
    from_ledger: bool = False
    notes: list[str] = []


Answer = WireResponse


class Busy(Wire):
    """The server takes no more just now."""

    queue_length: int


class Refusal(Wire):
    """A message that is not acted on, and why."""

    reason: str
    kind: str = "request"
    """``request``, ``application``: which error it is; ``stale``: say hello again."""


class Said(Wire):
    """A description or a preview."""

    model_name: str
    digest: str = ""
    entries: tuple[str, ...] = ()
    limits: dict[str, Any] = {}
    price: dict[str, float] | None = None
    body: dict[str, Any] = {}
    prompt_tokens: int = 0
    cost: float | None = None
    max_cost: float | None = None


class Event(Wire):
    """One row of the audit, as published and as fetched."""

    seq: int
    values: dict[str, Any]


class Rows(Wire):
    """A page of the audit."""

    ledger: str
    head: int
    events: list[Event]


class Beat(Wire):
    """What the audit socket says once a second: how far the sequence is, and where to ask."""

    ledger: str
    head: int
    router: str = ""
    queue: int = 0
    """Requests waiting for the vendor, over all models."""
    running: int = 0


# Bytes


_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def encode(value: Any) -> bytes:
    """A structure as bytes.

    Raises:
        LLMApplicationError: It holds something that has no bytes.
    """
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:  # lone surrogates, as a cut stream leaves them
        return _encoder.encode(without_surrogates(msgspec.to_builtins(value)))
    except (TypeError, OverflowError, ValueError, RecursionError) as exc:
        raise LLMApplicationError(f"this cannot be sent to a server: {exc}") from exc


def without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {without_surrogates(k): without_surrogates(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_surrogates(item) for item in value]
    return value


def decode(data: bytes | memoryview, kind: type[T]) -> T:
    """The structure that `data` holds.

    Raises:
        ValueError: It holds another one, or none.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        return decoder.decode(data)  # type: ignore[no-any-return]
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


# Values to structures and back


def pack_request(request: LLMProviderRequest, have: tuple[int, int]) -> WireRequest:
    """A request as it travels; media are data by now (see `_service.media`)."""
    call = request.call
    return WireRequest(
        request.model_name,
        pack_messages(request.messages),
        request.tools,
        request.options,
        request.stream,
        request.context_id,
        call.source,
        call.sample,
        call.fresh,
        have,
    )


def pack_messages(messages: Sequence[Message]) -> list[WireMessage]:
    return [_pack_message(message) for message in messages]


def _pack_message(m: Message) -> WireMessage:
    return WireMessage(
        m.role, m.content, [_pack_media(item) for item in m.media] if m.media_content else [],
        m.reasoning_content, m.tool_call_id, m.raw_value,
        None if m.tool_calls is None else [WireToolCall(*call) for call in m.tool_calls],
        m.dialect,
    )  # fmt: skip


def _pack_media(m: MediaContent) -> WireMedia:
    name = None if m.data is None else m.filename
    return WireMedia(m.media_type, m.raw_value, m.data, m.mime_type, m.url, m.options, name)


def unpack_messages(messages: Sequence[WireMessage]) -> list[Message]:
    return [_unpack_message(message) for message in messages]


def _unpack_message(m: WireMessage) -> Message:
    media = [_unpack_media(item) for item in m.media]
    return Message(
        m.role, m.content, media or None, m.reasoning_content, m.tool_call_id, m.raw_value,
        None if m.tool_calls is None else [_unpack_tool_call(call) for call in m.tool_calls],
        m.dialect,
    )  # fmt: skip


def _unpack_media(w: WireMedia) -> MediaContent:
    """Media of a client; a name without data would be one of a file to be read here."""
    name = None if w.data is None else w.name
    return MediaContent(w.media_type, w.raw_value, w.data, w.mime_type, name, w.url, w.options)


def _unpack_tool_call(call: WireToolCall) -> ToolCall:
    return ToolCall(call.name, call.arguments_text, call.arguments, call.id, call.type)


def call_info(wire: WireRequest) -> CallInfo:
    return CallInfo(wire.source, wire.sample, wire.fresh)


_PLAIN = [
    name
    for name in WireResponse.__struct_fields__
    if name not in ("response_tool_calls", "response_message", "attempts")
]


def pack_response(response: LLMProviderResponse) -> WireResponse:
    """An answer as it travels."""
    wire = WireResponse(**{name: getattr(response, name) for name in _PLAIN})
    if response.response_tool_calls:
        wire.response_tool_calls = [WireToolCall(*call) for call in response.response_tool_calls]
    if response.response_message is not None:
        wire.response_message = _pack_message(response.response_message)
    wire.attempts = [WireAttempt(*attempt) for attempt in response.attempts]
    return wire


def unpack_response(wire: WireResponse, request: LLMProviderRequest) -> LLMProviderResponse:
    """The answer to `request`."""
    response = LLMProviderResponse(
        request.client_id,
        request.context_id,
        request.request_id,
        **{name: getattr(wire, name) for name in _PLAIN},
    )
    if wire.response_tool_calls:
        response.response_tool_calls = [_unpack_tool_call(c) for c in wire.response_tool_calls]
    if wire.response_message is not None:
        response.response_message = _unpack_message(wire.response_message)
    response.attempts = [_unpack_attempt(attempt) for attempt in wire.attempts]
    return response


def _unpack_attempt(w: WireAttempt) -> Attempt:
    return Attempt(**{name: getattr(w, name) for name in Attempt._fields})


def said_description(description: ModelDescription) -> Said:
    return Said(
        description.model_name, description.digest, description.entries, description.limits,
        description.price,
    )  # fmt: skip


def said_preview(preview: RequestPreview) -> Said:
    """A preview without address and headers: they are the server's own."""
    return Said(
        preview.model_name, body=preview.body, prompt_tokens=preview.prompt_tokens,
        cost=preview.cost, max_cost=preview.max_cost,
    )  # fmt: skip
