"""From what a vendor or the network did to the `Failure` that says what comes next."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from .._datamodel import FinishReason
from .errors import Failure
from .formats.base import VendorError
from .formats.errors import classify, refuses_content
from .rates import retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._datamodel import Exchange, LLMApiRequestError
    from .formats.base import LLMFormatStrategy

__all__ = ["broken_off", "error_answer", "in_stream", "timed_out", "too_long_a_wait", "unreadable"]

_SHORT = 200
_REQUEST_AT_FAULT = (400, 413, 422)
_HINTS = {
    401: "; check `api_key`",
    403: "; check what `api_key` may use",
    404: "; check `model` and `url`",
    405: "; check `url`",
}


def error_answer(
    strategy: LLMFormatStrategy, answer: Exchange, headers: Mapping[str, str], wall: float
) -> Failure:
    """An answer with a status other than 2xx.

    Args:
        strategy: Knows how the vendor writes errors.
        answer: What came, secrets masked.
        headers: As they came.
        wall: Unix time.
    """
    status = answer.status or 0
    if 300 <= status < 400:
        return _redirected(status, answer.response_headers)
    error = strategy.parse_error(status, answer.response_body)
    return _from_error(error, status, retry_after(headers, wall))


def in_stream(exc: LLMApiRequestError, headers: Mapping[str, str], wall: float) -> Failure:
    """An error object inside an answer with status 200."""
    error = getattr(exc, "vendor_error", None) or VendorError(str(exc))
    return _from_error(error, 200, retry_after(headers, wall))


def _from_error(error: VendorError, status: int, asked: float | None) -> Failure:
    kind = classify(status, error)
    blocked = kind == "stop" and refuses_content(error)
    code = f" ({error.code})" if error.code and error.code not in error.message else ""
    hint = _HINTS.get(status, "")
    where = "an error inside the answer" if status == 200 else f"HTTP {status}"
    return Failure(
        f"{where}: {error.message.rstrip('.')}{code}{hint}",
        kind,
        FinishReason.content_filter if blocked else FinishReason.error_request,
        status,
        error.code,
        asked,
        final=blocked,
        entry_at_fault=status not in _REQUEST_AT_FAULT and not blocked,
        unbilled=status != 200,
    )


def _redirected(status: int, headers: Mapping[str, str]) -> Failure:
    found = (value for name, value in headers.items() if name.lower() == "location")
    place = "".join(c for c in next(found, "")[:_SHORT] if c.isprintable())
    return Failure(
        f"HTTP {status}: the server sends us to {place or 'another address'}, which is not followed"
        " because the key would go there too; set `url` to the final address",
        status=status,
        unbilled=True,
    )


def timed_out(seconds: float, stream: bool) -> Failure:
    """No sign of life, or no whole answer, in time."""
    what = "the server was silent for" if stream else "there was no whole answer within"
    return Failure(f"{what} {seconds:g} s (`timeout`)", "retry")


def unreadable(text: str) -> Failure:
    """The answer came and makes no sense."""
    return Failure(text, finish=FinishReason.error_format)


def broken_off() -> Failure:
    """A stream that just ended."""
    return Failure("the stream ended before the answer was finished", "retry")


def too_long_a_wait(failure: Failure, wait: float, max_wait: float, wall: float) -> Failure:
    """The vendor wants a longer wait than the configuration allows: stop, and say until when."""
    until = dt.datetime.fromtimestamp(wall + wait, dt.UTC)
    shape = "%H:%M:%S UTC" if wait < 86400 / 2 else "%Y-%m-%d %H:%M UTC"
    text = (
        f"{failure.text}; the vendor asks to wait until {until.strftime(shape)} ({wait:,.0f} s),"
        f" longer than `max_wait` = {max_wait:g} s"
    )
    return failure._replace(text=text, kind="stop")
