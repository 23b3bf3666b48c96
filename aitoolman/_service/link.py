"""A client's connection to one server: made, proven, kept alive, made again.

ZeroMQ's own reconnecting is off: a message must never go out on a connection whose other end has
not yet proved that it knows the token. So each connection is a fresh socket with a fresh, secret
routing id, and begins with hello; what was under way is then asked for again under its old ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import TYPE_CHECKING, NamedTuple, Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from .._datamodel import LLMApplicationError
from .._transport import wire
from .port import Port, attach, client_context, keep_alive
from .probe import greeting_mechanism
from .security import SERVER_PUBLIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from .security import TokenKeys

__all__ = ["GONE_SECONDS", "Link", "LinkOwner", "Timing"]

_log = logging.getLogger("aitoolman.service")

GONE_SECONDS = 14.0
"""A request whose server was not heard of for so long ends with an error."""
MECHANISM_MISMATCH = zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
)


class Timing(NamedTuple):
    """Seconds; other values are for tests."""

    ping: float = 2.0
    silence: float = 6.0
    """Nothing heard for so long: the connection is given up and made anew."""
    gone: float = GONE_SECONDS
    hello: float = 3.0
    """For a connection to be made and proven."""
    retry: tuple[float, float] = (0.1, 1.0)
    """First and longest wait between two attempts to connect."""


class LinkOwner(Protocol):
    """Who uses a link."""

    def on_ready(self, link: Link, same_boot: bool) -> None:
        """A connection stands and is proven."""

    def on_down(self, link: Link) -> None:
        """The connection is lost; another is tried while there is work."""

    def on_refused(self, link: Link, reason: str) -> None:
        """The server will not have this client."""

    def on_message(self, link: Link, header: wire.Header, body: memoryview) -> None:
        """A message that is not the link's own affair."""

    def has_work(self, link: Link) -> bool:
        """True while the link should be up."""


