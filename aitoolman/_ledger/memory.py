"""The last calls of a client that has no ledger, kept in memory and bounded."""

from __future__ import annotations

import itertools
import json
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import LLMUnknownNameError
from .likeness import response_like
from .table import CallRow, CallTable

if TYPE_CHECKING:
    from .._datamodel import LLMDirectRequest, LLMProviderResponse
    from .reader import CallRecord

__all__ = ["KEPT_CALLS", "MemoryLog", "memory_log"]

KEPT_CALLS = 1000
"""How many calls are remembered for one client."""
KEPT_SIZE = 20_000_000
"""How many characters and bytes of text and media they may hold together."""


class _Entry(NamedTuple):
    seq: int
    time: float
    model: str
    source: str | None
    response: LLMProviderResponse
    request: LLMDirectRequest | None
    size: int


class MemoryLog:
    """The last calls of one client."""

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque()
        self._size = 0
        self._numbers = itertools.count(1)

    def add(
        self,
        model: str,
        source: str | None,
        response: LLMProviderResponse,
        request: LLMDirectRequest | None = None,
    ) -> None:
        """Remember a finished call, and forget the oldest ones where that is too much."""
        # Without the raw bodies, which are many times the size of the rest.
        kept = response_like(response, exchange=None)
        size = _size_of(response, request)
        number = next(self._numbers)
        self._entries.append(_Entry(number, time.time(), model, source, kept, request, size))
        self._size += size
        while len(self._entries) > KEPT_CALLS or (
            self._size > KEPT_SIZE and len(self._entries) > 1
        ):
            self._size -= self._entries.popleft().size

    def call(self, seq: int) -> CallRecord:
        """One call whole.

        Raises:
            LLMUnknownNameError: There is no call of this number, or no more.
        """
        entry = next((entry for entry in list(self._entries) if entry.seq == seq), None)
        if entry is None:
            raise LLMUnknownNameError(f"no call number {seq} is remembered")
        from .fingerprint import canonical_request
        from .reader import CallRecord
        from .records import encode_response

        request, answer = entry.request, json.loads(encode_response(entry.response))
        asked = None
        if request is not None:
            asked = canonical_request(request.messages, request.tools, request.options)
        return CallRecord(_row(entry), asked, answer, [])

    def calls(self, limit: int | None = 100, *, context: str | None = None) -> CallTable:
        """The latest calls, oldest first."""
        rows = [_row(entry) for entry in list(self._entries) if _within(entry.response, context)]
        return CallTable(rows[-limit:] if limit is not None else rows)


def _size_of(response: LLMProviderResponse, request: LLMDirectRequest | None) -> int:
    size = len(response.response_text) + len(response.response_reasoning)
    for message in request.messages if request is not None else ():
        size += len(message.content or "")
        if message.media_content is not None:
            size += sum(len(item.data or b"") for item in message.media)
    return size


def _within(response: LLMProviderResponse, context: str | None) -> bool:
    own = response.context_id or ""
    return context is None or own == context or own.startswith(context + "/")


def _row(entry: _Entry) -> CallRow:
    from .records import attempts_json

    response = entry.response
    return CallRow(
        seq=entry.seq,
        kind="call",
        time=entry.time,
        client=response.client_id,
        context=response.context_id,
        source=entry.source,
        request_id=response.request_id,
        model=entry.model,
        answered_by=response.model_name,
        status=response.finish_reason,
        error=response.error_text,
        attempts=attempts_json(response),
        prompt_tokens=response.prompt_tokens,
        completion_tokens=response.completion_tokens,
        cached_tokens=response.cached_tokens,
        reasoning_tokens=response.reasoning_tokens,
        total_tokens=response.total_tokens,
        cost=response.cost,
        from_ledger=int(response.from_ledger),
        queue_time=response.queue_time,
        time_to_first_token=response.time_to_first_token,
        total_response_time=response.total_response_time,
    )


_logs: weakref.WeakKeyDictionary[Any, MemoryLog] = weakref.WeakKeyDictionary()


def memory_log(client: Any) -> MemoryLog:
    """The log of `client`, made on first use."""
    try:
        return _logs[client]
    except KeyError:
        return _logs.setdefault(client, MemoryLog())
