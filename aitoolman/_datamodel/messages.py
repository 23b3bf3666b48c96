"""What is said to a model, and the tool calls it answers with."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional  # noqa: UP035 - the specification's words

__all__ = ["MediaContent", "Message", "ToolCall"]


class MediaContent(NamedTuple):
    """An image, video, audio clip or document.

    The first of these that is set is used: `raw_value`, `data` with `mime_type`, `filename`, `url`.
    """

    media_type: str
    """``"image"``, ``"video"``, ``"audio"`` or ``"document"``."""
    raw_value: Optional[Dict[str, Any]] = None
    """The vendor's own content part, sent as it is."""
    data: Optional[bytes] = None
    mime_type: Optional[str] = None
    """For example ``"image/jpeg"``; guessed from `filename` where it is missing."""
    filename: Optional[str] = None
    """A file, read when the request is built."""
    url: Optional[str] = None
    options: Optional[Dict[str, Any]] = None
    """Merged into the vendor's content part, for example ``{"detail": "low"}``."""

    def __repr__(self) -> str:
        parts = [repr(self.media_type)]
        parts += [f"{n}=..." for n in ("raw_value", "options") if getattr(self, n)]
        if self.data is not None:
            parts.append(f"data=<{len(self.data)} bytes>")
        parts += [
            f"{n}={getattr(self, n)!r}" for n in ("mime_type", "filename") if getattr(self, n)
        ]
        if self.url:
            parts.append(f"url={self.url if len(self.url) <= 80 else self.url[:77] + '...'!r}")
        return f"MediaContent({', '.join(parts)})"


class ToolCall(NamedTuple):
    """One call of a tool that the model asks for."""

    name: str
    arguments_text: str
    """The arguments as the model wrote them: raw JSON, possibly broken."""
    arguments: Optional[Dict[str, Any]]
    """The parsed arguments, or None where the text is no JSON object."""
    id: Optional[str] = None
    type: str = "function"


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Optional[str] = None
    """``"system"``, ``"user"``, ``"assistant"`` or ``"tool"``."""
    content: Optional[str] = None
    media_content: Any = None
    """One `MediaContent` or a list of them."""
    reasoning_content: Optional[str] = None
    tool_call_id: Optional[str] = None
    """Which tool call a ``"tool"`` message answers."""
    raw_value: Optional[Dict[str, Any]] = None
    """The vendor's own message. It goes out unchanged to the dialect that made it."""

    # beyond the specification
    tool_calls: Optional[List[ToolCall]] = None
    """The tools an assistant message called, in words every vendor's format understands."""
    dialect: Optional[str] = None
    """The name of the dialect that made `raw_value`; None: it goes out unchanged to any vendor."""

    @property
    def media(self) -> list[MediaContent]:
        """The media of this message as a list, empty where there is none."""
        if self.media_content is None:
            return []
        if isinstance(self.media_content, MediaContent):
            return [self.media_content]
        return list(self.media_content)
