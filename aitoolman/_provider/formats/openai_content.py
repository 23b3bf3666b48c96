"""The ``content`` of OpenAI's messages: a string, null, or a list of parts."""

from __future__ import annotations

from typing import Any

from ..._datamodel import LLMResponseFormatError

__all__ = ["merge_lists", "merge_values", "read_content"]


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


def merge_values(values: list[Any]) -> Any:
    """A vendor's own field, from what all deltas said of it."""
    if any(isinstance(value, list) for value in values):
        return merge_lists([value for value in values if isinstance(value, list)])
    if all(isinstance(value, dict) for value in values):
        return {key: item for value in values for key, item in value.items()}
    return values[-1]


def merge_lists(lists: list[list[Any]], *, deep: bool = True) -> list[Any]:
    """One list from a streamed one: items of one ``type`` and ``index`` grow together.

    So do texts and thoughts without an index, where one follows the other. Nothing given changes.

    Args:
        lists: What came, piece after piece.
        deep: Merge the lists inside items too, which is one level and never more.
    """
    whole: list[_Item] = []
    numbered: dict[tuple[Any, Any], _Item] = {}
    for piece in (piece for pieces in lists for piece in pieces):
        item = _find(piece, whole, numbered)
        if item is None:
            whole.append(item := _Item(piece))
            if (key := _key(piece)) is not None:
                numbered[key] = item
        item.add(piece)
    return [item.whole(deep=deep) for item in whole]


class _Item:
    """One item under construction; its strings are joined once, at the end."""

    __slots__ = ("first", "grown", "said")

    def __init__(self, piece: Any) -> None:
        self.first = piece
        self.said: dict[str, Any] = {}
        self.grown: dict[str, list[Any]] = {}

    def add(self, piece: Any) -> None:
        if not isinstance(piece, dict):
            return
        for key, value in piece.items():
            if key in _GROWING and isinstance(value, (str, list)):
                self.grown.setdefault(key, []).append(value)
            if value is not None or key not in self.said:
                self.said[key] = value

    def whole(self, *, deep: bool) -> Any:
        if not isinstance(self.first, dict):
            return self.first
        return {**self.said, **{key: _joined(values, deep) for key, values in self.grown.items()}}


_GROWING = ("text", "summary", "data", "thinking")


def _joined(values: list[Any], deep: bool) -> Any:
    if all(isinstance(value, str) for value in values):
        return "".join(values)
    lists = [value for value in values if isinstance(value, list)]
    return merge_lists(lists, deep=False) if deep else [item for items in lists for item in items]


def _key(piece: Any) -> tuple[Any, Any] | None:
    if not isinstance(piece, dict):
        return None
    kind, index = piece.get("type"), piece.get("index")
    return (kind, index) if isinstance(kind, str) and type(index) is int else None


def _find(piece: Any, whole: list[_Item], numbered: dict[tuple[Any, Any], _Item]) -> _Item | None:
    if (key := _key(piece)) is not None:
        return numbered.get(key)
    last = whole[-1].first if whole else None
    if not isinstance(piece, dict) or not isinstance(last, dict) or _key(last) is not None:
        return None
    return whole[-1] if piece.get("type") == last.get("type") in ("text", "thinking") else None
