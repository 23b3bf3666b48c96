"""Following a server's audit: what is published, in order, gaps fetched from the server."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import zmq
from zmq.utils.monitor import parse_monitor_message

from .._datamodel import LLMApiRequestError
from .._transport import wire
from .link import Timing
from .port import Port, attach, client_context, keep_alive
from .probe import greeting_mechanism
from .publisher import HIGH_WATER
from .remote import RemoteEngine
from .security import SERVER_PUBLIC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .security import TokenKeys

__all__ = ["AuditFollower", "Gap"]

PATIENCE_SECONDS = 0.3
"""How long a missing number may be late before it is fetched."""
MAX_PENDING = 50_000
FETCH = Timing(gone=3.0)


class Gap(NamedTuple):
    """Rows that could not be had."""

    first: int
    last: int
    reason: str


class AuditFollower:
    """Rows of the audit as they happen, each once, in the order of their numbers.

    Args:
        pub_endpoint: Where the server publishes.
        router_endpoint: Where it can be asked; None: as it says itself.
        keys: Of the token; None without one.
        bind: Wait for servers there, instead of going to one (``zmq_pub_event_type = "connect"``).
    """

    def __init__(
        self,
        pub_endpoint: str,
        router_endpoint: str | None = None,
        keys: TokenKeys | None = None,
        *,
        bind: bool = False,
    ) -> None:
        self.pub_endpoint = pub_endpoint
        self.router_endpoint = router_endpoint
        self.beat: wire.Beat | None = None
        """What the server said last of itself."""
        self.ledger = ""
        """The sequence that is followed; a server with another file begins another."""
        self.last = -1
        """The last number delivered; -1 before the first."""
        self.resume_from: Callable[[str], int] | None = None
        """Gives the last number that the reader has of a sequence; None: begin with what comes."""
        self.unproven = 0
        """Messages that nobody who knows the token can have sent."""
        self._head = 0
        self._keys = keys
        self._bind = bind
        self._pending: dict[int, wire.Event] = {}
        self._changed = asyncio.Event()
        self._refusal: str | None = None
        self._engine: RemoteEngine | None = None
        self._ports: list[Port] = []

    async def __aenter__(self) -> AuditFollower:
        socket = client_context().socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        socket.setsockopt(zmq.LINGER, 0)
        keep_alive(socket)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2_000)
        if self._keys is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, SERVER_PUBLIC())
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self._keys.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret)
        events = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED
        events |= zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        self._ports = [
            Port(socket.get_monitor_socket(events), self._on_handshake),
            Port(socket, self._on_frames),
        ]
        socket.subscribe(b"")
        try:
            attach(socket, self.pub_endpoint, bind=self._bind)
        except zmq.ZMQError as exc:
            await self.__aexit__()
            text = f"{self.pub_endpoint!r} cannot be listened to: {exc}"
            raise LLMApiRequestError(text) from exc
        return self

    async def __aexit__(self, *exc: object) -> None:
        with contextlib.suppress(zmq.ZMQError):
            self._ports[1].socket.disable_monitor()
        for port in self._ports:
            port.close()
        if self._engine is not None:
            await self._engine.close()

    # From the socket

    def _on_handshake(self, frames: list[zmq.Frame]) -> None:
        event = parse_monitor_message([frame.bytes for frame in frames])["event"]
        if self._bind:
            return
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._refuse(
                f"{self.pub_endpoint} refused the token: it is wrong, this is the wrong server, or"
                " the token's client has no `monitor = true`"
            )
        elif event != zmq.EVENT_DISCONNECTED:
            self._probe = asyncio.get_running_loop().create_task(self._find_out())

    async def _find_out(self) -> None:
        found, ours = await greeting_mechanism(self.pub_endpoint), self._mechanism
        if found and found != ours:
            wanted = "wants a token" if ours == "NULL" else "has no token: leave it away"
            self._refuse(f"the server at {self.pub_endpoint} {wanted}")

    @property
    def _mechanism(self) -> str:
        return "NULL" if self._keys is None else "CURVE"

    def _refuse(self, reason: str) -> None:
        self._refusal = reason
        self._changed.set()

    def _on_frames(self, frames: list[zmq.Frame]) -> None:
        parts = [frame.bytes for frame in frames]
        try:
            if len(parts) != 3 or not self._is_proven(parts):
                raise ValueError("not from our server")
            header = wire.decode(parts[0], wire.Header)
            if header.op == "beat":
                self._on_beat(wire.decode(parts[1], wire.Beat))
            elif header.op == "event":
                self._on_event(wire.decode(parts[1], wire.Event))
        except ValueError:
            self.unproven += 1
        self._changed.set()

    def _is_proven(self, parts: list[bytes]) -> bool:
        if self._keys is None:
            return True
        proof = wire.decode(parts[2], dict[str, bytes]).get(self._keys.name, b"")
        return self._keys.proves(proof, b"audit", parts[0], parts[1])

    def _on_beat(self, beat: wire.Beat) -> None:
        if self.ledger and beat.ledger != self.ledger:
            self.last = 0 if self.resume_from is None else self.resume_from(beat.ledger)
            self._pending.clear()
        self.beat, self.ledger, self._head = beat, beat.ledger, beat.head
        if self.last < 0:
            self.last = self._first()

    def _on_event(self, event: wire.Event) -> None:
        if event.seq > self.last and len(self._pending) < MAX_PENDING:
            self._pending[event.seq] = event

    # To the reader

    async def rows(self) -> AsyncIterator[wire.Event | Gap]:
        """Rows and, where they cannot be had, gaps; without end.

        Raises:
            LLMApiRequestError: The server refused this listener.
        """
        while True:
            await self._wait()
            if self.beat is None:
                continue  # only a beat tells which sequence this is
            for event in self._in_order():
                yield event
            if self._is_behind() and not await self._comes_late():
                async for item in self._fetch():
                    yield item

    def _first(self) -> int:
        if self.resume_from is not None:
            return self.resume_from(self.ledger)
        return min([self._head, *(seq - 1 for seq in self._pending)])

    @property
    def is_level(self) -> bool:
        """True where nothing more is known to come."""
        return not self._is_behind()

    async def _wait(self) -> None:
        if self._refusal is not None:
            raise LLMApiRequestError(self._refusal)
        if not (self.last >= 0 and self._is_behind()):
            await self._changed.wait()
        self._changed.clear()
        if self._refusal is not None:
            raise LLMApiRequestError(self._refusal)

    def _in_order(self) -> list[wire.Event]:
        found = []
        while (event := self._pending.pop(self.last + 1, None)) is not None:
            self.last += 1
            found.append(event)
        for seq in [seq for seq in self._pending if seq <= self.last]:
            del self._pending[seq]
        return found

    def _is_behind(self) -> bool:
        return bool(self._pending) or self._head > self.last

    async def _comes_late(self) -> bool:
        """True where the next number arrives in a moment."""
        end = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while self.last + 1 not in self._pending:
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()
        return True

    async def _fetch(self) -> AsyncIterator[wire.Event | Gap]:
        """The rows from the last one on, page by page, up to where the published ones go on."""
        goal = min(self._pending, default=self._head + 1)
        try:
            rows = await self._ask(wire.Page(self.last, 500))
        except LLMApiRequestError as exc:
            yield Gap(self.last + 1, goal - 1, str(exc))
            self.last = goal - 1
            return
        for event in rows.events:
            if event.seq > self.last:
                self.last = event.seq
                yield event
        if not rows.events:
            self.last = max(self.last, goal - 1)  # they are in the file no more

    async def _ask(self, page: wire.Page) -> wire.Rows:
        if self._engine is None:
            endpoint = self.router_endpoint or self._announced()
            if endpoint is None:
                raise LLMApiRequestError("the server does not say where it can be asked (-r)")
            self._engine = RemoteEngine([endpoint], self._keys, FETCH)
        rows: wire.Rows = await self._engine.ask("page", page, wire.Rows)
        if rows.ledger != self.ledger:
            raise LLMApiRequestError("the server that was asked keeps another audit")
        return rows

    def _announced(self) -> str | None:
        """Where the server says that it can be asked, seen from here."""
        router = self.beat.router if self.beat else ""
        if not router or self._bind:
            return router or None
        parts = urlsplit(router)
        if parts.scheme != "tcp" or parts.hostname not in ("0.0.0.0", "::", "*"):  # noqa: S104
            return router
        host = self.pub_endpoint.partition("://")[2].rpartition(":")[0]  # with its brackets
        return f"tcp://{host}:{parts.port}"
