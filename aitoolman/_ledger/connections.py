"""Connections of a ledger, and what a fork does to them.

A forked child inherits SQLite's list of open files with the locks that it believes to hold on them,
and whatever the child opens afterwards relies on those. But such locks stay with the parent: once
that has closed the file, the next process to close it deletes the write-ahead log under the child,
and what the child was told to be durable is gone (https://sqlite.org/howtocorrupt.html, 2.6). So a
child closes what it inherits before it does anything else, and a fork waits for the moment when no
thread is at work in a connection.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from typing import Any

__all__ = ["LedgerConnection", "creating"]

FORK_SECONDS = 2.0
"""How long a fork waits for a thread that is at work in a connection."""

creating = threading.Lock()
"""Held while a ledger's file is made, so that no other thread opens it before it is closed."""


class LedgerConnection(sqlite3.Connection):
    """A connection that a forked child closes.

    Attributes:
        at_work: Held by the thread that uses the connection while it does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.at_work = threading.RLock()
        _open[id(self)] = self


_open: weakref.WeakValueDictionary[int, LedgerConnection] = weakref.WeakValueDictionary()


class _Fork:
    """What is held while this process forks."""

    def __init__(self) -> None:
        self._created = False
        self._resting: list[LedgerConnection] = []

    def before(self) -> None:
        self._created = creating.acquire(timeout=FORK_SECONDS)
        found = [ref() for ref in _open.valuerefs()]  # a copy, whatever other threads open
        self._resting = [c for c in found if c and c.at_work.acquire(timeout=FORK_SECONDS)]

    def after_in_parent(self) -> None:
        resting, self._resting = self._resting, []
        for connection in resting:
            connection.at_work.release()
        if self._created:
            creating.release()

    def after_in_child(self) -> None:
        for connection in self._resting:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self.after_in_parent()


_fork = _Fork()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_fork.before,
        after_in_parent=_fork.after_in_parent,
        after_in_child=_fork.after_in_child,
    )
