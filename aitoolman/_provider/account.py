"""The account of one request: attempts, times, money, last exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._datamodel import Attempt
from .cost import token_cost, total_cost

if TYPE_CHECKING:
    from .._datamodel import LLMProviderResponse
    from .._secrets import Redactor
    from .clock import Clock
    from .endpoint import Endpoint
    from .errors import Failure
    from .traffic import Traffic

__all__ = ["Account"]


class Account:
    """Keeps the books of one request; `close` writes them into the response.

    Args:
        clock: The source of time.
        redactor: Keeps secrets out of messages.
        response: The response of the request.
    """

    __slots__ = (
        *("_clock", "_endpoint", "_first_sent", "_first_token", "_open", "_redactor", "_response"),
        *("_sent", "_sent_wall", "_submitted", "_traffic"),
    )

    def __init__(self, clock: Clock, redactor: Redactor, response: LLMProviderResponse) -> None:
        self._clock = clock
        self._redactor = redactor
        self._response = response
        self._submitted = clock.monotonic()
        self._first_sent: float | None = None
        self._first_token: float | None = None
        self._endpoint: Endpoint | None = None
        self._sent: float | None = None
        self._sent_wall = 0.0
        self._open = False
        self._traffic: Traffic | None = None
        response.start_time = clock.wall()

    def begin(self, endpoint: Endpoint) -> None:
        """An attempt at `endpoint` begins, which may have to wait for its turn."""
        if self._endpoint is not None:
            _clear(self._response)
        self._endpoint = endpoint
        self._response.model_name = endpoint.name
        self._sent = None

    def send(self, traffic: Traffic) -> None:
        """It is sent now."""
        self._traffic = traffic
        self._sent = self._clock.monotonic()
        self._sent_wall = self._clock.wall()
        self._open = True
        if self._first_sent is None:
            self._first_sent = self._sent
            self._response.queue_time = self._sent - self._submitted

    def first_token(self, moment: float | None) -> None:
        """When its first fragment came."""
        self._first_token = moment

    def succeed(self) -> float:
        """It went well, or ended with words of the vendor; gives its duration."""
        if self._response.error_text:
            self._response.error_text = self._redactor.text(self._response.error_text)
        return self._record("ok").duration

    def fail(self, failure: Failure) -> None:
        """It did not."""
        self._record(
            failure.kind, failure.status, failure.code, failure.text, unbilled=failure.unbilled
        )

    def waits(self, seconds: float) -> None:
        """A wait follows the last attempt."""
        attempts = self._response.attempts
        attempts[-1] = attempts[-1]._replace(wait=seconds)

    def give_up(self, failure: Failure, several: bool) -> None:
        """There will be no further attempt."""
        self._response.finish_reason = failure.finish.value
        self._response.error_text = self._redactor.text(self._last_words(failure, several))

    def _last_words(self, failure: Failure, several: bool) -> str:
        attempts = self._response.attempts
        if several:
            reasons = {a.model_name: a.reason for a in attempts}
            return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        tries = f" (after {len(attempts)} attempts)" if len(attempts) > 1 else ""
        return f"{self._response.model_name}: {failure.text}{tries}"

    def _record(
        self,
        outcome: str,
        status: int | None = None,
        code: str | None = None,
        reason: str = "",
        *,
        unbilled: bool = False,
    ) -> Attempt:
        now, response = self._clock.monotonic(), self._response
        cost = self._cost()
        attempt = Attempt(
            response.model_name,
            self._sent_wall if self._sent is not None else self._clock.wall(),
            now - self._sent if self._sent is not None else 0.0,
            outcome,
            self._traffic.status if self._sent is not None and self._traffic else status,
            code and self._redactor.text(code),
            self._redactor.text(reason) if reason else "",
            0.0,
            response.prompt_tokens,
            response.completion_tokens,
            0.0 if cost is None and unbilled else cost,
        )
        self._open = False
        response.attempts.append(attempt)
        return attempt

    def _cost(self) -> float | None:
        response = self._response
        assert self._endpoint is not None
        return token_cost(
            self._endpoint.entry.price,
            response.prompt_tokens,
            response.completion_tokens,
            response.cached_tokens,
        )

    def close(self) -> None:
        """Write times, cost and exchange; an attempt still open was cut off by a cancel."""
        if self._open:
            self._record("cancelled", reason="the request was cancelled")
        response = self._response
        if self._first_sent is not None:
            response.total_response_time = self._clock.monotonic() - self._first_sent
            if self._first_token is not None:
                response.time_to_first_token = self._first_token - self._first_sent
        response.cost = total_cost(response.attempts)
        response.stream_state = None
        if self._traffic is not None:
            response.exchange = self._traffic.exchange()


def _clear(response: LLMProviderResponse) -> None:
    """Forget what a failed attempt brought."""
    response.response_text = response.response_reasoning = ""
    response.response_tool_calls = []
    response.finish_reason = response.error_text = response.response_message = None
    response.prompt_tokens = response.completion_tokens = response.total_tokens = None
    response.cached_tokens = response.reasoning_tokens = None
    response.stream_state = None
