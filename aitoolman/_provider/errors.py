"""Failures between the parts of the provider, before they become an answer's status and text."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .._datamodel import FinishReason

__all__ = ["AttemptFailed", "Failure", "Kind", "LineMoved", "SinkFailed", "TransportError"]

Kind = Literal["wait", "retry", "stop"]


class TransportError(Exception):
    """The exchange with the server failed below the level of HTTP statuses.

    The message is one sentence for the user, with no secret in it.

    Attributes:
        retry: False where asking again cannot help (a bad certificate, an impossible address).
        unbilled: True where the request surely reached nobody.
    """

    def __init__(self, message: str, *, retry: bool = True, unbilled: bool = False) -> None:
        super().__init__(message)
        self.retry = retry
        self.unbilled = unbilled


class Failure(NamedTuple):
    """How one attempt failed, and what that means for the next."""

    text: str
    """One sentence for the user."""
    kind: Kind = "stop"
    """``wait``: not now; ``retry``: may work at once; ``stop``: never will, of this entry."""
    finish: FinishReason = FinishReason.error_request
    status: int | None = None
    """The HTTP status, None where no answer came."""
    code: str | None = None
    """The vendor's own error code."""
    asked_wait: float | None = None
    """Seconds that the vendor asks to wait."""
    final: bool = False
    """True: another entry is not to be asked either."""
    entry_at_fault: bool = True
    """False where the request itself was refused, so that the entry is fine for others."""
    unbilled: bool = False
    """True where the attempt surely cost nothing."""


class AttemptFailed(Exception):
    """Carries a `Failure` up to whoever decides what comes next."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class LineMoved(Exception):
    """A waiting request is sent to another entry, as its own will let nobody in for a while."""


class SinkFailed(Exception):
    """A channel of the caller raised; the cause is what it raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"the output channel failed: {type(cause).__name__}: {cause}")
