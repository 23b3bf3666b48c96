"""Streamed answers of OpenAI's format. A text delta is the hot path of the whole library."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from ..._datamodel import LLMResponseFormatError
from ..._secrets import shorten
from .answers import (
    append_reasoning,
    append_text,
    apply_openai_usage,
    decode_json,
    encode_json,
    finish_word,
    set_finish,
)
from .base import StreamEvent
from .errors import error_in, parse_error_body, request_error
from .openai_state import OpenAIStream, assemble

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpx_sse import ServerSentEvent

    from ..._datamodel import LLMProviderResponse
    from .dialect import Dialect

__all__ = ["OpenAIStreamReader"]

_NOTHING = StreamEvent()
_KEEP_ALIVES = ("", "[PING]", "PING", "KEEPALIVE", "KEEP-ALIVE", "HEARTBEAT", "[HEARTBEAT]")


class OpenAIStreamReader:
    """Reads the events of one dialect; holds nothing of any stream."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        fields = _names(dialect.reasoning_in), _names(dialect.message_extras)
        self._decode, self._reasoning, self._extras = _chunk_decoder(*fields)

    def read(self, response: LLMProviderResponse, event: ServerSentEvent) -> StreamEvent:
        """See `LLMFormatStrategy.parse_stream_event`."""
        data = event.data
        try:
            chunk = self._decode(data)
        except (ValueError, RecursionError):
            chunk = self._decode_odd(response, data)
            if type(chunk) is StreamEvent:
                return chunk
        if chunk.error or chunk.object == "error" or event.event == "error":
            _raise_error(data)
        if chunk.usage is not None or chunk.x_groq is not None:
            self._usage(response, chunk)
        if chunk.choices is None and chunk.usage is None and error_in(decode_json(data)):
            _raise_error(data)
        choice = _first(chunk.choices) if chunk.choices else None
        return self._choice(response, choice) if choice is not None else _NOTHING

    def _choice(self, response: LLMProviderResponse, choice: Any) -> StreamEvent:
        state = response.stream_state
        if state is None:
            state = response.stream_state = OpenAIStream(self._dialect)
        text = reasoning = ""
        delta = choice.delta
        if delta is not None:
            text, reasoning = self._delta(state, delta)
        if choice.error:
            _raise_error(encode_json({"error": choice.error}))
        if choice.usage is not None:
            self._usage(response, choice)
        word = choice.finish_reason
        finish = finish_word(word) if word is not None else None
        if finish is not None:
            last = state.flush()
            text, reasoning = text + last[0], reasoning + last[1]
        if text:
            append_text(response, text)
        if reasoning:
            append_reasoning(response, reasoning)
        if finish is not None:
            set_finish(response, finish, word)
        if text or reasoning or delta is None:
            return StreamEvent(text, reasoning)
        return StreamEvent(working=any(getattr(delta, name) for name in delta.__struct_fields__))

    def _delta(self, state: OpenAIStream, delta: Any) -> tuple[str, str]:
        text = reasoning = ""
        if delta.content is not None:
            text, reasoning = state.text(delta.content)
        for attr, name in self._reasoning:
            value = getattr(delta, attr)
            # The same reasoning may stand under two names at once: the first filled one counts.
            if value is not None:
                said = state.field(name, value)
                reasoning = reasoning or said
        for attr, name in self._extras:
            value = getattr(delta, attr)
            if value is not None:
                state.extras.setdefault(name, []).append(value)
        if delta.tool_calls:
            state.calls(delta.tool_calls)
        if delta.function_call:
            state.calls([{"index": 0, "function": delta.function_call}])
        if delta.refusal:
            state.refused = True
            text += state.field("refusal", delta.refusal)
        return text, reasoning

    def _usage(self, response: LLMProviderResponse, holder: Any) -> None:
        usage = holder.usage
        if usage is None and isinstance(holder.x_groq, dict):
            usage = holder.x_groq.get("usage")
        apply_openai_usage(response, usage, hidden_reasoning=self._dialect.hidden_reasoning_usage)

    def _decode_odd(self, response: LLMProviderResponse, data: str) -> Any:
        """Events that are no plain chunk: the end, keep-alives, errors, careless JSON."""
        word = data.strip()
        if word == "[DONE]":
            return self._done(response)
        if word.upper() in _KEEP_ALIVES or word.startswith(":"):
            return _NOTHING
        try:
            value = decode_json(word)
        except ValueError as exc:
            raise LLMResponseFormatError(f"an event is no JSON: {shorten(word, 200)}") from exc
        if error_in(value):
            _raise_error(data)
        try:
            return self._decode(encode_json(value))
        except (ValueError, RecursionError) as exc:
            raise LLMResponseFormatError(f"an event is not understood: {exc}") from exc

    def _done(self, response: LLMProviderResponse) -> StreamEvent:
        state = response.stream_state
        if state is None:
            return StreamEvent(done=True)
        text, reasoning = self.end(response)
        return StreamEvent(text, reasoning, done=True)

    def end(self, response: LLMProviderResponse) -> tuple[str, str]:
        """Give out what was held back and write the message; again is fine."""
        state = response.stream_state
        if not isinstance(state, OpenAIStream):
            return "", ""
        text, reasoning = state.flush()
        append_text(response, text)
        append_reasoning(response, reasoning)
        assemble(response, state, self._dialect)
        return text, reasoning


def _first(choices: list[Any]) -> Any:
    """The choice with index 0; others are alternatives that nobody asked for."""
    choice = choices[0]
    if len(choices) == 1 and choice is not None and not choice.index:
        return choice
    return next((c for c in choices if c is not None and not c.index), None)


def _raise_error(data: str) -> NoReturn:
    raise request_error(parse_error_body(200, data))


def _names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(n for n in dict.fromkeys(names) if n not in _OWN)


_OWN = ("content", "refusal", "tool_calls", "function_call")


@functools.lru_cache(maxsize=64)
def _chunk_decoder(
    reasoning: tuple[str, ...], extras: tuple[str, ...]
) -> tuple[Callable[[str], Any], tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """A decoder that reads only what is needed of a chunk, and (attribute, JSON name) pairs.

    msgspec skips all other fields unread; untyped decoding costs three times as much.
    """
    reasoning_attrs = tuple((f"r{i}", name) for i, name in enumerate(reasoning))
    extra_attrs = tuple((f"x{i}", name) for i, name in enumerate(extras))
    names = [*_OWN, *(attr for attr, _ in reasoning_attrs + extra_attrs)]
    delta = msgspec.defstruct(
        "Delta", [(name, Any, None) for name in names], rename=dict(reasoning_attrs + extra_attrs),
        gc=False,
    )  # fmt: skip
    choice = msgspec.defstruct(
        "Choice",
        [("delta", delta | None, None), ("finish_reason", Any, None), ("index", Any, 0),
         ("usage", Any, None), ("error", Any, None)],
        gc=False,
    )  # fmt: skip
    chunk = msgspec.defstruct(
        "Chunk",
        [("choices", list[choice | None] | None, None), ("usage", Any, None),  # type: ignore[valid-type]
         ("error", Any, None), ("object", Any, None), ("x_groq", Any, None)],
        gc=False,
    )  # fmt: skip
    return msgspec.json.Decoder(chunk).decode, reasoning_attrs, extra_attrs
