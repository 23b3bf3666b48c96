"""Clients that live on one event loop, and calls that reach them from any other.

A client's sockets, queues and limits belong to one loop, its *home*: the loop that entered it with
``async with``, else the library's background loop. A call from the home loop goes straight down.
A call from another loop or thread is forwarded: a twin of the request runs at home, fragments come
back a batch at a time, and a cancelled caller ends the twin.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import weakref
from collections import deque
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    Protocol,
    Self,
    TypeVar,
)

from .._datamodel import FinishReason, LLMProviderRequest, current_call
from .._loops import background, running_loop
from .client import LLMClient

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .._datamodel import LLMProviderResponse, Message, TextSink

__all__ = ["Engine", "HomedClient"]

T = TypeVar("T")

DRAIN_SECONDS = 0.05
"""How long a client that is being drained waits between two looks."""


class Engine(Protocol):
    """What does a homed client's work. Made without a loop, used and closed on the home loop."""

    def submit(self, request: LLMProviderRequest) -> None:
        """Start a request and return at once; set its ``response`` exactly once."""

    async def cancel_request(self, request_id: str) -> None: ...

    async def cancel_all_requests(self, client_id: str, context_id: str | None = None) -> None: ...

    async def close(self) -> None: ...


class HomedClient(LLMClient):
    """A client whose work is done by an `Engine` on one home loop, reachable from all loops."""

    def __init__(self) -> None:
        self.client_id = secrets.token_hex(8)
        """Names this client in requests and audit records."""
        self._numbers = itertools.count(1)
        self._home: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._engine: Any = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._closed = False
        self._unanswered: set[asyncio.Future[LLMProviderResponse]] = set()

    def _open(self) -> Engine:
        """Make the engine; called once per life, on first use."""
        raise NotImplementedError

    @property
    def home(self) -> asyncio.AbstractEventLoop | None:
        """The loop this client lives on, or None before its first use."""
        return self._home

    # Life

    def _start(self, home: asyncio.AbstractEventLoop) -> None:
        self._engine = self._open()
        self._home, self._pid = home, os.getpid()
        if home is background.running:
            background.close_at_exit(self._engine)
        self._finalizer = weakref.finalize(self, _close_soon, self._engine, home)
        self._finalizer.atexit = False

    def _ensure_home(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise RuntimeError(
                f"this {type(self).__name__} is closed; make a new one, or enter it again with"
                " `async with`"
            )
        if self._home is not None and (self._home.is_closed() or self._pid != os.getpid()):
            self._forget()  # in a forked child, no thread of the parent's runs any more
        if self._home is None:
            self._start(background.loop)
        assert self._home is not None
        return self._home

    def _forget(self) -> None:
        """Drop an engine whose loop is gone; nothing of it can run any more."""
        if self._finalizer is not None:
            self._finalizer.detach()
        self._home = self._engine = self._finalizer = None

    async def __aenter__(self) -> Self:
        self._closed = False
        if self._home is None or self._home.is_closed():
            self._forget()
            self._start(asyncio.get_running_loop())
        return self

    async def close(self) -> None:
        """End all requests and connections. Again is fine; later requests raise RuntimeError."""
        self._closed = True
        engine, home = self._engine, self._home
        self._forget()
        if engine is None or home is None or home.is_closed():
            return
        await _run_on(home, engine.close)
        background.forget(engine)

    async def drain(self) -> None:
        """Close as soon as every request that is under way has its answer."""
        while self._unanswered:  # noqa: ASYNC110 - answers end on several loops
            await asyncio.sleep(DRAIN_SECONDS)
        await self.close()

    # Calls

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
        request = LLMProviderRequest(
            client_id=self.client_id,
            context_id=context_id,
            request_id=f"{self.client_id}-{next(self._numbers)}",
            model_name=model_name,
            messages=list(messages),
            tools=dict(tools or {}),
            options=dict(options or {}),
            stream=stream,
            output_channel=output_channel,
            reasoning_channel=reasoning_channel,
            call=current_call(),
        )
        home = self._ensure_home()
        response = request.response
        self._unanswered.add(response)
        response.add_done_callback(self._unanswered.discard)
        if home is asyncio.get_running_loop():
            self._engine.submit(request)
        else:
            _Forwarded(request, self._engine, home).start()
        return request

    async def cancel(self, request_id: str) -> None:
        """End a request; its answer has the status ``cancelled``. An unknown id is ignored."""
        await self._at_home(lambda engine: engine.cancel_request(request_id))

    async def cancel_all(self, context_id: str | None = None) -> None:
        """End all requests of this client, or those of one context and of those below it."""
        await self._at_home(lambda engine: engine.cancel_all_requests(self.client_id, context_id))

    def under_way(self, context_id: str | None = None) -> list[LLMProviderResponse]:
        """What is known so far of the requests under way, where the engine can tell."""
        look = getattr(self._engine, "under_way", None)
        return list(look(context_id)) if look is not None else []

    async def _at_home(self, call: Callable[[Any], Coroutine[Any, Any, T]]) -> T | None:
        """Run `call(engine)` on the home loop; None where nothing was started yet."""
        engine, home = self._engine, self._home
        if engine is None or home is None or home.is_closed():
            return None
        return await _run_on(home, lambda: call(engine))


async def _run_on(home: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    if home is running_loop():
        return await make()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), home))


