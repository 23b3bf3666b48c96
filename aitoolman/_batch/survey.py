"""What a run over the rows would send: counted, nothing sent."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from .._provider.tokens import measure_prompt
from .line import lookup_request
from .prepare import CHUNK

if TYPE_CHECKING:
    from .._application.call import Call, Caller
    from .._datamodel import Message
    from .prepare import RowMaker

__all__ = ["Survey", "survey_rows"]

SHOWN_ROWS = 2
SHOWN_PROBLEMS = 3
AHEAD = 20
"""Rows of an iterator that are looked at."""


class Survey(NamedTuple):
    """Counts over the rows that were looked at."""

    rows: int | None
    """All rows; None where an iterator does not tell."""
    looked_at: int = 0
    duplicates: int = 0
    """Rows whose request is that of an earlier row."""
    answered: int = 0
    """Distinct requests that the ledger has an answer for."""
    missing: int = 0
    unrenderable: int = 0
    to_send: int = 0
    """Distinct requests without an answer."""
    prompt_tokens: int = 0
    """Estimated, of those to send."""
    samples: tuple[tuple[int, list[Message]], ...] = ()
    """Some rows as they would be sent."""
    problems: tuple[str, ...] = ()
    """The first rows that cannot be sent, and why."""
    first_call: Any = None
    first_tokens: int = 0
    """Estimated, of the first call."""

    @property
    def complete(self) -> bool:
        return self.rows is not None


async def survey_rows(
    maker: RowMaker, caller: Caller, *, reuses: bool, whole: bool = True
) -> Survey:
    """Render every row (of an iterator, and where nobody looks: the first few) and count.

    Args:
        maker: Makes the calls.
        caller: Whose ledger is asked.
        reuses: False where identical requests are all sent.
        whole: Look at every row.
    """
    counter = _Counter(maker, caller, reuses)
    length = maker.source.length
    if length is None or not whole:
        await counter.look_at(0, AHEAD)
        return counter.survey(None)
    for start in range(0, length, CHUNK):
        await counter.look_at(start, start + CHUNK)
        await asyncio.sleep(0)
    return counter.survey(length)


class _Counter:
    def __init__(self, maker: RowMaker, caller: Caller, reuses: bool) -> None:
        self._maker = maker
        self._caller = caller
        self._reuses = reuses
        self._seen: set[bytes] = set()
        self._counts = dict.fromkeys(
            ["looked_at", "duplicates", "answered", "missing", "unrenderable", "to_send"], 0
        )
        self._tokens = 0
        self._samples: list[tuple[int, list[Message]]] = []
        self._problems: list[str] = []
        self._first_call: Call | None = None

    def survey(self, rows: int | None) -> Survey:
        return Survey(
            rows,
            **self._counts,
            prompt_tokens=self._tokens,
            samples=tuple(self._samples),
            problems=tuple(self._problems),
            first_call=self._first_call,
            first_tokens=_tokens(self._first_call) if self._first_call else 0,
        )

    async def look_at(self, start: int, stop: int) -> None:
        fresh = []
        for row in self._maker.rows(start, stop):
            self._counts["looked_at"] += 1
            if row.settled is not None:
                self._note_problem(row.position, row.settled.status, row.settled.error)
            elif row.call is not None and self._is_new(row.position, row.call):
                fresh.append(row.call)
        await self._count_answered(fresh)

    def _note_problem(self, position: int, status: str, error: str | None) -> None:
        self._counts["missing" if status == "skipped" else "unrenderable"] += 1
        if len(self._problems) < SHOWN_PROBLEMS:
            self._problems.append(f"row {position}: {error}")

    def _is_new(self, position: int, call: Call) -> bool:
        messages = call.request.messages
        if len(self._samples) < SHOWN_ROWS:
            self._samples.append((position, messages))
            self._first_call = self._first_call or call
        key = _digest(messages)
        if key in self._seen:
            self._counts["duplicates"] += 1
            return not self._reuses
        self._seen.add(key)
        return True

    async def _count_answered(self, calls: list[Call]) -> None:
        requests = [lookup_request(self._caller, call) for call in calls]
        known = await self._caller.client.lookup(requests, record=False)
        for call, found in zip(calls, known, strict=True):
            self._counts["to_send" if found is None else "answered"] += 1
            if found is None:
                self._tokens += _tokens(call)


def _tokens(call: Call) -> int:
    return measure_prompt(call.request.messages, call.request.tools).tokens()


def _digest(messages: list[Message]) -> bytes:
    """Tells the requests of one plan apart: only their texts differ."""
    text = "\0".join([message.content or "" for message in messages])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
