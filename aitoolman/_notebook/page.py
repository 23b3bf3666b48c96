"""Small pieces of HTML, safe for any text, that fit light and dark themes without a style sheet."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["LIMIT", "block", "chip", "cut", "dim", "fold", "json_text", "pairs", "table", "text"]

LIMIT = 20_000
"""Characters of one text that a display keeps."""

_BORDER = "var(--jp-border-color2,#bbb)"
_DIM = "color:var(--jp-ui-font-color2,#777)"
_PRE = (
    "margin:2px 0;padding:6px 8px;white-space:pre-wrap;overflow-wrap:anywhere;"
    f"background:var(--jp-layout-color2,rgba(128,128,128,.1));border-left:3px solid {_BORDER}"
)
_CELL = "text-align:left;vertical-align:top;padding:2px 10px 2px 0;white-space:pre-wrap"
_TONES = {
    "good": "var(--jp-success-color1,#388e3c)",
    "bad": "var(--jp-error-color1,#d32f2f)",
    "odd": "var(--jp-warn-color1,#f57c00)",
    "plain": "var(--jp-ui-font-color2,#777)",
}


def cut(value: str, limit: int = LIMIT) -> str:
    """`value`, or its beginning and how much was left out."""
    left = len(value) - limit
    return value if left <= 0 else f"{value[:limit]}... ({left} characters more)"


def text(value: Any, limit: int = LIMIT) -> str:
    """Any text, escaped."""
    return html.escape(cut(str(value), limit))


def block(value: Any, limit: int = LIMIT) -> str:
    """Text as it stands, its line ends kept."""
    return f'<pre style="{_PRE}">{text(value, limit)}</pre>'


def raw_block(inside: str) -> str:
    """A block of HTML that is safe already."""
    return f'<pre style="{_PRE}">{inside}</pre>'


def dim(value: Any) -> str:
    """Text that stays in the background."""
    return f'<span style="{_DIM}">{text(value)}</span>'


def chip(value: Any, tone: str = "plain") -> str:
    """A short word in a frame; `tone` is good, bad, odd or plain."""
    colour = _TONES[tone]
    style = f"border:1px solid {colour};color:{colour};border-radius:8px;padding:0 6px"
    return f'<span style="{style};font-size:85%">{text(value)}</span>'


def fold(summary: str, inside: str, *, shown: bool = False) -> str:
    """A folded section; `summary` is text, `inside` HTML."""
    state = " open" if shown else ""
    return (
        f'<details{state} style="margin:4px 0"><summary style="cursor:pointer;{_DIM}">'
        f"{text(summary)}</summary>{inside}</details>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the head is text, the cells are HTML."""
    top = "".join(f'<th style="{_CELL};{_DIM};font-weight:600">{text(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f'<table style="margin:4px 0"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def pairs(values: Iterable[tuple[str, str]]) -> str:
    """Names and what they stand for; the names are text, the rest is HTML."""
    rows = "".join(
        f'<tr><th style="{_CELL};{_DIM};font-weight:400">{text(name)}</th>'
        f'<td style="{_CELL}">{value}</td></tr>'
        for name, value in values
    )
    return f'<table style="margin:4px 0"><tbody>{rows}</tbody></table>'


def json_text(value: Any) -> str:
    """`value` as JSON for people, or its repr where JSON has no word for it."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=2)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
