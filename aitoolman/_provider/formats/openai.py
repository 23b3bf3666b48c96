"""OpenAI's chat completions, as OpenAI and all the vendors that copy it speak them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._datamodel import LLMResponseFormatError
from .answers import apply_openai_usage, finish_word, set_finish
from .base import LLMFormatStrategy, StreamEvent
from .convert import from_openai, translate
from .dialects import resolve_dialect
from .errors import error_in, request_error
from .openai_content import read_content
from .openai_messages import serialize_messages, serialize_one
from .openai_state import settle
from .openai_stream import OpenAIStreamReader
from .options import merge_fields
from .thinking import split_think
from .toolcalls import read_tool_calls
from .tools import read_tool

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx_sse

    from ..._datamodel import LLMProviderRequest, LLMProviderResponse, Message, ToolCall
    from .tools import ToolDefinition

__all__ = ["OpenAICompatibleFormat"]


class OpenAICompatibleFormat(LLMFormatStrategy):
    """OpenAI API compatible format.

    Args:
        config: The resolved ``[api]`` table; ``dialect`` and ``quirks`` say how the vendor differs.

    Raises:
        LLMConfigError: An unknown dialect or quirk.
    """

    name = "openai"

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.dialect = resolve_dialect(config, "openai")
        self._stream = OpenAIStreamReader(self.dialect)

    # ---- requests

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
        fields = merge_fields(
            self.config.get("body_options"),
            request.options,
            self.dialect,
            stream=request.stream,
            notes=notes,
        )
        self._add_tools(fields, request, notes)
        self._add_stream(fields, request.stream)
        messages = serialize_messages(request.messages, self.dialect, notes)
        head = {"model": self.config.get("model"), "messages": messages}
        if self.dialect.default_max_tokens is not None:
            name = self.dialect.max_tokens_field.replace("any", "max_tokens")
            fields.setdefault(name, self.dialect.default_max_tokens)
        return {**head, **fields}, list(dict.fromkeys(notes))

    def _add_tools(
        self, fields: dict[str, Any], request: LLMProviderRequest, notes: list[str]
    ) -> None:
        tools = self.serialize_tool_description(request.tools) + list(fields.pop("tools", ()))
        if tools:
            fields["tools"] = tools
            if "tool_choice" in fields:
                fields["tool_choice"] = _tool_choice(fields["tool_choice"])
            return
        # Vendors refuse an empty list, and a choice without tools.
        choices = ("tool_choice", "parallel_tool_calls")
        dropped = [name for name in choices if fields.pop(name, None) is not None]
        notes += [f"option {name!r} left out: the request has no tools" for name in dropped]

    def _add_stream(self, fields: dict[str, Any], stream: bool) -> None:
        if not stream:
            fields.pop("stream_options", None)
            return
        fields["stream"] = True
        if self.dialect.stream_usage:
            fields["stream_options"] = {"include_usage": True, **fields.get("stream_options", {})}

    # ---- answers

    def parse_tool_calls(self, tool_calls: list[dict[str, Any]]) -> list[ToolCall]:
        return read_tool_calls(tool_calls)

    def parse_batch_response(
        self, response: LLMProviderResponse, response_data: dict[str, Any]
    ) -> None:
        choice = _first_choice(response_data)
        hidden = self.dialect.hidden_reasoning_usage
        usage = response_data.get("usage") or choice.get("usage")
        apply_openai_usage(response, usage, hidden_reasoning=hidden)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise LLMResponseFormatError("the answer has no message")
        text, reasoning = self._read_message(message)
        response.response_text, response.response_reasoning = text, reasoning
        word = choice.get("finish_reason")
        set_finish(response, finish_word(word) or "unknown", word)
        settle(response, message, self.dialect, refused=bool(message.get("refusal")))

    def _read_message(self, message: dict[str, Any]) -> tuple[str, str]:
        content = message.get("content")
        text, reasoning = read_content(content)
        if isinstance(content, str) and self.dialect.think_tags != "off":
            text, reasoning = split_think(text, opened=self.dialect.think_tags == "opened")
        for name in self.dialect.reasoning_in:
            reasoning = reasoning or read_content(message.get(name))[0]
        refusal = message.get("refusal")
        return text + (refusal if isinstance(refusal, str) else ""), reasoning

    def parse_stream_event(
        self, response: LLMProviderResponse, event: httpx_sse.ServerSentEvent
    ) -> StreamEvent:
        return self._stream.read(response, event)

    def finish_stream(self, response: LLMProviderResponse) -> None:
        self._stream.end(response)
        response.stream_state = None

    def convert_message(self, message: Message) -> Message:
        return from_openai(message.raw_value)[0][0] if message.raw_value is not None else message


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    if tool.native_type is not None:
        return {"type": tool.native_type, **tool.extras}
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function, **tool.extras}


def _tool_choice(choice: Any) -> Any:
    """Anthropic's way to choose a tool, in OpenAI's words; its own as it is."""
    if not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "none", "tool"):
        return choice
    if choice["type"] == "tool":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return "required" if choice["type"] == "any" else choice["type"]


def _first_choice(data: Any) -> dict[str, Any]:
    """The choice with index 0.

    Raises:
        LLMApiRequestError: The body is an error object.
        LLMResponseFormatError: There is no choice.
    """
    if error := error_in(data):
        raise request_error(error)
    choices = data.get("choices") if isinstance(data, dict) else None
    found = [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
    if not found:
        raise LLMResponseFormatError("the answer has no choices")
    choice = next((c for c in found if not c.get("index")), found[0])
    if isinstance(choice.get("error"), dict) and (error := error_in(choice)):
        raise request_error(error)
    return choice