def _close_soon(engine: Any, home: asyncio.AbstractEventLoop) -> None:
    """Close the engine of a client that was dropped without being closed."""
    background.forget(engine)
    if not home.is_closed():
        home.call_soon_threadsafe(lambda: home.create_task(engine.close()))


class _Piece(NamedTuple):
    """Something on its way to the caller's loop: a fragment for a sink, or the response."""

    sink: TextSink | None
    fragment: str | None
    response: LLMProviderResponse | None = None


class _RelaySink:
    """Stands in for a caller's sink on the home loop."""

    __slots__ = ("_put", "_sink", "takes_late")

    def __init__(self, put: Callable[[_Piece], None], sink: TextSink) -> None:
        self._put = put
        self._sink = sink
        self.takes_late = getattr(sink, "takes_late", False)

    async def write(self, message: str | None) -> None:
        self._put(_Piece(self._sink, message))


class _Forwarded:
    """One request on its way from the caller's loop to the home loop and back."""

    def __init__(
        self, request: LLMProviderRequest, engine: Engine, home: asyncio.AbstractEventLoop
    ) -> None:
        self._request = request
        self._engine = engine
        self._home = home
        self._here = asyncio.get_running_loop()
        self._future = request.response
        self._pieces: deque[_Piece] = deque()
        self._announced = False
        self._arrival = asyncio.Event()
        self._twin: LLMProviderRequest | None = None

    def start(self) -> None:
        self._future.add_done_callback(self._on_caller_done)
        pump = self._here.create_task(self._pump())
        self._pump_task = pump  # keeps the task from being collected while it waits
        self._home.call_soon_threadsafe(self._submit_twin)

    # On the home loop

    def _submit_twin(self) -> None:
        request = self._request
        relay: dict[int, _RelaySink] = {}
        for sink in (request.output_channel, request.reasoning_channel):
            if sink is not None:
                relay.setdefault(id(sink), _RelaySink(self._put, sink))
        self._twin = LLMProviderRequest(
            **{
                name: getattr(request, name)
                for name in [
                    "client_id",
                    "context_id",
                    "request_id",
                    "model_name",
                    "messages",
                    "tools",
                    "options",
                    "stream",
                    "call",
                ]
            },
            output_channel=relay.get(id(request.output_channel)),
            reasoning_channel=relay.get(id(request.reasoning_channel)),
        )
        twin_future = self._twin.response
        twin_future.add_done_callback(self._on_twin_done)
        if request.is_cancelled:
            twin_future.cancel()
        self._engine.submit(self._twin)

    def _on_twin_done(self, future: asyncio.Future[LLMProviderResponse]) -> None:
        if not future.cancelled():
            self._put(_Piece(None, None, future.result()))

    def _put(self, piece: _Piece) -> None:
        self._pieces.append(piece)
        if not self._announced:
            self._announced = True
            try:
                self._here.call_soon_threadsafe(self._arrival.set)
            except RuntimeError:  # the caller's loop is closed: nobody waits any more
                self._cancel_twin()

    def _cancel_twin(self) -> None:
        if self._twin is not None:
            self._twin.response.cancel()

    # On the caller's loop

    async def _pump(self) -> None:
        try:
            while True:
                await self._arrival.wait()
                self._arrival.clear()
                self._announced = False
                while self._pieces:
                    piece = self._pieces.popleft()
                    if piece.response is not None:
                        self._finish(piece.response)
                        return
                    assert piece.sink is not None
                    await piece.sink.write(piece.fragment)
        except Exception as exc:  # noqa: BLE001 - a caller's sink may raise anything
            self._end_twin()
            self._finish(await self._broken(exc))
        finally:
            if not self._future.done():
                self._future.cancel()

    async def _broken(self, exc: Exception) -> LLMProviderResponse:
        """The response of a request whose caller's sink failed."""
        from .._datamodel import LLMProviderResponse

        request = self._request
        return LLMProviderResponse(
            request.client_id,
            request.context_id,
            request.request_id,
            request.model_name,
            request.stream,
            finish_reason=FinishReason.error_app.value,
            error_text=f"the output channel failed: {type(exc).__name__}: {exc}",
        )

    def _finish(self, response: LLMProviderResponse) -> None:
        if not self._future.done():
            self._future.set_result(response)

    def _on_caller_done(self, future: asyncio.Future[LLMProviderResponse]) -> None:
        if future.cancelled():
            self._request.is_cancelled = True
            self._end_twin()
            self._pump_task.cancel()

    def _end_twin(self) -> None:
        if not self._home.is_closed():
            self._home.call_soon_threadsafe(self._cancel_twin)
