"""The server's door for messages: frames in, sessions, leases, and what cannot be sent at once."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

import zmq

from .._transport import wire
from .port import Port
from .security import DEFAULT_CLIENT
from .sessions import Seal, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .limits import Limits
    from .pulse import Pulse
    from .security import Guest, GuestList

    Handler = Callable[[Session, str, memoryview], None]

__all__ = ["Reception", "Staff", "refusal"]

_log = logging.getLogger("aitoolman.service")

QUIET_SECONDS = 2.5
"""A client with requests under way that says nothing for so long is spoken to."""


class Staff(Protocol):
    """What the reception needs to know of the rest of the server."""

    def about(self) -> wire.Welcome:
        """What every client is told; proof and session are filled in."""

    def on_leave(self, session: Session, why: str) -> None:
        """A client is gone: its requests are nobody's."""


def refusal(reason: str, kind: str = "request") -> bytes:
    """The body of a message that says no."""
    return wire.encode(wire.Refusal(reason, kind))


class Reception:
    """Reads messages, knows the sessions, and hands each message to its handler.

    Args:
        router: The bound socket.
        guests: Who may be here.
        handlers: By kind of message.
        staff: The rest of the server.
        pulse: Felt with every message.
        limits: Leases and bounds.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        guests: GuestList,
        handlers: Mapping[str, Handler],
        staff: Staff,
        pulse: Pulse,
        limits: Limits,
    ) -> None:
        self.sessions: dict[str, Session] = {}
        """By their secret names."""
        self.routes: dict[bytes, Session] = {}
        self.junk = 0
        """Messages that could not be read."""
        self._guests = guests
        self._handlers = {"ping": self._on_ping, "bye": self._on_bye} | dict(handlers)
        self._staff = staff
        self._pulse = pulse
        self._limits = limits
        self._seal = Seal()
        self._loop = asyncio.get_running_loop()
        self._sending: asyncio.TimerHandle | None = None
        self._closing = False
        self.port = Port(router, self._on_frames)

    # Frames

    def _on_frames(self, frames: list[zmq.Frame]) -> None:
        """One message; whatever is wrong with it, the next one is served."""
        self._pulse.feel()
        try:
            self._dispatch(frames)
        except (ValueError, IndexError):
            self.junk += 1
        except Exception:  # noqa: BLE001 - one message must not end the service
            _log.exception("a message could not be served")

    def _dispatch(self, frames: list[zmq.Frame]) -> None:
        route, guest = frames[0].bytes, self._guest_of(frames[-1])
        if len(frames) != 3 or len(frames[1]) > wire.HEADER_BYTES:
            raise ValueError("not three frames, or a header too large")
        header = wire.decode(frames[1].buffer, wire.Header)
        body = frames[2].buffer
        if header.v != wire.VERSION:
            self._reply(route, "refused", header.id, _other_version(header.v))
        elif header.op == "hello":
            self._on_hello(route, guest, wire.decode(body, wire.Hello))
        else:
            self._on_known(route, guest, header, body)

    def _guest_of(self, frame: zmq.Frame) -> Guest:
        """Whom CURVE let in, which no message can claim."""
        if self._guests.open:
            return self._guests.by_name[DEFAULT_CLIENT]
        return self._guests.by_name[str(frame.get("User-Id"))]

    def _on_known(self, route: bytes, guest: Guest, header: wire.Header, body: memoryview) -> None:
        session = self.routes.get(route)
        if session is None or session.guest is not guest:
            self._reply(route, "stale", header.id)
            return
        session.last_seen = self._loop.time()
        handler = self._handlers.get(header.op)
        if handler is None:
            session.send("refused", header.id, refusal(f"unknown message {header.op[:40]!r}"))
            return
        try:
            handler(session, header.id, body)
        except ValueError as exc:
            self.junk += 1
            session.send("refused", header.id, refusal(f"the message cannot be read: {exc}"))

    def _reply(self, route: bytes, op: str, request_id: str = "", body: bytes = b"") -> None:
        """Answer someone who has no session."""
        try:
            self.port.send([route, wire.encode(wire.Header(wire.VERSION, op, request_id)), body])
        except zmq.ZMQError:
            _log.debug("somebody without a session went away")

    # Sessions

    def _on_hello(self, route: bytes, guest: Guest, hello: wire.Hello) -> None:
        session = self.sessions.get(hello.session)
        if session is None or session.guest is not guest:
            ours = self._seal.is_ours(guest, hello.session)
            name = hello.session if ours else self._seal.new(guest)
            session = self.sessions[name] = Session(name, guest, self.port, self.send_soon)
        self._attach(session, route)
        session.send("welcome", "", wire.encode(self._welcome(session, hello.challenge)))
        if self._closing:
            session.send("closing")

    def _attach(self, session: Session, route: bytes) -> None:
        if session.route is not None:
            self.routes.pop(session.route, None)
            session.detach()
        former = self.routes.pop(route, None)
        if former is not None:
            former.detach()
        session.route = route
        session.last_seen = self._loop.time()
        self.routes[route] = session

    def _welcome(self, session: Session, challenge: bytes) -> wire.Welcome:
        welcome, keys = self._staff.about(), session.guest.keys
        welcome.session, welcome.client = session.name, session.guest.name
        if keys is not None:
            said = (session.name.encode(), welcome.boot.encode())
            welcome.proof = keys.proof(b"welcome", challenge, *said)
        return welcome

    def _on_ping(self, session: Session, request_id: str, body: memoryview) -> None:
        session.send("pong")

    def _on_bye(self, session: Session, request_id: str, body: memoryview) -> None:
        self._end(session, "the client left")

    def _end(self, session: Session, why: str) -> None:
        """Finished answers stay for a while; what is under way is cancelled."""
        self._staff.on_leave(session, why)
        if session.route is not None:
            self.routes.pop(session.route, None)
            session.detach()
        self.sessions.pop(session.name, None)

    # Time

    def look_after_all(self) -> None:
        """End sessions whose clients are gone or take nothing; try again to send what waits."""
        now = self._loop.time()
        for session in list(self.sessions.values()):
            self._look_after(session, now)
        if any(session.has_queue for session in self.sessions.values()):
            self.send_soon()

    def _look_after(self, session: Session, now: float) -> None:
        silence = now - session.last_seen
        allowed = self._limits.grace if session.route is None else self._limits.lease
        if silence > allowed:
            self._end(session, "the client is gone")
        elif session.is_clogged:
            _log.warning("%s does not take its answers: cut off", session.label)
            self._end(session, "the client does not take its answers")
        elif session.calls and silence > QUIET_SECONDS:
            session.send("pong")  # shows whether the connection still stands

    def send_soon(self) -> None:
        """Send what waits for slow clients in a moment, and until nothing waits."""
        if self._sending is None:
            self._sending = self._loop.call_later(self._limits.retry, self._send_queued)

    def _send_queued(self) -> None:
        self._sending = None
        waiting = [session for session in self.sessions.values() if session.has_queue]
        for session in waiting:
            session.flush()
        if any(session.has_queue for session in waiting):
            self.send_soon()

    def start_over(self) -> None:
        """Every client must say hello again before it is heard."""
        now = self._loop.time()
        for route, session in list(self.routes.items()):
            self._reply(route, "stale")
            session.detach()
            session.last_seen = now
        self.routes.clear()

    # The end

    def announce_end(self) -> None:
        """Clients shall send new requests elsewhere, or keep them back."""
        self._closing = True
        for session in self.sessions.values():
            session.send("closing")

    def close(self) -> None:
        """Send what can be sent, and close the socket."""
        if self._sending is not None:
            self._sending.cancel()
        for session in self.sessions.values():
            session.flush()
        self.port.close(linger=300)


def _other_version(theirs: int) -> bytes:
    return refusal(
        f"the server speaks version {wire.VERSION} of the protocol, the client {theirs}: update the"
        " older one of the two"
    )
