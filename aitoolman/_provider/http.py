"""The one HTTP seam: a JSON body goes up, a status, headers and blocks of bytes come down.

aiohttp stands behind it and nowhere else: its connector (names, TCP, TLS, proxies, a pool) and its
parser of answers. Its session is left aside. That works out anew for each request what is fixed for
a `Destination`, and costs more than sending and reading together (see tests/benchmarks).

Nothing here knows about models, formats or retries, with one exception that belongs to the
connection: a kept-alive connection that the server closed in the meantime is found out only by
using it, so the request is sent once more, on a fresh one.

Redirects are not followed: a redirected POST would carry key and prompt to another place.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import urllib.request
import weakref
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.helpers import strip_auth_from_url
from aiohttp.http import StreamWriter
from yarl import URL

from .errors import TransportError
from .translate import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping
    from types import TracebackType

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage

__all__ = ["MAX_BODY", "Destination", "HttpClient", "HttpReply"]

MAX_BODY = 64 * 1024 * 1024
"""Bytes of one answer, after decompression; a larger one is an error."""

LARGE_BODY = 512 * 1024
"""Bytes of a request that are sent in one go."""

READ_AHEAD = 256 * 1024
"""Bytes of an answer that may wait to be read before the server is held back."""

KEEP_ALIVE = 4.0
"""Seconds an idle connection is kept: llama.cpp's server closes its own after 5."""

CONNECT_SECONDS = 30.0
"""For finding and reaching a host, encryption included; later a server may be silent for longer."""

_LOOPBACK = re.compile(r"localhost|127(?:\.\d{1,3}){3}|::1")

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_LENGTHS = frozenset({"content-length", "transfer-encoding"})
"""Headers that tell a body's length: it is told once, by us."""


class Destination:
    """Where requests go, and the headers of them all. Belongs to one `HttpClient`.

    What follows from both is worked out once, with the first request.
    """

    __slots__ = ("_head", "_request", "headers", "url")

    def __init__(self, url: URL, headers: Mapping[str, str]) -> None:
        self.url = url
        self.headers = headers
        self._request: ClientRequest | None = None
        self._head: bytes | None = None

    def request(self, client: HttpClient) -> ClientRequest:
        """The request as aiohttp's connector wants to see it, without a body.

        Raises:
            ValueError: Both the address and the headers say who asks.
        """
        if self._request is None:
            url, user = strip_auth_from_url(self.url)
            if user is not None and "Authorization" in self.headers:
                raise ValueError("its address names a user, and there is an Authorization header")
            self._request = aiohttp.ClientRequest(
                "POST",
                url,
                headers=self.headers,
                skip_auto_headers=("Accept", "Content-Type"),
                auth=user,
                loop=asyncio.get_running_loop(),
                proxy=environment_proxy(url),
                ssl=client.tls if url.scheme == "https" else True,
            )
        return self._request

    def head(self, length: int) -> bytes:
        """What is sent before a body of `length` bytes, on a connection that was just made.

        Raises:
            ValueError: A header cannot be sent.
        """
        if self._head is None:
            assert self._request is not None
            # Only now: what a proxy wants to know was added on the way to it.
            self._head = _head(self._request)
        return b"%b%d\r\n\r\n" % (self._head, length)


class HttpReply:
    """An answer whose head has come. Read it inside the ``async with`` of its exchange."""

    __slots__ = ("_content", "_size", "_url", "headers", "status")

    def __init__(
        self, url: URL, message: RawResponseMessage, content: aiohttp.StreamReader
    ) -> None:
        self._url = url
        self._content = content
        self._size = 0
        self.status: int = message.code
        self.headers: Mapping[str, str] = message.headers

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case; empty where the server gave none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def at_end(self) -> bool:
        """True once everything was read, so that the connection can be used again."""
        return self._content.at_eof()

    async def block(self) -> bytes:
        """What the next read brought; empty at the end.

        Raises:
            TransportError: The connection broke, or the answer is larger than `MAX_BODY`.
        """
        with translated(self._url):
            data = await self._content.readany()
        self._size += len(data)
        if self._size > MAX_BODY:
            raise TransportError(
                f"the answer is larger than {MAX_BODY // 1024**2} MB and was cut off", retry=False
            )
        return data

    async def blocks(self) -> AsyncIterator[bytes]:
        """All blocks of the body, as they arrive."""
        while data := await self.block():
            yield data

    async def read(self) -> bytes:
        """The whole body."""
        data = await self.block()
        if not data or self._content.at_eof():
            return data
        parts = [data]
        while data := await self.block():
            parts.append(data)
        return b"".join(parts)


