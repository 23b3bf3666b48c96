"""The border crossing: aiohttp's, ssl's and the operating system's errors become `TransportError`.

Each gives one sentence that says what happened and with which host; the cause stays attached.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http import HttpProcessingError

from .._secrets import shorten
from .errors import TransportError

if TYPE_CHECKING:
    from types import TracebackType

    from yarl import URL

__all__ = ["translated"]

_FOREIGN = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)


class translated:  # noqa: N801 - reads as a verb: `with translated(url)`
    """Turn foreign errors inside the block into `TransportError`; all else passes untouched.

    A class, because a generator's context manager costs more than some of the blocks it guards.
    """

    __slots__ = ("_url",)

    def __init__(self, url: URL) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc, _FOREIGN):
            raise _translate(exc, self._place()) from exc

    def _place(self) -> str:
        url = self._url
        host = f"[{url.host}]" if ":" in (url.host or "") else url.host
        return f"{host}:{url.port}"


def _translate(exc: BaseException, place: str) -> TransportError:
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return TransportError(
            f"the host of {place} was not found ({_system_text(exc)}); check `url` and the network",
            unbilled=True,
        )
    if isinstance(exc, aiohttp.ClientSSLError | ssl.SSLError):
        return _tls_error(exc, place)
    if isinstance(exc, aiohttp.ClientProxyConnectionError):
        return TransportError(f"the proxy for {place} cannot be reached ({_system_text(exc)})")
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return TransportError(f"the proxy refused the way to {place}: HTTP {exc.status}")
    if isinstance(exc, aiohttp.ClientConnectorError | TimeoutError):
        return TransportError(f"{place} cannot be reached ({_system_text(exc)})", unbilled=True)
    if isinstance(exc, aiohttp.ClientResponseError | HttpProcessingError):
        return TransportError(f"{place} sent an answer that is no valid HTTP ({_words(exc)})")
    if isinstance(exc, aiohttp.InvalidURL):
        return TransportError(f"the address of {place} cannot be used", retry=False)
    if isinstance(exc, aiohttp.ClientPayloadError):
        return TransportError(f"the answer of {place} broke off or is damaged ({_words(exc)})")
    if isinstance(exc, aiohttp.ClientError | OSError):
        return TransportError(f"the connection to {place} broke ({_system_text(exc)})")
    return TransportError(f"the request to {place} cannot be sent ({_words(exc)})", retry=False)


def _tls_error(exc: BaseException, place: str) -> TransportError:
    certificate = getattr(exc, "certificate_error", None) or getattr(exc, "os_error", None) or exc
    if isinstance(certificate, ssl.SSLCertVerificationError):
        return TransportError(
            f"the certificate of {place} is not trusted ({certificate.verify_message})", retry=False
        )
    reason = getattr(certificate, "reason", None) or _words(exc)
    return TransportError(
        f"no encrypted connection to {place} ({reason}); does the server speak https there?"
    )


def _system_text(exc: BaseException) -> str:
    """The operating system's words, without aiohttp's frame around them."""
    cause = getattr(exc, "os_error", exc)
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return "the server closed it without an answer"
    if isinstance(exc, TimeoutError):
        return "no connection in time"
    if isinstance(cause, socket.gaierror):
        return cause.strerror or "name resolution failed"
    if isinstance(cause, OSError) and cause.errno:
        return _errno_text(cause)
    return _words(cause)


def _errno_text(cause: OSError) -> str:
    known = {
        errno.ECONNREFUSED: "connection refused: nothing listens there",
        errno.ECONNRESET: "reset by the server",
        errno.EPIPE: "closed by the server",
        errno.ENETUNREACH: "the network is unreachable",
        errno.EHOSTUNREACH: "the host is unreachable",
        errno.EMFILE: "too many open files in this process",
    }
    return known.get(cause.errno or 0) or cause.strerror or type(cause).__name__


def _words(exc: BaseException) -> str:
    """An error's own words, on one short line, the bytes of a hostile server made harmless."""
    return shorten(str(getattr(exc, "message", "") or exc), 120) or type(exc).__name__
