"""What a script says, and the response that is made of it."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .._datamodel import (
    Attempt,
    FinishReason,
    LLMError,
    LLMProviderResponse,
    Message,
    ToolCall,
)
from .._provider.tokens import estimate_tokens, text_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._datamodel import LLMProviderRequest

__all__ = ["ScriptedReply", "as_reply", "build_response", "split_words"]

_WORD = re.compile(r"\s*\S+\s*\Z|\s*\S+|\s+")
_call_ids = itertools.count(1)


@dataclass(frozen=True)
class ScriptedReply:
    """One answer of an `LLMScriptedClient`.

    Raises:
        ValueError: `finish_reason` is no value of `FinishReason`, or `text` is not what `fragments`
            joined give.
        TypeError: A tool call is neither a `ToolCall` nor a mapping with ``name``.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: Sequence[ToolCall | Mapping[str, Any]] = ()
    """`ToolCall` values, or mappings: ``{"name": "add", "arguments": {"a": 1}}``. Arguments given
    as a text are sent as they are, broken or not."""
    finish_reason: FinishReason | str | None = None
    """``stop`` unless there are tool calls (``tool_calls``) or an error (``error: request``)."""
    error_text: str | None = None
    prompt_tokens: int | None = None
    """Estimated unless given; so are the completion's tokens."""
    completion_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int | None = None
    cost: float | None = None
    fragments: Sequence[str] | None = None
    """How the text is cut when it is streamed; into words unless given."""
    reasoning_fragments: Sequence[str] | None = None
    delay: float = 0.0
    """Seconds before the first fragment."""
    calls: tuple[ToolCall, ...] = field(default=(), init=False, repr=False, compare=False)
    """`tool_calls` as `ToolCall` values with ids."""

    def __post_init__(self) -> None:
        self._join("text", self.fragments)
        self._join("reasoning", self.reasoning_fragments)
        self._set("calls", tuple(_as_call(call) for call in self.tool_calls))
        self._set("finish_reason", FinishReason(self.finish_reason or self._default_finish()))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the class is frozen for everyone else

    def _join(self, name: str, fragments: Sequence[str] | None) -> None:
        if fragments is None:
            return
        joined, given = "".join(fragments), getattr(self, name)
        if given and given != joined:
            raise ValueError(f"{name} is {given!r}, but its fragments give {joined!r}")
        self._set(name, joined)

    def _default_finish(self) -> FinishReason:
        if self.error_text is not None:
            return FinishReason.error_request
        return FinishReason.tool_calls if self.tool_calls else FinishReason.stop

    def pieces(self) -> Sequence[str]:
        """The text as it is streamed."""
        return split_words(self.text) if self.fragments is None else self.fragments

    def reasoning_pieces(self) -> Sequence[str]:
        """The reasoning as it is streamed."""
        if self.reasoning_fragments is None:
            return split_words(self.reasoning)
        return self.reasoning_fragments

    def cut_off(self, reason: FinishReason, error_text: str) -> ScriptedReply:
        """This reply, ended before its end."""
        return replace(self, finish_reason=reason, error_text=error_text, tool_calls=())


def split_words(text: str) -> list[str]:
    """`text` in fragments of about a word; joined they are `text` again."""
    return _WORD.findall(text)


def _as_call(call: ToolCall | Mapping[str, Any]) -> ToolCall:
    if isinstance(call, ToolCall):
        return call if call.id else call._replace(id=f"call_{next(_call_ids)}")
    try:
        name, arguments = call["name"], call.get("arguments", {})
    except (TypeError, KeyError, AttributeError):
        raise TypeError(
            f"a tool call is a ToolCall or a mapping with 'name' and 'arguments', not {call!r}"
        ) from None
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(name, text, _object(text), call.get("id") or f"call_{next(_call_ids)}")


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def as_reply(answer: Any) -> ScriptedReply:
    """What a script gave, as a `ScriptedReply`.

    Raises:
        TypeError: It is no reply.
    """
    if isinstance(answer, ScriptedReply):
        return answer
    if isinstance(answer, str):
        return ScriptedReply(answer)
    if isinstance(answer, LLMError):
        return ScriptedReply(finish_reason=_reason_of(answer), error_text=str(answer))
    raise TypeError(f"a script gives texts, ScriptedReply values or LLMErrors, not {answer!r}")


def _reason_of(error: LLMError) -> FinishReason:
    """The finish reason that raises this class of error."""
    for reason in FinishReason:
        try:
            reason.raise_for_status()
        except LLMError as leaf:
            if isinstance(error, type(leaf)):
                return reason
    return FinishReason.error


def build_response(
    request: LLMProviderRequest,
    reply: ScriptedReply,
    *,
    text: str,
    reasoning: str,
    start_time: float,
    first: float | None,
    duration: float,
) -> LLMProviderResponse:
    """The response to `request`: what was said of `reply`, with times, counts and one attempt."""
    reason = FinishReason.of(reply.finish_reason)
    counts = _counts(request, reply, text, reasoning)
    return LLMProviderResponse(
        request.client_id,
        request.context_id,
        request.request_id,
        request.model_name,
        request.stream,
        start_time=start_time,
        queue_time=0.0,
        queue_length=0,
        time_to_first_token=first,
        total_response_time=duration,
        response_text=text,
        response_reasoning=reasoning,
        response_tool_calls=list(reply.calls),
        finish_reason=reason.value,
        error_text=reply.error_text,
        response_message=_message(text, reasoning, reply),
        cost=reply.cost,
        attempts=[_attempt(request, reply, reason, counts, start_time, duration)],
        **counts,
    )


def _message(text: str, reasoning: str, reply: ScriptedReply) -> Message:
    return Message(
        role="assistant",
        content=text,
        reasoning_content=reasoning or None,
        tool_calls=list(reply.calls) or None,
    )


def _given(value: int | None, estimate: int) -> int:
    return estimate if value is None else value


def _counts(
    request: LLMProviderRequest, reply: ScriptedReply, text: str, reasoning: str
) -> dict[str, Any]:
    thought = _given(reply.reasoning_tokens, text_tokens(reasoning))
    prompt = _given(reply.prompt_tokens, estimate_tokens(request.messages, request.tools))
    asked = sum(text_tokens(call.name + call.arguments_text) for call in reply.calls)
    completion = _given(reply.completion_tokens, text_tokens(text) + thought + asked)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cached_tokens": reply.cached_tokens,
        "reasoning_tokens": thought,
        "total_tokens": prompt + completion,
    }


def _attempt(
    request: LLMProviderRequest,
    reply: ScriptedReply,
    reason: FinishReason,
    counts: dict[str, Any],
    start_time: float,
    duration: float,
) -> Attempt:
    failed = reply.error_text is not None
    cancelled = reason is FinishReason.cancelled
    return Attempt(
        request.model_name,
        start_time,
        duration,
        outcome="cancelled" if cancelled else "stop" if failed else "ok",
        status=None if failed else 200,
        reason=reply.error_text or "",
        prompt_tokens=counts["prompt_tokens"],
        completion_tokens=counts["completion_tokens"],
        cost=reply.cost,
    )
