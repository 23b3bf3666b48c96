"""A client at the server: who it is, what it asked, and what waits to be sent to it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING

import zmq

from .._transport import wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from .calls import Call
    from .port import Port
    from .security import Guest

__all__ = ["KEEP_SECONDS", "Seal", "Session"]

KEEP_SECONDS = 600.0
"""How long a finished answer waits for a client that comes back."""
MAX_QUEUE_BYTES = 64_000_000
"""More than so much waiting for one client: it is cut off."""
MAX_STUCK_SECONDS = 30.0
"""Nothing could be sent to a client for so long: it is cut off."""


class Seal:
    """Makes session names that only a server with the same token can have made.

    So a session survives the restart of its server, and nobody can claim one that was not given.
    """

    def __init__(self) -> None:
        self._own_key = secrets.token_bytes(32)

    def new(self, guest: Guest) -> str:
        """A fresh session for a client."""
        name = secrets.token_hex(16)
        return name + self._mark(guest, name)

    def is_ours(self, guest: Guest, session: str) -> bool:
        """True where this session was given to this client."""
        name, mark = session[:32], session[32:]
        return hmac.compare_digest(mark.encode(), self._mark(guest, name).encode())

    def _mark(self, guest: Guest, name: str) -> str:
        key = self._own_key if guest.keys is None else guest.keys.proof_key
        message = f"session {guest.name} {name}".encode()
        return hmac.new(key, message, hashlib.sha256).hexdigest()[:32]


class Session:
    """One client's session; its name is a secret between client and server.

    Args:
        name: The secret.
        guest: Who it is.
        port: Where to send.
        on_stuck: Called when the client takes no more for now; `flush` is to be tried soon.
    """

    def __init__(self, name: str, guest: Guest, port: Port, on_stuck: Callable[[], None]) -> None:
        self.name = name
        self.guest = guest
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        self.label = f"{guest.name}#{digest}"
        """Names the session in the audit and in logs."""
        self.route: bytes | None = None
        """Where its connection is; None while there is none."""
        self.calls: dict[str, Call] = {}
        """Under way, by the client's request id."""
        self.last_seen = time.monotonic()
        self.stuck_since: float | None = None
        self._queue: deque[Call | tuple[bytes, bytes]] = deque()
        self._queued_bytes = 0
        self._port = port
        self._on_stuck = on_stuck

    def __repr__(self) -> str:
        return f"Session({self.label}, {len(self.calls)} under way)"

    @property
    def queued_bytes(self) -> int:
        """What waits to be sent."""
        return self._queued_bytes + sum(
            item.pending_bytes for item in self._queue if not isinstance(item, tuple)
        )

    @property
    def is_clogged(self) -> bool:
        """True for a client that does not take what is sent to it."""
        if self.stuck_since is None:
            return False
        late = time.monotonic() - self.stuck_since > MAX_STUCK_SECONDS
        return late or self.queued_bytes > MAX_QUEUE_BYTES

    def send(self, op: str, id: str = "", body: bytes = b"") -> None:  # noqa: A002
        """Send now, or as soon as the client takes it; without a connection it is left out."""
        self._enqueue((wire.encode(wire.Header(wire.VERSION, op, id)), body))

    def send_pieces(self, call: Call) -> None:
        """Send the fragments of `call` that are pending."""
        self._enqueue(call)

    def _enqueue(self, item: Call | tuple[bytes, bytes]) -> None:
        if self.route is None:
            return
        if self._queue:
            self._append(item)
        elif not self._put(item):
            self.stuck_since = time.monotonic()
            self._append(item)
            self._on_stuck()

    def _append(self, item: Call | tuple[bytes, bytes]) -> None:
        if isinstance(item, tuple):
            self._queued_bytes += len(item[1])
            self._queue.append(item)
        elif not item.queued:  # else its fragments join those that wait
            item.queued = True
            self._queue.append(item)

    def flush(self) -> None:
        """Send what waits, as far as the client takes it."""
        while self._queue and self._put(self._queue[0]):
            item = self._queue.popleft()
            self.stuck_since = time.monotonic()
            if isinstance(item, tuple):
                self._queued_bytes -= len(item[1])
        if not self._queue:
            self.stuck_since = None

    @property
    def has_queue(self) -> bool:
        return bool(self._queue)

    def detach(self) -> None:
        """The connection is gone; what waited is asked for again by whoever still wants it."""
        self.route = None
        for item in self._queue:
            if not isinstance(item, tuple):
                item.queued = False
        self._queue.clear()
        self._queued_bytes = 0
        self.stuck_since = None

    def _put(self, item: Call | tuple[bytes, bytes]) -> bool:
        """Send one item; False where the client's queue is full."""
        if self.route is None:
            return True
        header, body = item if isinstance(item, tuple) else item.pack_pieces()
        try:
            self._port.send([self.route, header, body])
        except zmq.Again:
            return False
        except zmq.ZMQError:  # EHOSTUNREACH
            self.detach()
            return True
        if not isinstance(item, tuple):
            item.sent_pieces()
        return True
