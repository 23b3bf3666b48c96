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
from .flights import Flight, Passenger
from .models import Models
from .questions import question_of
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
        self._claims = options.mode == "read_write" and store.keeper.full
        """True where a question is claimed before it is asked."""
        self._models = Models(self._below, store, options.mode == "replay")
        self._player = Player(options.pace)
        self._replayer = Replayer(store, self._player)
        self._asker = Asker(self._below, store, client_id, self._spawn)
        self._calls: dict[str, Passenger] = {}
        self._flights: dict[bytes, Flight] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # What a homed client needs

    def submit(self, request: LLMProviderRequest) -> None:
        """Start a request and return at once."""
        passenger = Passenger(request)
        self._calls[request.request_id] = passenger
        passenger.task = self._spawn(self._serve(passenger))
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
        await self.cancel_all_requests("")
        while pending := self._tasks - {self._asker.heartbeat}:
            _, late = await asyncio.wait(pending, timeout=CLOSE_SECONDS)
            for task in late:  # a caller's sink that never returns
                task.cancel()
        if self._asker.heartbeat is not None:
            self._asker.heartbeat.cancel()
        try:
            await self._below.close()
        finally:
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
            _cancel_soon(passenger.task)

    def _cancel(self, passenger: Passenger) -> None:
        """The last one aboard a request under way waits for its end, to tell what it cost."""
        flight = passenger.flight
        if flight is not None and flight.inner is not None and len(flight.passengers) == 1:
            self._abandon(flight)
        else:
            _cancel_soon(passenger.task)

    # One caller

    async def _serve(self, passenger: Passenger) -> None:
        response: LLMProviderResponse | None = None
        error: Exception | None = None
        try:
            response = await self._answer(passenger)
        except asyncio.CancelledError:
            response = self._left(passenger)
        except Exception as exc:  # noqa: BLE001 - handed to whoever awaits the response
            error = exc
        finally:
            self._calls.pop(passenger.request.request_id, None)
            await self._hand_over(passenger, response, error)

    async def _hand_over(
        self, passenger: Passenger, response: LLMProviderResponse | None, error: Exception | None
    ) -> None:
        """End the caller's messages and set its answer."""
        try:
            if response is not None:
                await passenger.deliver(response)
            await passenger.end()
        finally:
            passenger.settle(response, error)

    async def _answer(self, passenger: Passenger) -> LLMProviderResponse:
        if self._mode == "replay":
            return await self._replayer.answer(passenger)
        asked = await self._asked(passenger.request)
        passenger.key = asked.key
        if self._mode == "read_write" and asked.shared and asked.key is not None:
            kept = await self._kept(passenger, asked.key)
            if kept is not None:
                return kept
        return await self._travel(passenger, asked)

    async def _asked(self, request: LLMProviderRequest) -> Asked:
        name = request.model_name
        digest = self._models.known_digest(name) or await self._models.digest(name)
        question = await question_of(request)
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
        flight = self._flight_for(asked)
        try:
            outcome = await flight.travel(passenger)
        except Exception as exc:
            if flight.request is not passenger.request:
                failure = failed_response(passenger.request, exc)
                self._store.post(passenger.request, failure, asked.key)
            raise
        response = passenger.addressed(outcome)
        if flight.found or flight.request is not passenger.request:
            response.from_ledger = is_reusable(response)
            self._store.post(passenger.request, response, asked.key, flight.answer)
        return response

    def _flight_for(self, asked: Asked) -> Flight:
        """The flight that is under way, or a new one."""
        key = asked.key if asked.shared else None
        flight = self._flights.get(key) if key is not None else None
        if flight is None:
            flight = Flight(key, asked.request, self._abandon, self._drop)
            if key is not None:
                self._flights[key] = flight
            flight.task = self._spawn(self._fly(flight, asked))
        return flight

    def _left(self, passenger: Passenger) -> LLMProviderResponse:
        """The answer of a caller who left early: what it has seen so far, noted in the file."""
        text = "the request was cancelled"
        response = bare_response(passenger.request, FinishReason.cancelled, text)
        flight = passenger.flight
        if flight is not None:
            response.response_text = flight.text("t")
            response.response_reasoning = flight.text("r")
            if flight.request is passenger.request and flight.inner is not None:
                return response  # the request itself is recorded, with its numbers
        self._store.post(passenger.request, response, passenger.key)
        return response

    # One flight

    async def _fly(self, flight: Flight, asked: Asked) -> None:
        await self._asker.fly(flight, asked, self._claims and asked.shared)

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
        wanted = [await self._asked(request) for request in requests]
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


def _cancel_soon(task: asyncio.Task[None] | None) -> None:
    """Never at once: a task cancelled before its first step would not run its cleanup."""
    if task is not None:
        asyncio.get_running_loop().call_soon(task.cancel)
