"""Reasoning that a server left in the answer's text, between ``<think>`` and ``</think>``."""

from __future__ import annotations

import enum

__all__ = ["ThinkSplitter", "split_think"]

_OPEN, _CLOSE = "<think>", "</think>"

_MAX_BLANK = 1000
"""White space before the opening tag; after more of it no tag is looked for."""


class _Place(enum.Enum):
    START = enum.auto()  # nothing but white space or a piece of the tag so far
    INSIDE = enum.auto()
    AFTER = enum.auto()  # the tag is closed, white space before the answer is dropped
    TEXT = enum.auto()


class ThinkSplitter:
    """Splits streamed text, cut anywhere, into answer and reasoning.

    Only a tag that opens the answer counts: a model that writes about the tag is not cut up.

    Args:
        opened: The answer begins inside the tag (a chat template has already written it).
    """

    __slots__ = ("_fresh", "_held", "_opened", "_place")

    def __init__(self, *, opened: bool = False) -> None:
        self._opened = opened
        self._place = _Place.START
        self._held = ""
        self._fresh = True

    @property
    def settled(self) -> bool:
        """True once all that follows is plain text."""
        return self._place is _Place.TEXT

    def push(self, text: str) -> tuple[str, str]:
        """Take a fragment; give the text and the reasoning that are certain now."""
        self._held += text
        reasoning = ""
        if self._place is _Place.START:
            self._look_for_start()
        if self._place is _Place.INSIDE:
            reasoning = self._read_inside()
        if self._place is _Place.AFTER:
            self._held = self._held.lstrip()
            self._place = _Place.TEXT if self._held else _Place.AFTER
        return (self._release(), reasoning) if self._place is _Place.TEXT else ("", reasoning)

    def flush(self) -> tuple[str, str]:
        """The text is over: what was held back, as text and reasoning."""
        place, self._place = self._place, _Place.TEXT
        held = self._release()
        if place is _Place.INSIDE or (place is _Place.START and self._opened):
            return "", held
        return ("", "") if place is _Place.AFTER else (held, "")

    def _look_for_start(self) -> None:
        begin = self._held.lstrip()
        blank = len(self._held) - len(begin)
        if begin.startswith(_OPEN) and blank <= _MAX_BLANK:
            self._place, self._held = _Place.INSIDE, begin[len(_OPEN) :]
        elif blank > _MAX_BLANK or not _OPEN.startswith(begin):
            self._place = _Place.INSIDE if self._opened else _Place.TEXT

    def _read_inside(self) -> str:
        if self._fresh:
            self._held = self._held.lstrip("\n")
            self._fresh = not self._held
        inside, closed, rest = self._held.partition(_CLOSE)
        if closed:
            self._place, self._held = _Place.AFTER, rest
            return inside
        keep = _overlap(inside)
        self._held = inside[len(inside) - keep :]
        return inside[: len(inside) - keep]

    def _release(self) -> str:
        held, self._held = self._held, ""
        return held


def split_think(text: str, *, opened: bool = False) -> tuple[str, str]:
    """The answer and the reasoning in a whole text."""
    if not opened and _OPEN not in text:
        return text, ""
    splitter = ThinkSplitter(opened=opened)
    first, last = splitter.push(text), splitter.flush()
    return first[0] + last[0], first[1] + last[1]


def _overlap(text: str) -> int:
    """How many characters at the end of the text may begin the closing tag."""
    longest = min(len(text), len(_CLOSE) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(_CLOSE[:n])), 0)
