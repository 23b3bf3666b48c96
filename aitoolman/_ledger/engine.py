"""Answers calls by the ledger's mode: asks the client below, reuses, replays, records.

Runs on the home loop of its `LLMLedgerClient`. Each caller is a passenger of a `Flight`; a flight
either finds its answer in the file or asks the client below and records what came.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from .._datamodel import FinishReason, LLMError, LLMProviderResponse, use_call
from . import queries, records
from .fingerprint import canonical_request, fingerprint
from .flights import Flight, Passenger

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from .._datamodel import LLMProviderRequest, ModelDescription, RequestPreview
    from .._transport.client import LLMClient
    from .options import LedgerOptions
    from .writer import LedgerWriter

__all__ = ["LedgerEngine", "Question"]

_log = logging.getLogger("aitoolman.ledger")
_encode = msgspec.json.Encoder(enc_hook=str).encode

POLL_SECONDS = (0.02, 0.5)
"""First and longest wait between two looks at what another process is asking."""


class Question:
    """A request as the ledger sees it: its canonical form, and its key once the model is known."""

    def __init__(self, request: LLMProviderRequest) -> None:
        self.request = request
        self.media: dict[bytes, bytes] = {}
        self.canonical = canonical_request(
            request.messages, request.tools, request.options, self.media.__setitem__
        )

    def key(self, digest: str) -> bytes:
        return fingerprint(digest, self.canonical, self.request.call.sample)


class LedgerEngine:
    """The work of an `LLMLedgerClient`, on its home loop.

    Args:
        client: What is asked where the ledger has no answer.
        writer: The file, or None in mode ``off``.
        options: Mode, retention, pace.
        owner: Marks this engine's claims.
    """

    def __init__(
        self,
        client: LLMClient,
        writer: LedgerWriter | None,
        options: LedgerOptions,
        owner: queries.Owner,
    ) -> None:
        self._client = client
        self._writer = writer
        self._options = options
        self._owner = owner
        self._calls: dict[str, tuple[Passenger, Flight | None, asyncio.Task[None]]] = {}
        self._flights: dict[bytes, Flight] = {}
        self._claims: set[bytes] = set()
        self._descriptions: dict[str, ModelDescription] = {}
        self._replayed: dict[bytes, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._heartbeat: asyncio.Task[None] | None = None
        self._opened: bool = False
        self._entered = False

    # What a homed client needs

    def submit(self, request: LLMProviderRequest) -> None:
        """Start a request and return at once."""
        passenger = Passenger(request)
        task = self._spawn(self._serve(passenger))
        self._calls[request.request_id] = (passenger, None, task)
        future = request.response
        future.add_done_callback(lambda f: self._on_caller_done(request, f))

    async def cancel_request(self, request_id: str) -> None:
        """End one request with the status ``cancelled``."""
        if request_id in self._calls:
            passenger, flight, task = self._calls[request_id]
            passenger.request.is_cancelled = True
            if flight is None or len(flight.passengers) > 1 or flight.call_off is None:
                task.cancel()
            else:
                flight.leave(passenger)  # the last one: the flight ends and says `cancelled`

    async def cancel_all_requests(self, client_id: str, context_id: str | None = None) -> None:
        """End all requests, or those of one context and of those below it."""
        for request_id, (passenger, _, _) in list(self._calls.items()):
            if context_id is None or _within(passenger.request.context_id, context_id):
                await self.cancel_request(request_id)

    async def close(self) -> None:
        """End all requests, the client below if it was opened here, and the writing thread."""
        await self.cancel_all_requests("")
        while pending := [t for t in self._tasks if t is not self._heartbeat]:
            await asyncio.wait(pending)
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        if self._entered:
            await self._client.__aexit__(None, None, None)
        if self._writer is not None:
            await self._writer.close()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _on_caller_done(
        self, request: LLMProviderRequest, future: asyncio.Future[LLMProviderResponse]
    ) -> None:
        if future.cancelled() and request.request_id in self._calls:
            self._calls[request.request_id][2].cancel()

    # One caller

    async def _serve(self, passenger: Passenger) -> None:
        request = passenger.request
        try:
            response = await self._answer(passenger)
        except asyncio.CancelledError:
            response = self._bare(request, FinishReason.cancelled, "the request was cancelled")
        except Exception as exc:  # noqa: BLE001 - a caller always gets an answer
            _log.exception("the ledger failed to answer %s", request.request_id)
            response = self._bare(request, FinishReason.error, f"{type(exc).__name__}: {exc}")
        finally:
            self._calls.pop(request.request_id, None)
        await self._hand_over(passenger, response)

    async def _hand_over(self, passenger: Passenger, response: LLMProviderResponse) -> None:
        """End the caller's channels and set its answer."""
        request = passenger.request
        try:
            if not request.stream:
                await passenger.reply.whole(response.response_reasoning, response.response_text)
            await passenger.reply.finish()
        except Exception as exc:  # noqa: BLE001 - a caller's sink may raise anything
            passenger.failure = passenger.failure or exc
        if passenger.failure is not None:
            response.finish_reason = FinishReason.error_app.value
            response.error_text = f"the output channel failed: {passenger.failure}"
        if not request.response.done():
            request.response.set_result(response)

    async def _answer(self, passenger: Passenger) -> LLMProviderResponse:
        request, mode = passenger.request, self._options.mode
        try:
            question = Question(request)
        except OSError as exc:
            text = f"a media file cannot be read: {exc}"
            return self._bare(request, FinishReason.error_app, text)
        if mode == "replay":
            return await self._replay(passenger, question)
        try:
            description = await self._describe(request.model_name)
        except LLMError as exc:
            return await self._record_failure(request, str(exc))
        key = question.key(description.digest)
        shared = mode == "read_write" and not request.call.fresh
        return await self._travel(passenger, question, key, description, shared)

    async def _travel(
        self,
        passenger: Passenger,
        question: Question,
        key: bytes,
        description: ModelDescription,
        shared: bool,
    ) -> LLMProviderResponse:
        """Board the flight for `key`, starting it where there is none, and wait for its end."""
        flight = self._flights.get(key) if shared else None
        joined = flight is not None
        if flight is None:
            flight = Flight(key)
            if shared:
                self._flights[key] = flight
            self._spawn(self._fly(flight, question, description, shared))
        request = passenger.request
        self._calls[request.request_id] = (
            passenger, flight, self._calls[request.request_id][2],
        )  # fmt: skip
        try:
            await flight.board(passenger)
            outcome = await asyncio.shield(flight.outcome)
        except asyncio.CancelledError:
            return self._cancelled_aboard(passenger, flight)
        finally:
            flight.leave(passenger)
        response = _addressed(outcome, request)
        if joined and not response.from_ledger:
            response.from_ledger = True
            self._post_row(request, response, key)
        return response

    def _cancelled_aboard(self, passenger: Passenger, flight: Flight) -> LLMProviderResponse:
        """The answer of a caller who leaves before the flight ends: what it has seen so far."""
        request = passenger.request
        response = self._bare(request, FinishReason.cancelled, "the request was cancelled")
        response.response_text = "".join(f.text for f in flight.fragments if f.kind == "t")
        response.response_reasoning = "".join(f.text for f in flight.fragments if f.kind == "r")
        if len(flight.passengers) > 1:  # else the flight itself is recorded as cancelled
            self._post_row(request, response, flight.key)
        return response

    # One flight

    async def _fly(
        self, flight: Flight, question: Question, description: ModelDescription, shared: bool
    ) -> None:
        assert flight.key is not None
        try:
            found = await self._find_or_claim(flight.key) if shared else None
            if found is None:
                outcome = await self._ask(flight, question, description, claimed=shared)
            else:
                outcome = await self._reuse(flight, found, question.request)
        except Exception as exc:  # noqa: BLE001 - whoever waits is told
            _log.exception("the ledger failed on %s", question.request.request_id)
            outcome = self._bare(question.request, FinishReason.error, f"ledger: {exc}")
        finally:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
        if not flight.outcome.done():
            flight.outcome.set_result(outcome)

    async def _find_or_claim(self, key: bytes) -> queries.StoredAnswer | None:
        """The kept answer, or None with the right to ask for it."""
        assert self._writer is not None
        pause, longest = POLL_SECONDS
        while True:
            found = await self._writer.run(lambda db: queries.find_or_claim(db, key, self._owner))
            if found == "claimed":
                self._hold(key)
                return None
            if found != "busy":
                return found
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, longest)

    def _hold(self, key: bytes) -> None:
        self._claims.add(key)
        if self._heartbeat is None or self._heartbeat.done():
            self._heartbeat = self._spawn(self._renew())

    async def _renew(self) -> None:
        """Prolong the claims while there are any."""
        assert self._writer is not None
        while True:
            await asyncio.sleep(queries.LEASE_SECONDS / 3)
            if not self._claims:
                return
            self._writer.post(lambda db: queries.renew_claims(db, self._owner))

    async def _ask(
        self, flight: Flight, question: Question, description: ModelDescription, claimed: bool
    ) -> LLMProviderResponse:
        """Ask the client below and keep what it answers."""
        request = question.request
        try:
            response = await self._forward(flight, request)
            await self._keep(flight, question, description, response, claimed)
        finally:
            if claimed and flight.key is not None:
                self._claims.discard(flight.key)
        return response

    async def _forward(self, flight: Flight, request: LLMProviderRequest) -> LLMProviderResponse:
        await self._enter()
        with use_call(request.call):
            inner = await self._client.request(
                request.model_name,
                request.messages,
                request.tools,
                request.options,
                request.stream,
                request.context_id,
                flight.sink("t"),
                flight.sink("r"),
            )
        flight.call_off = lambda: self._call_off(inner.request_id)
        if not flight.passengers:
            flight.call_off()
        return await inner.response

    def _call_off(self, request_id: str) -> None:
        async def cancel() -> None:
            await self._client.cancel(request_id)

        self._spawn(cancel())

    async def _enter(self) -> None:
        """Give the client below this loop for a home, where it has none yet."""
        if not self._opened:
            self._opened = True
            if getattr(self._client, "home", None) is None:
                self._entered = True
                await self._client.__aenter__()

    async def _keep(
        self,
        flight: Flight,
        question: Question,
        description: ModelDescription,
        response: LLMProviderResponse,
        claimed: bool,
    ) -> None:
        """Record an answer; returns when it is durable. A ledger that fails costs no answer."""
        if self._writer is None:
            return
        request = question.request
        new = self._new_answer(flight, question, description, response)
        row = records.call_row(request, response, flight.key, None)
        claim = (flight.key, self._owner) if claimed and flight.key else None
        try:
            await self._writer.run(lambda db: queries.add_answer(db, new, row, claim))
        except Exception as exc:  # noqa: BLE001 - a full disk must not cost a paid answer
            _log.error("the ledger could not record a call: %s", exc)
            response.notes.append(f"the ledger could not record this call: {exc}")

    def _new_answer(
        self,
        flight: Flight,
        question: Question,
        description: ModelDescription,
        response: LLMProviderResponse,
    ) -> queries.NewAnswer | None:
        cancelled = response.finish_reason == FinishReason.cancelled.value
        if self._options.retention == "metadata" or cancelled or flight.key is None:
            return None
        request = question.request
        return queries.NewAnswer(
            flight.key,
            response.finish_reason in records.REUSABLE,
            request.model_name,
            description.digest,
            _encode(question.canonical),
            records.encode_response(response),
            records.encode_fragments(flight.fragments) if request.stream else None,
            question.media,
        )

    async def _reuse(
        self, flight: Flight, stored: queries.StoredAnswer, request: LLMProviderRequest
    ) -> LLMProviderResponse:
        """A kept answer as the end of a flight, its stream first."""
        for fragment in records.decode_fragments(stored.fragments):
            await flight.carry(fragment.kind, fragment.text)
        response = records.decode_response(stored.response, request)
        if not flight.fragments:
            await flight.carry("r", response.response_reasoning)
            await flight.carry("t", response.response_text)
        self._post_row(request, response, flight.key, stored.id)
        return response

    # Replay

    async def _replay(self, passenger: Passenger, question: Question) -> LLMProviderResponse:
        assert self._writer is not None
        request = question.request
        digests = await self._writer.run(
            lambda db: queries.digests_of(db, request.model_name), writes=False
        )
        keys = [question.key(digest) for digest in digests]
        name = keys[0] if keys else b""
        count = self._replayed.get(name, 0)
        found = await self._writer.run(lambda db: queries.nth_answer(db, keys, count), writes=False)
        if found is None:
            from .unseen import explain_unseen

            text = await self._writer.run(lambda db: explain_unseen(db, question), writes=False)
            return self._bare(request, FinishReason.error_request, text)
        self._replayed[name] = count + 1
        return await self._play(passenger, found)

    async def _play(
        self, passenger: Passenger, stored: queries.StoredAnswer
    ) -> LLMProviderResponse:
        started = asyncio.get_running_loop().time()
        for fragment in records.decode_fragments(stored.fragments):
            due = started + fragment.at * self._options.pace
            if self._options.pace:
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            await passenger.take(fragment)
        response = records.decode_response(stored.response, passenger.request)
        if not stored.fragments and passenger.request.stream:
            await passenger.reply.whole(response.response_reasoning, response.response_text)
        return response

    # Rows

    def _post_row(
        self,
        request: LLMProviderRequest,
        response: LLMProviderResponse,
        key: bytes | None,
        answer: int | None = None,
    ) -> None:
        if self._writer is not None:
            row = records.call_row(request, response, key, answer)
            self._writer.post(lambda db: queries.add_calls(db, [row]))

    async def _record_failure(self, request: LLMProviderRequest, text: str) -> LLMProviderResponse:
        """A call that could not even be keyed (an unknown model)."""
        response = self._bare(request, FinishReason.error_request, text)
        self._post_row(request, response, None)
        return response

    def post_event(self, row: tuple[Any, ...]) -> None:
        """Record a business event."""
        if self._writer is not None and self._options.mode != "replay":
            self._writer.post(lambda db: queries.add_calls(db, [row]))

    async def describe(self, model_name: str) -> ModelDescription:
        """What the client below says of a model."""
        await self._enter()
        return await self._client.describe(model_name)

    async def preview(self, *request: Any) -> RequestPreview:
        """What the client below would send."""
        await self._enter()
        return await self._client.preview(*request)

    async def lookup(
        self, requests: Sequence[LLMProviderRequest]
    ) -> list[LLMProviderResponse | None]:
        """Hits for many requests in one transaction, each recorded as a call; None for a miss."""
        if self._writer is None or self._options.mode not in ("read_write", "replay"):
            return [None] * len(requests)
        keys = [await self._key_of(request) for request in requests]

        def find(db: Any) -> list[LLMProviderResponse | None]:
            stored = queries.find_answers(db, list({k for k in keys if k is not None}))
            hits = [stored.get(k) if k is not None else None for k in keys]
            found = [
                records.decode_response(hit.response, request) if hit else None
                for hit, request in zip(hits, requests, strict=True)
            ]
            queries.add_calls(
                db,
                [
                    (*records.call_row(q, r, k, None)[:10], hit.id,
                     *records.call_row(q, r, k, None)[11:])
                    for q, r, k, hit in zip(requests, found, keys, hits, strict=True)
                    if r is not None and hit is not None
                ],
            )  # fmt: skip
            return found

        return await self._writer.run(find)

    async def _key_of(self, request: LLMProviderRequest) -> bytes | None:
        if request.call.fresh:
            return None
        try:
            description = await self._describe(request.model_name)
            return Question(request).key(description.digest)
        except (LLMError, OSError):
            return None

    # Models

    async def _describe(self, model_name: str) -> ModelDescription:
        """The client's word on a model, asked once and noted in the file."""
        if model_name not in self._descriptions:
            await self._enter()
            description = await self._client.describe(model_name)
            self._descriptions[model_name] = description
            if self._writer is not None:
                entries = _encode(description.entries).decode()
                digest = description.digest
                self._writer.post(
                    lambda db: queries.remember_model(db, model_name, digest, entries)
                )
        return self._descriptions[model_name]

    @staticmethod
    def _bare(request: LLMProviderRequest, reason: FinishReason, text: str) -> LLMProviderResponse:
        return LLMProviderResponse(
            request.client_id,
            request.context_id,
            request.request_id,
            request.model_name,
            request.stream,
            finish_reason=reason.value,
            error_text=text,
        )


def _within(context_id: str | None, outer: str) -> bool:
    return context_id is not None and (context_id == outer or context_id.startswith(outer + "/"))


def _addressed(outcome: LLMProviderResponse, request: LLMProviderRequest) -> LLMProviderResponse:
    """A copy of a flight's answer with one caller's own ids."""
    return dataclasses.replace(
        outcome,
        client_id=request.client_id,
        context_id=request.context_id,
        request_id=request.request_id,
        stream=request.stream,
        attempts=list(outcome.attempts),
        notes=list(outcome.notes),
    )
