"""What a server allows, and how long it waits."""

from __future__ import annotations

from typing import NamedTuple

from .._transport.wire import MAX_BYTES
from .pulse import FREEZE_SECONDS

__all__ = ["Limits"]


class Limits(NamedTuple):
    """Bounds and seconds; other values are for tests."""

    lease: float = 30.0
    """A client that says nothing for so long is taken for dead."""
    grace: float = 10.0
    """The same for one whose connection is gone."""
    max_bytes: int = MAX_BYTES
    max_requests: int = 2_000
    """Under way for one session; its client keeps the others back."""
    max_total: int = 20_000
    """Under way in all; further ones are answered "busy"."""
    tick: float = 0.5
    retry: float = 0.005
    """Between two attempts to send to a client that does not keep up."""
    drain: float = 10.0
    """What requests under way get to finish when the server is told to stop."""
    freeze: float = FREEZE_SECONDS
