"""The work of one flight: look or claim, ask the client below, keep what it answers."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import FinishReason
from . import queries, records
from .below import bare_response, failed_response

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .._datamodel import LLMProviderRequest, LLMProviderResponse
    from .below import Below
    from .flights import Flight
    from .questions import Question
    from .store import LedgerStore

__all__ = ["Asked", "Asker"]

_log = logging.getLogger("aitoolman.ledger")

POLL_SECONDS = (0.02, 0.5)
"""First and longest wait between two looks at what another process is asking."""


class Asked(NamedTuple):
    """A request with what the ledger knows of it."""

    request: LLMProviderRequest
    question: Question | None
    """None: nothing that could be found again."""
    digest: str
    key: bytes | None
    shared: bool
    """True where any answer to the same question will do."""


class Asker:
    """Flies flights: one answer each, from the file or from the client below.

    Args:
        below: The client.
        store: The file.
        client_id: Marks this client's claims.
        spawn: Starts a task that `LedgerEngine.close` waits for.
    """

    def __init__(
        self,
        below: Below,
        store: LedgerStore,
        client_id: str,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._below = below
        self._store = store
        self._owner = queries.Owner.new(client_id)
        self._numbers = itertools.count(1)
        self._claims: dict[str, tuple[bytes, queries.Owner]] = {}
        """By the owner's token: a request that was called off may still hold the same key."""
        self._spawn = spawn
        self.heartbeat: asyncio.Task[None] | None = None

    async def fly(self, flight: Flight, asked: Asked, claim: bool) -> None:
        """Land `flight` with an answer, whatever happens."""
        owner = None
        try:
            if claim and asked.key is not None:
                owner = await self._claimed(flight, asked, asked.key)
            if not flight.landed:
                await self._ask(flight, asked, owner)
        except asyncio.CancelledError:
            text = "the request was cancelled"
            flight.land(bare_response(asked.request, FinishReason.cancelled, text))
        except Exception as exc:  # noqa: BLE001 - a client may raise anything; its caller hears it
            flight.crash(exc)
        finally:
            if owner is not None:
                await self._release(owner)

    # Claims

    async def _claimed(self, flight: Flight, asked: Asked, key: bytes) -> queries.Owner | None:
        """The right to ask for `key`; None where `flight` has landed, or the file fails."""
        name, pid, host = self._owner
        owner = queries.Owner(f"{name}/{next(self._numbers)}", pid, host)
        pause, longest = POLL_SECONDS
        self._hold(key, owner)
        try:
            while (found := await self._store.claim(key, owner)) == "busy":
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, longest)
        except asyncio.CancelledError:  # the claim may have been made all the same
            await self._release(owner)
            raise
        if found == "claimed":
            return owner
        del self._claims[owner.token]
        if isinstance(found, queries.StoredAnswer):
            _land_with(flight, found, asked.request)
        return None

    def _hold(self, key: bytes, owner: queries.Owner) -> None:
        self._claims[owner.token] = (key, owner)
        if self.heartbeat is None or self.heartbeat.done():
            self.heartbeat = self._spawn(self._renew())

    async def _release(self, owner: queries.Owner) -> None:
        claim = self._claims.pop(owner.token, None)
        if claim is not None:
            await self._store.release(*claim)

    async def _renew(self) -> None:
        """Prolong the claims while there are any."""
        while self._claims:
            await asyncio.sleep(queries.LEASE_SECONDS / 3)
            await self._store.renew(list(self._claims.values()))

    # Asking

    async def _ask(self, flight: Flight, asked: Asked, owner: queries.Owner | None) -> None:
        try:
            response = await self._below.ask(flight, asked.request)
        except Exception as exc:
            await self._keep_failure(flight, asked, exc)
            raise
        await self._keep(flight, asked, response, owner)
        flight.land(response)

    async def _keep(
        self,
        flight: Flight,
        asked: Asked,
        response: LLMProviderResponse,
        owner: queries.Owner | None,
    ) -> None:
        """Record an answer; returns when it is durable."""
        flight.recorded = True
        answer, key = None, asked.key
        if asked.question is not None and key is not None:
            answer = self._store.answer(asked.question, asked.digest, key, flight, response)
        claim = self._claims.get(owner.token) if owner is not None else None
        flight.answer = await self._store.keep(flight, response, answer, key, claim)
        if flight.answer is not None and owner is not None:
            self._claims.pop(owner.token, None)  # ended together with the answer

    async def _keep_failure(self, flight: Flight, asked: Asked, exc: Exception) -> None:
        flight.recorded = True
        response = failed_response(flight.request, exc)
        await self._store.keep(flight, response, None, asked.key, None)


def _land_with(flight: Flight, stored: queries.StoredAnswer, request: LLMProviderRequest) -> None:
    """Give everyone aboard an answer of the file; one that cannot be read counts as none."""
    try:
        response = records.decode_response(stored.response, request)
        fragments = records.decode_fragments(stored.fragments)
    except ValueError as exc:
        _log.warning("answer %d of the ledger cannot be read, asking again: %s", stored.id, exc)
        return
    flight.answer, flight.found = stored.id, True
    flight.carry_all(fragments)
    flight.land(response)
