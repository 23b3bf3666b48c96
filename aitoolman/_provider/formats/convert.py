"""One vendor's messages in neutral words, for another vendor."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from ..._datamodel import MediaContent, Message, ToolCall
from .answers import encode_json, parse_arguments
from .thinking import split_think

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .dialect import Dialect

__all__ = ["dicts", "from_anthropic", "from_openai", "goes_out_raw", "translate"]

_REASONING = ("reasoning_content", "reasoning", "thinking")
_LOST_KEYS = ("reasoning_details", "extra_content", "annotations", "audio", "images")
_LOST_BLOCKS = {"redacted_thinking": "redacted thinking", "thinking": "thinking signatures"}


def goes_out_raw(message: Message, dialect: Dialect) -> bool:
    """True where `raw_value` is sent unchanged: made by this dialect, or by nobody knows whom."""
    return message.raw_value is not None and message.dialect in (None, dialect.name)


def translate(messages: Iterable[Message], dialect: Dialect, notes: list[str]) -> list[Message]:
    """The messages with every foreign `raw_value` in neutral words.

    `notes` gets a sentence for whatever has no counterpart and is left out.
    """
    translated: list[Message] = []
    for message in messages:
        if message.raw_value is None or goes_out_raw(message, dialect):
            translated.append(message)
        else:
            translated += _from_foreign(message, dialect, notes)
    return translated


def _from_foreign(message: Message, dialect: Dialect, notes: list[str]) -> list[Message]:
    from .dialects import DIALECTS

    origin = DIALECTS.get(message.dialect or "")
    if origin is not None:
        convert = from_anthropic if origin.format == "anthropic" else from_openai
        found, lost = convert(message.raw_value or {})
        notes += [f"{what} of {origin.name} left out for {dialect.name}" for what in lost]
        return found
    return _from_unknown(message, dialect, notes)


def _from_unknown(message: Message, dialect: Dialect, notes: list[str]) -> list[Message]:
    """A dialect outside the table: its own strategy translates, or the neutral fields must do."""
    from .registry import find_format

    own = find_format(message.dialect or "")
    if own is not None:
        return [own({"type": message.dialect}).convert_message(message)]
    plain = message._replace(raw_value=None, dialect=None)
    if plain.content is None and not plain.tool_calls and not plain.media:
        notes.append(f"a message of the unknown dialect {message.dialect!r} left out")
        return []
    notes.append(f"a raw message of the unknown dialect {message.dialect!r} sent in plain words")
    return [plain]


def from_openai(raw: dict[str, Any]) -> tuple[list[Message], list[str]]:
    """A raw message of OpenAI's format, and the names of what is left out."""
    role = _str(raw.get("role")) or "assistant"
    content, media, thought, lost = _read_parts(raw.get("content"))
    if role == "assistant" and content is not None:
        content, tagged = split_think(content)
        thought += tagged
    said = next((raw[k] for k in _REASONING if isinstance(raw.get(k), str) and raw[k]), None)
    calls = [_call(c) for c in dicts(raw.get("tool_calls"))]
    lost += [key for key in _LOST_KEYS if raw.get(key)]
    lost += ["extra_content" for c in dicts(raw.get("tool_calls")) if c.get("extra_content")]
    refusal = raw.get("refusal")
    message = Message(
        role=role,
        content=content if content is not None else _str(refusal),
        media_content=media or None,
        reasoning_content=said or thought or None,
        tool_call_id=_str(raw.get("tool_call_id")),
        tool_calls=calls or None,
    )
    return [message], list(dict.fromkeys(lost))


def _read_parts(content: Any) -> tuple[str | None, list[MediaContent], str, list[str]]:
    if content is None or isinstance(content, str):
        return content, [], "", []
    texts: list[str] = []
    media: list[MediaContent] = []
    thoughts: list[str] = []
    lost: list[str] = []
    for part in dicts(content):
        kind = part.get("type")
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "thinking":
            thoughts += [_str(t.get("text")) or "" for t in dicts(part.get("thinking"))]
        elif found := _openai_media(part, str(kind)):
            media.append(found)
        else:
            lost.append(f"a {kind} part")
    return "".join(texts), media, "".join(thoughts), lost


