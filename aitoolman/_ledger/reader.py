"""Reading a ledger: calls as a table, one whole, two compared, and searching."""

from __future__ import annotations

import contextlib
import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from .._datamodel import LLMApplicationError, LLMUnknownNameError
from .memory import memory_log
from .records import CALL_COLUMNS, Fragment, decode_fragments
from .schema import open_ledger
from .table import CallRow, CallTable
from .unseen import request_lines
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
    """The answer with all that was kept of it."""
    fragments: list[Fragment]
    """The stream, piece by piece; empty where there was none."""

    def lines(self) -> list[str]:
        """The call as text: numbers, request, answer."""
        lines = [f"{name}: {value}" for name, value in self.row.known().items()]
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
    def _open(self, *, read_only: bool = True) -> Iterator[sqlite3.Connection]:
        drain(self.path.absolute())
        connection = open_ledger(self.path, read_only=read_only)
        try:
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
            text: Only calls whose prompt or answer holds this text (ASCII case is ignored).
            since: Only what came after this Unix time.
        """
        where, values = _conditions(context, model, status, text, since)
        query = f"SELECT {_COLUMNS} FROM calls WHERE {where} ORDER BY seq DESC LIMIT ?"  # noqa: S608
        with self._open() as db:
            rows = db.execute(query, (*values, -1 if limit is None else limit)).fetchall()
        return CallTable([CallRow(*row) for row in reversed(rows)])

    def call(self, seq: int) -> CallRecord:
        """One call whole.

        Raises:
            LLMUnknownNameError: There is no call of this number.
        """
        with self._open() as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM calls WHERE seq = ?", (seq,)).fetchone()  # noqa: S608
            if row is None:
                raise LLMUnknownNameError(f"{self.path} has no call number {seq}")
            call = CallRow(*row)
            answer = _answer_of(db, call)
        if answer is None:
            return CallRecord(call, None, None, [])
        request, response, fragments = answer
        return CallRecord(
            call, json.loads(request), json.loads(response), decode_fragments(fragments)
        )

    def diff(self, one: int, other: int) -> str:
        """Two calls compared, prompt and answer, as a unified diff; empty where they are equal."""
        a, b = self.call(one), self.call(other)
        left, right = a.lines()[len(a.row.known()) :], b.lines()[len(b.row.known()) :]
        return "\n".join(
            difflib.unified_diff(left, right, f"call {one}", f"call {other}", lineterm="", n=2)
        )

    def fingerprints(self) -> set[bytes]:
        """The keys of all answers that can be reused."""
        with self._open() as db:
            rows = db.execute("SELECT DISTINCT fingerprint FROM answers WHERE reusable")
            return {row[0] for row in rows}

    def prune(
        self, *, before: float | None = None, model: str | None = None, calls: bool = False
    ) -> dict[str, int]:
        """Remove answers, and on request the rows of calls; the file shrinks.

        Args:
            before: Only what is older than this Unix time.
            model: Only answers of this model name.
            calls: Remove the rows of `calls` as well, events included.

        Returns:
            How many rows of each table were removed.
        """
        where, values = _age_and_model("created", before, model)
        with self._open(read_only=False) as db:
            db.execute("BEGIN IMMEDIATE")
            removed = {"answers": db.execute(f"DELETE FROM answers WHERE {where}", values).rowcount}  # noqa: S608
            if calls:
                where, values = _age_and_model("time", before, model)
                removed["calls"] = db.execute(f"DELETE FROM calls WHERE {where}", values).rowcount  # noqa: S608
            if not db.execute("SELECT 1 FROM answers LIMIT 1").fetchone():
                db.execute("DELETE FROM media")
            db.execute("COMMIT")
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return removed

    def verify(self) -> list[str]:
        """What is wrong with the file, one sentence each; empty where it is sound."""
        with self._open() as db:
            problems = [
                f"SQLite: {row[0]}"
                for row in db.execute("PRAGMA integrity_check")
                if row[0] != "ok"
            ]
            problems += _unreadable_answers(db)
        return problems


def _conditions(
    context: str | None,
    model: str | None,
    status: str | None,
    text: str | None,
    since: float | None,
) -> tuple[str, list[Any]]:
    parts: list[str] = ["1"]
    values: list[Any] = []
    if context is not None:
        parts.append("(context = ? OR substr(context, 1, ?) = ?)")
        values += [context, len(context) + 1, context + "/"]
    for column, value in (("model", model), ("status", status)):
        if value is not None:
            parts.append(f"{column} = ?")
            values.append(value)
    if since is not None:
        parts.append("time > ?")
        values.append(since)
    if text is not None:
        parts.append(
            "(answer IN (SELECT id FROM answers WHERE CAST(request AS TEXT) LIKE ? ESCAPE '!'"
            " OR CAST(response AS TEXT) LIKE ? ESCAPE '!') OR fields LIKE ? ESCAPE '!')"
        )
        values += [_pattern(text)] * 3
    return " AND ".join(parts), values


def _pattern(text: str) -> str:
    """A LIKE pattern for `text` as it stands inside JSON."""
    inside = msgspec.json.encode(text)[1:-1].decode()
    for special in "!%_":
        inside = inside.replace(special, "!" + special)
    return f"%{inside}%"


def _age_and_model(column: str, before: float | None, model: str | None) -> tuple[str, list[Any]]:
    parts: list[str] = ["1"]
    values: list[Any] = []
    if before is not None:
        parts.append(f"{column} < ?")
        values.append(before)
    if model is not None:
        parts.append("model = ?")
        values.append(model)
    return " AND ".join(parts), values


def _answer_of(db: sqlite3.Connection, call: CallRow) -> tuple[Any, ...] | None:
    if call.answer is None:
        return None
    row: tuple[Any, ...] | None = db.execute(
        "SELECT request, response, fragments FROM answers WHERE id = ?", (call.answer,)
    ).fetchone()
    return row


def _unreadable_answers(db: sqlite3.Connection) -> Iterator[str]:
    for number, key, request, response, fragments in db.execute(
        "SELECT id, fingerprint, request, response, fragments FROM answers"
    ):
        try:
            json.loads(request)
            json.loads(response)
            decode_fragments(fragments)
        except (ValueError, msgspec.DecodeError) as exc:
            yield f"answer {number} cannot be read: {exc}"
        if len(key) != 32:
            yield f"answer {number} has a fingerprint of {len(key)} bytes instead of 32"


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
