"""What the audit asks of its file: functions of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .._ledger import queries
from .._ledger.records import CALL_NAMES, restore_response
from .._transport import wire

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

__all__ = ["NewRow", "answer_of", "event_of", "insert", "page_of", "prepare"]

_PAGE_BYTES = 8_000_000
_COLUMNS = ", ".join(f"calls.{name}" for name in CALL_NAMES)
_PAGE = (
    f"SELECT calls.seq, {_COLUMNS}, answers.response FROM calls"  # noqa: S608 - constants
    " LEFT JOIN answers ON answers.id = calls.answer"
    " WHERE calls.seq > ? ORDER BY calls.seq LIMIT ?"
)
_LEFT = ("client", "context", "source", "request_id", "model", "sample", "fingerprint")


class NewRow(NamedTuple):
    """A row to be written, with what belongs to it."""

    values: dict[str, Any]
    """By column."""
    answer: queries.NewAnswer | None = None
    said: str | None = None
    """The text of its answer, where that is in the file already."""
    media: Mapping[bytes, bytes] = {}

    def event(self, seq: int) -> wire.Event:
        """What is published of it."""
        said = self.said if self.answer is None else self.answer.response.decode()
        return event_of(seq, self.values, said)


def event_of(seq: int, values: Mapping[str, Any], said: str | None) -> wire.Event:
    """A row as it travels; its answer stands in ``fields``, where an event's fields stand."""
    known = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in values.items()
        if value is not None
    }
    return wire.Event(seq, known if said is None else known | {"fields": said})


def insert(db: sqlite3.Connection, rows: Iterable[NewRow]) -> list[int]:
    """Add rows with their answers and media; gives their numbers."""
    return [_insert(db, row) for row in rows]


def _insert(db: sqlite3.Connection, row: NewRow) -> int:
    queries.keep_media(db, row.media)
    if row.answer is not None:
        row.values["answer"] = queries.keep_answer(db, row.answer)
    return queries.add_call(db, tuple(row.values.get(name) for name in CALL_NAMES))


def prepare(db: sqlite3.Connection) -> tuple[str, list[dict[str, Any]]]:
    """The name of the sequence, and whose requests an earlier server left without an answer."""
    db.execute("CREATE INDEX IF NOT EXISTS calls_by_request ON calls (request_id)")
    ledger_id = db.execute("SELECT value FROM about WHERE key = 'ledger_id'").fetchone()[0]
    rows = db.execute(
        f"SELECT {', '.join(_LEFT)} FROM calls AS asked"  # noqa: S608 - constants
        " WHERE kind = 'request' AND seq >"
        " (SELECT coalesce(max(seq), 0) FROM calls WHERE kind = 'start')"
        " AND NOT EXISTS (SELECT 1 FROM calls WHERE request_id = asked.request_id"
        " AND kind IN ('call', 'cut') AND seq > asked.seq) ORDER BY seq"
    ).fetchall()
    return ledger_id, [dict(zip(_LEFT, row, strict=True)) for row in rows]


def page_of(db: sqlite3.Connection, after: int, limit: int) -> tuple[list[wire.Event], int]:
    """Rows after a number, as they were published, and the last number that there is."""
    events: list[wire.Event] = []
    size = 0
    for seq, *values, response in db.execute(_PAGE, (after, limit)):
        said = None if response is None else response.decode()
        size += sum(len(value) for value in (*values, said) if isinstance(value, str))
        if events and size > _PAGE_BYTES:
            break
        events.append(event_of(seq, dict(zip(CALL_NAMES, values, strict=True)), said))
    return events, db.execute("SELECT coalesce(max(seq), 0) FROM calls").fetchone()[0]


def answer_of(db: sqlite3.Connection, request_id: str) -> bytes | None:
    """The answer that was given to a request, as it travels; None where none is kept."""
    row = db.execute(
        "SELECT coalesce(answers.response, calls.fields), from_ledger FROM calls"
        " LEFT JOIN answers ON answers.id = calls.answer"
        " WHERE request_id = ? AND kind = 'call' ORDER BY seq DESC LIMIT 1",
        (request_id,),
    ).fetchone()
    if row is None or row[0] is None:
        return None
    response = restore_response(row[0])
    response.from_ledger = bool(row[1])
    return wire.encode(wire.pack_response(response))