def _openai_media(part: dict[str, Any], kind: str) -> MediaContent | None:
    inner = part.get(kind)
    if not isinstance(inner, dict):
        return None
    if kind in ("image_url", "video_url", "audio_url") and isinstance(inner.get("url"), str):
        return MediaContent(kind.removesuffix("_url"), url=inner["url"])
    if kind == "input_audio":
        return _decoded("audio", inner.get("data"), f"audio/{inner.get('format')}")
    if kind == "file" and isinstance(inner.get("file_data"), str):
        return MediaContent("document", url=inner["file_data"])
    return None


def _decoded(kind: str, data: Any, mime_type: str) -> MediaContent | None:
    try:
        return MediaContent(kind, data=base64.b64decode(data), mime_type=mime_type)
    except (ValueError, TypeError):
        return None


def _call(call: dict[str, Any]) -> ToolCall:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    arguments = function.get("arguments")
    text = encode_json(arguments) if isinstance(arguments, dict) else _str(arguments) or ""
    return ToolCall(
        _str(function.get("name")) or "", text, parse_arguments(text), _str(call.get("id"))
    )


def from_anthropic(raw: dict[str, Any]) -> tuple[list[Message], list[str]]:
    """A raw turn of Anthropic's format: one message, or several where it holds tool results."""
    role = _str(raw.get("role")) or "assistant"
    if not isinstance(raw.get("content"), list):
        return [Message(role=role, content=_str(raw.get("content")))], []
    blocks = dicts(raw["content"])
    results = [_tool_result(b) for b in blocks if b.get("type") == "tool_result"]
    lost = [_LOST_BLOCKS[_kind(b)] for b in blocks if _kind(b) in _LOST_BLOCKS]
    lost += [f"a {_kind(b)} block" for b in blocks if _kind(b) not in _KNOWN_BLOCKS]
    texts = [
        b["text"] for b in blocks if b.get("type") == "text" and isinstance(b.get("text"), str)
    ]
    thoughts = [b["thinking"] for b in blocks if isinstance(b.get("thinking"), str)]
    calls = [_anthropic_call(b) for b in blocks if b.get("type") == "tool_use"]
    media = [m for b in blocks if (m := _anthropic_media(b))]
    rest = Message(
        role=role,
        content="".join(texts) or None,
        media_content=media or None,
        reasoning_content="".join(thoughts) or None,
        tool_calls=calls or None,
    )
    has_rest = bool(texts or thoughts or calls or media) or not results
    return results + ([rest] if has_rest else []), list(dict.fromkeys(lost))


_KNOWN_BLOCKS = {"text", "tool_use", "tool_result", "image", "document", *_LOST_BLOCKS}


def _tool_result(block: dict[str, Any]) -> Message:
    content = block.get("content")
    parts = dicts(content)
    texts = [p["text"] for p in parts if isinstance(p.get("text"), str)]
    media = [m for p in parts if (m := _anthropic_media(p))]
    text = content if isinstance(content, str) else "".join(texts)
    return Message(
        role="tool",
        content=text,
        media_content=media or None,
        tool_call_id=_str(block.get("tool_use_id")),
    )


def _anthropic_call(block: dict[str, Any]) -> ToolCall:
    arguments = block.get("input")
    arguments = arguments if isinstance(arguments, dict) else {}
    return ToolCall(
        _str(block.get("name")) or "", encode_json(arguments), arguments, _str(block.get("id"))
    )


def _anthropic_media(block: dict[str, Any]) -> MediaContent | None:
    kind, source = block.get("type"), block.get("source")
    if kind not in ("image", "document") or not isinstance(source, dict):
        return None
    if isinstance(source.get("url"), str):
        return MediaContent(kind, url=source["url"])
    mime_type = _str(source.get("media_type")) or ""
    if source.get("type") == "text":
        return MediaContent(kind, data=str(source.get("data")).encode(), mime_type=mime_type)
    return _decoded(kind, source.get("data"), mime_type)


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none where there is no list."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _kind(block: dict[str, Any]) -> str:
    return _str(block.get("type")) or "nameless"


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None
