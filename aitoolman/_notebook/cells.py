"""Magics that await: a top-level ``%%aitoolman`` becomes an awaiting cell.

An input transformer puts ``await`` before the call that IPython makes of the magic, so it runs on
the kernel's own loop. Where that cannot be (inside ``%%time`` or a function, with ``%autoawait
off``) the text stays as it is, and the magic waits for the library's background loop instead.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .guard import Guards

__all__ = ["AWAITING", "AwaitingCells"]

AWAITING = {"aitoolman": "_aitoolman_async", "llm_module": "_llm_module_async"}
"""Magic to the one that does the same and is awaited."""

_CELL = re.compile(r"get_ipython\(\)\.run_cell_magic\('(aitoolman|llm_module)', ")
_LINE = re.compile(
    r"((?:[^\W\d]\w*(?:, *[^\W\d]\w*)* *= *)?)get_ipython\(\)\.run_line_magic\('(aitoolman)', "
)


class AwaitingCells:
    """The transformer; registered in ``input_transformers_post``.

    Args:
        shell: The shell whose cells are transformed.
        guards: Tells whether a cell runs already.
    """

    def __init__(self, shell: InteractiveShell, guards: Guards) -> None:
        self._shell = shell
        self._guards = guards

    def __call__(self, lines: list[str]) -> list[str]:
        if not lines or self._guards.nested or not _can_await(self._shell):
            return lines
        found = _CELL.match(lines[0])
        # Without a body IPython names the magic in its error: it has to be the name that was typed.
        if found and not lines[0].rstrip().endswith(", '')"):
            name = AWAITING[found[1]]
            start = f"await get_ipython().run_cell_magic({name!r}, "
            return [start + lines[0][found.end() :], *lines[1:]]
        return [_awaiting_line(line) for line in lines]


def _awaiting_line(line: str) -> str:
    found = _LINE.match(line)
    if found is None:
        return line
    start = f"{found[1]}await get_ipython().run_line_magic({AWAITING[found[2]]!r}, "
    return start + line[found.end() :]


def _can_await(shell: InteractiveShell) -> bool:
    from IPython.core.async_helpers import _asyncio_runner

    return bool(shell.autoawait) and shell.loop_runner is _asyncio_runner
