"""A bound on how often something is written down."""

from __future__ import annotations

import time

__all__ = ["Rate"]


class Rate:
    """Lets `per_second` things through; counts those that it does not.

    Args:
        per_second: How many.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._room = per_second
        self._last = time.monotonic()
        self._left_out = 0

    def allow(self) -> int | None:
        """How many were left out before this one, or None where this one is left out, too."""
        now = time.monotonic()
        self._room = min(self._per_second, self._room + (now - self._last) * self._per_second)
        self._last = now
        if self._room < 1:
            self._left_out += 1
            return None
        self._room -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out
