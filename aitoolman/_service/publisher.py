"""The audit's fast path: every row to whoever listens, and a beat that shows what was missed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import zmq

from .._transport import wire

if TYPE_CHECKING:
    from .security import Guest

__all__ = ["Publisher", "tags_of"]

HIGH_WATER = 10_000
"""Rows kept for a slow listener; it fetches what it missed."""


def tags_of(guests: list[Guest], *frames: bytes) -> bytes:
    """A proof for each who may listen, so that nobody else's rows are believed."""
    tags = {g.keys.name: g.keys.proof(b"audit", *frames) for g in guests if g.keys is not None}
    return wire.encode(tags)


class Publisher:
    """A PUB socket.

    Args:
        socket: Bound or connected.
        listeners: Whose proofs go with each row.
    """

    def __init__(self, socket: zmq.Socket[bytes], listeners: list[Guest]) -> None:
        self._socket = socket
        self._listeners = listeners

    def send(self, op: str, body: wire.Wire) -> None:
        """Publish; a listener that cannot follow misses it."""
        header = wire.encode(wire.Header(wire.VERSION, op))
        data = wire.encode(body)
        with contextlib.suppress(zmq.Again):
            frames = [header, data, tags_of(self._listeners, header, data)]
            self._socket.send_multipart(frames, zmq.NOBLOCK)

    def close(self) -> None:
        self._socket.close(200)