class _Exchange:
    """One request and its answer; leaving it gives the connection back, or closes it if unread."""

    __slots__ = ("_body", "_client", "_connection", "_destination", "_fresh", "_reply", "_upload")

    def __init__(self, client: HttpClient, destination: Destination, body: bytes) -> None:
        self._client = client
        self._destination = destination
        self._body = body
        self._connection: Connection | None = None
        self._fresh = True
        self._upload: asyncio.Task[None] | None = None
        self._reply: HttpReply | None = None

    async def __aenter__(self) -> HttpReply:
        with translated(self._destination.url):
            try:
                self._reply = await self._ask()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if self._fresh:
                    raise
                # The server had closed the idle connection; the other idle ones are as old.
                self._client.drop_idle()
                self._reply = await self._ask()
        return self._reply

    async def _ask(self) -> HttpReply:
        self._connection = await self._client.connect(self._destination)
        try:
            protocol = self._connection.protocol
            assert protocol is not None
            self._fresh = self._client.is_first_use(protocol)
            if protocol.should_close:
                # While it was idle, something came that would pass for our answer.
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(read_until_eof=True, read_bufsize=READ_AHEAD)
            self._send(protocol)
            while True:
                message, content = await protocol.read()
                if not _announces(message.code):
                    return HttpReply(self._destination.url, message, content)
        except BaseException:
            self._leave(whole=False)
            raise

    def _send(self, protocol: ResponseHandler) -> None:
        head = self._destination.head(len(self._body))
        if len(self._body) > LARGE_BODY:
            self._upload = asyncio.ensure_future(_send_bit_by_bit(protocol, head, self._body))
        elif protocol.transport is None:
            raise aiohttp.ServerDisconnectedError
        else:
            protocol.transport.write(head + self._body)

    def _leave(self, *, whole: bool) -> None:
        if self._upload is not None and not self._upload.done():
            self._upload.cancel()
            whole = False
        if self._connection is not None:
            if whole:
                self._connection.release()
            else:
                self._connection.close()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(whole=self._reply is not None and self._reply.at_end)


def _announces(status: int) -> bool:
    """True for an answer that another one follows."""
    return 100 <= status < 200 and status != 101


async def _send_bit_by_bit(protocol: ResponseHandler, head: bytes, body: bytes) -> None:
    """Send a large body while the loop runs on and an early refusal can be read."""
    writer = StreamWriter(protocol, asyncio.get_running_loop())
    view = memoryview(body)
    # A connection that breaks meanwhile is reported where the answer is waited for.
    with contextlib.suppress(OSError, aiohttp.ClientError):
        await writer.write(head)
        for start in range(0, len(body), LARGE_BODY):
            await writer.write(view[start : start + LARGE_BODY])


class HttpClient:
    """Connections to vendors. Made without a loop; lives on the loop it is first used on."""

    def __init__(self) -> None:
        self._connector: aiohttp.TCPConnector | None = None
        self._patience = aiohttp.ClientTimeout()
        self._used: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()
        self._tls: ssl.SSLContext | None = None

    def exchange(self, destination: Destination, body: bytes) -> _Exchange:
        """POST `body`: ``async with http.exchange(destination, body) as reply``.

        Raises:
            TransportError: The server cannot be reached, or the connection broke.
        """
        return _Exchange(self, destination, body)

    def connect(self, destination: Destination) -> Awaitable[Connection]:
        """A connection, an idle one where there is one; the manager limits their number."""
        if self._connector is None:
            self._connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE)
            self._patience = aiohttp.ClientTimeout(connect=CONNECT_SECONDS)
        return self._connector.connect(destination.request(self), [], self._patience)

    def is_first_use(self, protocol: ResponseHandler) -> bool:
        """True when it is asked for the first time about a connection."""
        if protocol in self._used:
            return False
        self._used.add(protocol)
        return True

    @property
    def tls(self) -> ssl.SSLContext:
        """The system's certificates and, where installed, those of certifi."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            try:
                import certifi
            except ImportError:
                pass
            else:
                self._tls.load_verify_locations(certifi.where())
        return self._tls

    def drop_idle(self) -> None:
        """Close the connections that nobody uses now."""
        if self._connector is not None:
            _close_idle(self._connector)

    async def close(self) -> None:
        """Close all connections, idle and busy ones."""
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()
            # A closed TLS transport says goodbye in the next turns of the loop.
            await asyncio.sleep(0)


def _head(request: ClientRequest) -> bytes:
    """The request line and all headers, as far as the length of the body."""
    url = request.url
    target = str(url) if request.proxy and not request.is_ssl() else url.raw_path_qs
    lines = [f"POST {target} HTTP/1.1"]
    for name, value in request.headers.items():
        if name.lower() not in _LENGTHS:
            lines.append(f"{name}: {value}")
    if any(_CONTROL.search(line) for line in lines):
        raise ValueError("a header holds a control character, such as a line end")
    return "\r\n".join([*lines, "Content-Length: "]).encode()


def environment_proxy(url: URL) -> URL | None:
    """The proxy that the environment names for the host of `url`."""
    proxy, host = urllib.request.getproxies().get(url.scheme), url.raw_host or ""
    # This machine itself is never behind a proxy: the embedded model, a local server.
    if not proxy or _LOOPBACK.fullmatch(host) or urllib.request.proxy_bypass(host):
        return None
    return URL(proxy if "://" in proxy else f"http://{proxy}")


def _close_idle(connector: Any) -> None:
    """Aiohttp offers no way to close only the idle connections of its pool."""
    for idle in getattr(connector, "_conns", {}).values():
        while idle:
            idle.pop()[0].close()
