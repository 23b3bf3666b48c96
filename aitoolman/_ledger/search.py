"""Which calls are wanted: by context, model, status, time and text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import sqlite3

__all__ = ["add_search", "conditions"]


def conditions(
    *,
    context: str | None = None,
    model: str | None = None,
    status: str | None = None,
    text: str | None = None,
    since: float | None = None,
) -> tuple[str, list[Any]]:
    """A condition on `calls` and its values; see `Ledger.calls`."""
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
        parts.append(f"({_IN_ANSWER} OR {_holds('fields')} OR instr(lower(error), lower(?)))")
        values += [_pattern(text), text] * 3 + [text]
    return " AND ".join(parts), values


def _holds(column: str) -> str:
    """First whether the text is there at all, which is quick, then whether it is not a mere key."""
    return f"(CAST({column} AS TEXT) LIKE ? ESCAPE '!' AND says({column}, ?))"


_IN_ANSWER = f"answer IN (SELECT id FROM answers WHERE {_holds('request')} OR {_holds('response')})"  # noqa: S608


def _pattern(text: str) -> str:
    """A LIKE pattern for `text` as it stands inside JSON."""
    inside = msgspec.json.encode(text)[1:-1].decode()
    for special in "!%_":
        inside = inside.replace(special, "!" + special)
    return f"%{inside}%"


def add_search(db: sqlite3.Connection) -> None:
    """Give `db` the function that the conditions on text use."""
    db.create_function("says", 2, _says, deterministic=True)


def _says(blob: bytes | str | None, text: str) -> bool:
    return blob is not None and _any_text(json.loads(blob), text.lower())


def _any_text(value: Any, wanted: str) -> bool:
    if isinstance(value, str):
        return wanted in value.lower()
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return any(_any_text(item, wanted) for item in value)
