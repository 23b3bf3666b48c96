"""Reading a ledger: calls as a table, one whole, two compared, and searching."""

from __future__ import annotations

import contextlib
import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import LLMApplicationError, LLMUnknownNameError
from .memory import memory_log
from .records import CALL_COLUMNS, Fragment, decode_fragments
from .schema import open_ledger
from .search import add_search, conditions
from .table import CallRow, CallTable
from .unseen import request_lines
from .upkeep import problems_in, remove
from .writer import drain

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Iterator

    from .._transport.client import LLMClient

__all__ = ["CallRecord", "Ledger", "calls_of"]

_COLUMNS = f"seq, {CALL_COLUMNS}"


class CallRecord(NamedTuple):
    """One call whole."""

    row: CallRow
    request: dict[str, Any] | None
    """Messages, tools and options as sent; None where only numbers were kept."""
    response: dict[str, Any] | None
    """The answer with all that was kept of it; of a server's ``request`` row the one it got."""
    fragments: list[Fragment]
    """The stream, piece by piece; empty where there was none."""

    def lines(self) -> list[str]:
        """The call as text: numbers, request, answer."""
        numbers = self.row.known()
        if self.request is not None or self.response is not None:
            numbers.pop("fields", None)  # a server's row may hold them, and they follow
        return [*(f"{name}: {value}" for name, value in numbers.items()), *self.words()]

    def words(self) -> list[str]:
        """Request and answer as text."""
        lines = []
        if self.request is not None:
            lines += ["", "--- request", *request_lines(self.request)]
        if self.response is not None:
            lines += ["", "--- answer", *_answer_lines(self.response)]
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _answer_lines(response: dict[str, Any]) -> list[str]:
    lines = []
    if response.get("response_reasoning"):
        lines += ["[reasoning]", *response["response_reasoning"].splitlines(), "[text]"]
    lines += (response.get("response_text") or "").splitlines()
    for call in response.get("response_tool_calls", []):
        lines.append(f"[tool call] {call['name']} {call['arguments_text']}")
    if response.get("error_text"):
        lines.append(f"[error] {response['error_text']}")
    return lines


class Ledger:
    """A ledger's file, for reading and keeping house. Every method opens it for itself.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(f"there is no ledger at {self.path}")

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"

    @contextlib.contextmanager
    def opened(self, *, read_only: bool = True) -> Iterator[sqlite3.Connection]:
        """A connection to the file, with everything in it that this process has recorded."""
        drain(self.path.absolute())
        connection = open_ledger(self.path, read_only=read_only)
        try:
            with connection.at_work:
                yield connection
        finally:
            connection.close()

    def calls(
        self,
        limit: int | None = 100,
        *,
        context: str | None = None,
        model: str | None = None,
        status: str | None = None,
        text: str | None = None,
        since: float | None = None,
    ) -> CallTable:
        """The latest calls and events, oldest first.

        Args:
            limit: The most rows; None for all.
            context: Only this context id and those below it.
            model: Only calls of this model name.
            status: Only calls that ended so, for example ``"error: request"``.
            text: Only calls whose prompt, answer, error or event holds this text (case is ignored
                where it is ASCII).
            since: Only what came after this Unix time.
        """
        where, values = conditions(
            context=context, model=model, status=status, text=text, since=since
        )
        query = f"SELECT {_COLUMNS} FROM calls WHERE {where} ORDER BY seq DESC LIMIT ?"  # noqa: S608
        with self.opened() as db:
            add_search(db)
            rows = db.execute(query, (*values, -1 if limit is None else limit)).fetchall()
        return CallTable([CallRow(*row) for row in reversed(rows)])

    def call(self, seq: int) -> CallRecord:
        """One call whole.

        Raises:
            LLMUnknownNameError: There is no call of this number.
        """
        with self.opened() as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM calls WHERE seq = ?", (seq,)).fetchone()  # noqa: S608
            if row is None:
                raise LLMUnknownNameError(f"{self.path} has no call number {seq}")
            return _record_of(db, CallRow(*row))

    def diff(self, one: int, other: int) -> str:
        """Two calls compared, prompt and answer, as a unified diff; empty where they are equal."""
        left, right = self.call(one).words(), self.call(other).words()
        return "\n".join(
            difflib.unified_diff(left, right, f"call {one}", f"call {other}", lineterm="", n=2)
        )

    def fingerprints(self) -> set[bytes]:
        """The keys of all answers that can be reused."""
        with self.opened() as db:
            rows = db.execute("SELECT DISTINCT fingerprint FROM answers WHERE reusable = 1")
            return {row[0] for row in rows}

    def prune(
        self, *, before: float | None = None, model: str | None = None, calls: bool = False
    ) -> dict[str, int]:
        """Remove answers, their media and, on request, the rows of calls; the file shrinks.

        Args:
            before: Only what is older than this Unix time.
            model: Only answers of this model name.
            calls: Remove the rows of `calls` as well, events included.

        Returns:
            How many rows of each table were removed.
        """
        with self.opened(read_only=False) as db:
            return remove(db, before, model, calls)

    def verify(self) -> list[str]:
        """What is wrong with the file, one sentence each; empty where it is sound."""
        with self.opened() as db:
            return problems_in(db)

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write all answers as JSON Lines, to be kept in git and replayed; returns how many."""
        from .portable import export_ledger

        return export_ledger(self, path)


