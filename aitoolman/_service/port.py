"""A ZeroMQ socket on an asyncio event loop, without a task or future per message.

The descriptor of a ZeroMQ socket only tells that *something* changed, once: after every wake-up all
that waits is read, and after every sending the socket is asked whether something waits, as that may
have swallowed a signal. Frames are sent and received one by one: pyzmq's functions for several
cost more than all the rest that happens here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import zmq

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Port", "attach", "client_context", "keep_alive"]

BURST = 64
"""Messages handled before others on the loop get a turn."""
POLL_SECONDS = 0.005
"""Between two looks, on loops that cannot watch descriptors (Windows' default one)."""

_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_POLLIN = int(zmq.POLLIN)

_contexts: dict[int, zmq.Context[Any]] = {}


def client_context() -> zmq.Context[Any]:
    """The context of this process's clients; ended with the process."""
    pid = os.getpid()
    if pid not in _contexts:
        _contexts[pid] = zmq.Context()
    return _contexts[pid]


def attach(socket: zmq.Socket[bytes], endpoint: str, *, bind: bool) -> None:
    """Bind or connect a socket, to an address of IPv6, too.

    Raises:
        zmq.ZMQError: That is no address, or it cannot be had.
    """
    # Only where one is written: a name would be looked up there alone, and "localhost" not found.
    if "://[" in endpoint:
        socket.setsockopt(zmq.IPV6, 1)
    (socket.bind if bind else socket.connect)(endpoint)


def keep_alive(socket: zmq.Socket[bytes]) -> None:
    """Have the operating system find out within half a minute that the other end is gone.

    Never by HEARTBEAT_IVL: where a queue is full and its connection breaks, libzmq's next heartbeat
    is an assertion that fails and ends the process (seen with 4.3.5: `!_io_error`). A slow moment
    of ours and a peer that leaves would be enough. Whether the other *program* lives is asked by
    messages of our own.
    """
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 10)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 5)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)


class Port:
    """Calls `on_message(frames)` for every message that arrives, until closed.

    Args:
        socket: A plain ZeroMQ socket, owned from now on.
        on_message: Must not raise; called on the running loop.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_message: Callable[[list[zmq.Frame]], None],
    ) -> None:
        self.socket = socket
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.getsockopt(zmq.FD))
        self._scheduled: asyncio.Handle | None = None
        self._watching = False
        self._poll: asyncio.TimerHandle | None = None
        self.closed = False
        self._watch()
        self.look()

    def _watch(self) -> None:
        try:
            self._loop.add_reader(self._fd, self._read)
            self._watching = True
        except NotImplementedError:
            self._poll = self._loop.call_later(POLL_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._poll = self._loop.call_later(POLL_SECONDS, self._look_again)
        self._read()

    def send(self, frames: list[bytes]) -> None:
        """Send now.

        Raises:
            zmq.Again: The queue is full, or nobody is connected.
            zmq.ZMQError: There is no such peer (``EHOSTUNREACH``).
        """
        send = self.socket.send
        for frame in frames[:-1]:
            send(frame, _MORE)
        send(frames[-1], _NOBLOCK)
        if self._has_input():
            self.look()

    def look(self) -> None:
        """Look for messages at the loop's next turn."""
        if self._scheduled is None and not self.closed:
            self._scheduled = self._loop.call_soon(self._read)

    def _has_input(self) -> bool:
        return bool(self.socket.getsockopt(zmq.EVENTS) & _POLLIN)  # type: ignore[operator]

    def _read(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        for number in range(BURST):
            # Most come alone: asking costs less than receiving nothing. After two they are many.
            if self.closed or (number == 1 and not self._has_input()):
                return
            frames = self._receive()
            if frames is None:
                return
            self._on_message(frames)
        self.look()

    def _receive(self) -> list[zmq.Frame] | None:
        receive = self.socket.recv
        try:
            frames = [receive(_NOBLOCK, copy=False)]
            while frames[-1].more:
                frames.append(receive(_NOBLOCK, copy=False))
        except zmq.Again:
            return None
        except zmq.ZMQError:  # the context was ended under us
            self.close()
            return None
        return frames

    def close(self, linger: int = 0) -> None:
        """Close the socket; `linger` milliseconds for what is still to be sent. Again is fine."""
        if self.closed:
            return
        self.closed = True
        for handle in (self._scheduled, self._poll):
            if handle is not None:
                handle.cancel()
        if self._watching and not self._loop.is_closed():
            with contextlib.suppress(OSError, ValueError):
                self._loop.remove_reader(self._fd)
        self.socket.close(linger)

    def __del__(self) -> None:
        if not self.closed and not self.socket.closed:  # its loop was closed without it
            self.socket.close(0)
