"""What a stream of OpenAI's format has brought, and the message that it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._datamodel import FinishReason, LLMResponseFormatError, Message
from .openai_content import merge_lists, merge_values, read_content
from .thinking import ThinkSplitter
from .toolcalls import ToolCallCollector, read_tool_calls

if TYPE_CHECKING:
    from ..._datamodel import LLMProviderResponse
    from .dialect import Dialect

__all__ = ["OpenAIStream", "assemble", "settle"]


class OpenAIStream:
    """What a stream has brought so far: the pieces of the vendor's message, field by field."""

    __slots__ = ("_dialect", "content", "extras", "fields", "parts", "refused", "splitter", "tools")

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.content: list[str] | None = None
        self.parts: list[Any] = []
        self.fields: dict[str, list[str]] = {}
        self.extras: dict[str, list[Any]] = {}
        self.tools: ToolCallCollector | None = None
        self.refused = False
        tags = dialect.think_tags
        self.splitter = ThinkSplitter(opened=tags == "opened") if tags != "off" else None

    def text(self, content: Any) -> tuple[str, str]:
        """Take a delta's ``content``; give text and reasoning."""
        if type(content) is not str:
            self.parts += content if isinstance(content, list) else [content]
            return read_content(content)
        if self.content is None:
            self.content = []
        self.content.append(content)
        return self.split(content)

    def split(self, text: str) -> tuple[str, str]:
        if self.splitter is None:
            return text, ""
        found = self.splitter.push(text)
        if self.splitter.settled:
            self.splitter = None
        return found

    def flush(self) -> tuple[str, str]:
        splitter, self.splitter = self.splitter, None
        return splitter.flush() if splitter is not None else ("", "")

    def field(self, name: str, value: Any) -> str:
        """Take a delta's reasoning or refusal."""
        if type(value) is not str:
            raise LLMResponseFormatError(f"{name} is {type(value).__name__}, not text")
        self.fields.setdefault(name, []).append(value)
        return value

    def calls(self, deltas: Any) -> None:
        if self.tools is None:
            self.tools = ToolCallCollector(trust_index=self._dialect.tool_index == "given")
        self.tools.push(deltas)

    def message(self) -> dict[str, Any]:
        """The assistant's message as the vendor would have written it without streaming."""
        content = "".join(self.content) if self.content is not None else None
        raw: dict[str, Any] = {"role": "assistant", "content": self._with_parts(content)}
        raw |= {name: "".join(pieces) for name, pieces in self.fields.items()}
        raw |= {name: merge_values(values) for name, values in self.extras.items()}
        if self.tools:
            raw["tool_calls"] = self.tools.raw()
        return raw

    def _with_parts(self, content: str | None) -> Any:
        if not self.parts:
            return content
        tail = [{"type": "text", "text": content}] if content else []
        return merge_lists([self.parts]) + tail


def assemble(response: LLMProviderResponse, state: OpenAIStream, dialect: Dialect) -> None:
    """Write tool calls and the assistant's message into the response."""
    raw = state.message()
    settle(response, raw, dialect, refused=state.refused)


def settle(
    response: LLMProviderResponse, raw: dict[str, Any], dialect: Dialect, *, refused: bool
) -> None:
    """Write the vendor's message, and what follows from it, into the response."""
    calls = read_tool_calls(raw.get("tool_calls"))
    response.response_tool_calls = calls
    if calls and response.finish_reason == FinishReason.stop.value:
        # Forced tool choice (OpenAI) and several vendors end with "stop" although tools are called.
        response.finish_reason = FinishReason.tool_calls.value
    if refused and response.finish_reason == FinishReason.stop.value:
        response.finish_reason = FinishReason.content_filter.value
        response.error_text = f"the model refused: {raw.get('refusal')}"
    response.response_message = Message(
        role="assistant",
        content=response.response_text,
        reasoning_content=response.response_reasoning or None,
        raw_value=raw,
        tool_calls=calls or None,
        dialect=dialect.name,
    )
