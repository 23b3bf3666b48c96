"""A ledger's file as an engine uses it: read at once on the loop, written by the writing thread.

A file that fails in mid-flight costs no answer: the failure is logged, and a note tells the caller.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from .._datamodel import ModelDescription
from . import queries, records
from .keeping import Keeper
from .schema import open_ledger
from .unseen import explain_unseen
from .writer import LedgerWriter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .._datamodel import LLMProviderRequest, LLMProviderResponse
    from .flights import Flight
    from .questions import Question

__all__ = ["LedgerStore"]

T = TypeVar("T")

_log = logging.getLogger("aitoolman.ledger")
_encode = msgspec.json.Encoder(enc_hook=str).encode

MANY = 100
"""So many different failures are told apart in the log."""


class LedgerStore:
    """The file of one engine.

    Args:
        path: The file; made where there is none, unless it is only read.
        full: Keep prompts and answers, not numbers alone.
        read_only: Never write: for replay.
        redact: Cuts secrets out of a text.

    Raises:
        LLMConfigError: The file cannot be used as a ledger.
    """

    def __init__(
        self,
        path: Path,
        *,
        full: bool = True,
        read_only: bool = False,
        redact: Callable[[str], str] = str,
    ) -> None:
        self.path = path
        self.keeper = Keeper(full, redact)
        self._reader = open_ledger(path, read_only=read_only)
        self._reader.execute("PRAGMA busy_timeout = 50")  # it runs on the loop
        self._writer = None if read_only else LedgerWriter(path)
        self._failures: set[str] = set()
        self._finalizer = weakref.finalize(self, _end, self._reader, self._writer)
        self._finalizer.atexit = False

    async def close(self) -> None:
        """Write what is still waiting and close the file. Again is fine."""
        self._finalizer.detach()
        if self._writer is not None:
            await self._writer.close()
        self._reader.close()

    # Reading, on the loop: some microseconds each

    def find(self, key: bytes) -> queries.StoredAnswer | None:
        """The newest reusable answer under `key`; None where the file cannot tell."""
        return self._read(lambda db: queries.find_answer(db, key), None)

    def find_many(self, keys: Sequence[bytes]) -> dict[bytes, queries.StoredAnswer]:
        """`find` for each of `keys` that has an answer."""
        return self._read(lambda db: queries.find_answers(db, keys), {})

    def digests(self, model_name: str) -> list[str]:
        """What a model name stood for, the latest first."""
        return self._read(lambda db: queries.digests_of(db, model_name), [])

    def turns(self, keys: Sequence[bytes]) -> list[int]:
        """The numbers of the answers that calls of `keys` got, in order."""
        return self._read(lambda db: queries.answers_in_turn(db, keys), [])

    def kept(self, number: int) -> queries.StoredAnswer | None:
        """An answer by its number."""
        return self._read(lambda db: queries.kept_answer(db, number), None)

    def description(self, model_name: str) -> ModelDescription | None:
        """What was noted of a model when it was last used."""
        row = self._read(lambda db: queries.description_of(db, model_name), None)
        if row is None:
            return None
        known = msgspec.json.decode(row[1])
        return ModelDescription(
            model_name,
            row[0],
            tuple(known.get("entries", ())),
            known.get("limits", {}),
            known.get("price"),
        )

    def explain(self, question: Question) -> str:
        """Why a request is not in the file: the difference to the nearest one. For any thread."""
        with contextlib.closing(open_ledger(self.path, read_only=True)) as db, db.at_work:
            return explain_unseen(db, question)

    def _read(self, query: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        try:
            with self._reader.at_work:
                return query(self._reader)
        except sqlite3.Error as exc:
            self._failed(exc)
            return otherwise

    # Writing

    def begin(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Do `work` in the writing thread, in order; the future is done after the commit.

        Its failure is the caller's affair: nothing is logged.
        """
        assert self._writer is not None
        return self._writer.begin(work)

    async def keep(
        self,
        flight: Flight,
        response: LLMProviderResponse,
        answer: queries.NewAnswer | None,
        key: bytes | None,
    ) -> int | None:
        """Record an answer and its call; returns when it is durable, with the answer's number."""
        row = self.keeper.row(records.call_row(flight.request, response, key))
        return await self._written(lambda db: queries.add_answer(db, answer, row), response)

    async def record(self, row: tuple[Any, ...]) -> None:
        """Record a row of `calls`; returns when it is durable."""
        await self._written(lambda db: queries.add_calls(db, [self.keeper.clean(row)]))

    async def record_all(self, rows: list[tuple[Any, ...]]) -> None:
        """Record many calls that were found in the file; returns when all of them are durable."""
        shown = rows if self.keeper.full else [records.without_words(row) for row in rows]
        if shown:
            await self._written(lambda db: queries.add_calls(db, shown))

    def post(
        self,
        request: LLMProviderRequest,
        response: LLMProviderResponse,
        key: bytes | None,
        answer: int | None = None,
    ) -> None:
        """Record a call within a moment, without waiting for it."""
        if self._writer is not None:
            self._writer.post(self.keeper.row(records.call_row(request, response, key, answer)))

    async def note_model(self, description: ModelDescription) -> None:
        """Note what a model name stands for now, so that replay resolves nothing."""
        name, digest = description.model_name, description.digest
        text = _encode(
            {
                "entries": description.entries,
                "limits": description.limits,
                "price": description.price,
            }
        ).decode()
        await self._written(lambda db: queries.remember_model(db, name, digest, text))

    async def _written(
        self,
        work: Callable[[sqlite3.Connection], T],
        response: LLMProviderResponse | None = None,
    ) -> T | None:
        """Do `work` in the writing thread; a failure is logged, and noted in `response`."""
        if self._writer is None:
            return None
        try:
            return await self._writer.run(work)
        except Exception as exc:  # noqa: BLE001 - a full disk must not cost a paid answer
            self._failed(exc, response)
            return None

    def _failed(self, exc: Exception, response: LLMProviderResponse | None = None) -> None:
        """Log a failure, loudly when it is new, and note it for the caller."""
        if response is not None:
            response.notes.append(f"the ledger could not record this call: {exc}")
        text = f"{type(exc).__name__}: {exc}"
        level = logging.DEBUG if text in self._failures else logging.ERROR
        if len(self._failures) < MANY:
            self._failures.add(text)
        _log.log(level, "the ledger %s failed, calls go on without it: %s", self.path, text)

    def answer(
        self,
        question: Question,
        digest: str,
        key: bytes,
        flight: Flight,
        response: LLMProviderResponse,
    ) -> queries.NewAnswer | None:
        """An answer as it is to be kept; None where only numbers are, or it cannot be written."""
        try:
            return self.keeper.answer(question, digest, key, flight.fragments, response)
        except Exception as exc:  # noqa: BLE001 - a client of one's own may answer anything
            self._failed(exc, response)
            return None


def _end(reader: sqlite3.Connection, writer: LedgerWriter | None) -> None:
    """The file of an engine that was dropped without being closed."""
    reader.close()
    if writer is not None:
        writer.stop()
