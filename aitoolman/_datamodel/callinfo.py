"""What a call needs beyond the specification's arguments: one value in a context variable."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

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


class use_call:  # noqa: N801 - reads as a verb: `with use_call(info)`
    """Make `info` the current call inside the block."""

    __slots__ = ("_info", "_token")

    def __init__(self, info: CallInfo) -> None:
        self._info = info

    def __enter__(self) -> CallInfo:
        self._token = _current.set(self._info)
        return self._info

    def __exit__(self, *exc: object) -> None:
        _current.reset(self._token)
