"""All vendors behind one door: requests go in, each gets one answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from .._config import ProviderConfig
from .._datamodel import LLMApiRequestError, LLMConfigError
from .._secrets import Redactor
from .checking import checked_config
from .clock import Clock
from .endpoint import Endpoint
from .http import HttpClient
from .inspection import describe, known_secrets, preview
from .job import Desk, Job
from .pursuit import Pursuit, Tools
from .tokens import TokenEstimator

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from types import TracebackType

    from .._datamodel import (
        LLMProviderRequest,
        LLMProviderResponse,
        Message,
        ModelDescription,
        RequestPreview,
    )
    from .reply import ReplyWriter

__all__ = ["LLMProviderManager", "RequestTask"]

CLOSE_SECONDS = 3.0
"""How long `close` waits for channels and callbacks of the caller."""


class RequestTask(NamedTuple):
    """A request under way."""

    request: LLMProviderRequest
    task: asyncio.Task[None]


class LLMProviderManager:
    """Sends requests to vendors: limits, retries, failover, cost and times.

    It is made without an event loop and belongs to the one it is first used on. Use it with
    ``async with``, or `close` it.

    Args:
        config: The provider configuration, see docs/configuration.md.
        clock: The source of time, for tests.
        jitter: Gives numbers from 0 to 1, for tests.
        may_send: Called as an attempt gets its slot, with the request; may raise
            LLMApiRequestError to keep it from going out.

    Raises:
        LLMConfigError: The configuration has mistakes; all of them are in the message.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | ProviderConfig,
        *,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
        may_send: Callable[[LLMProviderRequest], object] | None = None,
    ) -> None:
        if not isinstance(config, ProviderConfig):
            config = checked_config(config)
        self.config = config
        redactor = Redactor(known_secrets(config))
        self._tools = Tools(
            clock or Clock(), HttpClient(), redactor, TokenEstimator(), jitter, may_send
        )
        self._endpoints: dict[str, Endpoint] = {}
        self._jobs: dict[str, Job] = {}
        """Under way, by request id, until the answer is set."""
        self._running: set[Job] = set()
        """Until the callback, too, is done."""
        self._closed = False
        self._desk = Desk(self._pursuit, self._answered, self._ended)

    def __repr__(self) -> str:
        return f"LLMProviderManager({', '.join(self.config.entries)}; {len(self._jobs)} under way)"

    async def __aenter__(self) -> LLMProviderManager:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # Requests

    def process_request(
        self,
        request: LLMProviderRequest,
        callback: Callable[[LLMProviderRequest], Coroutine[Any, Any, object]] | None = None,
    ) -> RequestTask:
        """Start a request and return at once.

        Its ``response`` future gets exactly one answer, a failure included; cancelling that future
        ends the request.

        Args:
            request: What to ask; it is not changed but for ``is_cancelled``.
            callback: Awaited once with the request, after the answer is set, whatever the outcome.

        Raises:
            RuntimeError: There is no running event loop.
        """
        job = Job(request, self._desk, self._tools.redactor, callback)
        self._jobs.setdefault(request.request_id, job)
        self._running.add(job)
        return RequestTask(request, job.task)

    def submit(self, request: LLMProviderRequest) -> None:
        """`process_request` without a callback."""
        self.process_request(request)

    async def cancel_request(self, request_id: str) -> None:
        """End a request; its answer is ``cancelled``, with the text so far. Unknown: ignored."""
        job = self._jobs.get(request_id)
        if job is not None:
            job.cancel()

    async def cancel_all_requests(self, client_id: str, context_id: str | None = None) -> None:
        """End all requests of a client, or those of one context and of those below (``ctx/1``)."""
        below = f"{context_id}/"
        for job in list(self._jobs.values()):
            request = job.request
            mine = context_id is None or request.context_id == context_id
            if request.client_id == client_id and (
                mine or (request.context_id or "").startswith(below)
            ):
                job.cancel()

    def under_way(self, context_id: str | None = None) -> list[LLMProviderResponse]:
        """What is known so far of the requests under way; any thread may ask."""
        below = f"{context_id}/"
        responses = [job.response for job in list(self._jobs.values())]
        return [
            r
            for r in responses
            if context_id in (None, r.context_id) or (r.context_id or "").startswith(below)
        ]

    # For the jobs

    def _answered(self, job: Job) -> None:
        """The request is under way no longer."""
        if self._jobs.get(job.request.request_id) is job:
            del self._jobs[job.request.request_id]

    def _ended(self, job: Job) -> None:
        """Nothing of the job runs any more."""
        self._running.discard(job)

    def _pursuit(self, job: Job, writer: ReplyWriter) -> Pursuit:
        """What answers the job's request.

        Raises:
            LLMApiRequestError: There is no such model, or the request is one too many.
            LLMConfigError: A variable in an alias is not set.
        """
        request = job.request
        job.response.start_time = self._tools.clock.wall()
        if self._closed:
            raise LLMApiRequestError("the provider manager is closed")
        if self._jobs.get(request.request_id) is not job:
            raise LLMApiRequestError(
                f"a request with the id {request.request_id!r} is under way already"
            )
        endpoints = self._find(request.model_name)
        return Pursuit(self._tools, request, endpoints, job.response, writer)

    def _find(self, model_name: str) -> list[Endpoint]:
        """The endpoints behind a model name.

        Raises:
            LLMApiRequestError: There is no such model.
            LLMConfigError: A variable in an alias is not set.
        """
        return [self._endpoint(entry) for entry in self.config.candidates(model_name)]

    def _endpoint(self, entry: Any) -> Endpoint:
        endpoint = self._endpoints.get(entry.name)
        if endpoint is None:
            tools = self._tools
            endpoint = self._endpoints[entry.name] = Endpoint(entry, tools.clock, tools.redactor)
        return endpoint

    # Looking without sending

    async def describe(self, model_name: str) -> ModelDescription:
        """What `model_name` stands for, with limits in force and prices; never a key.

        Raises:
            LLMApiRequestError: There is no such model.
        """
        with _as_request_error(self._tools.redactor):
            return await describe(model_name, self._find(model_name))

    async def preview(
        self,
        model_name: str,
        messages: list[Message],
        tools: dict[str, dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        stream: bool = False,
    ) -> RequestPreview:
        """The request as it would be sent to the first entry behind `model_name`.

        Raises:
            LLMApiRequestError: There is no such model.
            LLMApplicationError: The request cannot be built.
        """
        with _as_request_error(self._tools.redactor):
            first = self._find(model_name)[0]
            return preview(first, self._tools.estimator, messages, tools, options, stream)

    def redact(self, text: str) -> str:
        """`text` without the keys, tokens and passwords of the configuration."""
        return self._tools.redactor.text(text)

    # The end

    async def close(self) -> None:
        """End all requests, connections and embedded models. Again is fine."""
        self._closed = True
        jobs = list(self._running)
        for job in jobs:
            job.cancel()
        await self._wait_for(jobs)
        for endpoint in self._endpoints.values():
            endpoint.close()
        await self._tools.http.close()

    async def _wait_for(self, jobs: list[Job]) -> None:
        tasks = [job.task for job in jobs if job.task is not asyncio.current_task()]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CLOSE_SECONDS)


@contextlib.contextmanager
def _as_request_error(redactor: Redactor) -> Iterator[None]:
    """A mistake in the configuration, found only now, makes the request impossible."""
    try:
        yield
    except LLMConfigError as exc:
        raise LLMApiRequestError(redactor.text(str(exc))) from exc
