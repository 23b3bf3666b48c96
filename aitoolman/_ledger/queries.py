"""What the ledger asks of its file: functions of a connection."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .records import CALL_COLUMNS, call_with_answer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

__all__ = [
    "NewAnswer",
    "StoredAnswer",
    "add_answer",
    "add_call",
    "add_calls",
    "answers_in_turn",
    "description_of",
    "digests_of",
    "find_answer",
    "find_answers",
    "keep_answer",
    "keep_media",
    "kept_answer",
    "remember_model",
]

_ANSWER = "id, created, response, fragments"
_MARKS = ", ".join("?" * (CALL_COLUMNS.count(",") + 1))
_INSERT_CALL = f"INSERT INTO calls ({CALL_COLUMNS}) VALUES ({_MARKS})"  # noqa: S608 - constants
_TOGETHER = 20
"""So many rows in one statement cost a sixth less than one by one."""
_INSERT_CALLS = _INSERT_CALL + f", ({_MARKS})" * (_TOGETHER - 1)
_FIND = (
    f"SELECT {_ANSWER} FROM answers WHERE fingerprint = ? AND reusable = 1"  # noqa: S608
    " ORDER BY id DESC LIMIT 1"
)
_MANY = 500
"""The most parameters given to one query."""


class StoredAnswer(NamedTuple):
    """An answer as it stands in the file."""

    id: int
    created: float
    response: bytes
    fragments: bytes | None


class NewAnswer(NamedTuple):
    """An answer to be kept."""

    fingerprint: bytes
    reusable: bool
    model: str
    digest: str
    request: bytes
    response: bytes
    fragments: bytes | None
    media: Mapping[bytes, bytes]


# Finding


def find_answer(db: sqlite3.Connection, key: bytes) -> StoredAnswer | None:
    """The newest reusable answer under `key`."""
    row = db.execute(_FIND, (key,)).fetchone()
    return StoredAnswer(*row) if row else None


def find_answers(db: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, StoredAnswer]:
    """The newest reusable answer for each of `keys` that has one."""
    found: dict[bytes, StoredAnswer] = {}
    for start in range(0, len(keys), _MANY):
        part = keys[start : start + _MANY]
        rows = db.execute(
            f"SELECT fingerprint, {_ANSWER} FROM answers"  # noqa: S608 - only marks
            f" WHERE fingerprint IN ({_marks(part)}) AND reusable = 1 ORDER BY id",
            part,
        )
        found.update((row[0], StoredAnswer(*row[1:])) for row in rows)
    return found


def answers_in_turn(db: sqlite3.Connection, keys: Sequence[bytes]) -> list[int]:
    """Which answer each call of any of `keys` got, in order; the last one is not repeated.

    Where the calls were pruned away, answers count in their own order.
    """
    _list_turns(db)
    rows = db.execute(
        "SELECT answer FROM temp.turns WHERE answer IN"  # noqa: S608
        f" (SELECT id FROM answers WHERE fingerprint IN ({_marks(keys)})) ORDER BY seq",
        keys,
    ).fetchall() or db.execute(
        f"SELECT id FROM answers WHERE fingerprint IN ({_marks(keys)}) ORDER BY id",  # noqa: S608
        keys,
    )
    ids = [row[0] for row in rows]
    while len(ids) > 1 and ids[-1] == ids[-2]:
        ids.pop()
    return ids


def _list_turns(db: sqlite3.Connection) -> None:
    """Sort the calls by answer, once for each connection: what comes later is not seen."""
    if not db.execute("SELECT 1 FROM temp.sqlite_master WHERE name = 'turns'").fetchone():
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute(
            "CREATE TEMP TABLE turns AS SELECT answer, seq FROM calls WHERE answer IS NOT NULL"
        )
        db.execute("CREATE INDEX temp.turns_by_answer ON turns (answer, seq)")


def kept_answer(db: sqlite3.Connection, number: int) -> StoredAnswer | None:
    """An answer by its number."""
    row = db.execute(f"SELECT {_ANSWER} FROM answers WHERE id = ?", (number,)).fetchone()  # noqa: S608
    return StoredAnswer(*row) if row else None


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


# Adding


def add_answer(db: sqlite3.Connection, new: NewAnswer | None, row: tuple[Any, ...]) -> int | None:
    """Keep an answer and the row of its call; returns the answer's id."""
    answer = keep_answer(db, new) if new is not None else None
    db.execute(_INSERT_CALL, call_with_answer(row, answer))
    return answer


def keep_answer(db: sqlite3.Connection, new: NewAnswer) -> int | None:
    """Keep an answer and the media of its request; returns the answer's id."""
    keep_media(db, new.media)
    return db.execute(
        "INSERT INTO answers (fingerprint, reusable, created, model, digest, request, response,"
        " fragments) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.fingerprint, int(new.reusable), time.time(), new.model, new.digest, new.request,
            new.response, new.fragments,
        ),
    ).lastrowid  # fmt: skip


def keep_media(db: sqlite3.Connection, media: Mapping[bytes, bytes]) -> None:
    """Keep media, each once."""
    if media:
        db.executemany("INSERT OR IGNORE INTO media VALUES (?, ?)", media.items())


def add_call(db: sqlite3.Connection, row: tuple[Any, ...]) -> int:
    """Keep a row of calls or events; returns its number."""
    return db.execute(_INSERT_CALL, row).lastrowid or 0


def add_calls(db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Keep rows of calls or events."""
    whole = len(rows) - len(rows) % _TOGETHER
    for start in range(0, whole, _TOGETHER):
        values = itertools.chain.from_iterable(rows[start : start + _TOGETHER])
        db.execute(_INSERT_CALLS, tuple(values))
    db.executemany(_INSERT_CALL, rows[whole:])


# Models


def remember_model(db: sqlite3.Connection, name: str, digest: str, description: str) -> None:
    """Note what a model name stands for now."""
    db.execute(
        "INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?)",
        (name, digest, description, time.time()),
    )


def digests_of(db: sqlite3.Connection, name: str) -> list[str]:
    """What a model name stood for, the latest first."""
    rows = db.execute("SELECT digest FROM models WHERE name = ? ORDER BY last_used DESC", (name,))
    return [row[0] for row in rows]


def description_of(db: sqlite3.Connection, name: str) -> tuple[str, str] | None:
    """Digest and description (JSON) of what a model name stood for last."""
    row: tuple[str, str] | None = db.execute(
        "SELECT digest, description FROM models WHERE name = ? ORDER BY last_used DESC LIMIT 1",
        (name,),
    ).fetchone()
    return row
