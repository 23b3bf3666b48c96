"""The work of one flight: look or claim, ask the client below, keep what it answers."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from .._datamodel import FinishReason
from . import records
from .below import bare_response, failed_response
from .claims import Claim, Claims

if TYPE_CHECKING:
    from .._datamodel import LLMProviderRequest, LLMProviderResponse
    from .below import Below
    from .flights import Flight
    from .queries import StoredAnswer
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
        claims: Of all who use the file; None where questions are not claimed.
    """

    def __init__(self, below: Below, store: LedgerStore, claims: Claims | None) -> None:
        self._below = below
        self._store = store
        self._claims = claims

    async def fly(self, flight: Flight, asked: Asked) -> None:
        """Land `flight` with an answer, whatever happens.

        Raises:
            asyncio.CancelledError: The flight was called off.
        """
        claim = None
        try:
            if self._claims is not None and asked.shared and asked.key is not None:
                claim = await self._claimed(flight, asked.request, asked.key, self._claims)
            if not flight.landed:
                await self._ask(flight, asked)
        except asyncio.CancelledError:
            text = "the request was cancelled"
            flight.land(bare_response(asked.request, FinishReason.cancelled, text))
            raise
        except Exception as exc:  # noqa: BLE001 - a client may raise anything; its caller hears it
            flight.crash(exc)
        finally:
            if self._claims is not None and claim is not None:
                if flight.reusable:
                    self._claims.answered(claim)
                else:
                    self._claims.release(claim)

    async def _claimed(
        self, flight: Flight, request: LLMProviderRequest, key: bytes, claims: Claims
    ) -> Claim | None:
        """The right to ask for `key`; None where the file has an answer, readable or not."""
        pause, longest = POLL_SECONDS
        while (found := await claims.take(key)) is None:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, longest)
        if isinstance(found, Claim):
            return found
        _land_with(flight, found, request)
        return None

    # Asking

    async def _ask(self, flight: Flight, asked: Asked) -> None:
        try:
            response = await self._below.ask(flight, asked.request)
        except Exception as exc:
            await self._keep_failure(flight, asked, exc)
            raise
        await self._keep(flight, asked, response)
        flight.land(response)

    async def _keep(self, flight: Flight, asked: Asked, response: LLMProviderResponse) -> None:
        """Record an answer; returns when it is durable."""
        flight.recorded = True
        answer, key = None, asked.key
        if asked.question is not None and key is not None:
            answer = self._store.answer(asked.question, asked.digest, key, flight, response)
        flight.answer = await self._store.keep(flight, response, answer, key)
        if flight.answer is not None and answer is not None:
            flight.reusable = answer.reusable

    async def _keep_failure(self, flight: Flight, asked: Asked, exc: Exception) -> None:
        flight.recorded = True
        response = failed_response(flight.request, exc)
        await self._store.keep(flight, response, None, asked.key)


def _land_with(flight: Flight, stored: StoredAnswer, request: LLMProviderRequest) -> None:
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
