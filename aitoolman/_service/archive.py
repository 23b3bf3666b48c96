"""The audit in an SQLite file of the reader's own: ``aitoolman monitor --db-path``."""

from __future__ import annotations

import json
import os
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from .._transport import wire

__all__ = ["AuditArchive"]

_RESPONSE = (
    "client_id", "context_id", "request_id", "model_name", "stream", "start_time", "queue_time",
    "queue_length", "time_to_first_token", "total_response_time", "response_text",
    "response_reasoning", "response_tool_calls", "finish_reason", "error_text", "prompt_tokens",
    "completion_tokens", "response_message", "cached_tokens", "reasoning_tokens",
    "total_tokens", "attempts", "cost", "from_ledger", "notes",
)  # fmt: skip
_TABLES = f"""
CREATE TABLE IF NOT EXISTS audit (
    ledger TEXT NOT NULL, seq INTEGER NOT NULL, time REAL, kind TEXT, client TEXT, context TEXT,
    request_id TEXT, model TEXT, row TEXT NOT NULL, PRIMARY KEY (ledger, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
    ledger TEXT NOT NULL, seq INTEGER NOT NULL, time REAL, client_id TEXT, context_id TEXT,
    request_id TEXT, model_name TEXT, stream INTEGER, messages TEXT, tools TEXT, options TEXT,
    PRIMARY KEY (ledger, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS responses (
    ledger TEXT NOT NULL, seq INTEGER NOT NULL, time REAL, {", ".join(_RESPONSE)},
    PRIMARY KEY (ledger, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    ledger TEXT NOT NULL, seq INTEGER NOT NULL, time REAL, client_id TEXT, context_id TEXT,
    event TEXT, fields TEXT, PRIMARY KEY (ledger, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gaps (ledger TEXT, first INTEGER, last INTEGER, reason TEXT);
"""


class AuditArchive:
    """Tables ``requests``, ``responses`` and ``events``, and ``audit`` with every row as it came.

    Args:
        path: The file; made for its owner only.
    """

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(path, timeout=30)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(_TABLES)

    def last(self, ledger: str) -> int:
        """The last number kept of a sequence, 0 for none."""
        row = self._db.execute("SELECT max(seq) FROM audit WHERE ledger = ?", (ledger,)).fetchone()
        return row[0] or 0

    def add(self, ledger: str, event: wire.Event) -> None:
        """Keep a row; one that is there already stays. Durable after `commit`."""
        values = event.values
        key = (ledger, event.seq, values.get("time"))
        who = [values.get(name) for name in ("client", "context", "request_id", "model")]
        self._insert("audit", [*key, values.get("kind"), *who, _text(values)])
        fields = json.loads(values.get("fields") or "{}")
        if values.get("kind") == "request":
            asked = [_text(fields.get(name)) for name in ("messages", "tools", "options")]
            self._insert("requests", [*key, *who, fields.get("stream"), *asked])
        elif values.get("kind") in ("call", "cut"):
            self._insert("responses", [*key, *_response(values, fields)])
        elif values.get("kind") == "event":
            self._insert("events", [*key, *who[:2], values.get("event"), values.get("fields")])

    def note_gap(self, ledger: str, first: int, last: int, reason: str) -> None:
        """Remember that rows are missing."""
        self._insert("gaps", [ledger, first, last, reason])
        self._db.commit()

    def commit(self) -> None:
        self._db.commit()

    def close(self) -> None:
        self._db.commit()
        self._db.close()

    def _insert(self, table: str, values: list[Any]) -> None:
        marks = ", ".join("?" * len(values))
        self._db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", values)  # noqa: S608


def _response(values: dict[str, Any], fields: dict[str, Any]) -> list[Any]:
    """The columns of `responses`: from the answer where it is kept, else from the row."""
    known = {
        "client_id": values.get("client"),
        "context_id": values.get("context"),
        "request_id": values.get("request_id"),
        "model_name": values.get("answered_by") or values.get("model"),
        "finish_reason": values.get("status"),
        "error_text": values.get("error"),
        "stream": False,
        "response_text": "" if fields else None,
        "response_reasoning": "" if fields else None,
        "from_ledger": False,
        **{name: value for name, value in values.items() if name in _RESPONSE},
        **{name: value for name, value in fields.items() if name in _RESPONSE},
    } | {"request_id": values.get("request_id")}
    return [_text(known.get(name)) for name in _RESPONSE]


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value
