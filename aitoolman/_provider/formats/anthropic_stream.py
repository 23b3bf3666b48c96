"""Streamed answers of Anthropic's format: events that open, extend and close content blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from ..._datamodel import LLMResponseFormatError
from ..._secrets import shorten
from .answers import (
    append_reasoning,
    append_text,
    decode_json,
    encode_json,
    text_of,
)
from .anthropic_answers import apply_usage, block_text, read_tool_uses, set_stop_reason, settle
from .anthropic_state import AnthropicStream
from .base import StreamEvent
from .errors import error_in, parse_error_body, request_error

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent

    from ..._datamodel import LLMProviderResponse
    from .dialect import Dialect

__all__ = ["AnthropicStreamReader"]

_NOTHING = StreamEvent()
_WORKING = StreamEvent(working=True)
_TYPES = {
    "message_start", "content_block_start", "content_block_delta", "content_block_stop",
    "message_delta", "message_stop", "error",
}  # fmt: skip


class _Delta(msgspec.Struct, gc=False):
    type: Any = None
    text: Any = None
    thinking: Any = None
    signature: Any = None
    partial_json: Any = None
    citation: Any = None
    stop_reason: Any = None
    stop_details: Any = None


class _Event(msgspec.Struct, gc=False):
    type: Any = None
    index: Any = None
    delta: _Delta | None = None
    content_block: Any = None
    message: Any = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class AnthropicStreamReader:
    """Reads the events; holds nothing of any stream."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def read(self, response: LLMProviderResponse, event: ServerSentEvent) -> StreamEvent:
        """See `LLMFormatStrategy.parse_stream_event`."""
        data = event.data
        try:
            found = _decode(data)
        except (ValueError, RecursionError):
            return self._read_odd(response, data)
        state = response.stream_state
        if state is None:
            state = response.stream_state = AnthropicStream(self._dialect)
        kind = found.type
        if kind == "content_block_delta":
            return self._delta(response, state, found)
        if kind == "error" or found.error or event.event == "error":
            _raise_error(data)
        if kind == "content_block_start":
            return self._start(response, state, found)
        if kind in ("message_start", "message_delta"):
            self._frame(response, state, found)
        elif kind is None and error_in(decode_json(data)):
            _raise_error(data)
        elif kind == "message_stop":
            text, reasoning = self.end(response)
            return StreamEvent(text, reasoning, done=True)
        return _NOTHING

    def end(self, response: LLMProviderResponse) -> tuple[str, str]:
        """Give out what was held back and write the message; again is fine."""
        state = response.stream_state
        if not isinstance(state, AnthropicStream):
            return "", ""
        text, reasoning = state.splitter.flush() if state.splitter else ("", "")
        _add(response, text, reasoning)
        self._assemble(response, state)
        return text, reasoning

    def _delta(
        self, response: LLMProviderResponse, state: AnthropicStream, event: _Event
    ) -> StreamEvent:
        delta = event.delta
        if delta is None:
            return _NOTHING
        kind = delta.type
        if kind == "text_delta":
            text = text_of(delta.text, "a text delta")
            state.block(event.index, "text").pieces.append(text)
            return self._said(response, state, text)
        if kind == "thinking_delta":
            thought = text_of(delta.thinking, "a thinking delta")
            state.block(event.index, "thinking").thoughts.append(thought)
            append_reasoning(response, thought)
            return StreamEvent("", thought)
        return _WORKING if _extend(state, event, delta) else _NOTHING

    def _said(
        self, response: LLMProviderResponse, state: AnthropicStream, text: str
    ) -> StreamEvent:
        if state.splitter is None:
            append_text(response, text)
            return StreamEvent(text)
        text, reasoning = state.splitter.push(text)
        _add(response, text, reasoning)
        return StreamEvent(text, reasoning)

    def _start(
        self, response: LLMProviderResponse, state: AnthropicStream, event: _Event
    ) -> StreamEvent:
        raw = _checked_block(event.content_block)
        index = event.index if type(event.index) is int else len(state.blocks)
        state.open(index, raw)
        text, reasoning = block_text(raw)  # empty at Anthropic, not at every server
        if text:
            return self._said(response, state, text)
        response.response_reasoning += reasoning
        return StreamEvent("", reasoning) if reasoning else _WORKING

    def _frame(self, response: LLMProviderResponse, state: AnthropicStream, event: _Event) -> None:
        message = event.message if isinstance(event.message, dict) else {}
        for usage in (message.get("usage"), event.usage):
            if isinstance(usage, dict):
                state.usage |= {k: v for k, v in usage.items() if v is not None}
        apply_usage(response, state.usage)
        if event.delta is not None and event.delta.stop_reason is not None:
            set_stop_reason(response, event.delta.stop_reason, event.delta.stop_details)

    def _assemble(self, response: LLMProviderResponse, state: AnthropicStream) -> None:
        blocks = state.ordered()
        calls = [b.call() for b in blocks if b.raw.get("type") == "tool_use"]
        settle(response, [b.whole() for b in blocks], calls, self._dialect)

    def _read_odd(self, response: LLMProviderResponse, data: str) -> StreamEvent:
        """Events outside the format: keep-alives, other kinds of event, errors, no JSON at all."""
        word = data.strip()
        if word == "[DONE]":
            text, reasoning = self.end(response)
            return StreamEvent(text, reasoning, done=True)
        if not word or word.startswith(":"):
            return _NOTHING
        try:
            value = decode_json(word)
        except ValueError as exc:
            raise LLMResponseFormatError(f"an event is no JSON: {shorten(word, 200)}") from exc
        if error_in(value):
            _raise_error(data)
        if isinstance(value, dict) and isinstance(kind := value.get("type"), str):
            if kind not in _TYPES:
                return _NOTHING
            return self._read_again(response, value)
        raise LLMResponseFormatError(f"an event is not understood: {shorten(word, 200)}")

    def _read_again(self, response: LLMProviderResponse, value: dict[str, Any]) -> StreamEvent:
        try:
            data = encode_json(value)
            _decode(data)
        except (ValueError, RecursionError) as exc:
            raise LLMResponseFormatError(f"an event is not understood: {exc}") from exc
        from httpx_sse import ServerSentEvent

        return self.read(response, ServerSentEvent(data=data))


