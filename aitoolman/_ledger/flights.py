"""Identical calls that are on their way at the same time share one request.

A `Flight` is that request: it keeps the fragments so far and wakes everyone aboard for each new
one. A `Passenger` is one caller: it may board late (and catches up first) and leave early (the
others fly on). A slow or broken caller holds up nobody else, as each takes the fragments at its own
pace. When the last one leaves, the flight is told.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from .._datamodel import FinishReason
from .._provider.reply import ReplyWriter
from .likeness import response_like
from .records import Fragment

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from .._datamodel import LLMProviderRequest, LLMProviderResponse

__all__ = ["Flight", "Passenger"]

BREATH = 200
"""After so many fragments in one go, other work on the loop gets its turn."""


class Passenger:
    """One caller, and what has reached it so far."""

    def __init__(self, request: LLMProviderRequest) -> None:
        self.request = request
        self.reply = ReplyWriter(request.output_channel, request.reasoning_channel)
        self.key: bytes | None = None
        self.flight: Flight | None = None
        self.failure: Exception | None = None
        """What the caller's own sink raised."""
        self.task: asyncio.Task[None] | None = None
        self.left = False
        """True once the caller has its answer while its task still flies others."""
        self.news = asyncio.Event()

    @property
    def listens(self) -> bool:
        """True where there is a sink to bring the answer to."""
        request = self.request
        return request.output_channel is not None or request.reasoning_channel is not None

    async def take(self, fragment: Fragment) -> None:
        """Pass a fragment to the caller's sinks; after a failure of theirs, no more."""
        if self.failure is not None or not self.request.stream:
            return
        write = self.reply.reasoning if fragment.kind == "r" else self.reply.text
        try:
            await write(fragment.text)
        except Exception as exc:  # noqa: BLE001 - a caller's sink may raise anything
            self.failure = exc

    async def deliver(self, response: LLMProviderResponse) -> None:
        """The whole text, where nothing was streamed."""
        if self.failure is not None or self.reply.started:
            return
        try:
            await self.reply.whole(response.response_reasoning, response.response_text)
        except Exception as exc:  # noqa: BLE001 - a caller's sink may raise anything
            self.failure = exc

    async def end(self) -> None:
        """End both messages."""
        try:
            await self.reply.finish()
        except Exception as exc:  # noqa: BLE001 - a caller's sink may raise anything
            self.failure = self.failure or exc

    def settle(self, response: LLMProviderResponse | None, error: Exception | None) -> None:
        """Set the caller's answer, or what the client below raised."""
        future = self.request.response
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        elif response is not None:
            future.set_result(self._judged(response))

    def _judged(self, response: LLMProviderResponse) -> LLMProviderResponse:
        """A good answer that the caller's own sink would not take is a failure."""
        if self.failure is not None and not response.status.is_error:
            response.finish_reason = FinishReason.error_app.value
            kind = type(self.failure).__name__
            response.error_text = f"the output channel failed: {kind}: {self.failure}"
        return response

    def addressed(self, outcome: LLMProviderResponse) -> LLMProviderResponse:
        """A copy of a flight's answer with this caller's own ids."""
        request, response = self.request, response_like(outcome)
        response.client_id, response.context_id = request.client_id, request.context_id
        response.request_id, response.stream = request.request_id, request.stream
        response.attempts, response.notes = list(outcome.attempts), list(outcome.notes)
        return response


class Flight:
    """One request for one fingerprint, with all who wait for it.

    Args:
        key: The question; None where nobody else may board.
        request: Of the caller who started it.
        on_empty: Called when the last caller leaves before the end.
        on_end: Called at the end, before anybody aboard hears of it.
    """

    def __init__(
        self,
        key: bytes | None,
        request: LLMProviderRequest,
        on_empty: Callable[[Flight], None],
        on_end: Callable[[Flight], None],
    ) -> None:
        self.key = key
        self.request = request
        """Whose call the answer is recorded as: somebody aboard, or the last one to leave."""
        self.fragments: list[Fragment] = []
        self.passengers: list[Passenger] = []
        self.task: asyncio.Task[None] | None = None
        self.inner: LLMProviderRequest | None = None
        """What the client below was asked, once it was."""
        self.answer: int | None = None
        """The number of the answer in the file."""
        self.reusable = False
        """True once the file has that answer for everybody."""
        self.found = False
        """True where the answer was in the file by then, so that nobody paid for it now."""
        self.recorded = False
        """True once the answer is being written as the call of `request`."""
        self.landed = False
        self._response: LLMProviderResponse | None = None
        self._error: Exception | None = None
        self._on_empty = on_empty
        self._on_end = on_end
        self._started = time.perf_counter()

    # For callers

    async def travel(
        self, passenger: Passenger, flying: Coroutine[Any, Any, None] | None = None
    ) -> LLMProviderResponse:
        """Bring every fragment to a caller, the earlier ones first; returns what came in the end.

        Args:
            passenger: The caller.
            flying: The work of this flight, where the caller's own task does it: for a caller that
                takes no fragments.

        Raises:
            Exception: What the client below raised.
        """
        passenger.flight = self
        self.passengers.append(passenger)
        try:
            await (self._bring_all(passenger) if flying is None else flying)
        finally:
            self.leave(passenger)
        if self._error is not None:
            raise self._error
        assert self._response is not None
        return self._response

    async def _bring_all(self, passenger: Passenger) -> None:
        brought = 0
        while True:
            while brought < len(self.fragments):
                await passenger.take(self.fragments[brought])
                brought += 1
                if brought % BREATH == 0:
                    await asyncio.sleep(0)
            if self.landed:
                return
            passenger.news.clear()
            await passenger.news.wait()

    def leave(self, passenger: Passenger) -> None:
        """Wait no longer; again is fine."""
        if passenger not in self.passengers:
            return
        self.passengers.remove(passenger)
        if self.landed or self.recorded:
            return
        if self.passengers:
            self.request = self.passengers[0].request
        else:
            self.request = passenger.request
            self._on_empty(self)

    def text(self, kind: str) -> str:
        """What has come so far."""
        return "".join(f.text for f in self.fragments if f.kind == kind)

    # For whoever flies it

    def carry(self, kind: str, text: str) -> None:
        """A new fragment."""
        at = round(time.perf_counter() - self._started, 4)
        self.fragments.append(Fragment(kind, at, text))
        self._wake_all()

    def carry_all(self, fragments: Iterable[Fragment]) -> None:
        """Fragments that were kept."""
        self.fragments.extend(fragments)
        self._wake_all()

    def sink(self, kind: str) -> FlightSink:
        """What the client below writes to."""
        return FlightSink(self, kind)

    def land(self, response: LLMProviderResponse) -> None:
        """The end, for everyone aboard."""
        self._response = response
        self._end()

    def crash(self, error: Exception) -> None:
        """The end, by an exception of the client below."""
        self._error = error
        self._end()

    def _end(self) -> None:
        self.landed = True
        self._on_end(self)
        self._wake_all()

    def _wake_all(self) -> None:
        for passenger in self.passengers:
            passenger.news.set()


class FlightSink:
    """Takes one of the two texts of a flight; ends are up to each passenger's own writer."""

    __slots__ = ("_flight", "_kind")
    takes_late = True

    def __init__(self, flight: Flight, kind: str) -> None:
        self._flight = flight
        self._kind = kind

    async def write(self, message: str | None) -> None:
        if message:
            self._flight.carry(self._kind, message)
