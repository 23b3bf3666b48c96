"""Keeping house in a ledger: removing what is not wanted any more, and checking the rest."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

from .records import decode_fragments

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["problems_in", "remove"]


def remove(
    db: sqlite3.Connection, before: float | None, model: str | None, calls: bool
) -> dict[str, int]:
    """Delete answers, media that nothing needs any more and, on request, rows of calls.

    What a server's rows say of prompts and answers goes with the answers. The file is rewritten,
    so that nothing of it is left behind.
    """
    db.execute("BEGIN IMMEDIATE")
    removed = {"answers": _delete(db, "answers", "created", before, model)}
    if calls:
        removed["calls"] = _delete(db, "calls", "time", before, model)
    else:
        _empty(db, before, model)
    removed["media"] = _delete_orphans(db)
    db.execute("COMMIT")
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return removed


def _delete(
    db: sqlite3.Connection, table: str, column: str, before: float | None, model: str | None
) -> int:
    condition, values = _which(column, before, model)
    return db.execute(f"DELETE FROM {table} WHERE {condition}", values).rowcount  # noqa: S608


def _empty(db: sqlite3.Connection, before: float | None, model: str | None) -> None:
    """Take the texts out of rows that stay."""
    condition, values = _which("time", before, model)
    texts = "kind IN ('request', 'call', 'cut') AND fields IS NOT NULL"
    db.execute(f"UPDATE calls SET fields = NULL WHERE {texts} AND {condition}", values)  # noqa: S608


def _which(column: str, before: float | None, model: str | None) -> tuple[str, list[Any]]:
    parts: list[str] = ["1"]
    values: list[Any] = []
    for condition, value in ((f"{column} < ?", before), ("model = ?", model)):
        if value is not None:
            parts.append(condition)
            values.append(value)
    return " AND ".join(parts), values


_REQUESTS = """
    SELECT request FROM answers WHERE instr(CAST(request AS TEXT), '"sha256"')
    UNION ALL SELECT fields FROM calls WHERE kind = 'request' AND instr(fields, '"sha256"')
"""


def _delete_orphans(db: sqlite3.Connection) -> int:
    needed = {
        bytes.fromhex(item["sha256"])
        for (request,) in db.execute(_REQUESTS)
        for message in json.loads(request)["messages"]
        for item in message.get("media", ())
        if "sha256" in item
    }
    kept = [row[0] for row in db.execute("SELECT sha256 FROM media")]
    orphans = [(key,) for key in kept if key not in needed]
    db.executemany("DELETE FROM media WHERE sha256 = ?", orphans)
    return len(orphans)


def problems_in(db: sqlite3.Connection) -> list[str]:
    """What is wrong with a file, one sentence each; empty where it is sound."""
    try:
        found = [f"SQLite: {r[0]}" for r in db.execute("PRAGMA integrity_check") if r[0] != "ok"]
        return [*found, *_bad_answers(db), *_bad_calls(db), *_bad_media(db)]
    except sqlite3.DatabaseError as exc:
        return [f"SQLite: {exc}"]


def _bad_answers(db: sqlite3.Connection) -> Iterator[str]:
    for number, key, request, response, fragments in db.execute(
        "SELECT id, fingerprint, request, response, fragments FROM answers"
    ):
        try:
            json.loads(request)
            json.loads(response)
            decode_fragments(fragments)
        except ValueError as exc:
            yield f"answer {number} cannot be read: {exc}"
        if len(key) != 32:
            yield f"answer {number} has a fingerprint of {len(key)} bytes instead of 32"


def _bad_calls(db: sqlite3.Connection) -> Iterator[str]:
    for number, *texts in db.execute("SELECT seq, attempts, fields FROM calls"):
        try:
            for text in texts:
                json.loads(text or "{}")
        except ValueError as exc:
            yield f"row {number} of the list of calls cannot be read: {exc}"


def _bad_media(db: sqlite3.Connection) -> Iterator[str]:
    for key, data in db.execute("SELECT sha256, data FROM media"):
        if hashlib.sha256(data).digest() != key:
            yield f"the media item {key.hex()} has other bytes than were recorded"
