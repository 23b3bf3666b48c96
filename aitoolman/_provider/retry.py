"""The one owner of retries: which entry is asked next, and after what wait.

The rules, for a model name that stands for one entry or for an ordered list:

- An attempt that fails for good (``stop``) takes its entry out of this request.
- After any failure an entry that this request has not asked yet is asked at once; that is failover
  and counts as no retry. Entries in cooldown come after the others.
- When all have been asked, those still in play are asked again, the one first whose wait ends
  first. That is a retry; the first entry's ``max_retries`` bounds their number over all entries.
- A wait is at least the backoff (``retry_duration``, growing by ``retry_factor``) and what the
  vendor asked for; jitter adds at most half of the backoff; ``max_wait`` bounds all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .failures import too_long_a_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .clock import Clock
    from .endpoint import Endpoint
    from .errors import Failure

__all__ = ["Course", "backoff"]

_LONGEST_POWER = 1000


def backoff(duration: float, factor: float, failures: int, max_wait: float) -> float:
    """The least wait after so many failures of one entry, in seconds."""
    try:
        return min(duration * factor ** min(failures - 1, _LONGEST_POWER), max_wait)
    except OverflowError:
        return max_wait


class _Tried(NamedTuple):
    failures: int
    ready_at: float


class Next(NamedTuple):
    """What to do now."""

    endpoint: Endpoint
    wait: float


class Course:
    """The way of one request through the entries behind its model name.

    Args:
        endpoints: In the order of the configuration; at least one.
        clock: The source of time.
        jitter: Gives numbers from 0 to 1.
    """

    __slots__ = ("_clock", "_in_play", "_jitter", "_max_retries", "_retries", "_tried")

    def __init__(
        self, endpoints: Sequence[Endpoint], clock: Clock, jitter: Callable[[], float]
    ) -> None:
        self._in_play = list(endpoints)
        self._max_retries = endpoints[0].entry.max_retries
        self._clock = clock
        self._jitter = jitter
        self._tried: dict[str, _Tried] = {}
        self._retries = 0

    def first(self) -> Endpoint:
        """Who is asked first."""
        return self._untried() or self._in_play[0]

    def _untried(self) -> Endpoint | None:
        left = [e for e in self._in_play if e.name not in self._tried]
        return next((e for e in left if not e.cooled), left[0] if left else None)

    def other(self, endpoint: Endpoint) -> Endpoint:
        """Another that was not asked yet and is not in cooldown; `endpoint` where there is none."""
        others = (e for e in self._in_play if e is not endpoint and e.name not in self._tried)
        return next((e for e in others if not e.cooled), endpoint)

    def judge(self, endpoint: Endpoint, failure: Failure) -> tuple[Failure, float]:
        """The failure, made final where its wait would be too long, and the wait it asks for."""
        entry = endpoint.entry
        failures = self._tried[endpoint.name].failures + 1 if endpoint.name in self._tried else 1
        if failure.kind == "stop":
            return failure, 0.0
        asked = failure.asked_wait or 0.0
        if asked > entry.max_wait:
            return too_long_a_wait(failure, asked, entry.max_wait, self._clock.wall()), asked
        least = backoff(entry.retry_duration, entry.retry_factor, failures, entry.max_wait)
        wait = max(least, asked) + self._jitter() * least / 2
        self._tried[endpoint.name] = _Tried(failures, 0.0)
        return failure, min(wait, entry.max_wait)

    def after(self, endpoint: Endpoint, failure: Failure, wait: float) -> Next | None:
        """Who is asked after a judged failure, and when; None: give up."""
        now = self._clock.monotonic()
        if failure.kind == "stop":
            self._in_play.remove(endpoint)
        else:
            failures = self._tried[endpoint.name].failures
            self._tried[endpoint.name] = _Tried(failures, now + wait)
        if failure.final or not self._in_play:
            return None
        if (fresh := self._untried()) is not None:
            return Next(fresh, 0.0)
        if self._retries >= self._max_retries:
            return None
        self._retries += 1
        soonest = min(self._in_play, key=lambda e: self._tried[e.name].ready_at)
        return Next(soonest, max(self._tried[soonest.name].ready_at - now, 0.0))
