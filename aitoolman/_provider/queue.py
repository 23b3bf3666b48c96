"""Who is next: the fair queue behind the manager's limits and the public `ResourceManager`.

A *ticket* is a place in line. Tickets of one source are served in the order of their numbers, so
one that comes back (a retry after its wait) is ahead of all later ones; sources take turns.

A *gate* lets tickets through while it has free slots and, where a rate is limited, its budget
allows.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .clock import Clock, Timer

__all__ = ["WITHIN", "Budget", "FairQueue", "Gate", "Ticket"]

_numbers = itertools.count(1)


class Ticket:
    """A place in line. It may be used again, and keeps its number.

    Args:
        source: Sources take turns.
        weight: What it takes from a token budget.
    """

    __slots__ = ("grant", "movable", "number", "source", "waiter", "weight")

    def __init__(self, source: str | None = None, weight: int = 0) -> None:
        self.number = next(_numbers)
        self.source = source
        self.weight = weight
        self.waiter: asyncio.Future[None] | None = None
        self.movable = False
        """True where another line would do as well."""
        self.grant: object = None
        """What the budget noted when the ticket went through."""

    def __lt__(self, other: Ticket) -> bool:
        return self.number < other.number


class Budget(Protocol):
    """What limits the rate of grants, beside free slots."""

    def ready_in(self, ticket: Ticket) -> float:
        """Seconds until this ticket may go; 0 or less is now."""

    def take(self, ticket: Ticket) -> None:
        """The ticket goes now."""


class _Lane:
    """The tickets of one source: a heap in which those that left stay until they come up."""

    __slots__ = ("heap", "waiting")

    def __init__(self) -> None:
        self.heap: list[Ticket] = []
        self.waiting: set[Ticket] = set()

    def __len__(self) -> int:
        return len(self.waiting)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(sorted(self.waiting))

    def push(self, ticket: Ticket) -> None:
        self.waiting.add(ticket)
        heapq.heappush(self.heap, ticket)

    def head(self) -> Ticket:
        while self.heap[0] not in self.waiting:
            heapq.heappop(self.heap)
        return self.heap[0]

    def pop(self, ticket: Ticket) -> None:
        self.discard(ticket)

    def discard(self, ticket: Ticket) -> bool:
        if ticket not in self.waiting:
            return False
        self.waiting.remove(ticket)
        if len(self.heap) > 2 * len(self.waiting) + 16:
            self.heap = sorted(self.waiting)
        return True


WITHIN = "\x1f"
"""Stands in a source between a client and its own source: clients take turns first."""


class FairQueue:
    """Tickets in line: by number within a source, round robin among sources.

    Sources of the form ``client WITHIN source`` take turns by client, and within each client by its
    own sources. A source without tickets leaves nothing behind.

    Args:
        level: Which part of the source counts here.
    """

    def __init__(self, level: int = 0) -> None:
        self._level = level
        self._lanes: OrderedDict[object, _Lane | FairQueue] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Ticket]:
        return (ticket for lane in self._lanes.values() for ticket in lane)

    def _key(self, ticket: Ticket) -> object:
        """Which lane a ticket stands in; a tuple for a lane that has lanes itself."""
        source = ticket.source
        if source is None or WITHIN not in source:
            return source
        parts = source.split(WITHIN)
        part = parts[self._level]
        return part if self._level == len(parts) - 1 else (part,)

    def push(self, ticket: Ticket) -> None:
        """Put a ticket in its place."""
        key = self._key(ticket)
        lane = self._lanes.get(key)
        if lane is None:
            nested = isinstance(key, tuple)
            lane = self._lanes[key] = FairQueue(self._level + 1) if nested else _Lane()
        lane.push(ticket)
        self._length += 1

    def head(self) -> Ticket | None:
        """The ticket whose turn it is, which stays in line."""
        for lane in self._lanes.values():
            return lane.head()
        return None

    def pop(self, ticket: Ticket) -> None:
        """Take the `head` out; the next source is up."""
        key = self._key(ticket)
        lane = self._lanes.get(key)
        if lane is not None:
            before = len(lane)
            lane.pop(ticket)
            self._length -= before - len(lane)
            self._clear(key, lane)
        if key in self._lanes:
            self._lanes.move_to_end(key)

    def discard(self, ticket: Ticket) -> bool:
        """Take a ticket out, wherever it stands; False for an unknown one."""
        key = self._key(ticket)
        lane = self._lanes.get(key)
        if lane is None or not lane.discard(ticket):
            return False
        self._length -= 1
        self._clear(key, lane)
        return True

    def _clear(self, key: object, lane: _Lane | FairQueue) -> None:
        if not len(lane):
            del self._lanes[key]


class Gate:
    """Lets tickets through while slots are free and the budget allows.

    Args:
        capacity: Slots; may change at any time, then call `pump`.
        budget: Limits the rate; needs a `clock`.
        clock: Wakes the gate when the budget allows again.
    """

    def __init__(
        self, capacity: int, budget: Budget | None = None, clock: Clock | None = None
    ) -> None:
        self.capacity = capacity
        self.in_use = 0
        self.queue = FairQueue()
        self._budget = budget
        self._clock = clock
        self._timer: Timer | None = None
        self._wake_at = 0.0

    async def acquire(self, ticket: Ticket) -> None:
        """Wait for a slot. When this returns, the slot is the caller's until `release`.

        Cancelled while waiting, the ticket leaves the line; cancelled at the very moment of the
        grant, the slot goes back.
        """
        if not self.queue and self.in_use < self.capacity and self._ready_in(ticket) <= 0:
            self._grant(ticket)
            return
        waiter = ticket.waiter = asyncio.get_running_loop().create_future()
        self.queue.push(ticket)
        try:
            self.pump()
            await waiter
        except BaseException:
            self._leave(ticket, waiter)
            raise
        finally:
            ticket.waiter = None

    def _leave(self, ticket: Ticket, waiter: asyncio.Future[None]) -> None:
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self.release()
        else:
            self.queue.discard(ticket)
            self.pump()

    def release(self) -> None:
        """Give a slot back."""
        self.in_use -= 1
        self.pump()

    def pump(self) -> None:
        """Let through all that may go; call this after a change of capacity or budget."""
        if not self.queue:
            self.close()
        while self.in_use < self.capacity and (ticket := self.queue.head()) is not None:
            delay = self._ready_in(ticket)
            if delay > 0:
                self._wake_in(delay)
                return
            self.queue.pop(ticket)
            if ticket.waiter is not None and not ticket.waiter.done():
                self._grant(ticket)
                ticket.waiter.set_result(None)

    def fail(
        self, error: Callable[[], BaseException], *, which: Callable[[Ticket], bool] | None = None
    ) -> None:
        """End all waiting, or those of `which`, with an error each; those inside stay."""
        for ticket in [t for t in self.queue if which is None or which(t)]:
            self.queue.discard(ticket)
            if ticket.waiter is not None and not ticket.waiter.done():
                ticket.waiter.set_exception(error())

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ready_in(self, ticket: Ticket) -> float:
        return self._budget.ready_in(ticket) if self._budget is not None else 0.0

    def _grant(self, ticket: Ticket) -> None:
        self.in_use += 1
        if self._budget is not None:
            self._budget.take(ticket)

    def _wake_in(self, delay: float) -> None:
        assert self._clock is not None
        wake_at = self._clock.monotonic() + delay
        if self._timer is not None and self._wake_at <= wake_at:
            return  # it looks again then
        self.close()
        self._wake_at = wake_at
        self._timer = self._clock.call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.pump()
