"""All limits of one model in one place: slots, rates, a vendor's pauses, and what was learned.

Times are the clock's. A request goes through `ModelLimits.enter`, and whatever happens then,
through `leave`, which also tells how it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .adaptive import AdaptiveLimit
from .errors import LineMoved
from .queue import Gate, Ticket
from .rates import Learned, RateWindow, Remaining

if TYPE_CHECKING:
    from .clock import Clock

__all__ = ["ModelLimits", "Pass"]


class Pass(NamedTuple):
    """What a request holds between `enter` and `leave`."""

    number: int
    """Counts the requests sent to this model."""
    tokens: list[float] | None
    request_mark: float
    token_mark: float


class ModelLimits:
    """``parallel``, ``rpm``, ``tpm``, adaptive limit and learned rates of one ``[api]`` entry.

    Args:
        parallel: Requests at once, at most.
        rpm: Requests in any 60 seconds, None: no limit.
        tpm: Tokens in any 60 seconds, None: no limit.
        adaptive: Whether refusals and slowness lower the limit.
        max_wait: A learned wait that is longer is not kept: the vendor may say itself how long.
        clock: The source of time.
    """

    def __init__(
        self,
        clock: Clock,
        parallel: int,
        rpm: int | None = None,
        tpm: int | None = None,
        *,
        adaptive: bool = True,
        max_wait: float = 120.0,
    ) -> None:
        self._clock = clock
        self._max_wait = max_wait
        self._requests = RateWindow(rpm) if rpm is not None else None
        self._tokens = RateWindow(tpm) if tpm is not None else None
        self._learned_requests = Learned()
        self._learned_tokens = Learned()
        self._learning = False
        self._adaptive = AdaptiveLimit(parallel) if adaptive else None
        self._sent = 0
        self._refusals = 0
        self._movable = 0
        self._paused_until = 0.0
        self.gate = Gate(parallel, self, clock)

    @property
    def in_force(self) -> dict[str, int | None]:
        """``parallel``, ``rpm``, ``tpm`` as they are now."""
        return {
            "parallel": self.gate.capacity,
            "rpm": self._requests.limit if self._requests else None,
            "tpm": self._tokens.limit if self._tokens else None,
        }

    @property
    def counts_tokens(self) -> bool:
        """True where tickets need a weight."""
        return self._tokens is not None or self._learning

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self.gate.queue)

    @property
    def in_use(self) -> int:
        """Requests under way."""
        return self.gate.in_use

    async def enter(self, ticket: Ticket) -> Pass:
        """Wait for a turn. The slot is held until `leave`, which must follow.

        Raises:
            LineMoved: The ticket is movable, and the vendor lets nobody in for a while.
        """
        if ticket.movable:
            await self._enter_or_move(ticket)
        else:
            await self.gate.acquire(ticket)
        grant = ticket.grant
        assert isinstance(grant, Pass)
        return grant

    async def _enter_or_move(self, ticket: Ticket) -> None:
        self._movable += 1
        try:
            await self.gate.acquire(ticket)
        finally:
            self._movable -= 1

    def leave(self) -> None:
        """Give the slot back."""
        self.gate.release()

    # How it went; call one of these before `leave`.

    def answered(self, grant: Pass, latency: float | None, *, stream: bool, size: int) -> None:
        """The request got a good answer; see `AdaptiveLimit.answered`."""
        self._refusals = 0
        if self._adaptive is not None and latency is not None:
            self._adaptive.answered(grant.number, self.gate.in_use, latency, stream, size)
            self.gate.capacity = self._adaptive.limit

    def refused(self, grant: Pass, wait: float, *, asked: bool) -> None:
        """The vendor said 429 or that it is overloaded.

        Args:
            grant: Of the request.
            wait: Seconds that this request is going to wait.
            asked: The vendor named them.
        """
        self._refusals += 1
        others = self.gate.in_use - 1
        if self._adaptive is not None:
            self._adaptive.refused(grant.number, self._sent, others)
            self.gate.capacity = self._adaptive.limit
        # One refusal among good answers means too many at once; several mean: not now.
        if others == 0 or (asked and self._refusals > 1):
            self._paused_until = max(self._paused_until, self._clock.monotonic() + wait)
            if self._movable:
                self.gate.fail(LineMoved, which=lambda ticket: ticket.movable)

    def observe(self, grant: Pass, remaining: Remaining) -> None:
        """Learn from rate-limit headers."""
        now = self._clock.monotonic()
        for learned, said, mark in (
            (self._learned_requests, remaining.requests, grant.request_mark),
            (self._learned_tokens, remaining.tokens, grant.token_mark),
        ):
            if said is not None:
                self._learning = True
                learned.observe(grant.number, mark, *said, now)

    def correct(self, grant: Pass, tokens: int) -> None:
        """The tokens that the request really took."""
        if grant.tokens is not None and self._tokens is not None:
            self._tokens.correct(grant.tokens, tokens)
            self.gate.pump()

    def close(self) -> None:
        """Stop the timer; nobody may wait any more."""
        self.gate.close()

    # The gate's budget

    def ready_in(self, ticket: Ticket) -> float:
        """Seconds until rates and pauses let this ticket go."""
        if not (self._learning or self._requests or self._tokens or self._paused_until):
            return 0.0
        now = self._clock.monotonic()
        return max(
            self._paused_until - now,
            self._requests.ready_in(1, now) if self._requests else 0.0,
            self._tokens.ready_in(ticket.weight, now) if self._tokens else 0.0,
            self._learned_wait(ticket, now),
        )

    def _learned_wait(self, ticket: Ticket, now: float) -> float:
        wait = max(
            self._learned_requests.ready_in(1, now),
            self._learned_tokens.ready_in(ticket.weight, now),
        )
        return wait if wait <= self._max_wait else 0.0

    def take(self, ticket: Ticket) -> None:
        """Count the ticket; it goes now."""
        now = self._clock.monotonic()
        self._sent += 1
        if self._requests is not None:
            self._requests.take(1, now)
        ticket.grant = Pass(
            self._sent,
            self._tokens.take(ticket.weight, now) if self._tokens is not None else None,
            self._learned_requests.take(1),
            self._learned_tokens.take(ticket.weight),
        )
