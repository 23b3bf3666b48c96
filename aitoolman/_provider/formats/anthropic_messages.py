"""Messages as Anthropic wants them: the system prompt apart, user and assistant in turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._datamodel import LLMApplicationError
from .call_ids import fit_call_ids
from .convert import goes_out_raw, translate
from .media import anthropic_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._datamodel import Message, ToolCall
    from .dialect import Dialect

__all__ = ["join_system", "serialize_one", "serialize_turns"]

_THINKING = ("thinking", "redacted_thinking")
_SYSTEM = ("system", "developer")
Turn = dict[str, Any]


def serialize_turns(
    messages: Sequence[Message], dialect: Dialect, notes: list[str]
) -> tuple[list[Any], list[Turn]]:
    """The system prompt's pieces (texts or blocks) and the turns of a request.

    Raises:
        LLMApplicationError: Nothing is left to say, or a medium cannot be sent.
    """
    system: list[Any] = []
    turns: list[Turn] = []
    for message in fit_call_ids(translate(messages, dialect, notes), dialect):
        turn = serialize_one(message, dialect, notes)
        role, content = turn.get("role"), turn.get("content")
        if role in _SYSTEM:
            if turns:
                notes.append("a system message inside the conversation moved to its beginning")
            system += _pieces(content)
        elif content or role == "user" or message.raw_value is not None:
            turns.append(turn)
        else:
            notes.append("an empty assistant message left out")
    return system, _checked(_merged(turns), notes)


def serialize_one(message: Message, dialect: Dialect, notes: list[str]) -> Turn:
    """One message as a turn of its own; a raw one of this dialect as it is."""
    if goes_out_raw(message, dialect):
        return _raw_turn(message, dialect, notes)
    role = message.role or "user"
    if role == "tool":
        return {"role": "user", "content": [_tool_result(message, dialect)]}
    if role == "assistant":
        return {"role": role, "content": _assistant_content(message, dialect, notes)}
    blocks = [anthropic_part(m, dialect) for m in message.media]
    if not blocks:
        return {"role": role, "content": message.content or ""}
    return {"role": role, "content": blocks + _text_blocks(message.content)}


def join_system(given: Any, pieces: list[Any]) -> Any:
    """The ``system`` field: one text, or blocks where a piece is a block (for its cache mark)."""
    everything = [*_pieces(given), *pieces]
    if all(isinstance(piece, str) for piece in everything):
        return "\n\n".join(everything)
    return [{"type": "text", "text": p} if isinstance(p, str) else p for p in everything]


def _pieces(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [content] if content else []


def _text_blocks(text: str | None) -> list[dict[str, Any]]:
    # Blocks of nothing but white space are refused.
    return [{"type": "text", "text": text}] if text and text.strip() else []


def _assistant_content(message: Message, dialect: Dialect, notes: list[str]) -> Any:
    thoughts = _thinking_blocks(message.reasoning_content, dialect, notes)
    if not message.tool_calls and not message.media and not thoughts:
        return (message.content or "") if (message.content or "").strip() else ""
    blocks = (
        thoughts
        + _text_blocks(message.content)
        + [anthropic_part(m, dialect) for m in message.media]
    )
    return blocks + [_tool_use(call, notes) for call in message.tool_calls or ()]


def _thinking_blocks(said: str | None, dialect: Dialect, notes: list[str]) -> list[dict[str, Any]]:
    if not said:
        return []
    if not dialect.signed_thinking and dialect.send_reasoning != "must_not":
        return [{"type": "thinking", "thinking": said, "signature": ""}]
    notes.append(f"earlier reasoning left out: {dialect.name} takes only its own, signed")
    return []


def _tool_use(call: ToolCall, notes: list[str]) -> dict[str, Any]:
    if call.arguments is None:
        notes.append(f"an earlier call of {call.name!r} has broken arguments; sent as {{}}")
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments or {}}


def _tool_result(message: Message, dialect: Dialect) -> dict[str, Any]:
    content: Any = message.content or ""
    if message.media:
        content = _text_blocks(message.content) + [
            anthropic_part(m, dialect) for m in message.media
        ]
    return {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": content}


def _raw_turn(message: Message, dialect: Dialect, notes: list[str]) -> Turn:
    raw = message.raw_value or {}
    if "role" not in raw:  # a bare block
        role = "user" if message.role in (None, "tool") else message.role
        return {"role": role, "content": [raw]}
    content = raw.get("content")
    if not isinstance(content, list) or message.dialect is None:
        return {**raw}
    kept = [b for b in content if not _is_empty_text(b)]
    if len(kept) < len(content):
        notes.append("an empty text block left out: the vendor sends but refuses them")
    if _has_spoilt_thinking(kept, message, dialect):
        kept = [b for b in kept if not _is_a(b, *_THINKING)]
        notes.append("thinking left out: it is unsigned or was edited, and the vendor would refuse")
    return {**raw, "content": kept}


def _has_spoilt_thinking(blocks: list[Any], message: Message, dialect: Dialect) -> bool:
    """True where thinking lacks its signature, or differs from what the model said."""
    thoughts = [b for b in blocks if _is_a(b, "thinking")]
    if not thoughts or not dialect.signed_thinking:
        return False
    if not all(isinstance(b.get("signature"), str) and b["signature"] for b in thoughts):
        return True
    said = "".join(str(b.get("thinking")) for b in thoughts)
    return message.reasoning_content is not None and message.reasoning_content != said


def _is_a(block: Any, *kinds: str) -> bool:
    return isinstance(block, dict) and block.get("type") in kinds


def _is_empty_text(block: Any) -> bool:
    return _is_a(block, "text") and not str(block.get("text") or "").strip()


def _merged(turns: list[Turn]) -> list[Turn]:
    """Turns that alternate; within a user's turn the tool results come first."""
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1].get("role") == turn.get("role"):
            blocks = [*_blocks(merged[-1].get("content")), *_blocks(turn.get("content"))]
            if turn.get("role") == "user":
                blocks.sort(key=lambda b: not _is_a(b, "tool_result"))
            merged[-1] = {**merged[-1], "content": blocks}
        else:
            merged.append(turn)
    return merged


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return _text_blocks(content) if isinstance(content, str) else []


def _checked(turns: list[Turn], notes: list[str]) -> list[Turn]:
    if not turns:
        raise LLMApplicationError("the request has no message besides the system prompt")
    if turns[0].get("role") != "user":
        notes.append("a user turn '...' put in front: the vendor wants a user to begin")
        turns = [{"role": "user", "content": "..."}, *turns]
    if turns[-1].get("role") == "assistant" and isinstance(turns[-1].get("content"), str):
        # A prefill that ends with white space is refused.
        turns[-1] = {**turns[-1], "content": turns[-1]["content"].rstrip()}
    return turns
