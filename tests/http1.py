"""HTTP/1.1 by hand, so that a test controls each TCP write, each drop, and sees each disconnect."""

from __future__ import annotations

import asyncio
import http
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple, Protocol

__all__ = ["CLOSE", "RESET", "Connection", "Head", "Steps", "chunk", "head_bytes"]

CLOSE = object()
"""A step: close the connection after what was written."""
RESET = object()
"""A step: reset the connection."""
BURST = 64
"""Writes in one go before other connections get their turn."""

Step = Any
"""Bytes to write, `CLOSE`, `RESET`, or a function whose awaitable's value is sent back."""
Steps = Generator[Step, Any, Any]


class Head(NamedTuple):
    """A request's head."""

    method: str
    path: str
    headers: dict[str, str]


class Host(Protocol):
    """What a connection needs of its server."""

    def connected(self, connection: Connection) -> None: ...

    def disconnected(self, connection: Connection, unfinished: bool) -> None: ...

    def answer(self, connection: Connection, head: Head, body: bytes) -> Steps: ...


_REASONS = {status.value: status.phrase for status in http.HTTPStatus}


def head_bytes(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """`data` in chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, answered step by step."""

    _numbers = itertools.count(1)

    def __init__(self, host: Host) -> None:
        self.number = next(self._numbers)
        self.record: Any = None
        self.transport: asyncio.Transport
        self._host = host
        self._buffer = bytearray()
        self._head: tuple[Head, int] | None = None
        self._steps: Steps | None = None
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Event | None = None

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._host.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        steps, self._steps = self._steps, None
        self._host.disconnected(self, steps is not None)
        if self._task is not None:
            self._task.cancel()
        if steps is not None:
            steps.close()

    def pause_writing(self) -> None:
        self._drained = asyncio.Event()

    def resume_writing(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._read_on()

    # Reading

    def _read_on(self) -> None:
        while self._steps is None and not self.transport.is_closing():
            request = self._next_request()
            if request is None:
                return
            self._steps = self._host.answer(self, *request)
            self._write_on(None)

    def _next_request(self) -> tuple[Head, bytes] | None:
        if self._head is None:
            self._head = self._read_head()
        if self._head is None:
            return None
        head, length = self._head
        if length < 0:
            return self._read_chunked(head)
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._head = None
        return head, body

    def _read_head(self) -> tuple[Head, int] | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        method, path, _ = first.split(" ", 2)
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("expect") == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunked = headers.get("transfer-encoding") == "chunked"
        return Head(method, path, headers), -1 if chunked else int(headers.get("content-length", 0))

    def _read_chunked(self, head: Head) -> tuple[Head, bytes] | None:
        parts, at = [], 0
        while (end := self._buffer.find(b"\r\n", at)) >= 0:
            size = int(self._buffer[at:end].split(b";")[0], 16)
            if len(self._buffer) < end + size + 4:
                return None
            parts.append(bytes(self._buffer[end + 2 : end + 2 + size]))
            at = end + size + 4
            if size == 0:
                del self._buffer[:at]
                self._head = None
                return head, b"".join(parts)
        return None

    # Writing

    def _write_on(self, value: Any) -> None:
        """Go on until the answer is whole or has to wait."""
        waiting = self._advance(value)
        if waiting is not None:
            self._task = asyncio.get_running_loop().create_task(self._write_slowly(waiting))

    async def _write_slowly(self, waiting: Callable[[], Awaitable[Any]] | None) -> None:
        while waiting is not None:
            waiting = self._advance(await waiting())
        self._task = None
        self._read_on()

    def _advance(self, value: Any) -> Callable[[], Awaitable[Any]] | None:
        """Write until there is something to wait for; None: the answer is over."""
        steps = self._steps
        assert steps is not None
        for _ in range(BURST):
            try:
                step = steps.send(value)
            except StopIteration:
                self._steps = None
                return None
            value = None
            if not isinstance(step, bytes):
                if callable(step):
                    return step
                self._end(step)
                return None
            self.transport.write(step)
            if self._drained is not None:
                return self._drained.wait
        return _turn

    def _end(self, step: object) -> None:
        steps, self._steps = self._steps, None
        assert steps is not None
        steps.close()
        if step is RESET:
            _linger_zero(self.transport)
            self.transport.abort()
        else:
            self.transport.close()


async def _turn() -> None:
    await asyncio.sleep(0)


def _linger_zero(transport: asyncio.Transport) -> None:
    raw = transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