def _record_of(db: sqlite3.Connection, row: CallRow) -> CallRecord:
    """A row with what was asked and answered; an event has neither."""
    if row.kind not in ("call", "cut", "request"):
        return CallRecord(row, None, None, [])
    outcome = _outcome_of(db, row) if row.kind == "request" else row
    kept = None if outcome is None or outcome.answer is None else _answer_of(db, outcome.answer)
    if kept is not None:
        request, response, fragments = kept
        return CallRecord(
            row, json.loads(request), json.loads(response), decode_fragments(fragments)
        )
    said = outcome.fields if outcome is not None else None
    return CallRecord(row, _asked_of(db, row), json.loads(said) if said else None, [])


def _answer_of(db: sqlite3.Connection, number: int) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = db.execute(
        "SELECT request, response, fragments FROM answers WHERE id = ?", (number,)
    ).fetchone()
    return row


def _outcome_of(db: sqlite3.Connection, request: CallRow) -> CallRow | None:
    """How a request to a server ended; None where it did not yet."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM calls WHERE request_id = ? AND kind IN ('call', 'cut')"  # noqa: S608
        " AND seq > ? ORDER BY seq LIMIT 1",
        (request.request_id, request.seq),
    ).fetchone()
    return CallRow(*row) if row else None


def _asked_of(db: sqlite3.Connection, row: CallRow) -> dict[str, Any] | None:
    """What a server was asked, as its row of the request tells it."""
    asked = db.execute(
        "SELECT fields FROM calls WHERE request_id = ? AND kind = 'request' AND seq <= ?"
        " ORDER BY seq DESC LIMIT 1",
        (row.request_id, row.seq),
    ).fetchone()
    said = json.loads(asked[0]) if asked and asked[0] else {}
    return said if "messages" in said else None


def calls_of(client: LLMClient, limit: int | None = 100, **filters: Any) -> CallTable:
    """The latest calls of a client: from its ledger, else what is remembered in memory.

    Raises:
        LLMApplicationError: A filter that needs a ledger, where there is none.
    """
    if client.ledger_path is not None:
        path = client.ledger_path
        return Ledger(path).calls(limit, **filters) if path.exists() else CallTable([])
    context = filters.pop("context", None)
    if filters:
        names = ", ".join(filters)
        raise LLMApplicationError(f"filtering by {names} needs a ledger; see docs/ledger.md")
    return memory_log(client).calls(limit, context=context)
