"""The ``content`` of OpenAI's messages: a string, null, or a list of parts."""

from __future__ import annotations

from typing import Any

from ..._datamodel import LLMResponseFormatError

__all__ = ["merge_list", "merge_value", "read_content"]


def read_content(content: Any) -> tuple[str, str]:
    """Text and reasoning of a message's or delta's content.

    Raises:
        LLMResponseFormatError: The content is no text, list of parts or null.
    """
    if content is None or isinstance(content, str):
        return content or "", ""
    parts = content if isinstance(content, list) else [content]
    read = [_read_part(part) for part in parts if part is not None]
    return "".join(text for text, _ in read), "".join(reasoning for _, reasoning in read)


def _read_part(part: Any) -> tuple[str, str]:
    """One part; kinds that carry neither text nor reasoning (references, images) give nothing."""
    if isinstance(part, str):
        return part, ""
    if not isinstance(part, dict):
        raise LLMResponseFormatError(f"content is {type(part).__name__}, not text")
    if part.get("type") == "thinking":  # Mistral: {"type": "thinking", "thinking": [parts]}
        inner = read_content(_shallow(part.get("thinking")))
        return "", inner[0] + inner[1]
    text = part.get("text")
    return (text, "") if isinstance(text, str) else ("", "")


def _shallow(inner: Any) -> Any:
    """The parts inside a thinking part, without thinking parts of their own: no deep descent."""
    if not isinstance(inner, list):
        return inner
    return [p for p in inner if not (isinstance(p, dict) and p.get("type") == "thinking")]


def merge_list(whole: list[Any], pieces: list[Any]) -> list[Any]:
    """Append the items of a streamed list; items of one ``type`` and ``index`` grow together.

    `whole` changes, the items in it never do: they may stand in several messages.
    """
    for piece in pieces:
        places = range(len(whole) - 1, -1, -1)
        place = next((n for n in places if _same_item(whole[n], piece)), None)
        if place is None:
            whole.append(piece)
        else:
            whole[place] = _grown(whole[place], piece)
    return whole


def merge_value(old: Any, new: Any) -> Any:
    """A vendor's own field after one more delta."""
    if new is None:
        return old
    if isinstance(new, list):
        return merge_list(old if isinstance(old, list) else [], new)
    if isinstance(new, dict) and isinstance(old, dict):
        return {**old, **new}
    return new


def _same_item(old: Any, new: Any) -> bool:
    if not (isinstance(old, dict) and isinstance(new, dict)) or old.get("type") != new.get("type"):
        return False
    if "index" in new or "index" in old:
        return bool(old.get("index") == new.get("index"))
    return new.get("type") in ("text", "thinking")


def _grown(item: dict[str, Any], piece: dict[str, Any]) -> dict[str, Any]:
    grown = dict(item)
    for key, value in piece.items():
        old = item.get(key)
        if key in _GROWING and isinstance(value, str) and isinstance(old, str):
            grown[key] = old + value
        elif key in _GROWING and isinstance(value, list) and isinstance(old, list):
            grown[key] = merge_list(list(old), value)
        elif value is not None:
            grown[key] = value
    return grown


_GROWING = ("text", "summary", "data", "thinking")
