"""What a call needs beyond the specification's arguments: one value in a context variable."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CallInfo", "current_call", "use_call"]


class CallInfo(NamedTuple):
    """Who asks, and how a ledger is to treat the call.

    Set by application, factory, batch and workflow; every client's ``request`` may read it, before
    its first ``await``. It travels on `LLMProviderRequest` and on the wire, never in ``options``.
    """

    source: str | None = None
    """The name that queues are fair between: a lone application, a factory, a batch, a workflow."""
    sample: int = 0
    """Which of several answers to the same prompt is wanted (0 is the first)."""
    fresh: bool = False
    """True: ask the model even where a ledger holds an answer."""


_NO_CALL = CallInfo()
_current: ContextVar[CallInfo] = ContextVar("aitoolman_call", default=_NO_CALL)


def current_call() -> CallInfo:
    """The `CallInfo` in force here; one without a source outside any call."""
    return _current.get()


@contextlib.contextmanager
def use_call(info: CallInfo) -> Iterator[CallInfo]:
    """Make `info` the current call inside the block."""
    token = _current.set(info)
    try:
        yield info
    finally:
        _current.reset(token)
