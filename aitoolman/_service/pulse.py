"""Noticing that this process stood still: frozen, swapped out, or suspended with its machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FREEZE_SECONDS", "Pulse"]

FREEZE_SECONDS = 4.0
"""Less than what clients wait before they give their requests to another server."""


class Pulse:
    """Must be felt often; where it was not for too long, everything before counts as stale.

    Args:
        on_thaw: Called with the seconds of silence, before anything else happens.
        freeze: Seconds without a beat that count as frozen.
    """

    def __init__(self, on_thaw: Callable[[float], None], freeze: float = FREEZE_SECONDS) -> None:
        self.epoch = 0
        """Counts the freezes."""
        self._on_thaw = on_thaw
        self._freeze = freeze
        self._last = _now()

    def feel(self) -> None:
        """Note that the process runs, and whether it did all the time."""
        now = _now()
        silence, self._last = now - self._last, now
        if silence > self._freeze:
            self.epoch += 1
            self._on_thaw(silence)


def _now() -> float:
    return time.monotonic()
