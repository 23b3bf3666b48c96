"""Who may connect: ZeroMQ's authentication (RFC 27), answered in this process."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import zmq
from zmq.utils.monitor import parse_monitor_message

from .port import Port
from .security import SERVER_SECRET, z85

if TYPE_CHECKING:
    from collections.abc import Callable

    from .security import GuestList

__all__ = ["AUDIT_DOMAIN", "ROUTER_DOMAIN", "Doors"]

ROUTER_DOMAIN = b"aitoolman.router"
AUDIT_DOMAIN = b"aitoolman.audit"

_log = logging.getLogger("aitoolman.service")


class Doors:
    """Lets clients in by their public key, and tells of those that it keeps out.

    Args:
        context: The server's own; its sockets ask here.
        guests: Who may come in.
        on_refusal: Called with a sentence for each that was kept out.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], guests: GuestList,
        on_refusal: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._context = context
        self._guests = guests
        self._on_refusal = on_refusal
        self._ports: list[Port] = []
        self._guarded: list[zmq.Socket[bytes]] = []
        if not guests.open:
            socket = context.socket(zmq.REP)
            socket.bind("inproc://zeromq.zap.01")
            self._zap = Port(socket, self._on_question)
            self._ports.append(self._zap)

    def guard(self, socket: zmq.Socket[bytes], domain: bytes) -> None:
        """Encrypt a socket and let only guests in; without tokens, leave it open. Before bind."""
        socket.setsockopt(zmq.HANDSHAKE_IVL, 5_000)
        if not self._guests.open:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, SERVER_SECRET)
            socket.setsockopt(zmq.ZAP_DOMAIN, domain)
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # no answer here means: closed
        events = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        self._ports.append(Port(socket.get_monitor_socket(events), self._on_event))
        self._guarded.append(socket)

    def close(self) -> None:
        """Let nobody in any more. Before the guarded sockets are closed, which tell of themselves
        to the last, and would wait for ever where nobody listens.
        """
        for socket in self._guarded:
            with contextlib.suppress(zmq.ZMQError):
                socket.disable_monitor()
        for port in self._ports:
            port.close()

    def _on_question(self, frames: list[zmq.Frame]) -> None:
        parts = [frame.bytes for frame in frames]
        if len(parts) < 6:  # not from libzmq; an answer is owed all the same
            self._zap.send([b"1.0", b"", b"500", b"malformed", b"", b""])
            return
        name = self._admit(parts)
        verdict = [b"200", b"OK"] if name else [b"400", b"refused"]
        self._zap.send([b"1.0", parts[1], *verdict, name or b"", b""])

    def _admit(self, parts: list[bytes]) -> bytes | None:
        """The name of whoever asks, or None."""
        domain, address, mechanism = parts[2], parts[3].decode(errors="replace"), parts[5]
        if mechanism != b"CURVE" or len(parts) < 7 or domain not in (ROUTER_DOMAIN, AUDIT_DOMAIN):
            self._on_refusal(f"{address} came without a token")
            return None
        guest = self._guests.by_public.get(z85(parts[6]))
        if guest is None:
            self._on_refusal(f"{address} came with an unknown token")
            return None
        if domain == AUDIT_DOMAIN and not guest.monitor:
            self._on_refusal(f"{address} ({guest.name}) may not follow the audit")
            return None
        return guest.name.encode()

    def _on_event(self, frames: list[zmq.Frame]) -> None:
        event = parse_monitor_message([frame.bytes for frame in frames])
        if event["event"] == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            came = "with a token; this server has none" if self._guests.open else "without a token"
            self._on_refusal(f"a client was turned away: it came {came}")
        else:
            _log.debug("a connection ended before its handshake was done")
