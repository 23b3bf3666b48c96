"""Anthropic's messages, as Claude and compatible servers speak them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._datamodel import LLMResponseFormatError
from .answers import count
from .anthropic_answers import apply_usage, block_text, read_tool_uses, set_stop_reason, settle
from .anthropic_messages import join_system, serialize_one, serialize_turns
from .anthropic_stream import AnthropicStreamReader
from .base import LLMFormatStrategy, StreamEvent
from .convert import from_anthropic, translate
from .dialects import resolve_dialect
from .errors import error_in, request_error
from .options import merge_fields
from .thinking import split_think
from .tools import read_tool

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx_sse

    from ..._datamodel import LLMProviderRequest, LLMProviderResponse, Message, ToolCall
    from .tools import ToolDefinition

__all__ = ["AnthropicFormat"]

_VERSION = "2023-06-01"


class AnthropicFormat(LLMFormatStrategy):
    """Anthropic Claude API format.

    Args:
        config: The resolved ``[api]`` table; ``dialect`` and ``quirks`` say how the server differs.

    Raises:
        LLMConfigError: An unknown dialect or quirk.
    """

    name = "anthropic"

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.dialect = resolve_dialect(config, "anthropic")
        self._stream = AnthropicStreamReader(self.dialect)

    # ---- requests

    def request_headers(self) -> dict[str, str]:
        key = self.config.get("api_key")
        return {"anthropic-version": _VERSION, **({"x-api-key": key} if key else {})}

    def serialize_tool_description(
        self, tools_configs: dict[str, dict[str, Any]]
    ) -> list[dict[str, Any]]:
        pattern = self.dialect.tool_name_pattern
        return [_tool(read_tool(name, c, pattern)) for name, c in (tools_configs or {}).items()]

    def serialize_message(self, message: Message) -> dict[str, Any]:
        plain = translate([message], self.dialect, [])
        return serialize_one(plain[0], self.dialect, []) if plain else {}

    def make_request_body(self, request: LLMProviderRequest) -> dict[str, Any]:
        return self.make_request(request)[0]

    def make_request(self, request: LLMProviderRequest) -> tuple[dict[str, Any], list[str]]:
        notes: list[str] = []
        body_options = self.config.get("body_options")
        fields = merge_fields(
            body_options, request.options, self.dialect, stream=request.stream, notes=notes
        )
        self._add_tools(fields, request, notes)
        _to_anthropic_words(fields)
        self._add_max_tokens(fields)
        system, turns = serialize_turns(request.messages, self.dialect, notes)
        if prompt := join_system(fields.pop("system", None), system):
            fields = {"system": prompt, **fields}
        if request.stream:
            fields["stream"] = True
        body = {"model": self.config.get("model"), "messages": turns, **fields}
        return body, list(dict.fromkeys(notes))

    def _add_tools(
        self, fields: dict[str, Any], request: LLMProviderRequest, notes: list[str]
    ) -> None:
        tools = self.serialize_tool_description(request.tools) + list(fields.pop("tools", ()))
        choice, parallel = fields.pop("tool_choice", None), fields.pop("parallel_tool_calls", None)
        if tools:
            fields["tools"] = tools
            if choice is not None or parallel is False:
                fields["tool_choice"] = _tool_choice(choice, parallel)
        elif choice is not None or parallel is not None:
            notes.append("the choice of tools left out: the request has no tools")

    def _add_max_tokens(self, fields: dict[str, Any]) -> None:
        default = self.dialect.default_max_tokens
        if "max_tokens" in fields or default is None:
            return
        thinking = fields.get("thinking")
        budget = count(thinking.get("budget_tokens")) if isinstance(thinking, dict) else None
        # The limit counts thinking too, and has to be above its budget.
        fields["max_tokens"] = default + (budget or 0)

    # ---- answers

    def parse_tool_calls(self, tool_calls: list[dict[str, Any]]) -> list[ToolCall]:
        return read_tool_uses(tool_calls or [])

    def parse_batch_response(
        self, response: LLMProviderResponse, response_data: dict[str, Any]
    ) -> None:
        blocks = _content(response_data)
        usage = response_data.get("usage")
        if isinstance(usage, dict):
            apply_usage(response, usage)
        read = [self._read_block(block) for block in blocks]
        response.response_text = "".join(text for text, _ in read)
        response.response_reasoning = "".join(reasoning for _, reasoning in read)
        response.finish_reason = "unknown"
        reason, details = response_data.get("stop_reason"), response_data.get("stop_details")
        set_stop_reason(response, reason, details)
        calls = read_tool_uses([b for b in blocks if b.get("type") == "tool_use"])
        settle(response, blocks, calls, self.dialect)

    def _read_block(self, block: dict[str, Any]) -> tuple[str, str]:
        text, reasoning = block_text(block)
        if text and self.dialect.think_tags != "off":
            return split_think(text, opened=self.dialect.think_tags == "opened")
        return text, reasoning

    def parse_stream_event(
        self, response: LLMProviderResponse, event: httpx_sse.ServerSentEvent
    ) -> StreamEvent:
        return self._stream.read(response, event)

    def finish_stream(self, response: LLMProviderResponse) -> None:
        self._stream.end(response)
        response.stream_state = None

    def convert_message(self, message: Message) -> Message:
        return from_anthropic(message.raw_value)[0][0] if message.raw_value is not None else message


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    if tool.native_type is not None:
        return {"type": tool.native_type, "name": tool.name, **tool.extras}
    described = {"description": tool.description} if tool.description else {}
    strict = {"strict": tool.strict} if tool.strict is not None else {}
    return {"name": tool.name, **described, "input_schema": tool.schema, **strict, **tool.extras}


def _tool_choice(choice: Any, parallel: Any) -> Any:
    """OpenAI's way to choose a tool, in Anthropic's words; its own as it is."""
    words = {"auto": "auto", "required": "any", "any": "any", "none": "none"}
    if choice is None:
        choice = {"type": "auto"}
    elif isinstance(choice, str):
        choice = {"type": words.get(choice, choice)}
    elif isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        choice = {"type": "tool", "name": choice["function"].get("name")}
    if parallel is False and isinstance(choice, dict) and choice.get("type") != "none":
        return {**choice, "disable_parallel_tool_use": True}
    return choice


def _to_anthropic_words(fields: dict[str, Any]) -> None:
    if isinstance(fields.get("stop_sequences"), str):
        fields["stop_sequences"] = [fields["stop_sequences"]]
    if (user := fields.pop("user", None)) is not None:
        fields["metadata"] = {"user_id": user, **fields.get("metadata", {})}


def _content(data: Any) -> list[dict[str, Any]]:
    """The answer's blocks.

    Raises:
        LLMApiRequestError: The body is an error object.
        LLMResponseFormatError: There is no content.
    """
    if not isinstance(data, dict) or "content" not in data:
        if error := error_in(data):
            raise request_error(error)
        raise LLMResponseFormatError("the answer has no content")
    content = data["content"]
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if content is None:
        return []
    if not isinstance(content, list) or not all(isinstance(b, dict) for b in content):
        raise LLMResponseFormatError("the answer's content is no list of blocks")
    return content