def _checked_block(raw: Any) -> dict[str, Any]:
    """A block as it opens; refuses what could not be put together at the end."""
    if not isinstance(raw, dict):
        raise LLMResponseFormatError("a content block begins without an object")
    for key in ("text", "thinking", "signature"):
        text_of(raw.get(key), f"{key} of a content block")
    if not isinstance(raw.get("citations"), list | None):
        raise LLMResponseFormatError("the citations of a content block are no list")
    if raw.get("type") == "tool_use":
        read_tool_uses([raw])
    return raw


def _extend(state: AnthropicStream, event: _Event, delta: _Delta) -> bool:
    """Deltas without visible text: arguments, signatures, citations; False: of another kind."""
    if delta.type == "input_json_delta":
        piece = text_of(delta.partial_json, "an input delta")
        state.block(event.index, "tool_use").pieces.append(piece)
    elif delta.type == "signature_delta":
        piece = text_of(delta.signature, "a signature")
        state.block(event.index, "thinking").signature.append(piece)
    elif delta.type == "citations_delta" and delta.citation is not None:
        raw = state.block(event.index, "text").raw
        if raw.get("citations") is None:
            raw["citations"] = []
        raw["citations"].append(delta.citation)
    else:
        return False
    return True


def _add(response: LLMProviderResponse, text: str, reasoning: str) -> None:
    append_text(response, text)
    append_reasoning(response, reasoning)


def _raise_error(data: str) -> NoReturn:
    raise request_error(parse_error_body(200, data))
