"""Server-sent events out of blocks of bytes, however the blocks are cut.

The rules are those of the HTML standard, "Server-sent events", 9.2.6: lines end with LF, CR LF or
CR, a byte order mark may come first, a blank line ends an event, one without data is none. The
usual event, one ``data:`` line, is made directly, a lone comment is dropped; httpx-sse interprets
everything else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .errors import TransportError

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent

__all__ = ["MAX_EVENT", "EventSplitter"]

MAX_EVENT = 16 * 1024 * 1024
"""Bytes of one event; a stream that never ends its line or event is an error."""

_BOM = b"\xef\xbb\xbf"
_BLANK_LINES = re.compile(rb"\n+")


class EventSplitter:
    """Feed it blocks, get events.

    Every byte is looked at a bounded number of times: what is kept from block to block is a list of
    pieces without an end of event, joined once.
    """

    def __init__(self) -> None:
        from httpx_sse import ServerSentEvent
        from httpx_sse._decoders import SSEDecoder

        self._event_type = ServerSentEvent
        self._decode = SSEDecoder().decode
        self._direct = True
        """False once the stream named an id, which stays with all later events."""
        self._pieces: list[bytes] = []
        self._kept = 0
        self._head: bytes | None = b""
        """The first bytes, while they may still be a byte order mark; then None."""
        self._after_cr = False

    def feed(self, block: bytes) -> list[ServerSentEvent]:
        """The events that are complete with this block.

        Raises:
            TransportError: An event is larger than `MAX_EVENT`.
        """
        if self._head is not None:
            block = self._without_bom(block)
        if self._after_cr or b"\r" in block:
            block = self._with_plain_ends(block)
        if self._pieces:
            if not self._completes(block):
                self._keep(block)
                return []
            block = b"".join([*self._pieces, block])
            self._pieces.clear()
            self._kept = 0
        return self._split(block)

    def flush(self) -> list[ServerSentEvent]:
        """At the end of the stream: the last event, if only its blank line is missing.

        An event cut off within a line is dropped, as the standard demands.
        """
        last = b"".join(self._pieces)
        self._pieces.clear()
        return self._split(last + b"\n") if last.endswith(b"\n") else []

    def _split(self, whole: bytes) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        start = 0
        while (end := whole.find(b"\n\n", start)) >= 0:
            if end == start:  # blank lines end nothing here, and there may be millions of them
                blank = _BLANK_LINES.match(whole, start)
                start = blank.end() if blank else end + 2
                continue
            if (
                self._direct
                and whole.startswith(b"data: ", start)
                and whole.find(b"\n", start, end) < 0
            ):
                text = whole[start + 6 : end].decode("utf-8", "replace")
                events.append(self._event_type(data=text))
            elif not whole.startswith(b":", start) or whole.find(b"\n", start, end) >= 0:
                self._interpret(whole[start : end + 1], events)
            start = end + 2
        self._keep(whole[start:])
        return events

    def _interpret(self, lines: bytes, events: list[ServerSentEvent]) -> None:
        # The last line is empty: it ends the event.
        for line in lines.decode("utf-8", "replace").split("\n"):
            event = self._decode(line)
            if event is not None:
                self._direct = not event.id
                if event.data:
                    events.append(event)

    def _completes(self, block: bytes) -> bool:
        return b"\n\n" in block or (block[:1] == b"\n" and self._pieces[-1][-1:] == b"\n")

    def _keep(self, piece: bytes) -> None:
        if not piece:
            return
        self._pieces.append(piece)
        self._kept += len(piece)
        if self._kept > MAX_EVENT:
            raise TransportError(
                f"an event of the stream is larger than {MAX_EVENT // 1024**2} MB", retry=False
            )

    def _without_bom(self, block: bytes) -> bytes:
        assert self._head is not None
        head = self._head + block
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _with_plain_ends(self, block: bytes) -> bytes:
        """Only LF as line end; the LF of a CR LF that was cut in two is dropped."""
        if self._after_cr and block:
            block = block.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = self._after_cr or block.endswith(b"\r")
        return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
