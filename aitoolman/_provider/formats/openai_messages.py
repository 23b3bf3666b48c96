"""Messages and options as OpenAI's format wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._datamodel import Message
from .call_ids import fit_call_ids
from .convert import goes_out_raw, translate
from .media import openai_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._datamodel import ToolCall
    from .dialect import Dialect

__all__ = ["serialize_messages", "serialize_one"]


def serialize_messages(
    messages: Sequence[Message], dialect: Dialect, notes: list[str]
) -> list[dict[str, Any]]:
    """All messages of a request, foreign ones translated."""
    ready = fit_call_ids(translate(messages, dialect, notes), dialect)
    return [serialize_one(m, dialect, notes) for m in _without_tool_media(ready, notes)]


def serialize_one(message: Message, dialect: Dialect, notes: list[str]) -> dict[str, Any]:
    """One message; a raw one of this dialect (or of nobody knows whose) as it is.

    Raises:
        LLMApplicationError: A medium that cannot be sent.
    """
    if goes_out_raw(message, dialect):
        return dict(message.raw_value or {})
    role = _role(message.role or "user", dialect)
    body: dict[str, Any] = {"role": role, "content": _content(message, dialect)}
    if role == "assistant":
        _add_assistant(body, message, dialect, notes)
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    return body


def _role(role: str, dialect: Dialect) -> str:
    is_system = role in ("system", "developer")
    return dialect.system_roles[0] if is_system and role not in dialect.system_roles else role


def _content(message: Message, dialect: Dialect) -> Any:
    if not message.media:
        # Only an assistant's turn that calls tools may have no content.
        return message.content if message.content is not None or message.tool_calls else ""
    text = [{"type": "text", "text": message.content}] if message.content else []
    return text + [openai_part(m, dialect) for m in message.media]


def _add_assistant(
    body: dict[str, Any], message: Message, dialect: Dialect, notes: list[str]
) -> None:
    _add_reasoning(body, message.reasoning_content, dialect, notes)
    if message.tool_calls:
        calls = (_call(call, notes) for call in message.tool_calls)
        body["tool_calls"] = [{**call, **dialect.foreign_call_extra} for call in calls]


def _add_reasoning(
    body: dict[str, Any], said: str | None, dialect: Dialect, notes: list[str]
) -> None:
    if dialect.send_reasoning == "must_not" or not dialect.reasoning_out:
        if said:
            notes.append(f"earlier reasoning left out: {dialect.name} takes none back")
    elif dialect.reasoning_out == "thinking_part":
        if said:
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": said}]}
            text = [{"type": "text", "text": body["content"]}] if body["content"] else []
            body["content"] = [thought, *text]
    elif said is not None or dialect.send_reasoning == "must":
        body[dialect.reasoning_out] = said or ""


def _call(call: ToolCall, notes: list[str]) -> dict[str, Any]:
    arguments = call.arguments_text
    if call.arguments is None:
        # Servers parse the arguments of earlier calls and fail on broken ones (llama.cpp, vLLM).
        notes.append(f"an earlier call of {call.name!r} has broken arguments; sent as {{}}")
        arguments = "{}"
    function = {"name": call.name, "arguments": arguments or "{}"}
    head = {"id": call.id} if call.id is not None else {}
    return {**head, "type": "function", "function": function}


def _without_tool_media(messages: list[Message], notes: list[str]) -> list[Message]:
    """Media of tool results in a user message behind them: a tool message holds text only."""
    moved: list[Message] = []
    waiting: list[Any] = []
    for message in messages:
        if message.role != "tool" and waiting:
            moved.append(Message(role="user", media_content=waiting))
            waiting = []
        if message.role == "tool" and message.raw_value is None and message.media:
            waiting = [*waiting, *message.media]
            notes.append("media of a tool result sent in a user message behind it")
            message = message._replace(media_content=None)
        moved.append(message)
    return [*moved, Message(role="user", media_content=waiting)] if waiting else moved
