"""One guard for every awaiting cell: Interrupt and Stop cancel it, and it ends in one line.

A cell that awaits runs in a task of its own. The guard takes that task when the cell begins. SIGINT
and the Stop button both ask the loop to cancel it, so that requests are ended by the code that
awaits them; the CancelledError that comes out of the cell is shown as one line, and the reply says
"error", so that Run All stops.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

__all__ = ["CellGuard", "Guards", "Interrupted", "one_line"]


class Interrupted(Exception):
    """A cell was ended by Interrupt or Stop; its requests are closed."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def one_line(error: BaseException) -> BaseException:
    """`error`, set to show itself as one line instead of a traceback."""
    text = f"{type(error).__name__}: {error}"
    error._render_traceback_ = lambda: [text]  # type: ignore[attr-defined]
    return error


class CellGuard:
    """Ends one awaiting cell.

    Args:
        task: The task that runs the cell.
    """

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._loop = task.get_loop()
        self._asked = False
        self._before: Any = None
        self._listens = threading.current_thread() is threading.main_thread()
        self.reason: str | None = None
        """Why the cell ends; None while nobody asked."""

    def stop(self, reason: str = "stopped") -> None:
        """End the cell, from any thread. Again is fine."""
        self.reason = self.reason or reason
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        self._asked = False
        self._task.cancel()

    def listen(self) -> bool:
        """Take SIGINT over; False in a thread that gets no signals."""
        if self._listens:
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self._listens

    def leave(self) -> bool:
        """Give SIGINT back; False where it was not taken."""
        if self._listens:
            signal.signal(signal.SIGINT, self._before)
        return self._listens

    def _on_signal(self, number: int, frame: object) -> None:
        # The loop has not come round since the last one: the cell is stuck in code that does not
        # await, and only an exception gets it out of there.
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self.stop("interrupted")


class Guards:
    """Guards each awaiting cell of a shell.

    Cells run one after the other in a thread; a subshell of ipykernel 7 is a thread of its own.

    Args:
        shell: The IPython shell whose cells are guarded.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._guards: dict[int, CellGuard] = {}  # by thread
        self._depths: Counter[int] = Counter()
        self._custom: tuple[Any, Any] | None = None

    @property
    def current(self) -> CellGuard | None:
        """The guard of the cell that runs in this thread; None where it does not await."""
        return self._guards.get(threading.get_ident())

    @property
    def nested(self) -> bool:
        """True while a cell runs in this thread: what is compiled now is code inside it."""
        return self._depths[threading.get_ident()] > 0

    def register(self) -> None:
        """Listen to the shell's events."""
        self._shell.events.register("pre_run_cell", self._before_cell)
        self._shell.events.register("post_run_cell", self._after_cell)

    def unregister(self) -> None:
        """Stop listening, also for the cell that runs now."""
        self._shell.events.unregister("pre_run_cell", self._before_cell)
        self._shell.events.unregister("post_run_cell", self._after_cell)
        self._release()

    def _before_cell(self, info: ExecutionInfo) -> None:
        thread = threading.get_ident()
        self._depths[thread] += 1
        task = _cell_task(self._shell)
        if task is None or thread in self._guards:
            return
        guard = self._guards[thread] = CellGuard(task)
        if guard.listen():
            self._custom = (self._shell.custom_exceptions, self._shell.CustomTB)
            self._shell.set_custom_exc((asyncio.CancelledError,), self._show_cancelled)

    def _after_cell(self, result: ExecutionResult | None) -> None:
        thread = threading.get_ident()
        self._depths[thread] = max(0, self._depths[thread] - 1)
        guard = self.current
        if guard is None or self.nested:
            return
        self._release()
        error = None if result is None else result.error_in_exec
        if guard.reason is not None and isinstance(error, asyncio.CancelledError):
            assert result is not None
            result.error_in_exec = Interrupted(guard.reason)

    def _release(self) -> None:
        guard = self._guards.pop(threading.get_ident(), None)
        if guard is not None and guard.leave() and self._custom is not None:
            self._shell.custom_exceptions, self._shell.CustomTB = self._custom
            self._custom = None

    def _show_cancelled(
        self,
        shell: InteractiveShell,
        kind: type[BaseException],
        error: BaseException,
        traceback: TracebackType | None,
        tb_offset: int | None = None,
    ) -> None:
        guard = self.current
        reason = guard.reason if guard is not None else None
        if reason is None:
            shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)
            return
        shown = Interrupted(reason)
        shell.showtraceback((Interrupted, shown, None))


def _cell_task(shell: InteractiveShell) -> asyncio.Task[Any] | None:
    """The task that runs the current cell alone; None where the cell does not await."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    code = getattr(getattr(task, "get_coro", lambda: None)(), "cr_code", None)
    return task if code is not None and code is _code_of(shell.run_cell_async) else None


def _code_of(function: Any) -> Any:
    return getattr(getattr(function, "__func__", function), "__code__", None)
