"""Answers calls by the ledger's mode. Runs on the home loop of its client.

Each caller is a `Passenger` with a task of its own: it plays an answer that the file has, or boards
a `Flight`, the one request to the client below that all callers of the same question share.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from .._datamodel import FinishReason, LLMError
from .._transport.client import LLMClient
from .asking import Asked, Asker
from .below import Below, bare_response, failed_response
from .bulk import find_all
from .claims import Claims, claims_path
from .flights import Flight, Passenger
from .models import Models
from .questions import has_media, question_now, question_of
from .records import is_reusable
from .replaying import Player, Replayer

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from .._datamodel import (
        LLMProviderRequest,
        LLMProviderResponse,
        ModelDescription,
        RequestPreview,
    )
    from .options import LedgerOptions
    from .questions import Question
    from .store import LedgerStore

__all__ = ["LedgerEngine"]

CLOSE_SECONDS = 5.0
"""How long closing waits for calls that were cancelled before it cancels them again."""

_log = logging.getLogger("aitoolman.ledger")


class LedgerEngine:
    """The work of an `LLMLedgerClient`, on its home loop.

    Args:
        client: What is asked where the ledger has no answer.
        store: The file.
        options: Mode, retention, pace.
        client_id: Marks this engine's claims.
    """

    def __init__(
        self, client: LLMClient, store: LedgerStore, options: LedgerOptions, client_id: str
    ) -> None:
        self._below = Below(client)
        self._store = store
        self._mode = options.mode
        reuses = options.mode == "read_write" and store.keeper.full
        self._claims = (
            Claims(claims_path(store.path), client_id, store.find_many) if reuses else None
        )
        """Where a question is claimed before it is asked."""
        self._models = Models(self._below, store, options.mode == "replay")
        self._player = Player(options.pace)
        self._replayer = Replayer(store, self._player)
        self._asker = Asker(self._below, store, self._claims)
        self._calls: dict[str, Passenger] = {}
        self._flights: dict[bytes, Flight] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    # What a homed client needs

    def submit(self, request: LLMProviderRequest) -> None:
        """Start a request and return at once."""
        passenger = Passenger(request)
        if self._closing:  # it was on its way from another loop
            text = "the client is closed"
            passenger.settle(bare_response(request, FinishReason.cancelled, text), None)
            return
        self._calls[request.request_id] = passenger
        # It takes itself out of `_tasks`, as a callback would cost another turn of the loop.
        passenger.task = task = asyncio.get_running_loop().create_task(self._serve(passenger))
        if not task.done():  # it may be, where a loop starts tasks at once
            self._tasks.add(task)
        request.response.add_done_callback(lambda future: self._on_caller_done(passenger, future))

    async def cancel_request(self, request_id: str) -> None:
        """End one request with the status ``cancelled``."""
        passenger = self._calls.get(request_id)
        if passenger is not None:
            passenger.request.is_cancelled = True
            self._cancel(passenger)

    async def cancel_all_requests(self, client_id: str, context_id: str | None = None) -> None:
        """End all requests, or those of one context and of those below it."""
        for request_id, passenger in list(self._calls.items()):
            if context_id is None or _within(passenger.request.context_id, context_id):
                await self.cancel_request(request_id)

    async def close(self) -> None:
        """End all requests, the client below if it was opened here, and the writing thread."""
        self._closing = True
        await self.cancel_all_requests("")
        while pending := {task for task in self._tasks if not task.done()}:
            _, late = await asyncio.wait(pending, timeout=CLOSE_SECONDS)
            for task in late:  # a caller's sink that never returns
                task.cancel()
        try:
            await self._below.close()
        finally:
            if self._claims is not None:
                await self._claims.close()
            await self._store.close()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _on_caller_done(
        self, passenger: Passenger, future: asyncio.Future[LLMProviderResponse]
    ) -> None:
        if future.cancelled():
            passenger.request.is_cancelled = True
            self._dismiss(passenger)

    def _cancel(self, passenger: Passenger) -> None:
        """The last one aboard a request under way waits for its end, to tell what it cost."""
        flight = passenger.flight
        if flight is not None and flight.inner is not None and len(flight.passengers) == 1:
            self._abandon(flight)
        else:
            self._dismiss(passenger)

    def _dismiss(self, passenger: Passenger) -> None:
        """End one caller's wait; where its task flies others as well, they fly on."""
        flight = _flown_by(passenger)
        if flight is None:
            # Never at once: a task cancelled before its first step would not run its cleanup.
            asyncio.get_running_loop().call_soon(self._end_wait, passenger)
        elif flight.passengers == [passenger]:
            self._abandon(flight)
        elif not passenger.left:
            passenger.left = True
            self._calls.pop(passenger.request.request_id, None)
            flight.leave(passenger)
            passenger.settle(self._left(passenger), None)

    def _end_wait(self, passenger: Passenger) -> None:
        if _flown_by(passenger) is not None:  # since a moment, perhaps for others as well
            self._dismiss(passenger)
        elif passenger.task is not None:
            passenger.task.cancel()

    # One caller

    async def _serve(self, passenger: Passenger) -> None:
        response: LLMProviderResponse | None = None
        error: Exception | None = None
        passenger.task = asyncio.current_task()
        try:
            response = await self._answer(passenger)
        except asyncio.CancelledError:
            if not passenger.left:
                response = self._left(passenger)
        except Exception as exc:  # noqa: BLE001 - handed to whoever awaits the response
            error = exc
        finally:
            self._calls.pop(passenger.request.request_id, None)
            try:
                await self._hand_over(passenger, response, error)
            finally:
                self._tasks.discard(passenger.task)

    async def _hand_over(
        self, passenger: Passenger, response: LLMProviderResponse | None, error: Exception | None
    ) -> None:
        """End the caller's messages and set its answer."""
        try:
            if passenger.listens:
                if response is not None:
                    await passenger.deliver(response)
                await passenger.end()
        finally:
            passenger.settle(response, error)

    async def _answer(self, passenger: Passenger) -> LLMProviderResponse:
        if self._mode == "replay":
            return await self._replayer.answer(passenger)
        request = passenger.request
        asked = self._asked_now(request) or await self._asked(request)
        passenger.key = asked.key
        if self._mode == "read_write" and asked.shared and asked.key is not None:
            kept = await self._kept(passenger, asked.key)
            if kept is not None:
                return kept
        return await self._travel(passenger, asked)

    def _asked_now(self, request: LLMProviderRequest) -> Asked | None:
        """`_asked`, where there is nothing to wait for."""
        digest = self._models.known_digest(request.model_name)
        if digest is None or has_media(request):
            return None
        return self._asked_as(request, digest, question_now(request))

    async def _asked(self, request: LLMProviderRequest) -> Asked:
        digest = await self._models.digest(request.model_name)
        return self._asked_as(request, digest, await question_of(request))

    def _asked_as(
        self, request: LLMProviderRequest, digest: str, question: Question | None
    ) -> Asked:
        key = None if question is None else question.key(digest)
        shared = self._mode in ("read_write", "refresh") and not request.call.fresh
        return Asked(request, question, digest, key, shared)

    async def _kept(self, passenger: Passenger, key: bytes) -> LLMProviderResponse | None:
        """The file's answer, played; None where it has none that can be read."""
        stored = self._store.find(key)
        if stored is None:
            return None
        try:
            response = await self._player.play(passenger, stored)
        except ValueError as exc:
            _log.warning("answer %d of the ledger cannot be read: %s", stored.id, exc)
            return None
        self._store.post(passenger.request, response, key, stored.id)
        return response

    async def _travel(self, passenger: Passenger, asked: Asked) -> LLMProviderResponse:
        """The answer of the flight for this question; whoever paid for it, the others did not."""
        flight, flying = self._flight_for(passenger, asked)
        try:
            outcome = await flight.travel(passenger, flying)
        except Exception as exc:
            if flight.request is not passenger.request and not passenger.left:
                failure = failed_response(passenger.request, exc)
                self._store.post(passenger.request, failure, asked.key)
            raise
        response = passenger.addressed(outcome)
        if (flight.found or flight.request is not passenger.request) and not passenger.left:
            response.from_ledger = is_reusable(response)
            self._store.post(passenger.request, response, asked.key, flight.answer)
        return response

    def _flight_for(
        self, passenger: Passenger, asked: Asked
    ) -> tuple[Flight, Coroutine[Any, Any, None] | None]:
        """The flight that is under way, or a new one; with its work, where that is the caller's.

        A caller that takes no fragments has nothing else to do.
        """
        key = asked.key if asked.shared else None
        flight = self._flights.get(key) if key is not None else None
        if flight is not None:
            return flight, None
        flight = Flight(key, asked.request, self._abandon, self._drop)
        if key is not None:
            self._flights[key] = flight
        flying = self._asker.fly(flight, asked)
        if not passenger.listens:
            flight.task = passenger.task
            return flight, flying
        flight.task = self._spawn(flying)
        return flight, None

    def _left(self, passenger: Passenger) -> LLMProviderResponse:
        """The answer of a caller who left early: what it has seen so far, noted in the file."""
        text = "the request was cancelled"
        response = bare_response(passenger.request, FinishReason.cancelled, text)
        flight = passenger.flight
        if flight is not None:
            response.response_text = flight.text("t")
            response.response_reasoning = flight.text("r")
            under_way = flight.inner is not None and not flight.landed
            if flight.request is passenger.request and (under_way or flight.recorded):
                return response  # the request itself is recorded, with its numbers
        self._store.post(passenger.request, response, passenger.key)
        return response

    # One flight

    def _drop(self, flight: Flight) -> None:
        """Let nobody board any more."""
        if flight.key is not None and self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _abandon(self, flight: Flight) -> None:
        """Nobody wants it any more: end the request, or never send it."""
        self._drop(flight)
        if flight.inner is None:
            _cancel_soon(flight.task)
        else:
            self._spawn(self._below.call_off(flight.inner))

    # Many at once

    async def lookup(
        self, requests: Sequence[LLMProviderRequest], record: bool = True
    ) -> list[LLMProviderResponse | None]:
        """Hits for many requests, recorded as calls in one transaction; None for a miss."""
        if self._mode == "replay":
            return await self._replayer.answer_all(requests)
        if self._mode != "read_write":
            return [None] * len(requests)
        wanted = [self._asked_now(request) or await self._asked(request) for request in requests]
        return await find_all(self._store, wanted, record)

    def under_way(self, context_id: str | None = None) -> list[LLMProviderResponse]:
        """What the client below knows so far of the requests under way."""
        return self._below.client.under_way(context_id)

    # Models and events

    def redact(self, text: str) -> str:
        """`text` without the secrets that the client below knows."""
        return self._below.client.redact(text)

    async def record(self, row: tuple[Any, ...]) -> None:
        """Record a business event."""
        await self._store.record(row)

    async def describe(self, model_name: str) -> ModelDescription:
        """What the client below says of a model; in a replay, what it said."""
        return await self._models.describe(model_name)

    async def preview(self, *request: Any) -> RequestPreview:
        """What the client below would send; in a replay an estimate, where it cannot tell."""
        await self._below.open()
        client = self._below.client
        try:
            return await client.preview(*request)
        except LLMError:
            if self._mode != "replay":
                raise
        return await LLMClient.preview(client, *request)


def _within(context_id: str | None, outer: str) -> bool:
    return context_id is not None and (context_id == outer or context_id.startswith(outer + "/"))


def _flown_by(passenger: Passenger) -> Flight | None:
    """The flight whose work the caller's own task does now."""
    flight = passenger.flight
    if flight is None or flight.task is not passenger.task or flight.landed:
        return None
    return flight


def _cancel_soon(task: asyncio.Task[None] | None) -> None:
    """Never at once: a task cancelled before its first step would not run its cleanup."""
    if task is not None:
        asyncio.get_running_loop().call_soon(task.cancel)
