"""The one thread of a ledger that writes, many small writes per transaction.

Work is handed over as functions of the connection. Everything that waits when the thread looks is
done in one transaction (group commit), and each caller hears of it after the commit: what a caller
was told survives the death of the process. Rows that nobody waits for are collected for a few
milliseconds first, so that a stream of them does not wake the thread for each.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import os
import queue
import sqlite3
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .._loops import Doorbell
from .queries import add_calls
from .schema import open_ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .connections import LedgerConnection

    Work = Callable[[sqlite3.Connection], Any]
    Future = asyncio.Future[Any] | concurrent.futures.Future[Any]

__all__ = ["LedgerWriter", "drain"]

T = TypeVar("T")

_log = logging.getLogger("aitoolman.ledger")

GROUP_SIZE = 500
"""The most pieces of work in one transaction."""
POST_SECONDS = 0.01
"""How long rows that nobody waits for are collected."""
DRAIN_SECONDS = 3.0
"""How long a reader, and the end of the program, wait for what is still to be written."""


class _Item(NamedTuple):
    work: Work
    future: Future
    loop: asyncio.AbstractEventLoop | None
    """Where `future` lives; None for one that any thread may set."""


Outcome = tuple[_Item, Any, Exception | None]
"""A piece of work, what it returned, and why it could not be done."""

_LOOK = "look at the posted rows"
_STOP = "stop"


class LedgerWriter:
    """A thread with a connection; started on first use, ended by `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[_Item | str] = queue.SimpleQueue()
        self._posted: deque[tuple[Any, ...]] = deque()
        self._told = False
        """True while the thread knows of posted rows."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended: _Item | None = None
        self._bell: Doorbell | None = None
        """Of the first loop that had work; a ledger has one as a rule."""
        self._done: deque[Outcome] = deque()
        """What that loop is to hear."""
        _writers.add(self)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work(connection)` in the thread; returns after the commit.

        Raises:
            sqlite3.Error: It could not be done, or not be committed.
        """
        return await self.begin(work)

    def begin(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """`run` without waiting: the future is done after the commit, in the order of begin."""
        loop = asyncio.get_running_loop()
        if self._bell is None:
            self._bell = Doorbell(self._settle_done)
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Item(work, future, loop))
        return future

    def post(self, row: tuple[Any, ...]) -> None:
        """Write a row of `calls` within a moment, without telling anybody; from any thread."""
        self._posted.append(row)
        if not self._told:
            self._told = True
            self._put(_LOOK)

    def drain(self, timeout: float = DRAIN_SECONDS) -> bool:
        """Wait until everything handed over so far is written; False where that takes too long."""
        if self._thread is None:
            return True
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._queue.put(_Item(lambda db: None, done, None))
        return bool(concurrent.futures.wait([done], timeout).done)

    async def close(self) -> None:
        """Write what is still waiting and end the thread. Again is fine."""
        if self._thread is not None:
            loop = asyncio.get_running_loop()
            self._ended = _Item(lambda db: None, loop.create_future(), loop)
            self._queue.put(_STOP)
            await self._ended.future  # type: ignore[misc]
            self._thread = None

    def stop(self) -> None:
        """Let the thread end after what is still waiting; for a ledger that nobody closed."""
        self._queue.put(_STOP)

    def _put(self, item: _Item | str) -> None:
        if self._thread is None:
            self._start()
        self._queue.put(item)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._main, name="aitoolman-ledger", daemon=True
                )
                self._thread.start()

    # In the thread

    def _main(self) -> None:
        try:
            connection = open_ledger(self.path)
        except Exception as exc:  # noqa: BLE001 - whoever asks is told
            self._refuse_all(exc)
            return
        try:
            while self._do_next(connection):
                pass
        finally:
            connection.close()
            self._say_goodbye()

    def _do_next(self, connection: LedgerConnection) -> bool:
        """One transaction with all that is waiting; False when it was the last."""
        items = self._next_items()
        group = [item for item in items if isinstance(item, _Item)]
        self._told = False
        rows = _take_all(self._posted)
        if rows:
            group.insert(0, _Item(lambda db: add_calls(db, rows), _unheard(rows), None))
        if group:
            with connection.at_work:
                outcomes = _do_group(connection, group)
            self._deliver(outcomes)
        return _STOP not in items

    def _next_items(self) -> list[_Item | str]:
        """What waits, at least one thing; rows alone wait a moment for company."""
        items = [self._queue.get()]
        wait = POST_SECONDS if items[0] is _LOOK else 0.0
        while len(items) < GROUP_SIZE and items[-1] is not _STOP:
            try:
                items.append(self._queue.get(timeout=wait) if wait else self._queue.get_nowait())
                wait = 0.0
            except queue.Empty:
                break
        return items

    def _refuse_all(self, exc: Exception) -> None:
        while (item := self._queue.get()) is not _STOP:
            if isinstance(item, _Item):
                self._deliver([(item, None, exc)])
        self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Without the bell: it may be closed as soon as the loop hears of the end."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the bell with it
            if self._bell is not None:
                self._bell.loop.call_soon_threadsafe(self._hear_no_more)
        if self._ended is not None and self._ended.loop is not None:
            with contextlib.suppress(RuntimeError):
                self._ended.loop.call_soon_threadsafe(_settle, (self._ended, None, None))

    def _deliver(self, outcomes: list[Outcome]) -> None:
        """Tell the callers, waking each event loop once."""
        home = self._bell.loop if self._bell is not None else None
        elsewhere: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
        rings = False
        for outcome in outcomes:
            loop = outcome[0].loop
            if loop is None:
                _settle(outcome)
            elif loop is home:
                self._done.append(outcome)
                rings = True
            else:
                elsewhere.setdefault(loop, []).append(outcome)
        if rings and self._bell is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._bell.ring()
        for loop, theirs in elsewhere.items():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle_all, theirs)

    # On the loop

    def _settle_done(self) -> None:
        while self._done:
            _settle(self._done.popleft())

    def _hear_no_more(self) -> None:
        self._settle_done()
        if self._bell is not None:
            self._bell.close()
            self._bell = None


def _take_all(rows: deque[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [rows.popleft() for _ in range(len(rows))]


def _unheard(rows: list[tuple[Any, ...]]) -> concurrent.futures.Future[Any]:
    """A future for rows nobody waits for: what becomes of them is a matter for the log."""

    def tell(future: concurrent.futures.Future[Any]) -> None:
        if (exc := future.exception()) is not None:
            _log.error("the ledger lost %d rows of its list of calls: %s", len(rows), exc)

    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    future.add_done_callback(tell)
    return future


def _do_group(connection: sqlite3.Connection, group: list[_Item]) -> list[Outcome]:
    """All of `group` in one transaction; where one of them fails, each in its own."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as exc:
        return [(item, None, exc) for item in group]
    try:
        return _finish_transaction(connection, group)
    except Exception as exc:  # noqa: BLE001 - whoever waits is told
        if len(group) == 1:
            return [(group[0], None, exc)]
    return [outcome for item in group for outcome in _do_group(connection, [item])]


def _finish_transaction(connection: sqlite3.Connection, group: list[_Item]) -> list[Outcome]:
    try:
        outcomes: list[Outcome] = [(item, item.work(connection), None) for item in group]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes


def _settle_all(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        _settle(outcome)


def _settle(outcome: Outcome) -> None:
    item, value, exc = outcome
    if item.future.done():
        return
    if exc is not None:
        item.future.set_exception(exc)
    else:
        item.future.set_result(value)


class _Writers:
    """The writers of this process, as long as they live; a forked child begins without any."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._all: weakref.WeakSet[LedgerWriter] = weakref.WeakSet()

    def add(self, writer: LedgerWriter) -> None:
        with self._lock:
            self._all.add(writer)

    def drain(self, path: Path | None = None) -> None:
        with self._lock:
            found = [w for w in self._all if path is None or w.path == path]
        for writer in found:
            writer.drain()


_writers = _Writers()


def drain(path: Path) -> None:
    """Wait until the ledgers of this process have written what they were given for this file."""
    _writers.drain(path)


# What was posted is written even where a client was never closed.
atexit.register(_writers.drain)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_writers.forget)
