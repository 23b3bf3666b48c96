"""What a test scripts: replies, the calls in them, gates that hold them back."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Call", "Gate", "Refused", "Reply", "words"]


class Call(NamedTuple):
    """A tool call in a reply."""

    name: str
    arguments: Mapping[str, Any] | str = {}
    """A string goes out as it is: this is how broken JSON is played."""
    id: str | None = None


class Gate:
    """Holds replies back until a test opens it, from whatever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened = False
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def open(self) -> None:
        """Let everyone through, now and later."""
        with self._lock:
            self._opened = True
            waiters, self._waiters = self._waiters, []
        for loop, event in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    async def wait(self) -> None:
        event = asyncio.Event()
        with self._lock:
            if self._opened:
                return
            self._waiters.append((asyncio.get_running_loop(), event))
        await event.wait()


@dataclass(frozen=True)
class Reply:
    """One scripted answer. Without any argument it echoes the last user message."""

    text: str | None = None
    reasoning: str = ""
    tool_calls: Sequence[Call | Mapping[str, Any]] = ()
    finish: str | None = None
    """In OpenAI's words; None: ``stop``, or ``tool_calls`` where there are some. ``""``: none sent,
    so that a stream just ends."""
    usage: Mapping[str, int] | None = field(default_factory=dict)
    """``prompt``, ``completion``, ``cached``, ``reasoning``; others are counted. None: none."""
    chunks: Sequence[str] | None = None
    """The exact text fragments of a stream; words unless given."""
    reasoning_chunks: Sequence[str] | None = None
    signature: str | None = None
    """Anthropic's thinking signature; the right one unless given."""
    redacted: Sequence[str] = ()
    """Anthropic: data of redacted thinking blocks, before the text."""

    status: int = 200
    error: Mapping[str, Any] | str | None = None
    """A text is written the vendor's way; a mapping is the whole JSON body."""
    error_code: str | None = None
    stream_error: Mapping[str, Any] | str | None = None
    """An error inside the 200 stream, after the text and in place of its end."""
    headers: Mapping[str, str] = field(default_factory=dict)

    delay: float = 0.0
    """Seconds before the status line."""
    chunk_delay: float = 0.0
    """Seconds before each piece of a stream."""
    drop_after: int | None = None
    """Close the socket after so many pieces of the stream (half the body where there is no
    stream); -1: before the status line."""
    reset: bool = False
    """With `drop_after`: a TCP reset instead of a close."""
    hang: bool = False
    """Wait until the server's `release` (or the client leaves)."""
    gate: Gate | None = None
    pause_at: int | None = None
    """Where `hang` and `gate` hold: before this piece; None: before the status line."""

    raw_body: bytes | None = None
    """The body as it is."""
    raw_stream: Iterable[bytes] | None = None
    """Bytes of a streamed body, one TCP write each."""
    raw_http: Sequence[bytes] | None = None
    """Everything, status line included, one TCP write each; then the socket is closed."""
    shape: str | None = None
    """The dialect of this answer; the server's unless given."""

    @property
    def calls(self) -> list[Call]:
        return [c if isinstance(c, Call) else Call(**c) for c in self.tool_calls]

    @property
    def finish_word(self) -> str:
        if self.finish is not None:
            return self.finish
        return "tool_calls" if self.tool_calls else "stop"

    @property
    def text_chunks(self) -> Sequence[str]:
        return self.chunks if self.chunks is not None else words(self.text or "")

    @property
    def thought_chunks(self) -> Sequence[str]:
        return self.reasoning_chunks if self.reasoning_chunks is not None else words(self.reasoning)

    @property
    def whole_text(self) -> str:
        return "".join(self.chunks) if self.chunks is not None else self.text or ""

    @property
    def whole_reasoning(self) -> str:
        return "".join(self.thought_chunks)

    def counted(self, prompt_text_length: int) -> dict[str, int]:
        """`usage` with what was left out counted, a token being four characters."""
        seen = len(self.whole_reasoning) // 4
        asked = sum(len(str(c.arguments)) // 4 + 4 for c in self.calls)
        counts = {
            "prompt": prompt_text_length // 4 + 3,
            "completion": len(self.whole_text) // 4 + 1 + seen + asked,
            "cached": 0,
            "reasoning": seen,
        }
        return counts | dict(self.usage or {})


class Refused(Exception):
    """The vendor refuses a request."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


_WORD = re.compile(r"\s*\S+\s*$|\s*\S+|\s+")


def words(text: str) -> list[str]:
    """`text` in fragments of a word each; joined they are `text` again."""
    return _WORD.findall(text)
