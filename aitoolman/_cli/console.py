"""Plain output that fits a terminal of any width, a pipe and a file."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Style", "heading", "shorten", "styled", "table", "terminal_width"]

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}
Style = Literal["bold", "dim", "red", "green"]


def styled(text: str, style: Style) -> str:
    """`text` in a style where stdout is a terminal that shows it (``NO_COLOR`` is obeyed)."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    if plain or not sys.stdout.isatty():
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def terminal_width() -> int:
    """Columns to use: those of the terminal, within what reads well."""
    return max(40, min(100, shutil.get_terminal_size((80, 24)).columns))


def heading(text: str) -> None:
    """Print a heading with room above it."""
    print(f"\n{styled(text, 'bold')}\n", flush=True)


def shorten(text: str, width: int) -> str:
    """`text` on one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: max(0, width - 3)].rstrip() + "..."


def table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Sequence[Style | None],
    *,
    numbers: frozenset[int] = frozenset(),
) -> None:
    """Print a table whose first column takes the width that the others leave.

    Args:
        titles: One per column.
        rows: Their texts.
        styles: One per row.
        numbers: The columns that are set to the right.
    """
    widths = [max(len(line[i]) for line in (titles, *rows)) for i in range(len(titles))]
    rest = sum(widths[1:]) + 2 * (len(titles) - 1)
    widths[0] = max(10, min(widths[0], terminal_width() - rest))

    def line(cells: Sequence[str]) -> str:
        cut = [shorten(cells[0], widths[0]), *cells[1:]]
        set_ = [
            f"{c:>{w}}" if i in numbers else f"{c:<{w}}" for i, (c, w) in _numbered(cut, widths)
        ]
        return "  ".join(set_).rstrip()

    print(styled(line(titles), "bold"))
    for row, style in zip(rows, styles, strict=True):
        print(styled(line(row), style) if style else line(row))


def _numbered(cells: Sequence[str], widths: Sequence[int]) -> enumerate[tuple[str, int]]:
    return enumerate(zip(cells, widths, strict=True))
