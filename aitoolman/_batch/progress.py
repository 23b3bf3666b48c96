"""How a running batch is seen: a bar in a terminal, a bar with a Stop button in a notebook."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .words import clock, count, money

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Progress", "Snapshot", "open_progress"]

LINE_SECONDS = 30.0
"""Where nothing can be redrawn: the time between two lines."""
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
"""Rate and time left are ours: tqdm would count rows that the ledger gives at once."""
UNKNOWN_SIZE = {"ncols": 100, "nrows": 24}


class Snapshot(NamedTuple):
    """A running batch at one moment."""

    done: int
    total: int | None
    failed: int
    tokens: int
    cost: float | None
    attempts: int
    limit: int | None
    active: int
    seconds: float
    asked: int = 0
    """Rows that a model answered in this run; what a ledger gives takes no time."""
    to_ask: int | None = None
    """Rows that a model still has to answer; None where that is not known."""

    @property
    def rate(self) -> float:
        """Rows that are asked a second, in this run."""
        return self.asked / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to the end, at this rate."""
        if self.to_ask is None or self.rate == 0:
            return None
        return self.to_ask / self.rate

    def pace(self) -> str:
        """Rate and time left, as far as they are known."""
        left = "" if self.left is None or self.left < 0.05 else f", {clock(self.left)} left"
        return f"{self.rate:.1f} rows/s{left}"

    def details(self) -> str:
        """Everything but the rows."""
        errors = f"{self.failed:,} failed, " if self.failed else ""
        # The rows that wait for a slot at the client are no user's affair.
        active = min(self.active, self.limit or 0)
        limit = f", {active} of {self.limit} under way" if self.limit else ""
        return (
            f"{errors}{self.attempts:,} attempts, {count(self.tokens)} tokens,"
            f" cost {money(self.cost)}{limit}"
        )

    def line(self) -> str:
        """All of it in one line."""
        total = "?" if self.total is None else f"{self.total:,}"
        return f"{self.done:,} of {total} rows, {self.pace()}; {self.details()}"


class Progress(Protocol):
    """Shows snapshots."""

    interval: float
    """Seconds between two of them."""

    def show(self, now: Snapshot) -> None: ...

    def close(self, text: str) -> None:
        """The run has ended; `text` says how and stays."""


class _Silent:
    interval = 60.0

    def show(self, now: Snapshot) -> None: ...

    def close(self, text: str) -> None: ...


class _Lines:
    """A line now and then, for logs; none at all for a short run."""

    interval = 1.0

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._spoke = False

    def show(self, now: Snapshot) -> None:
        if time.monotonic() - self._last >= LINE_SECONDS:
            self._last, self._spoke = time.monotonic(), True
            self._write(now.line())

    def close(self, text: str) -> None:
        if self._spoke:
            self._write(text)

    def _write(self, text: str) -> None:
        sys.stderr.write(f"aitoolman batch: {text}\n")
        sys.stderr.flush()


class _TerminalBar:
    interval = 0.2

    def __init__(self, now: Snapshot) -> None:
        from tqdm import tqdm

        # A terminal that does not know its size says 0, and tqdm would draw nothing.
        known = os.get_terminal_size(sys.stderr.fileno()).columns > 0
        size = {"dynamic_ncols": True} if known else UNKNOWN_SIZE
        self._bar = tqdm(total=now.total, initial=now.done, bar_format=BAR, **size)

    def show(self, now: Snapshot) -> None:
        self._bar.set_postfix_str(f"{now.pace()}; {now.details()}", refresh=False)
        self._bar.total = now.total
        self._bar.n = now.done
        self._bar.refresh()

    def close(self, text: str) -> None:
        self._bar.close()


class _NotebookText:
    """One line in the cell, drawn anew; the last one stays."""

    interval = 0.5

    def __init__(self) -> None:
        from IPython.display import display

        show: Any = display
        self._handle: Any = show(_text("starting"), raw=True, display_id=True)

    def show(self, now: Snapshot) -> None:
        self._handle.update(_text(now.line()), raw=True)

    def close(self, text: str) -> None:
        self._handle.update(_text(text), raw=True)


class _NotebookBar:
    """A bar and a Stop button while it runs; afterwards a line of text that needs no kernel."""

    interval = 0.2

    def __init__(self, now: Snapshot, stop: Callable[[], None] | None) -> None:
        import ipywidgets as widgets
        from IPython.display import display

        self._bar = widgets.IntProgress(min=0, max=now.total or 1, value=now.done)
        self._label = widgets.Label(now.line())
        parts: list[Any] = [self._bar, self._label]
        if stop is not None:
            button = widgets.Button(description="Stop", icon="stop")
            button.on_click(lambda _: stop())
            parts.append(button)
        self._box = widgets.HBox(parts)
        show: Any = display
        bundle = {**self._box._repr_mimebundle_(), "text/plain": "batch running"}
        self._handle: Any = show(bundle, raw=True, display_id=True)

    def show(self, now: Snapshot) -> None:
        self._bar.max, self._bar.value = now.total or max(now.done, 1), now.done
        self._label.value = now.line()

    def close(self, text: str) -> None:
        self._handle.update(_text(text), raw=True)
        for widget in (*self._box.children, self._box):
            widget.close()


class _StaticText:
    """The last line alone, where outputs are compared."""

    interval = 60.0

    def show(self, now: Snapshot) -> None: ...

    def close(self, text: str) -> None:
        from IPython.display import display

        show: Any = display
        show(_text(text), raw=True)


def _text(text: str) -> dict[str, str]:
    return {"text/plain": text}


def in_notebook() -> bool:
    """True in the cells of a Jupyter kernel."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


def open_progress(wanted: bool, now: Snapshot, stop: Callable[[], None] | None) -> Progress:
    """What suits the place.

    Args:
        wanted: False shows nothing.
        now: The start.
        stop: Ends the run, from any thread; None where no button could work.
    """
    if not wanted:
        return _Silent()
    if in_notebook():
        return _in_notebook(now, stop)
    return _TerminalBar(now) if sys.stderr.isatty() else _Lines()


def _in_notebook(now: Snapshot, stop: Callable[[], None] | None) -> Progress:
    if os.environ.get("AITOOLMAN_VIEW") == "static":
        return _StaticText()
    try:
        return _NotebookBar(now, stop)
    except ImportError:
        return _NotebookText()
