"""What people see of a step: facts, one to a line or row."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from .snapshots import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Facts", "sent_text"]

_CELL = "text-align:left;vertical-align:top"
_CODE = "font-family:var(--jp-code-font-family,monospace)"


class Facts:
    """Shows an object by its facts; those that are None are left out."""

    __slots__ = ()

    def _facts(self) -> dict[str, Any]:
        raise NotImplementedError

    def _texts(self) -> dict[str, str]:
        return {name: as_text(fact) for name, fact in self._facts().items() if fact is not None}

    def __str__(self) -> str:
        return "\n".join(f"{name}: {text}" for name, text in self._texts().items())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        # No <pre>: Jupyter gives it a background that fights with the one of the rows.
        rows = "".join(
            f'<tr><th style="{_CELL}">{html.escape(name)}</th>'
            f'<td style="{_CELL};white-space:pre-wrap;overflow-wrap:anywhere;{_CODE}">'
            f"{html.escape(text)}</td></tr>"
            for name, text in self._texts().items()
        )
        return f"<table>{rows}</table>"


def sent_text(messages: Iterable[dict[str, Any]]) -> str:
    """Messages for people to read."""
    return "\n".join(f"[{m.get('role')}] {m.get('content')}" for m in messages)
