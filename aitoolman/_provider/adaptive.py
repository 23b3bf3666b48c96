"""How many requests at once a vendor takes, found out from how it answers.

The limit starts at its ceiling. It falls when the vendor refuses (429, overloaded) and when answers
become slower; it grows back by one for each round of good answers. A limit at which the vendor
refused is remembered: the next try beyond it comes later each time, so that a steady vendor is not
asked for a refusal every few answers.
"""

from __future__ import annotations

import math

__all__ = ["AdaptiveLimit"]

BACK_OFF = 0.9
"""What is left of the limit after one refusal, or a round of slow answers."""

SLOW = 2.0
"""So many times the usual latency is a sign of overload."""

_MAX_PATIENCE = 8
_SETTLED = 20
_SHORT = 0.05
_LONG = 0.002
_LEAK = _LONG / 10
_CLEAR = 4.0
"""A mean that is so many standard errors off is no accident."""
_SPREAD_OF_MEAN = math.sqrt(_SHORT / (2 - _SHORT))


class _Latency:
    """Recent and usual latency of answers of one size, on a logarithmic scale."""

    __slots__ = ("count", "deviation", "recent", "usual")

    def __init__(self) -> None:
        self.count = 0
        self.recent = self.usual = self.deviation = 0.0

    def excess(self, value: float) -> float:
        """How far the recent ones are above the usual, noise taken off; 0 while that is unknown."""
        self.count += 1
        start = 1 / self.count
        off = abs(value - self.recent) if self.count > 1 else 0.0
        self.deviation += (off - self.deviation) * max(_SHORT, start)
        self.recent += (value - self.recent) * max(_SHORT, start)
        rise = self.recent - self.usual
        # While all is well the usual follows; else hardly, or it would soon call illness health.
        ill = self.count > _SETTLED and rise > math.log(SLOW) / 2
        self.usual += (value - self.usual) * (_LEAK if ill else max(_LONG, start))
        if self.count <= _SETTLED or rise < _CLEAR * 1.25 * self.deviation * _SPREAD_OF_MEAN:
            return 0.0
        return rise


class AdaptiveLimit:
    """The limit of one model.

    Args:
        ceiling: ``parallel`` of the configuration; never exceeded.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self._value = float(ceiling)
        self._round = 0
        """Requests with lower numbers were sent before the limit last fell."""
        self._refused_at = math.inf
        self._patience = 1
        self._slow_start = 0.0
        self._latencies: dict[tuple[bool, int], _Latency] = {}
        self._excess = 0.0

    @property
    def limit(self) -> int:
        """Requests that may be under way at once, at least 1."""
        return max(1, int(self._value))

    def refused(self, number: int, latest: int, in_use: int) -> None:
        """The vendor would not take a request.

        Args:
            number: Of the refused request; they count up as requests are sent.
            latest: Number of the newest request sent.
            in_use: Requests still under way, without this one.
        """
        if number >= self._round:
            self._note_ceiling()
            self._round = latest + 1
            self._slow_start = self._value / 2
            self._value *= BACK_OFF
            self._excess = 0.0
        # Of a burst, those that the vendor took are still under way: there were so many places.
        self._value = max(1.0, min(self._value, max(in_use, 1)))

    def _note_ceiling(self) -> None:
        again = self.limit >= self._refused_at
        self._patience = min(self._patience * 2, _MAX_PATIENCE) if again else 1
        self._refused_at = self.limit

    def answered(self, number: int, in_use: int, latency: float, stream: bool, size: int) -> None:
        """A good answer.

        Args:
            number: Of the request.
            in_use: Requests under way when it ended, this one included.
            latency: Seconds to the first token of a stream, else to the end.
            stream: Whether `latency` is that of a first token.
            size: Tokens that took that time: of the prompt for a stream, else of the answer.
        """
        self._watch(latency, stream, size)
        if self._excess > math.log(SLOW):
            self._slow(number)
        elif self._excess < math.log(SLOW) / 2 and in_use >= self._value - 1:
            self._grow()

    def _grow(self) -> None:
        if self._value < self._slow_start:
            step = 1.0
        else:
            patience = self._patience if self._value + 1 >= self._refused_at else 1
            step = 1 / (self._value * patience)
        self._value = min(self.ceiling, self._value + step)
        if self._value >= self._refused_at + 1:
            # The vendor takes more than it did.
            self._refused_at, self._patience = math.inf, 1

    def _slow(self, number: int) -> None:
        """Once a round, at most."""
        if number >= self._round:
            self._round = number + self.limit
            self._value = max(1.0, self._value * BACK_OFF)

    def _watch(self, latency: float, stream: bool, size: int) -> None:
        # Answers are compared with those of about their size: a long one takes longer.
        key = (stream, int(2 * math.log2(max(size, 0) + 8)))
        usual = self._latencies.get(key)
        if usual is None:
            usual = self._latencies[key] = _Latency()
        self._excess = usual.excess(math.log(max(latency, 1e-4)))
