"""Whole answers of Anthropic's format: blocks to text, reasoning and tool calls, and the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._datamodel import FinishReason, LLMResponseFormatError, Message, ToolCall
from .answers import count, encode_json, finish_word, parse_arguments, set_finish, text_of

if TYPE_CHECKING:
    from ..._datamodel import LLMProviderResponse
    from .dialect import Dialect

__all__ = ["apply_usage", "block_text", "read_tool_uses", "set_stop_reason", "settle"]


def block_text(block: dict[str, Any]) -> tuple[str, str]:
    """Text and reasoning of one block; other kinds have none.

    Raises:
        LLMResponseFormatError: The text is no text.
    """
    kind = block.get("type")
    if kind == "text":
        return text_of(block.get("text"), "a text block"), ""
    if kind == "thinking":
        return "", text_of(block.get("thinking"), "a thinking block")
    return "", ""


def read_tool_uses(blocks: Any) -> list[ToolCall]:
    """The ``tool_use`` blocks as tool calls.

    Raises:
        LLMResponseFormatError: Something else than blocks stands there.
    """
    if not isinstance(blocks, list):
        raise LLMResponseFormatError(f"content is {type(blocks).__name__}, not a list of blocks")
    found = [b for b in blocks if isinstance(b, dict) and b.get("type", "tool_use") == "tool_use"]
    return [_read_tool_use(block) for block in found]


def _read_tool_use(block: dict[str, Any]) -> ToolCall:
    name = text_of(block.get("name"), "the name of a tool")
    call_id = text_of(block.get("id"), "the id of a tool call") or None
    arguments = block.get("input")
    if isinstance(arguments, str):  # compatible servers
        return ToolCall(name, arguments, parse_arguments(arguments), call_id)
    if arguments is None or isinstance(arguments, dict):
        return ToolCall(name, encode_json(arguments or {}), arguments or {}, call_id)
    return ToolCall(name, encode_json(arguments), None, call_id)


def set_stop_reason(response: LLMProviderResponse, word: Any, details: Any = None) -> None:
    """Take over the reason of the end; null says nothing."""
    finish = finish_word(word)
    if finish is None:
        return
    set_finish(response, finish, word)
    if word == "pause_turn":
        response.error_text = (
            "the vendor paused a long turn (pause_turn): send the conversation with "
            "response_message again to go on"
        )
    elif finish == FinishReason.content_filter.value:
        said = details.get("explanation") if isinstance(details, dict) else None
        response.error_text = f"the model refused{f': {said}' if said else ' to answer'}"


def apply_usage(response: LLMProviderResponse, usage: dict[str, Any]) -> None:
    """Write the counts; `usage` holds all that was said so far.

    Anthropic's ``input_tokens`` leaves out what the cache gave and took; `prompt_tokens` has all.
    """
    parts = [count(usage.get(f"{k}input_tokens")) for k in ("", "cache_read_", "cache_creation_")]
    output = count(usage.get("output_tokens"))
    if parts[0] is not None:
        response.prompt_tokens = sum(p or 0 for p in parts)
    if parts[1] is not None:
        response.cached_tokens = parts[1]
    if output is not None:
        response.completion_tokens = output
    if response.prompt_tokens is not None and output is not None:
        response.total_tokens = response.prompt_tokens + output


def settle(
    response: LLMProviderResponse,
    blocks: list[dict[str, Any]],
    calls: list[ToolCall],
    dialect: Dialect,
) -> None:
    """Write tool calls and the assistant's message into the response."""
    response.response_tool_calls = calls
    if calls and response.finish_reason == FinishReason.stop.value:
        response.finish_reason = FinishReason.tool_calls.value
    response.response_message = Message(
        role="assistant",
        content=response.response_text,
        reasoning_content=response.response_reasoning or None,
        raw_value={"role": "assistant", "content": blocks},
        tool_calls=calls or None,
        dialect=dialect.name,
    )
