"""The one HTTP seam: a JSON body goes up, a status, headers and blocks of bytes come down.

aiohttp stands behind it and nowhere else. Nothing here knows about models, formats or retries, with
one exception that belongs to the connection: a kept-alive connection that the server closed in the
meantime is found out only by using it, so the request is sent once more, on a fresh one.

Redirects are not followed: a redirected POST would carry key and prompt to another place.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
import re
import ssl
import urllib.request
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from .errors import TransportError
from .translate import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

__all__ = ["MAX_BODY", "HttpClient", "HttpReply"]

MAX_BODY = 64 * 1024 * 1024
"""Bytes of one answer, after decompression; a larger one is an error."""

LARGE_BODY = 512 * 1024
"""Bytes of a request that are sent in one go."""

KEEP_ALIVE = 4.0
"""Seconds an idle connection is kept: llama.cpp's server closes its own after 5."""

CONNECT_SECONDS = 30.0
"""For finding and reaching a host, encryption included; later a server may be silent for longer."""

_LOOPBACK = re.compile(r"localhost|127(?:\.\d{1,3}){3}|::1")

_reused: contextvars.ContextVar[bool] = contextvars.ContextVar("aitoolman_reused", default=False)


class _Connector(aiohttp.TCPConnector):
    """A pool that notes whether a connection was used before; the manager limits their number."""

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        _reused.set(True)
        return await super().connect(req, traces, timeout)

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        _reused.set(False)
        return await super()._create_connection(req, traces, timeout)


class HttpReply:
    """An answer whose head has come. Read it inside the ``async with`` of its exchange."""

    __slots__ = ("_response", "_size", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._size = 0
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case; empty where the server gave none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def at_end(self) -> bool:
        """True once everything was read, so that the connection can be used again."""
        return self._response.content.at_eof()

    async def block(self) -> bytes:
        """What the next read brought; empty at the end.

        Raises:
            TransportError: The connection broke, or the answer is larger than `MAX_BODY`.
        """
        with translated(self._response.url):
            data = await self._response.content.readany()
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
        if not data or self._response.content.at_eof():
            return data
        parts = [data]
        while data := await self.block():
            parts.append(data)
        return b"".join(parts)


class _Exchange:
    """One request and its answer; leaving it gives the connection back, or closes it if unread."""

    __slots__ = ("_body", "_client", "_headers", "_response", "_url")

    def __init__(
        self, client: HttpClient, url: URL, headers: Mapping[str, str], body: bytes | None
    ) -> None:
        self._client = client
        self._url = url
        self._headers = headers
        self._body = body
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> HttpReply:
        with translated(self._url):
            try:
                self._response = await self._send()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
                if not _reused.get() or isinstance(exc, aiohttp.ClientConnectorError):
                    raise
                # The server had closed the idle connection; the other idle ones are as old.
                self._client.drop_idle()
                self._response = await self._send()
        return HttpReply(self._response)

    async def _send(self) -> aiohttp.ClientResponse:
        client = self._client
        method = "GET" if self._body is None else "POST"
        return await client.session._request(  # the public verbs add a layer per call
            method,
            self._url,
            data=_payload(self._body),
            headers=self._headers,
            allow_redirects=False,
            proxy=client.proxy_for(self._url),
            ssl=client.tls if self._url.scheme == "https" else True,
        )

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._response is not None:
            if self._response.content.at_eof():
                self._response.release()
            else:
                self._response.close()


class HttpClient:
    """Connections to vendors. Made without a loop; lives on the loop it is first used on."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._proxies: dict[tuple[str, str], URL | None] = {}

    def exchange(
        self, url: URL, headers: Mapping[str, str], body: bytes | None = None
    ) -> _Exchange:
        """POST `body` (or GET, without one): ``async with http.exchange(...) as reply``.

        Raises:
            TransportError: The server cannot be reached, or the connection broke.
        """
        return _Exchange(self, url, headers, body)

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=0, keepalive_timeout=KEEP_ALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
                skip_auto_headers=("Accept", "Content-Type"),
                read_bufsize=2**18,
            )
        return self._session

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

    def proxy_for(self, url: URL) -> URL | None:
        """The proxy that the environment names for this host; looked up once per host."""
        key = (url.scheme, url.raw_host or "")
        if key not in self._proxies:
            self._proxies[key] = _environment_proxy(*key)
        return self._proxies[key]

    def drop_idle(self) -> None:
        """Close the connections that nobody uses now."""
        if self._session is not None:
            _close_idle(self._session.connector)

    async def close(self) -> None:
        """Close all connections, idle and busy ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            # A closed TLS transport says goodbye in the next turns of the loop.
            await asyncio.sleep(0)


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """The body as aiohttp wants it: a large one piece by piece, so that the loop runs on."""
    return io.BytesIO(body) if body is not None and len(body) > LARGE_BODY else body


def _environment_proxy(scheme: str, host: str) -> URL | None:
    proxy = urllib.request.getproxies().get(scheme)
    # This machine itself is never behind a proxy: the embedded model, a local server.
    if not proxy or _LOOPBACK.fullmatch(host) or urllib.request.proxy_bypass(host):
        return None
    return URL(proxy if "://" in proxy else f"http://{proxy}")


def _close_idle(connector: Any) -> None:
    """Aiohttp offers no way to close only the idle connections of its pool."""
    for idle in getattr(connector, "_conns", {}).values():
        while idle:
            idle.pop()[0].close()
