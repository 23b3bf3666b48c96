"""Steps as a table, in text and in HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from .snapshots import as_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from .steps import StepRecord

__all__ = ["table_html", "table_text"]

MAX_ROWS = 100
"""Of a longer record the table shows the last steps."""
_CELL_LENGTH = 50
_LEFT = "text-align:left;vertical-align:top"

_COLUMNS: dict[str, Callable[[StepRecord], Any]] = {
    "step": lambda r: r.number,
    "task": lambda r: r.task_name,
    "status": lambda r: r.status,
    "seconds": lambda r: None if r.seconds is None else f"{r.seconds:.2f}",
    "tokens": lambda r: r.tokens,
    "cost": lambda r: None if r.cost is None else f"{r.cost:.6f}",
    "input": lambda r: r.input,
    "output": lambda r: r.output if r.error is None else r.error,
    "next": lambda r: r.next_name,
}


def table_text(records: list[StepRecord]) -> str:
    """Columns of plain text, one line per step."""
    if not records:
        return "no steps"
    rows = [list(_COLUMNS), *_cells(records)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*_left_off(records), *lines])


def table_html(records: list[StepRecord]) -> str:
    """The same as an HTML table; all text is escaped."""
    head = "".join(f'<th style="{_LEFT}">{name}</th>' for name in _COLUMNS)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_LEFT}">{html.escape(cell)}</td>' for cell in row) + "</tr>"
        for row in _cells(records)
    )
    more = "".join(f"<p>{line}</p>" for line in _left_off(records))
    return f"{more}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(records: list[StepRecord]) -> list[list[str]]:
    return [[_cell(show(r)) for show in _COLUMNS.values()] for r in records[-MAX_ROWS:]]


def _left_off(records: list[StepRecord]) -> list[str]:
    """What the table does not show, as a line of text."""
    count = len(records) - MAX_ROWS
    return [f"the last {MAX_ROWS} steps, after {count:,} earlier ones:"] if count > 0 else []


def _cell(value: Any) -> str:
    text = "" if value is None else " ".join(as_text(value)[: 4 * _CELL_LENGTH].split())
    return text if len(text) <= _CELL_LENGTH else text[: _CELL_LENGTH - 3] + "..."
