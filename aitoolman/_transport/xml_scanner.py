"""Known tags in text that comes in pieces.

Only what may still turn out to be a tag is held back: a few characters, or an opening tag's
attributes up to `MAX_TAG`. Every decision depends on the text alone, never on how it was cut, and
a hostile text costs no more time per character than an honest one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["MAX_TAG", "Event", "TagScanner"]

MAX_TAG = 4096
"""The longest opening tag, attributes included; what goes on longer is text."""

_SPACE = r"[ \t\r\n]"
_UNFIT_FOR_NAMES = re.compile(r"""[\s<>/="'&]""")
_IN_TAG = re.compile("[<>=]")
_NO_SPACE = re.compile(r"[^ \t\r\n]")
_END_OF_VALUE = {'"': re.compile('[<"]'), "'": re.compile("[<']")}

Event = tuple["str | None", "str | None"]
"""A tag (None: outside of all) and a piece of its text; None for the text is its end."""


class TagScanner:
    """Text in, events out. `_step` is what the next character means."""

    def __init__(self, names: Iterable[str]) -> None:
        names = [_checked(name) for name in names]
        self._opening = _opening_pattern(names)
        self._closings = {name: _closing_pattern(name) for name in names}
        self._start()

    def _start(self) -> None:
        self._tag: str | None = None  # whose text it is
        self._held = ""  # text that may be the beginning of a tag
        self._events: list[Event] = []
        self._step: Callable[[str, int], int] = self._outside

    def feed(self, text: str) -> list[Event]:
        """What `text` brings, adjacent text of one tag in one piece."""
        position = 0
        while position < len(text):
            position = self._step(text, position)
        events, self._events = self._events, []
        return _joined(events)

    def end(self) -> list[Event]:
        """What the message's end brings: text held back, and the end of a tag left open."""
        if self._step in (self._outside, self._inside):
            self._emit(self._held)
        else:
            self._emit_tag_as_text()
        if self._tag is not None:
            self._events.append((self._tag, None))
        events = _joined(self._events)
        self._start()
        return events

    def _emit(self, text: str) -> None:
        if text:
            self._events.append((self._tag, text))

    # -- between tags: what is held is short, so it is looked at again together with what follows

    def _outside(self, text: str, position: int) -> int:
        return self._look_for(self._opening, text, position)

    def _inside(self, text: str, position: int) -> int:
        assert self._tag is not None
        return self._look_for(self._closings[self._tag], text, position)

    def _look_for(self, pattern: re.Pattern[str], text: str, position: int) -> int:
        before = len(self._held)  # not 0 only where a new piece of text begins
        whole, self._held = self._held + text, ""
        found = pattern.search(whole, position)
        if found is None:
            self._emit(whole[position:])
            return len(text)
        self._emit(whole[position : found.start()])
        if found.lastindex is None:
            self._held = found[0]
            return len(text)
        if self._tag is None:
            self._enter(found[1])
        else:
            self._leave()
        return found.end() - before

    def _leave(self) -> None:
        self._events.append((self._tag, None))
        self._tag = None
        self._step = self._outside

    # -- in an opening tag: it may be long, so nothing is looked at twice

    def _enter(self, name: str) -> None:
        self._name = name
        self._pieces = ["<", name]
        self._size = 1 + len(name)
        self._step = self._in_tag

    def _in_tag(self, text: str, position: int) -> int:
        found = _IN_TAG.search(text, position, position + MAX_TAG - self._size)
        if found is None:
            return self._hold_all(text, position)
        if found[0] == "<":
            return self._give_up(text, position, found.start())
        self._hold(text[position : found.end()])
        if found[0] == "=":
            self._step = self._before_value
        else:
            self._open()
        return found.end()

    def _before_value(self, text: str, position: int) -> int:
        found = _NO_SPACE.search(text, position, position + MAX_TAG - self._size)
        if found is None:
            return self._hold_all(text, position)
        self._step = self._in_tag
        if found[0] not in _END_OF_VALUE:
            self._hold(text[position : found.start()])
            return found.start()
        self._quote = found[0]
        self._step = self._in_value
        self._hold(text[position : found.end()])
        return found.end()

    def _in_value(self, text: str, position: int) -> int:
        end = _END_OF_VALUE[self._quote]
        found = end.search(text, position, position + MAX_TAG - self._size)
        if found is None:
            return self._hold_all(text, position)
        if found[0] == "<":
            return self._give_up(text, position, found.start())
        self._step = self._in_tag
        self._hold(text[position : found.end()])
        return found.end()

    def _hold(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)

    def _hold_all(self, text: str, position: int) -> int:
        """Hold what there is, as far as a tag may go; one that goes further is none."""
        stop = min(len(text), position + MAX_TAG - self._size)
        if self._size + stop - position >= MAX_TAG:
            return self._give_up(text, position, stop)
        self._hold(text[position:stop])
        return stop

    def _give_up(self, text: str, position: int, stop: int) -> int:
        self._hold(text[position:stop])
        self._emit_tag_as_text()
        self._step = self._outside
        return stop

    def _emit_tag_as_text(self) -> None:
        self._emit("".join(self._pieces))
        self._pieces = []

    def _open(self) -> None:
        self._tag = self._name
        self._step = self._inside
        if "".join(self._pieces[-2:]).endswith("/>"):
            self._leave()


def _checked(name: str) -> str:
    if not isinstance(name, str) or not name or _UNFIT_FOR_NAMES.search(name):
        raise ValueError(f"tag name {name!r}: give a name alone, such as 'answer', without <>")
    return name


def _opening_pattern(names: list[str]) -> re.Pattern[str]:
    """A known name's beginning of a tag; without a group, what may become one at the text's end."""
    whole = "|".join(re.escape(name) for name in names) or r"(?!)"
    return re.compile(rf"<(?:({whole})(?=[ \t\r\n/>])|{_beginnings(names)}\Z)")


def _closing_pattern(name: str) -> re.Pattern[str]:
    """The closing tag, with a little space allowed; without a group as above."""
    space = _SPACE + "{0,64}"
    escaped = re.escape(name)
    partial = rf"/{_beginnings([name])}|/{escaped}{space}"
    return re.compile(rf"<(?:(/{escaped}{space}>)|(?:{partial})?\Z)")


def _beginnings(names: list[str]) -> str:
    parts = sorted({name[:size] for name in names for size in range(1, len(name) + 1)})
    return f"(?:{'|'.join(re.escape(part) for part in parts)})?" if parts else ""


def _joined(events: list[Event]) -> list[Event]:
    """The same with neighbouring text of one tag in one piece."""
    joined: list[Event] = []
    run: list[str] = []
    for tag, text in events:
        if joined and run and text is not None and joined[-1][0] == tag:
            run.append(text)
            continue
        if run:
            joined[-1] = (joined[-1][0], "".join(run))
        joined.append((tag, text))
        run = [] if text is None else [text]
    if run:
        joined[-1] = (joined[-1][0], "".join(run))
    return joined
