"""The rows next in line: read ahead of the workers, those with a kept answer settled in bulk."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import TYPE_CHECKING

from .._application.processors import resolve_processor
from .._datamodel import CallInfo, FinishReason, LLMProviderRequest
from .answers import is_async, process_now, row_of_response
from .prepare import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._application.call import Call, Caller
    from .._datamodel import LLMProviderResponse
    from .engine import PreparedRow, RowResult

__all__ = ["RowLine", "lookup_request"]

MOST_CHUNKS = 2
"""So many are read at once while every row has a kept answer: one is written down meanwhile."""


def lookup_request(caller: Caller, call: Call) -> LLMProviderRequest:
    """The request that a call will make, for looking it up before it is made."""
    request = call.request
    return LLMProviderRequest(
        getattr(caller.client, "client_id", ""),
        caller.context_id,
        "",
        request.model_name,
        request.messages,
        request.tools or {},
        request.options or {},
        call=CallInfo(caller.source, call.sample or 0, bool(call.fresh)),
    )


class RowLine:
    """Rows that have to be asked, in order; made and used on one loop.

    Args:
        rows: All rows, read lazily.
        caller: Whose ledger is asked for kept answers.
        keep: Takes the results of rows that need no model.
    """

    def __init__(
        self,
        rows: Iterator[PreparedRow],
        caller: Caller,
        keep: Callable[[int, RowResult], None],
    ) -> None:
        self._rows = rows
        self._caller = caller
        self._keep = keep
        self._ready: deque[PreparedRow] = deque()
        self._filling = asyncio.Lock()
        self._chunks = 1
        self.exhausted = False
        """True once all rows were read; some may still stand in line."""

    async def next(self) -> PreparedRow | None:
        """The first in line; None at the end."""
        while not self._ready:
            if self.exhausted and not self._filling.locked():
                return None
            async with self._filling:
                if not self._ready and not self.exhausted:
                    await self._fill()
        return self._ready.popleft()

    async def read_on(self, low: int) -> None:
        """Read the next rows where fewer than `low` stand in line and nobody reads."""
        if len(self._ready) < low and not self.exhausted and not self._filling.locked():
            async with self._filling:
                await self._fill()

    async def _fill(self) -> None:
        before = len(self._ready)
        chunks: list[list[PreparedRow]] = []
        while len(chunks) < self._chunks and not self.exhausted:
            chunks.append(self._read_chunk())
            await asyncio.sleep(0)
        for missed in await asyncio.gather(*map(self._settle_known, chunks)):
            self._ready.extend(missed)
        all_known = len(self._ready) == before
        self._chunks = min(MOST_CHUNKS, 2 * self._chunks) if all_known else 1

    def _read_chunk(self) -> list[PreparedRow]:
        """The next rows that need an answer; the others are settled."""
        rows = list(itertools.islice(self._rows, CHUNK))
        self.exhausted = len(rows) < CHUNK
        for row in rows:
            if row.settled is not None:
                self._keep(row.position, row.settled)
        return [row for row in rows if row.settled is None]

    async def _settle_known(self, rows: list[PreparedRow]) -> list[PreparedRow]:
        """Keep the answers that a ledger has; returns the rows that have to be asked."""
        if not rows or self._caller.client.ledger_mode == "off":
            return rows
        calls = [row.call for row in rows if row.call is not None]
        processor = resolve_processor(calls[0].request.post_processor, self._caller.processors)
        if is_async(processor):  # such a one belongs to the calls on its own loop
            return rows
        requests = [lookup_request(self._caller, call) for call in calls]
        found = await self._caller.client.lookup(requests)
        hits = [(r, f) for r, f in zip(rows, found, strict=True) if f is not None]
        if processor is None or not hits:
            settled = _read(hits, None)
        else:  # a user's function may take its time
            settled = await asyncio.to_thread(_read, hits, processor)
        for position, result in settled.items():
            self._keep(position, result)
        return [row for row in rows if row.position not in settled]


def _read(
    hits: list[tuple[PreparedRow, LLMProviderResponse]], processor: Callable[[str], object] | None
) -> dict[int, RowResult]:
    """Kept answers as rows; those that have to be asked for again are left out."""
    settled = {}
    for row, response in hits:
        assert row.call is not None
        result = _reading(row.call, response, processor)
        if result is not None:
            settled[row.position] = result
    return settled


def _reading(
    call: Call, response: LLMProviderResponse, processor: Callable[[str], object] | None
) -> RowResult | None:
    sample = call.sample or 0
    if processor is None or response.finish_reason != FinishReason.stop.value:
        return row_of_response(response, None, sample)
    processed = process_now(processor, response.response_text)
    if processed is None or (processed.error is not None and call.format_retries):
        return None
    return row_of_response(response, processed, sample)
