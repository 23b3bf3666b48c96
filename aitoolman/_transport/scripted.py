"""A client that answers from a script: for tests of your own programs, docs and Binder."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import FinishReason, LLMProviderRequest, current_call, did_you_mean
from .._provider.reply import ReplyWriter
from .._sync import call_user_function
from .client import LLMClient
from .scripted_reply import ScriptedReply, as_reply, build_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from .._datamodel import LLMError, LLMProviderResponse, Message, TextSink

    Answer = str | ScriptedReply | LLMError
    Script = Answer | Iterable[Answer] | Callable[[LLMProviderRequest], Answer | Awaitable[Answer]]

__all__ = ["AuditEvent", "LLMScriptedClient", "ScriptedReply"]


class AuditEvent(NamedTuple):
    """One business event that an application recorded."""

    context_id: str
    event_type: str
    data: dict[str, Any]


class LLMScriptedClient(LLMClient):
    """Answers from a list or a function instead of a model: no key, no network, no cost.

    It stands wherever a client stands: applications, workflows, batches and channels see answers,
    streams, tool calls, errors and cancellations as from a vendor::

        client = aitoolman.LLMScriptedClient(["Hello!", aitoolman.ScriptedReply(error_text="busy")])
        app = aitoolman.LLMApplication(client, prompt_config)

    Args:
        replies: What to answer. A list (or any iterable) gives one reply to each request, in the
            order of the requests, and a clear ``error_request`` answer when it is exhausted. A
            function, sync or async, gets each `LLMProviderRequest`. A single reply answers every
            request. A reply is a text, a `ScriptedReply`, or an `LLMError` whose status and message
            the answer gets (a function may raise it, too).
        models: The model names that exist; any name does unless given.
        stream_delay: Seconds before each fragment of a streamed answer.

    Attributes:
        requests: Every `LLMProviderRequest`, in order: what the program under test has sent.
        events: Every `AuditEvent` given to `audit_event`.

    An exception of your function that is no `LLMError`, such as a failed ``assert``, is raised
    where the response is awaited. The client works on every loop and thread.
    """

    def __init__(
        self,
        replies: Script,
        *,
        models: Iterable[str] | None = None,
        stream_delay: float = 0.0,
    ) -> None:
        self.client_id = secrets.token_hex(8)
        self.models = None if models is None else list(models)
        self.stream_delay = stream_delay
        self.requests: list[LLMProviderRequest] = []
        self.events: list[AuditEvent] = []
        self._replies = _replies(replies)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._plays: dict[str, _Play] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"LLMScriptedClient({len(self.requests)} requests so far)"

    async def request(
        self,
        model_name: str,
        messages: list[Message],
        tools: dict[str, dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        stream: bool = False,
        context_id: str | None = None,
        output_channel: TextSink | None = None,
        reasoning_channel: TextSink | None = None,
    ) -> LLMProviderRequest:
        """Start a request and return at once; its ``response`` future brings the answer.

        Raises:
            RuntimeError: The client is closed.
        """
        if self._closed:
            raise RuntimeError(
                "this LLMScriptedClient is closed; make a new one, or enter it again with"
                " `async with`"
            )
        with self._lock:
            number = next(self._numbers)
            request = LLMProviderRequest(
                client_id=self.client_id,
                context_id=context_id,
                request_id=f"{self.client_id}-{number}",
                model_name=model_name,
                messages=list(messages),
                tools=dict(tools or {}),
                options=dict(options or {}),
                stream=stream,
                output_channel=output_channel,
                reasoning_channel=reasoning_channel,
                call=current_call(),
            )
            self.requests.append(request)
            answer = self._next_answer(request, number)
        _Play(self, request, answer)
        return request

    def _next_answer(self, request: LLMProviderRequest, number: int) -> Any:
        """The reply, or the function that will give it."""
        if self.models is not None and request.model_name not in self.models:
            hint = did_you_mean(request.model_name, self.models)
            return ScriptedReply(error_text=f"there is no model {request.model_name!r}; {hint}")
        if callable(self._replies):
            return self._replies
        answer = next(self._replies, None)
        return _exhausted(request, number) if answer is None else answer

    async def cancel(self, request_id: str) -> None:
        """End a request; its answer has the status ``cancelled``. An unknown id is ignored."""
        play = self._plays.get(request_id)
        if play is not None:
            play.cancel()

    async def cancel_all(self, context_id: str | None = None) -> None:
        """End all requests of this client, or those of one context and of those below it."""
        for play in list(self._plays.values()):
            if context_id is None or _is_below(play.request.context_id, context_id):
                play.cancel()

    async def audit_event(self, context_id: str, event_type: str, **kwargs: Any) -> None:
        """Keep the event in `events`."""
        self.events.append(AuditEvent(context_id, event_type, kwargs))

    async def __aenter__(self) -> LLMScriptedClient:
        self._closed = False
        return self

    async def close(self) -> None:
        """End all requests; later ones raise RuntimeError. Again is fine."""
        self._closed = True
        await self.cancel_all()


def _replies(replies: Script) -> Any:
    """A function, or an iterator that gives a reply each time."""
    from .._datamodel import LLMError

    if isinstance(replies, str | ScriptedReply | LLMError):
        return itertools.repeat(replies)
    return replies if callable(replies) else iter(replies)


def _exhausted(request: LLMProviderRequest, number: int) -> ScriptedReply:
    last = (request.messages[-1].content or "") if request.messages else ""
    shown = last if len(last) <= 60 else last[:57] + "..."
    return ScriptedReply(
        error_text=f"the script has no reply left for request number {number}"
        f" (model {request.model_name!r}, last message {shown!r}): give LLMScriptedClient"
        " more replies, or a function"
    )


def _is_below(context_id: str | None, above: str) -> bool:
    return context_id is not None and (context_id == above or context_id.startswith(above + "/"))


class _Play:
    """One request being answered, by a task on the loop that asked."""

    def __init__(self, client: LLMScriptedClient, request: LLMProviderRequest, answer: Any) -> None:
        self.request = request
        self._answer = answer
        self._delay = client.stream_delay
        self._plays = client._plays
        self._reply = ScriptedReply()
        self._text: list[str] = []
        self._thought: list[str] = []
        self._start_time = time.time()
        self._start = time.perf_counter()
        self._first: float | None = None
        self._future = request.response
        self._loop = asyncio.get_running_loop()
        self._plays[request.request_id] = self
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._settle)
        self._future.add_done_callback(self._on_caller_done)

    def cancel(self) -> None:
        """End it with the status ``cancelled``, from any thread."""
        self.request.is_cancelled = True
        self._cancel_task()

    def _cancel_task(self) -> None:
        # Never directly: a task cancelled before its first step would not run its cleanup.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    def _on_caller_done(self, future: asyncio.Future[LLMProviderResponse]) -> None:
        if future.cancelled():
            self.request.is_cancelled = True
            self._cancel_task()

    def _settle(self, task: asyncio.Task[LLMProviderResponse]) -> None:
        """Tell the caller how it ended."""
        self._plays.pop(self.request.request_id, None)
        if self._future.done():
            if not task.cancelled():
                task.exception()  # nobody is left to hear of it
        elif task.cancelled():
            self._future.cancel()
        elif (error := task.exception()) is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(task.result())

    async def _run(self) -> LLMProviderResponse:
        request = self.request
        writer = ReplyWriter(request.output_channel, request.reasoning_channel)
        try:
            self._reply = await self._decide()
            await asyncio.sleep(self._reply.delay)
            await self._guarded(self._write(writer))
        except asyncio.CancelledError:
            if not request.is_cancelled:
                raise
            self._reply = self._reply.cut_off(FinishReason.cancelled, "the request was cancelled")
        finally:
            await self._guarded(writer.finish())
        return self._response()

    async def _guarded(self, writing: Awaitable[None]) -> None:
        """A channel that fails ends the call with ``error: application``, as with every client."""
        try:
            await writing
        except Exception as exc:  # noqa: BLE001 - a caller's sink may raise anything
            text = f"the output channel failed: {type(exc).__name__}: {exc}"
            self._reply = self._reply.cut_off(FinishReason.error_app, text)

    async def _decide(self) -> ScriptedReply:
        from .._datamodel import LLMError

        answer = self._answer
        if callable(answer):
            try:
                answer = await call_user_function(answer, self.request)
            except LLMError as error:
                answer = error
        return as_reply(answer)

    async def _write(self, writer: ReplyWriter) -> None:
        reply = self._reply
        if not self.request.stream:
            self._thought, self._text = [reply.reasoning], [reply.text]
            self._note_first(reply.reasoning or reply.text)
            await writer.whole(reply.reasoning, reply.text)
            return
        for fragment in reply.reasoning_pieces():
            await self._write_one(writer.reasoning, self._thought, fragment)
        for fragment in reply.pieces():
            await self._write_one(writer.text, self._text, fragment)

    async def _write_one(
        self, write: Callable[[str], Awaitable[None]], kept: list[str], fragment: str
    ) -> None:
        await asyncio.sleep(self._delay)
        self._note_first(fragment)
        kept.append(fragment)
        await write(fragment)

    def _note_first(self, fragment: str) -> None:
        if fragment and self._first is None:
            self._first = time.perf_counter() - self._start

    def _response(self) -> LLMProviderResponse:
        return build_response(
            self.request,
            self._reply,
            text="".join(self._text),
            reasoning="".join(self._thought),
            start_time=self._start_time,
            first=self._first,
            duration=time.perf_counter() - self._start,
        )
