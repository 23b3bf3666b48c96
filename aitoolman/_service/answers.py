"""Finished answers, kept for clients that lost them on the way."""

from __future__ import annotations

import time
from collections import OrderedDict

from .sessions import KEEP_SECONDS

__all__ = ["FinishedAnswers"]

MAX_KEPT_BYTES = 128_000_000


class FinishedAnswers:
    """By session and request id, for a while and up to a size; the oldest are forgotten first."""

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES, keep_seconds: float = KEEP_SECONDS) -> None:
        self._max_bytes = max_bytes
        self._keep_seconds = keep_seconds
        self._size = 0
        self._by_session: dict[str, dict[str, bytes]] = {}
        self._order: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._order)

    @property
    def size(self) -> int:
        """Bytes kept."""
        return self._size

    def get(self, label: str, request_id: str) -> bytes | None:
        """The answer to a session's request."""
        return self._by_session.get(label, {}).get(request_id)

    def add(self, label: str, request_id: str, body: bytes) -> None:
        """Keep an answer."""
        self._by_session.setdefault(label, {})[request_id] = body
        self._order[label, request_id] = time.monotonic()
        self._size += len(body)
        while self._size > self._max_bytes:
            self._forget_first()

    def forget_old(self) -> None:
        """Drop what nobody came for in time."""
        limit = time.monotonic() - self._keep_seconds
        while self._order and next(iter(self._order.values())) < limit:
            self._forget_first()

    def _forget_first(self) -> None:
        (label, request_id), _ = self._order.popitem(last=False)
        answers = self._by_session[label]
        self._size -= len(answers.pop(request_id))
        if not answers:
            del self._by_session[label]
