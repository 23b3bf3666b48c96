"""Identical calls that are on their way at the same time share one request.

A `Flight` is that request: it keeps the fragments so far and passes each on to everyone aboard.
A `Passenger` is one caller: it may board late (and catches up first) and leave early (the others
fly on). When the last one leaves, the flight is called off.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .._provider.reply import ReplyWriter
from .records import Fragment

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._datamodel import LLMProviderRequest, LLMProviderResponse

__all__ = ["Flight", "Passenger"]


class Passenger:
    """One caller of a flight."""

    def __init__(self, request: LLMProviderRequest) -> None:
        self.request = request
        self.reply = ReplyWriter(request.output_channel, request.reasoning_channel)
        self.aboard = False
        """True once everything that came before boarding was passed on."""
        self.failure: Exception | None = None
        """What the caller's own sink raised."""

    async def take(self, fragment: Fragment) -> None:
        """Pass a fragment to the caller's sinks; a sink that fails harms nobody else."""
        if self.failure is not None or not self.request.stream:
            return
        write = self.reply.reasoning if fragment.kind == "r" else self.reply.text
        try:
            await write(fragment.text)
        except Exception as exc:  # noqa: BLE001 - a caller's sink may raise anything
            self.failure = exc


class Flight:
    """One request for one fingerprint, with all who wait for it."""

    def __init__(self, key: bytes | None) -> None:
        self.key = key
        self.fragments: list[Fragment] = []
        self.passengers: list[Passenger] = []
        self.outcome: asyncio.Future[LLMProviderResponse] = (
            asyncio.get_running_loop().create_future()
        )
        self.call_off: Callable[[], None] | None = None
        """Set once the request was sent: ends it."""
        self._started = time.perf_counter()

    async def board(self, passenger: Passenger) -> None:
        """Bring a caller up to date; from then on fragments reach it as they come."""
        self.passengers.append(passenger)
        passed_on = 0
        while passed_on < len(self.fragments):
            await passenger.take(self.fragments[passed_on])
            passed_on += 1
        passenger.aboard = True

    def leave(self, passenger: Passenger) -> None:
        """Take a caller off; the last one to leave calls the flight off."""
        if passenger in self.passengers:
            self.passengers.remove(passenger)
        if not self.passengers and not self.outcome.done() and self.call_off is not None:
            self.call_off()

    async def carry(self, kind: str, text: str) -> None:
        """Keep a fragment and pass it to everyone aboard."""
        fragment = Fragment(kind, round(time.perf_counter() - self._started, 4), text)
        self.fragments.append(fragment)
        for passenger in list(self.passengers):  # taking suspends; somebody may leave meanwhile
            if passenger.aboard:
                await passenger.take(fragment)

    def sink(self, kind: str) -> FlightSink:
        """What the client below writes to."""
        return FlightSink(self, kind)


class FlightSink:
    """Takes one of the two texts of a flight; ends are up to each passenger's own writer."""

    __slots__ = ("_flight", "_kind")

    def __init__(self, flight: Flight, kind: str) -> None:
        self._flight = flight
        self._kind = kind

    async def write(self, message: str | None) -> None:
        if message:
            await self._flight.carry(self._kind, message)
