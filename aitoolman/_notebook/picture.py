"""A workflow while it runs: its graph and the table of its steps, drawn again as they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from .page import block, dim, fold
from .view import told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .view import Section, View

__all__ = ["Picture"]


class Picture:
    """What a workflow or a stepped run looks like, as long as it changes.

    Args:
        source: The workflow or run.
        history: Its record, which tells of changes.
    """

    def __init__(self, source: Any, history: Any) -> None:
        self._source = source
        self._history = history
        self._changed = True
        history.on_change.append(self._note)

    @classmethod
    def of(cls, source: Any) -> Self | None:
        """The picture of a source that has one."""
        history = getattr(source, "history", None)
        drawable = hasattr(source, "svg") and hasattr(history, "on_change")
        return cls(source, history) if drawable else None

    def _note(self) -> None:
        self._changed = True

    def html(self) -> str:
        """The graph above the steps."""
        return str(self._source.svg() + self._history._repr_html_())

    def draw(self, view: View) -> None:
        """Show it, if it has changed."""
        if self._changed:
            self._changed = False
            view.picture(self.html())

    def close(self) -> None:
        """Hear of no more changes."""
        self._history.on_change.remove(self._note)

    def with_texts(self, sections: Iterable[Section], error: str | None) -> dict[str, Any]:
        """The static output: the picture as it is at last, and what the channels said."""
        shown = told(sections)
        texts = "".join(
            fold(s.summary(), block(s.text)) if s.folded else dim(s.name) + block(s.text)
            for s in shown
        )
        plain = [f"[{s.name}]\n{s.text}" for s in shown if not s.folded]
        failure = f"<div><b>{block(error)}</b></div>" if error else ""
        return {
            "text/plain": "\n\n".join([repr(self._history), *plain, *([error] if error else [])]),
            "text/html": self.html() + texts + failure,
        }
