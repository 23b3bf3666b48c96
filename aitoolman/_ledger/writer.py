"""The one thread of a process that writes to a ledger, many small writes per transaction.

Work is handed over as functions of the connection. Everything that waits when the thread looks is
done in one transaction (group commit), and each caller hears of it after the commit: what a caller
was told survives the death of the process.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .schema import open_ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["LedgerWriter"]

T = TypeVar("T")

GROUP_SIZE = 500
"""The most pieces of work in one transaction."""


class _Work(NamedTuple):
    run: Callable[[sqlite3.Connection], Any]
    writes: bool
    loop: asyncio.AbstractEventLoop | None
    future: asyncio.Future[Any] | None


class LedgerWriter:
    """A thread with a connection; started on first use, ended by `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self.failure: Exception | None = None
        """Why the file could not be opened, or why the last transaction failed."""

    async def run(self, work: Callable[[sqlite3.Connection], T], *, writes: bool = True) -> T:
        """Do `work(connection)` in the thread; returns after the commit."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Work(work, writes, loop, future))
        return await future

    def post(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        """Do `work(connection)` in the thread some time soon, without telling anybody."""
        self._put(_Work(work, True, None, None))

    async def close(self) -> None:
        """Write what is still waiting and end the thread. Again is fine."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._queue.put(None)
            await asyncio.to_thread(thread.join)
        self._thread = None

    def _put(self, work: _Work) -> None:
        if self._thread is None or self._pid != os.getpid():
            self._start()
        self._queue.put(work)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._thread = threading.Thread(
                    target=self._main, name="aitoolman-ledger", daemon=True
                )
                self._thread.start()

    # In the thread

    def _main(self) -> None:
        try:
            connection = open_ledger(self.path)
        except Exception as exc:  # noqa: BLE001 - whoever asks is told
            self.failure = exc
            self._refuse_all(exc)
            return
        try:
            while (group := self._next_group()) is not None:
                self._do_group(connection, group)
        finally:
            connection.close()

    def _next_group(self) -> list[_Work] | None:
        first = self._queue.get()
        if first is None:
            return None
        group = [first]
        while len(group) < GROUP_SIZE:
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                break
            if work is None:
                self._queue.put(None)
                break
            group.append(work)
        return group

    def _do_group(self, connection: sqlite3.Connection, group: list[_Work]) -> None:
        try:
            outcomes = self._transaction(connection, group)
        except sqlite3.Error as exc:
            self.failure = exc
            outcomes = [(work, None, exc) for work in group]
        _deliver(outcomes)

    def _transaction(
        self, connection: sqlite3.Connection, group: list[_Work]
    ) -> list[tuple[_Work, Any, Exception | None]]:
        """All of `group` in one transaction; one that fails is undone alone."""
        connection.execute("BEGIN IMMEDIATE" if any(w.writes for w in group) else "BEGIN")
        try:
            outcomes = [_attempt(connection, work) for work in group]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return outcomes

    def _refuse_all(self, exc: Exception) -> None:
        while (work := self._queue.get()) is not None:
            _deliver([(work, None, exc)])


def _attempt(connection: sqlite3.Connection, work: _Work) -> tuple[_Work, Any, Exception | None]:
    if not work.writes:
        return work, work.run(connection), None
    connection.execute("SAVEPOINT work")
    try:
        return work, work.run(connection), None
    except (sqlite3.IntegrityError, ValueError, TypeError) as exc:
        connection.execute("ROLLBACK TO work")
        return work, None, exc
    finally:
        connection.execute("RELEASE work")


def _deliver(outcomes: list[tuple[_Work, Any, Exception | None]]) -> None:
    """Tell the callers, waking each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Work, Any, Exception | None]]] = {}
    for outcome in outcomes:
        if outcome[0].loop is not None:
            by_loop.setdefault(outcome[0].loop, []).append(outcome)
    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, mine)
        except RuntimeError:  # the loop is closed: nobody waits any more
            continue


def _settle(outcomes: list[tuple[_Work, Any, Exception | None]]) -> None:
    for work, value, exc in outcomes:
        future = work.future
        if future is None or future.done():
            continue
        if exc is not None:
            future.set_exception(exc)
        else:
            future.set_result(value)
