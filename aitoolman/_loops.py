"""The library's one background event loop, and what crosses from loop to loop.

A notebook or script without a running loop of its own still needs one place where clients live.
That place is a daemon thread with an event loop, started when first needed and stopped at
interpreter exit after everything registered with `at_exit` has closed.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["BackgroundLoop", "Closable", "Doorbell", "background", "run_sync", "running_loop"]

T = TypeVar("T")

EXIT_SECONDS = 3.0
"""How long interpreter exit waits for clients to close before it goes on."""


class Closable(Protocol):
    """Something that lives on the background loop and wants to be closed at exit."""

    async def close(self) -> None: ...


class BackgroundLoop:
    """A daemon thread that runs one event loop, started on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._guests: set[Closable] = set()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, running."""
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._start()
            assert self._loop is not None
            return self._loop

    @property
    def running(self) -> asyncio.AbstractEventLoop | None:
        """The loop if it was started, else None."""
        return self._loop

    def _start(self) -> None:
        loop = asyncio.new_event_loop()
        ready = threading.Event()

        def main() -> None:
            asyncio.set_event_loop(loop)
            loop.call_soon(ready.set)
            try:
                loop.run_forever()
            finally:
                loop.close()

        self._thread = threading.Thread(target=main, name="aitoolman-loop", daemon=True)
        self._thread.start()
        ready.wait()
        self._loop = loop
        atexit.unregister(self.stop)
        atexit.register(self.stop)

    def close_at_exit(self, guest: Closable) -> None:
        """Close `guest` on the loop when the interpreter exits."""
        self._guests.add(guest)

    def forget(self, guest: Closable) -> None:
        """Undo `close_at_exit`; an unknown guest is fine."""
        self._guests.discard(guest)

    def stop(self) -> None:
        """Close all guests, end what still runs, stop the loop and join its thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None or not thread.is_alive():
            return
        done = asyncio.run_coroutine_threadsafe(self._wind_up(), loop)
        concurrent.futures.wait([done], timeout=EXIT_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=EXIT_SECONDS)

    async def _wind_up(self) -> None:
        closing = [guest.close() for guest in list(self._guests)]
        await asyncio.gather(*closing, return_exceptions=True)
        others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_asyncgens()


background = BackgroundLoop()
"""The one background loop of this process."""


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop running in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def run_sync(
    coroutine: Coroutine[Any, Any, T], *, home: asyncio.AbstractEventLoop | None = None
) -> T:
    """Run `coroutine` on the background loop and wait for its result.

    Args:
        coroutine: What to run.
        home: The loop that the work depends on, where it is another than the background loop.

    Raises:
        RuntimeError: Called from the very loop that the work needs, which waiting would block:
            the message says to ``await`` instead.
        KeyboardInterrupt: Ctrl-C; the coroutine is cancelled and has ended by then.
    """
    here = running_loop()
    if here is not None and here in (home, background.loop):
        coroutine.close()
        raise RuntimeError(
            "a synchronous call from the event loop that its client lives on would wait for itself"
            " for ever; use the asynchronous form with `await` here"
        )
    loop = background.loop
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        tasks.append(loop.create_task(coroutine))
        tasks[0].add_done_callback(lambda task: _settle(outcome, task))

    # Ctrl-C may come at any moment from here on: nothing of this may be lost to it.
    try:
        loop.call_soon_threadsafe(start)
        return outcome.result()
    except BaseException:
        if not outcome.done():
            loop.call_soon_threadsafe(lambda: tasks and tasks[0].cancel())
            concurrent.futures.wait([outcome], timeout=EXIT_SECONDS)
        raise


def _settle(outcome: concurrent.futures.Future[T], task: asyncio.Task[T]) -> None:
    """Pass a finished task's result on to the thread that waits for it."""
    if task.cancelled():
        outcome.set_exception(concurrent.futures.CancelledError())
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


class Doorbell:
    """Has a function called on one loop whenever another thread rings; many rings may be one call.

    Where the system has an eventfd (Linux), a ring costs half of what `call_soon_threadsafe` does,
    which goes through a pair of sockets; elsewhere it is that. Made and closed on the loop.

    Args:
        answer: What is called.
    """

    def __init__(self, answer: Callable[[], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._answer = answer
        self._fd = -1
        self._finalizer: weakref.finalize[..., Any] | None = None
        if hasattr(os, "eventfd"):
            try:
                fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            except OSError:  # a sandbox may forbid it
                return
            try:
                self.loop.add_reader(fd, self._heard)
            except NotImplementedError:  # a loop of another make
                os.close(fd)
            else:
                self._fd, self._finalizer = fd, weakref.finalize(self, os.close, fd)
                self._finalizer.atexit = False  # threads may still ring then

    def ring(self) -> None:
        """From any thread, but not after `close`.

        Raises:
            RuntimeError: The loop is closed. It is not always noticed.
        """
        if self._fd < 0:
            self.loop.call_soon_threadsafe(self._answer)
        else:
            os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        """Hear no more. Again is fine."""
        if self._finalizer is not None and self._finalizer.alive:
            if not self.loop.is_closed():
                self.loop.remove_reader(self._fd)
            self._finalizer()

    def _heard(self) -> None:
        os.eventfd_read(self._fd)
        self._answer()