class Link:
    """A connection to one server, on the running loop."""

    def __init__(
        self, endpoint: str, keys: TokenKeys | None, owner: LinkOwner, timing: Timing
    ) -> None:
        self.endpoint = endpoint
        self.ready = False
        self.welcome: wire.Welcome | None = None
        """What the server said last; kept while the connection is down."""
        self.outstanding = 0
        """Kept by the owner."""
        self.closing = False
        """True where the server is about to stop, and takes nothing new."""
        self.last_heard = 0.0
        self.refusal: str | None = None
        self.connections = 0
        self._keys = keys
        self._owner = owner
        self._timing = timing
        self._loop = asyncio.get_running_loop()
        self._port: Port | None = None
        self._monitor: Port | None = None
        self._challenge = b""
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._shaken = False
        """True once the handshake of this connection is done."""
        self._looking: asyncio.Task[str | None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"Link({self.endpoint!r}, {'ready' if self.ready else 'down'})"

    # Sending

    def send(self, op: str, id: str = "", body: wire.Wire | None = None) -> bool:  # noqa: A002
        """Send if the link is ready; False where it is not, or can take no more now.

        Raises:
            LLMApplicationError: The message is too large, or cannot be encoded.
        """
        if not self.ready:
            return False
        data = b"" if body is None else wire.encode(body)
        limit = self.welcome.max_bytes if self.welcome else wire.MAX_BYTES
        if len(data) > limit:
            raise LLMApplicationError(
                f"the request has {len(data):,} bytes, the server takes at most {limit:,}; send"
                " less, or media by URL"
            )
        return self._put(op, id, data)

    def _put(self, op: str, id: str, data: bytes) -> bool:  # noqa: A002
        assert self._port is not None
        header = wire.encode(wire.Header(wire.VERSION, op, id))
        try:
            self._port.send([header, data])
        except zmq.ZMQError:
            return False
        return True

    # Connecting

    def wake(self) -> None:
        """Connect unless that is done or under way."""
        idle = self._port is None and self._timer is None and self._looking is None
        if idle and not self._closed:
            self._connect()

    def _connect(self) -> None:
        self._timer = None
        self.refusal = None
        socket = client_context().socket(zmq.DEALER)
        self._set_up(socket)
        self._monitor = Port(socket.get_monitor_socket(_EVENTS), self._on_event)
        self._port = Port(socket, self._on_frames)
        self._shaken = False
        self.connections += 1
        try:
            attach(socket, self.endpoint, bind=False)
        except zmq.ZMQError as exc:
            self._refuse(f"{self.endpoint!r} is no address to connect to: {exc}")
            return
        self._timer = self._loop.call_later(self._timing.hello, self._give_up)

    def _set_up(self, socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.ROUTING_ID, b"c" + secrets.token_bytes(16))
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 5_000)
        keep_alive(socket)
        socket.setsockopt(zmq.MAXMSGSIZE, 4 * wire.MAX_BYTES)
        socket.setsockopt(zmq.SNDHWM, 0)  # bounded by what the server lets a session have
        socket.setsockopt(zmq.RCVHWM, 10_000)
        if self._keys is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, SERVER_PUBLIC())
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self._keys.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret)

    def _on_event(self, frames: list[zmq.Frame]) -> None:
        message = parse_monitor_message([frame.bytes for frame in frames])
        event, value = message["event"], message["value"]
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._say_hello()
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._refuse(f"the server at {self.endpoint} refused the token: {_WRONG_TOKEN}")
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == MECHANISM_MISMATCH:
            self._refuse(self._mismatch())
        elif event != zmq.EVENT_CLOSED and not self._shaken:
            self._find_out()
        else:
            self._drop()

    def _find_out(self) -> None:
        """The other end hung up during the handshake: ask it what it speaks."""
        self._disconnect()
        self._looking = self._loop.create_task(greeting_mechanism(self.endpoint))
        self._looking.add_done_callback(self._on_found_out)

    def _on_found_out(self, task: asyncio.Task[str | None]) -> None:
        self._looking = None
        if task.cancelled() or self._closed:
            return
        found, ours = task.result(), "NULL" if self._keys is None else "CURVE"
        if found == "":
            self._refuse(f"what answers at {self.endpoint} is no aitoolman server")
        elif found in (None, ours):
            self._after_loss()
        else:
            self._refuse(self._mismatch())

    def _mismatch(self) -> str:
        if self._keys is None:
            return (
                f"the server at {self.endpoint} wants a token: give auth_token (or the environment"
                " variable AITOOLMAN_TOKEN)"
            )
        return (
            f"the server at {self.endpoint} has no token and speaks without encryption: set"
            " zmq_auth_token there, or leave the token away here (for an address of this machine)"
        )

    def _say_hello(self) -> None:
        self._shaken = True
        self._challenge = secrets.token_bytes(16)
        session = self.welcome.session if self.welcome else ""
        self._put("hello", "", wire.encode(wire.Hello(self._challenge, session)))

    def _on_frames(self, frames: list[zmq.Frame]) -> None:
        self.last_heard = self._loop.time()
        try:
            header = wire.decode(frames[0].buffer, wire.Header)
            body = frames[1].buffer
        except (ValueError, IndexError):
            _log.warning("%s sent something that cannot be read", self.endpoint)
            return
        if self.ready:
            self._on_later(header, body)
        elif header.op == "welcome":
            self._on_welcome(body)
        elif header.op == "refused":
            self._refuse(wire.decode(body, wire.Refusal).reason)

    def _on_later(self, header: wire.Header, body: memoryview) -> None:
        if header.op == "stale":  # the server was away, or took us for dead
            self.ready = False
            self._owner.on_down(self)
            self._say_hello()
        elif header.op == "closing":  # what is under way there is still answered
            self.closing = True
        elif header.op != "pong":
            self._owner.on_message(self, header, body)

    def _on_welcome(self, body: memoryview) -> None:
        try:
            welcome = wire.decode(body, wire.Welcome)
        except ValueError:
            self._refuse(f"{self.endpoint} answered, but not as an aitoolman server of this kind")
            return
        if not self._proven(welcome):
            self._refuse(f"what answers at {self.endpoint} does not know the token: {_WRONG_TOKEN}")
            return
        self.closing = False
        same = self.welcome is None or self.welcome.boot == welcome.boot
        self.welcome, self.ready, self._failures = welcome, True, 0
        self._schedule(self._timing.ping, self._ping)
        self._owner.on_ready(self, same)

    def _proven(self, welcome: wire.Welcome) -> bool:
        return self._keys is None or self._keys.proves(
            welcome.proof, b"welcome", self._challenge, welcome.session.encode(),
            welcome.boot.encode(),
        )  # fmt: skip

    # Keeping and losing

    def _ping(self) -> None:
        self._timer = None
        if self._loop.time() - self.last_heard > self._timing.silence:
            self._drop()
            return
        self._put("ping", "", b"")
        self._schedule(self._timing.ping, self._ping)

    def _give_up(self) -> None:
        """No proven connection in time."""
        self._timer = None
        self._drop()

    def _drop(self) -> None:
        """Lose the connection; try again while there is work."""
        if self._port is None:
            return
        self._disconnect()
        self._after_loss()

    def _after_loss(self) -> None:
        if self._owner.has_work(self) and not self._closed:
            first, longest = self._timing.retry
            self._schedule(min(longest, first * 2 ** min(self._failures, 20)), self._connect)
            self._failures += 1
        self._owner.on_down(self)

    def _refuse(self, reason: str) -> None:
        self.refusal = reason
        self._disconnect()
        self._owner.on_refused(self, reason)

    def _disconnect(self, linger: int = 0) -> None:
        self.ready = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        port, monitor, self._port, self._monitor = self._port, self._monitor, None, None
        if port is not None and monitor is not None:
            with contextlib.suppress(zmq.ZMQError):
                port.socket.disable_monitor()
            monitor.close()
            port.close(linger)

    def _schedule(self, delay: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay, call)

    def close(self) -> None:
        """Say goodbye and end. Again is fine."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        if self.ready:
            self._put("bye", "", b"")
        self._disconnect(linger=500)


_WRONG_TOKEN = "either the token is wrong, or this is the wrong server"  # noqa: S105 - a sentence
