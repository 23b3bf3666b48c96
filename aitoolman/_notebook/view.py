"""What a cell shows while text streams into it, and what stays when it has ended.

While it runs: ipywidgets, blocks of about 2 kB that never change again and one live tail, so that
the bytes sent stay proportional to the text. Without ipywidgets: the last lines of the text in an
output that is updated. In the end both leave the same static Markdown and plain text in the output,
which need no kernel and no scripts.
"""

from __future__ import annotations

import html
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .markdown import MAX_REASONING, answer_markdown, fold, safe_markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "DisplayView",
    "Section",
    "StaticView",
    "View",
    "WidgetView",
    "bundle",
    "make_view",
    "told",
]

BLOCK = 2000
"""Characters after which a block of live text is left as it is."""
TAIL = 2000
"""Characters of running text that a view without widgets shows."""


@dataclass
class Section:
    """What one channel has said."""

    name: str
    folded: bool = False
    """Reasoning: shown apart, and folded when it has ended."""
    parts: list[str] = field(default_factory=list)
    pieces: int = 0
    started: float = 0.0
    ended: float = 0.0
    whole: bool = False
    """Its last message has ended."""

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def said(self) -> bool:
        """False while there is nothing to read: no text, or blanks alone."""
        return any(not part.isspace() for part in self.parts if part)

    def summary(self) -> str:
        """The line that stays of a folded section."""
        facts = [f"{len(self.text.split())} words"]
        seconds = f"{max(self.ended - self.started, 0):.1f}"
        facts += [] if seconds == "0.0" else [f"{seconds} s"]  # a ledger answers at once
        return f"{self.name} ({', '.join(facts)})"


def told(sections: Iterable[Section]) -> list[Section]:
    """The sections that said something, reasoning first."""
    return sorted((s for s in sections if s.said), key=lambda section: not section.folded)


def bundle(sections: Sequence[Section], status: str = "", error: str | None = None) -> Any:
    """The static output: Markdown for people, plain text for everything else."""
    shown = told(sections)
    answers = [s for s in shown if not s.folded]
    named = len(answers) > 1
    plain = [f"[{s.name}]\n{s.text}" if named else s.text for s in answers]
    rich = [_folded(s) if s.folded else _shown(s, named) for s in shown]
    if error:
        plain.append(error)
        rich.append(f"\n\n**{safe_markdown(' '.join(error.split()))}**")
    if status:
        rich.append(f'\n\n<small style="opacity:.65">{html.escape(status)}</small>')
    return {
        "text/plain": "\n\n".join(plain) or status or "(no text)",
        "text/markdown": "".join(rich).strip("\n") or "(no text)",
    }


def _folded(section: Section) -> str:
    text = section.text
    cut = f"... ({len(text) - MAX_REASONING} characters more)" if len(text) > MAX_REASONING else ""
    return fold(section.summary(), safe_markdown(text[:MAX_REASONING]) + cut)


def _shown(section: Section, named: bool) -> str:
    head = f"\n\n**{html.escape(section.name)}**\n\n" if named else "\n\n"
    return head + answer_markdown(section.text)


class View(Protocol):
    """Where sections are shown."""

    def open(self) -> None:
        """Take a place in the cell's output."""

    def add(self, section: Section, text: str) -> None:
        """Show what a section said since the last time."""

    def end(self, section: Section) -> None:
        """A section has stopped speaking."""

    def status(self, text: str) -> None:
        """Show the status line."""

    def picture(self, html: str) -> None:
        """Show a picture above the text."""

    def finish(self, final: dict[str, Any]) -> None:
        """Leave the static output behind."""


class StaticView:
    """Shows nothing until the end: for notebooks that are compared with their stored output."""

    def open(self) -> None: ...

    def add(self, section: Section, text: str) -> None: ...

    def end(self, section: Section) -> None: ...

    def status(self, text: str) -> None: ...

    def picture(self, html: str) -> None: ...

    def finish(self, final: dict[str, Any]) -> None:
        """Display the static output, once."""
        from IPython.display import display

        display(final, raw=True)


