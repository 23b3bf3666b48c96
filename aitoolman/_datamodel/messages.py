"""What is said to a model, and the tool calls it answers with."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["MediaContent", "Message", "ToolCall"]


class MediaContent(NamedTuple):
    """An image, video, audio clip or document.

    The first of these that is set is used: `raw_value`, `data` with `mime_type`, `filename`, `url`.
    """

    media_type: str
    """``"image"``, ``"video"``, ``"audio"`` or ``"document"``."""
    raw_value: dict[str, Any] | None = None
    """The vendor's own content part, sent as it is."""
    data: bytes | None = None
    mime_type: str | None = None
    """For example ``"image/jpeg"``; guessed from `filename` where it is missing."""
    filename: str | None = None
    """A file, read when the request is built."""
    url: str | None = None
    options: dict[str, Any] | None = None
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
    arguments: dict[str, Any] | None
    """The parsed arguments, or None where the text is no JSON object."""
    id: str | None = None
    type: str = "function"


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str | None = None
    """``"system"``, ``"user"``, ``"assistant"`` or ``"tool"``."""
    content: str | None = None
    media_content: Any = None
    """One `MediaContent` or a list of them."""
    reasoning_content: str | None = None
    tool_call_id: str | None = None
    """Which tool call a ``"tool"`` message answers."""
    raw_value: dict[str, Any] | None = None
    """The vendor's own message. It goes out unchanged to the dialect that made it."""

    # beyond the specification
    tool_calls: list[ToolCall] | None = None
    """The tools an assistant message called, in words every vendor's format understands."""
    dialect: str | None = None
    """The name of the dialect that made `raw_value`; None: it goes out unchanged to any vendor."""

    @property
    def media(self) -> list[MediaContent]:
        """The media of this message as a list, empty where there is none."""
        if self.media_content is None:
            return []
        if isinstance(self.media_content, MediaContent):
            return [self.media_content]
        return list(self.media_content)
