"""What runs prepared rows: the interface that engines in other places implement, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._application.call import Call

__all__ = ["PreparedRow", "RowEngine", "RowResult"]


class RowResult(NamedTuple):
    """What became of one row; small, since there is one for each of many rows."""

    status: str
    """The value of a `FinishReason`, or ``"skipped"``."""
    data: Any = None
    text: str = ""
    """The model's own text, which the post-processor made `data` of."""
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    cost: float | None = None
    """Of the answer; where it is `from_ledger`, paid in an earlier run."""
    attempts: int = 0
    from_ledger: bool = False
    sample: int = 0
    fatal: str | None = None
    """Why no other row can succeed either: one sentence."""

    @property
    def ok(self) -> bool:
        return self.status in ("stop", "tool_calls")

    @property
    def failed(self) -> bool:
        return not self.ok and self.status != "skipped"


class PreparedRow(NamedTuple):
    """A row, ready to be asked; or what became of it without being asked."""

    position: int
    call: Call | None
    settled: RowResult | None = None


class RowEngine(Protocol):
    """Answers rows."""

    async def run(
        self,
        rows: Iterator[PreparedRow],
        keep: Callable[[int, RowResult], None],
        go: Callable[[int], bool],
    ) -> None:
        """Answer all `rows`, in any order; return when none is left or `go` says no.

        Args:
            rows: Taken lazily: a window beyond what is under way, no more.
            keep: Takes the result of each row as soon as it is known.
            go: Asked before each row that may have to be sent; False: send no more, wait for those
                under way.
        """