class DisplayView:
    """Shows the end of the running text in an output that is updated; needs no widgets."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._tails: dict[str, str] = {}
        self._status = ""
        self._picture = ""

    def open(self) -> None:
        """Display the place holder."""
        from IPython.display import display

        self._handle = display({"text/plain": "..."}, raw=True, display_id=True)

    def add(self, section: Section, text: str) -> None:
        """Show the last lines."""
        self._tails[section.name] = (self._tails.get(section.name, "") + text)[-TAIL:]
        self._draw()

    def end(self, section: Section) -> None:
        """Drop reasoning that is over."""
        if section.folded:
            self._tails.pop(section.name, None)

    def status(self, text: str) -> None:
        """Show the status line below."""
        self._status = text
        self._draw()

    def _draw(self) -> None:
        named = len(self._tails) > 1
        texts = [f"[{n}]\n{t}" if named else t for n, t in self._tails.items()]
        content = {"text/plain": "\n\n".join([*texts, self._status])}
        if self._picture:
            shown = "".join(f"<pre>{html.escape(text)}</pre>" for text in [*texts, self._status])
            content["text/html"] = self._picture + shown
        self._handle.update(content, raw=True)

    def picture(self, html: str) -> None:
        """Show a picture above the last lines."""
        self._picture = html
        self._draw()

    def finish(self, final: dict[str, Any]) -> None:
        """Put the static output in its place."""
        self._handle.update(final, raw=True)


_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.45"
_DIM = "color:var(--jp-ui-font-color2,#777);font-size:var(--jp-ui-font-size1,13px)"
_NAME = f"{_DIM};margin-top:2px"


class _LiveText:
    """One section in widgets: blocks that stay, and the tail that grows."""

    def __init__(self, section: Section, named: bool) -> None:
        import ipywidgets

        self._widgets = ipywidgets
        style = f"{_TEXT};{_DIM}" if section.folded else _TEXT
        self._open = f'<div class="aitoolman-text" style="{style}">'
        self._tail = ""
        self._head = self._html()
        if named or section.folded:
            self._head.value = f'<div style="{_NAME}">{html.escape(section.name)}</div>'
        self._blocks = ipywidgets.VBox([self._html()])
        self.box = ipywidgets.VBox([self._head, self._blocks])

    def _html(self) -> Any:
        widget = self._widgets.HTML()
        widget.layout.margin = "0"
        return widget

    def add(self, text: str) -> None:
        self._tail += text
        while len(self._tail) > BLOCK:
            cut = self._tail.rfind("\n", BLOCK // 2, BLOCK)
            cut = cut if cut >= 0 else self._tail.rfind(" ", BLOCK // 2, BLOCK)
            cut = cut + 1 if cut >= 0 else BLOCK
            done, self._tail = self._tail[:cut], self._tail[cut:]
            # A line end at a block's end is the block's own.
            self._write(done.removesuffix("\n"))
            self._blocks.children = (*self._blocks.children, self._html())
        self._write(self._tail)

    def _write(self, text: str) -> None:
        self._blocks.children[-1].value = f"{self._open}{html.escape(text)}</div>"

    def fold(self, summary: str) -> None:
        self._head.value = f'<div style="{_NAME}">▸ {html.escape(summary)}</div>'
        self._blocks.layout.display = "none"


class WidgetView:
    """Shows running text in ipywidgets.

    Args:
        stop: Called by the Stop button; None leaves the button away.
        several: Sections are shown with their names.
    """

    def __init__(self, stop: Callable[[], None] | None = None, several: bool = False) -> None:
        import ipywidgets

        self._widgets = ipywidgets
        self._several = several
        self._texts: dict[str, _LiveText] = {}
        self._body = ipywidgets.VBox([])
        self._status = ipywidgets.HTML()
        self._button = self._make_button(stop) if stop is not None else None
        line = [self._button, self._status] if self._button else [self._status]
        self._picture: Any = None
        self._box = ipywidgets.VBox([self._body, ipywidgets.HBox(line)])
        self._box.add_class("aitoolman-view")
        self._handle: Any = None

    def _make_button(self, stop: Callable[[], None]) -> Any:
        button = self._widgets.Button(
            description="Stop", icon="stop", tooltip="End the request and this cell"
        )
        button.layout.width = "80px"

        def clicked(_: Any) -> None:
            button.disabled = True
            button.description = "Stopping"
            stop()

        button.on_click(clicked)
        return button

    def open(self) -> None:
        """Display the widgets under a display id, so that they can be replaced."""
        from IPython.display import display

        content = {**self._box._repr_mimebundle_(), "text/plain": "(streaming)"}
        self._handle = display(content, raw=True, display_id=True)

    def add(self, section: Section, text: str) -> None:
        """Add to the section's live text."""
        live = self._texts.get(section.name)
        if live is None:
            live = self._texts[section.name] = _LiveText(section, self._several)
            others = self._body.children
            self._body.children = (live.box, *others) if section.folded else (*others, live.box)
        live.add(text)

    def end(self, section: Section) -> None:
        """Fold reasoning that is over."""
        live = self._texts.get(section.name)
        if live is not None and section.folded:
            live.fold(section.summary())

    def status(self, text: str) -> None:
        """Show the status line."""
        self._status.value = f'<span style="{_DIM}">{html.escape(text)}</span>'

    def picture(self, html: str) -> None:
        """Show a picture above the texts."""
        if self._picture is None:
            self._picture = self._widgets.HTML()
            self._box.children = (self._picture, *self._box.children)
        self._picture.value = html

    def finish(self, final: dict[str, Any]) -> None:
        """Replace the widgets by the static output, and close them."""
        self._handle.update(final, raw=True)
        _close(self._box)


def _close(widget: Any) -> None:
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()
    if widget.layout is not None:
        widget.layout.close()


def make_view(stop: Callable[[], None] | None, several: bool) -> View:
    """The view that fits: ``AITOOLMAN_VIEW`` (widgets, display, static), else what is installed."""
    wanted = os.environ.get("AITOOLMAN_VIEW", "")
    if wanted == "static":
        return StaticView()
    if wanted != "display":
        try:
            return WidgetView(stop, several)
        except ImportError:
            pass
    return DisplayView()
