"""One attempt: a body goes to one target, and the answer fills one response.

Whatever goes wrong on the vendor's side leaves as `AttemptFailed`, with the partial text in the
response. A cancel and a failing sink pass through as they are.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from .._datamodel import (
    FinishReason,
    LLMApiRequestError,
    LLMApplicationError,
    LLMResponseFormatError,
)
from .._secrets import shorten
from . import failures
from .deadline import Deadline
from .errors import AttemptFailed, Failure, Kind, SinkFailed, TransportError
from .formats.answers import decode_json
from .stream import StreamReader, not_understood
from .traffic import NO_HEADERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._datamodel import LLMProviderRequest, LLMProviderResponse
    from .clock import Clock
    from .formats.base import LLMFormatStrategy
    from .http import HttpClient, HttpReply
    from .reply import ReplyWriter
    from .traffic import Traffic

__all__ = ["AttemptRun", "encode_request"]

MAX_VALUES = 2_000_000
"""Commas, or brackets, in a whole answer; no model writes as many."""

_STREAMS = (
    "text/event-stream",
    "application/octet-stream",
    "application/x-ndjson",
    "text/plain",
    "",
)


def encode_request(
    strategy: LLMFormatStrategy, request: LLMProviderRequest
) -> tuple[bytes, list[str]]:
    """The JSON body of a request, and notes on what was left out.

    Raises:
        AttemptFailed: The request cannot be built.
    """
    try:
        body, notes = strategy.make_request(request)
        return msgspec.json.encode(body), notes
    except LLMApplicationError as exc:
        raise AttemptFailed(Failure(str(exc), entry_at_fault=False)) from exc
    except Exception as exc:
        text = f"the request cannot be built: {type(exc).__name__}: {exc}"
        raise AttemptFailed(Failure(text, entry_at_fault=False)) from exc


class AttemptRun:
    """Sends one body and reads what comes back.

    Args:
        http: The connections.
        traffic: Where to send what; keeps what went over the wire.
        response: Filled in place.
        writer: Gets the fragments.
        clock: The source of time.
        timeout: Seconds, for a stream per silence, else for the whole.
    """

    __slots__ = (
        *("_clock", "_deadline", "_http", "_response", "_strategy", "_traffic", "_writer"),
        *("first_token", "headers", "sent"),
    )

    def __init__(
        self,
        http: HttpClient,
        traffic: Traffic,
        response: LLMProviderResponse,
        writer: ReplyWriter,
        clock: Clock,
        timeout: float,
    ) -> None:
        self._http = http
        self._traffic = traffic
        self._response = response
        self._writer = writer
        self._clock = clock
        self._deadline = Deadline(clock, timeout)
        self._strategy = traffic.target.strategy
        self.sent = 0.0
        """When it was sent, on the clock."""
        self.first_token: float | None = None
        """When the first fragment of a stream came, on the clock."""
        self.headers: Mapping[str, str] = NO_HEADERS
        """Of the answer."""

    @property
    def body_size(self) -> int:
        """Bytes sent."""
        return len(self._traffic.body)

    async def run(self) -> None:
        """Do it.

        Raises:
            AttemptFailed: There is no whole answer.
            SinkFailed: A channel of the caller raised.
        """
        self.sent = self._clock.monotonic()
        try:
            with self._deadline:
                await self._exchange()
        except TimeoutError as exc:
            self._end(failures.timed_out(self._deadline.seconds, self._response.stream), exc)
        except TransportError as exc:
            kind: Kind = "retry" if exc.retry else "stop"
            self._end(Failure(str(exc), kind, unbilled=exc.unbilled), exc)
        except LLMApiRequestError as exc:
            self._end(failures.in_stream(exc, self.headers, self._clock.wall()), exc)
        except LLMResponseFormatError as exc:
            self._end(failures.unreadable(str(exc)), exc)
        if self._response.finish_reason == FinishReason.error.value:
            text = self._response.error_text or "the vendor ended the answer with an error"
            self._end(Failure(text, "retry", FinishReason.error), None)

    def _end(self, failure: Failure, cause: Exception | None) -> None:
        """Fail, unless the answer was whole already when this happened."""
        whole = self._response.finish_reason not in (None, FinishReason.error.value)
        if self._response.stream and whole and failure.finish is FinishReason.error_request:
            return
        if self._writer.started:
            # What was shown cannot be taken back, so nobody may begin again.
            failure = failure._replace(kind="stop", final=True)
        raise AttemptFailed(failure._replace(status=self._traffic.status)) from cause

    async def _exchange(self) -> None:
        traffic, target = self._traffic, self._traffic.target
        async with self._http.exchange(target.destination, traffic.body) as reply:
            self.headers = reply.headers
            traffic.answered(reply.status, reply.headers)
            if not 200 <= reply.status < 300:
                await self._refused(reply)
            elif self._is_stream(reply.content_type):
                await self._stream(reply)
            else:
                await self._whole(await self._body(reply), reply.content_type)

    def _is_stream(self, content_type: str) -> bool:
        if content_type == "text/event-stream":
            return True
        return self._response.stream and content_type in _STREAMS

    async def _body(self, reply: HttpReply) -> bytes:
        body = await reply.read()
        self._traffic.blocks.append(body)
        return body

    async def _refused(self, reply: HttpReply) -> NoReturn:
        await self._body(reply)
        answer = self._traffic.exchange()  # its secrets are masked before anything is cut short
        raise AttemptFailed(
            failures.error_answer(self._strategy, answer, reply.headers, self._clock.wall())
        )

    async def _whole(self, body: bytes, content_type: str) -> None:
        response = self._response
        data = _decode(body, content_type)
        try:
            self._strategy.parse_batch_response(response, data)
        except (LLMApiRequestError, LLMResponseFormatError):
            raise
        except Exception as exc:
            raise not_understood(exc) from exc
        if response.finish_reason == FinishReason.error.value:
            return  # a whole answer that failed was not shown yet, and may be asked for again
        self._deadline.pause()
        try:
            await self._writer.whole(response.response_reasoning, response.response_text)
        except Exception as exc:
            raise SinkFailed(exc) from exc

    async def _stream(self, reply: HttpReply) -> None:
        self._traffic.streamed = True
        reader = StreamReader(self._strategy, self._response, self._writer, self._clock)
        try:
            await reader.read(reply, self._deadline, self._traffic.blocks)
        except BaseException:
            with contextlib.suppress(LLMResponseFormatError):
                reader.finish()
            raise
        finally:
            self.first_token = reader.first_token
        reader.finish()
        if self._response.finish_reason is not None:
            return
        body = b"".join(self._traffic.blocks).lstrip()
        if not body.startswith(b"{"):
            self._end(failures.broken_off(), None)
        # No stream at all, whatever its content type says: one object, an answer or an error.
        self._traffic.streamed = False
        await self._whole(body, reply.content_type)


def _has_too_many_values(body: bytes) -> bool:
    return body.count(b",") > MAX_VALUES or body.count(b"{") + body.count(b"[") > MAX_VALUES


def _decode(body: bytes, content_type: str) -> Any:
    # In memory an empty object takes fifty times its bytes, so their number is bounded, too.
    if len(body) > MAX_VALUES and _has_too_many_values(body):
        raise LLMResponseFormatError(f"the answer is JSON of more than {MAX_VALUES:,} values")
    text = body.decode("utf-8", "replace").lstrip("\ufeff")
    try:
        return decode_json(text)
    except ValueError as exc:
        start = shorten(text, 200)
        kind = content_type or "no content type"
        raise LLMResponseFormatError(
            f"the answer is no JSON ({kind}): {start!r}; is `url` the address of the API?"
        ) from exc
