"""From a request to its answer: attempts at one entry or several, and the waits between them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from .._datamodel import UNUSABLE_ENTRY, LLMApiRequestError, LLMConfigError
from .account import Account
from .attempt import AttemptRun, encode_request
from .errors import AttemptFailed, Failure, LineMoved
from .queue import Ticket
from .rates import read_remaining
from .retry import Course
from .tokens import PromptSize, measure_prompt
from .traffic import Traffic, log, log_answer, log_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._datamodel import LLMProviderRequest, LLMProviderResponse
    from .._secrets import Redactor
    from .clock import Clock
    from .endpoint import Endpoint
    from .http import HttpClient
    from .limits import Pass
    from .reply import ReplyWriter
    from .tokens import TokenEstimator

__all__ = ["Pursuit", "Tools"]


class Tools(NamedTuple):
    """What all requests of a manager share."""

    clock: Clock
    http: HttpClient
    redactor: Redactor
    estimator: TokenEstimator
    jitter: Callable[[], float]
    may_send: Callable[[LLMProviderRequest], object] | None = None
    """Called as each attempt gets its slot; raises LLMApiRequestError where it must not go out."""


class Pursuit:
    """One request on its way to an answer.

    Args:
        tools: Clock, connections and the rest.
        request: What is asked.
        endpoints: Whom to ask, in order.
        response: Filled in place, also when `run` is cancelled.
        writer: Gets the fragments.
    """

    __slots__ = (
        *("_account", "_course", "_endpoints", "_request", "_response", "_size", "_ticket"),
        *("_tools", "_writer"),
    )

    def __init__(
        self,
        tools: Tools,
        request: LLMProviderRequest,
        endpoints: Sequence[Endpoint],
        response: LLMProviderResponse,
        writer: ReplyWriter,
    ) -> None:
        self._tools = tools
        self._request = request
        self._endpoints = endpoints
        self._course = Course(endpoints, tools.clock, tools.jitter)
        self._response = response
        self._writer = writer
        self._ticket = Ticket(request.call.source or request.context_id or request.client_id)
        self._account = Account(tools.clock, tools.redactor, response)
        self._size: PromptSize | None = None
        response.queue_length = endpoints[0].limits.waiting

    async def run(self) -> None:
        """Ask until there is an answer, or no reason to go on.

        Raises:
            SinkFailed: A channel of the caller raised.
        """
        first = self._course.first()
        self._note_skipped(first)
        endpoint: Endpoint | None = first
        try:
            while endpoint is not None:
                try:
                    failure, wait = await self._ask(endpoint)
                except LineMoved:
                    endpoint = self._course.other(endpoint)
                    continue
                if failure is None:
                    endpoint.warm()
                    return
                step = self._course.after(endpoint, failure, wait)
                endpoint = None if step is None else step.endpoint
                if step is None:
                    self._account.give_up(failure, len(self._endpoints) > 1)
                elif step.wait:
                    self._account.waits(step.wait)
                    await self._tools.clock.sleep(step.wait)
        finally:
            self._account.close()

    def _note_skipped(self, chosen: Endpoint) -> None:
        for endpoint in self._endpoints[: self._endpoints.index(chosen)]:
            self._response.notes.append(
                f"{endpoint.name!r} was passed over, as it failed a short while ago:"
                f" {endpoint.cooled_for}"
            )

    async def _ask(self, endpoint: Endpoint) -> tuple[Failure | None, float]:
        """One attempt: None if it went well, else how it failed and the wait before the next."""
        self._account.begin(endpoint)
        try:
            target = await endpoint.target()
        except (LLMConfigError, LLMApiRequestError) as exc:
            return self._failed(endpoint, Failure(str(exc), code=UNUSABLE_ENTRY, unbilled=True))
        try:
            body, notes = encode_request(target.strategy, self._request)
        except (LLMConfigError, LLMApiRequestError, AttemptFailed) as exc:
            known = exc.failure if isinstance(exc, AttemptFailed) else Failure(str(exc))
            return self._failed(endpoint, known._replace(unbilled=True))
        self._response.notes += [note for note in notes if note not in self._response.notes]
        self._weigh(endpoint)
        self._ticket.movable = self._course.other(endpoint) is not endpoint
        grant = await endpoint.limits.enter(self._ticket)
        try:
            if self._tools.may_send is not None:
                self._tools.may_send(self._request)
            return await self._send(endpoint, grant, Traffic(target, body, self._tools.redactor))
        finally:
            endpoint.limits.leave()

    def _weigh(self, endpoint: Endpoint) -> None:
        """Estimate the tokens, where a limit counts them."""
        if endpoint.limits.counts_tokens:
            size = self._prompt_size()
            prompt = size.tokens(self._tools.estimator.ratio(endpoint.name))
            self._ticket.weight = prompt + endpoint.expected_answer(self._request.options)

    def _prompt_size(self) -> PromptSize:
        if self._size is None:
            self._size = measure_prompt(self._request.messages, self._request.tools)
        return self._size

    async def _send(
        self, endpoint: Endpoint, grant: Pass, traffic: Traffic
    ) -> tuple[Failure | None, float]:
        tools, response, timeout = self._tools, self._response, endpoint.entry.timeout
        run = AttemptRun(tools.http, traffic, response, self._writer, tools.clock, timeout)
        debug = log.isEnabledFor(logging.DEBUG)
        if debug:
            log_request(self._request.request_id, traffic)
        self._account.send(traffic)
        failure: Failure | None = None
        try:
            await run.run()
        except AttemptFailed as exc:
            failure = exc.failure
        finally:
            self._account.first_token(run.first_token)
            if debug:
                log_answer(self._request.request_id, traffic, response)
        self._learn(endpoint, grant, run)
        if failure is not None:
            return self._failed(endpoint, failure, grant)
        self._answered(endpoint, grant, run)
        return None, 0.0

    def _learn(self, endpoint: Endpoint, grant: Pass, run: AttemptRun) -> None:
        endpoint.limits.observe(grant, read_remaining(run.headers, self._tools.clock.wall()))
        response = self._response
        if response.prompt_tokens is not None:
            self._tools.estimator.learn(endpoint.name, self._prompt_size(), response.prompt_tokens)
            used = response.prompt_tokens + (response.completion_tokens or 0)
            endpoint.limits.correct(grant, used)
            endpoint.saw_answer(response.completion_tokens)

    def _answered(self, endpoint: Endpoint, grant: Pass, run: AttemptRun) -> None:
        duration = self._account.succeed()
        response = self._response
        if response.stream:
            latency = None if run.first_token is None else run.first_token - run.sent
            size = response.prompt_tokens or run.body_size // 4
        else:
            latency, size = duration, response.completion_tokens or len(response.response_text) // 4
        endpoint.limits.answered(grant, latency, stream=response.stream, size=size)

    def _failed(
        self, endpoint: Endpoint, failure: Failure, grant: Pass | None = None
    ) -> tuple[Failure, float]:
        """Decide what the failure means, while the slot is still held."""
        judged, wait = self._course.judge(endpoint, failure)
        if grant is not None and failure.kind == "wait":
            asked = failure.asked_wait is not None
            endpoint.limits.refused(grant, wait if judged.kind == "wait" else 0.0, asked=asked)
        endpoint.note_failure(judged, wait)
        self._account.fail(judged)
        return judged, wait
