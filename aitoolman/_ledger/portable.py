"""A ledger as JSON Lines: small, readable, good to keep in git, and enough to replay from.

One line per answer, in the order they came: model name and digest, fingerprint, request, response,
fragments. Media are there as hashes only; a replay needs no more.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .._datamodel import LLMConfigError
from .._datamodel.errors import ConfigProblem
from . import queries
from .claims import claims_path
from .schema import FILES, open_ledger

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from .reader import Ledger

__all__ = ["export_ledger", "unpack"]

FORMAT_VERSION = 1


class _Line(msgspec.Struct, omit_defaults=True):
    """One answer; fields may only be added, with defaults."""

    version: int
    model: str
    digest: str
    fingerprint: str
    request: dict[str, Any]
    response: dict[str, Any]
    fragments: list[tuple[str, float, str]] = []
    reusable: bool = True
    created: float = 0.0
    turns: list[int] = []
    """Which calls (from 0) of this fingerprint got this answer, where that is not the order of the
    lines."""


def export_ledger(ledger: Ledger, path: str | os.PathLike[str]) -> int:
    """Write all answers of a ledger as JSON Lines; returns how many.

    The file appears whole or not at all.

    Raises:
        LLMConfigError: `path` is the ledger itself, or one of SQLite's files beside it.
    """
    target = Path(path)
    _check_target(target, ledger.path)
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    count = 0
    try:
        with scratch.open("w", encoding="utf-8") as out:
            for line in _lines(ledger):
                out.write(line + "\n")
                count += 1
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    return count


def _check_target(target: Path, ledger: Path) -> None:
    """An export in the ledger's own place would be the end of its answers."""
    own = ledger.resolve()
    files = [main.with_name(main.name + end) for main in (own, claims_path(own)) for end in FILES]
    if target.resolve() in files:
        raise _problem(f"{target} is the ledger itself; export to another file")


def _lines(ledger: Ledger) -> Iterator[str]:
    with ledger.opened() as db:
        turns = _turns(db)
        for row in db.execute(
            "SELECT id, model, digest, fingerprint, request, response, fragments, reusable, created"
            " FROM answers ORDER BY id"
        ):
            number, model, digest, key, request, response, fragments, reusable, created = row
            line = {
                "version": FORMAT_VERSION,
                "model": model,
                "digest": digest,
                "fingerprint": key.hex(),
                "request": json.loads(request),
                "response": json.loads(response),
                "fragments": json.loads(fragments) if fragments else [],
                "reusable": bool(reusable),
                "created": created,
            }
            line |= {"turns": turns[number]} if number in turns else {}
            yield _printed(line)


def _printed(line: dict[str, Any]) -> str:
    text = json.dumps(line, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return json.dumps(line)
    return text


def _turns(db: sqlite3.Connection) -> dict[int, list[int]]:
    """Whose turn each answer was, where calls of a fingerprint did not go through them in order."""
    found: dict[int, list[int]] = {}
    repeated = db.execute(
        "SELECT fingerprint FROM answers GROUP BY fingerprint HAVING count(*) > 1"
    )
    for (key,) in repeated.fetchall():
        ids = queries.answers_in_turn(db, [key])
        if ids == sorted(set(ids)):
            continue
        for turn, number in enumerate(ids):
            found.setdefault(number, []).append(turn)
    return found


def unpack(path: Path) -> Path:
    """A temporary ledger file with the answers of an export, removed when the program ends.

    Raises:
        LLMConfigError: The file is no export.
    """
    lines = list(_read(path))
    folder = Path(tempfile.mkdtemp(prefix="aitoolman-replay-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = folder / "ledger.db"
    db = open_ledger(target)
    try:
        _fill(db, lines)
    finally:
        db.close()
    return target


def _read(path: Path) -> Iterator[_Line]:
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise _problem(f"{path} cannot be read: {exc}") from exc
    for number, raw in enumerate(content.splitlines(), 1):
        if not raw.strip():
            continue
        line = _decoded(raw, f"{path}, line {number}")
        if line.version > FORMAT_VERSION:
            raise _problem(f"{path}, line {number} is of a newer aitoolman; update aitoolman")
        yield line


def _decoded(raw: bytes, where: str) -> _Line:
    try:
        line = msgspec.convert(json.loads(raw), _Line)
        bytes.fromhex(line.fingerprint)
    except (ValueError, RecursionError) as exc:
        raise _problem(f"{where} is no exported answer: {exc}") from exc
    return line


def _fill(db: sqlite3.Connection, lines: list[_Line]) -> None:
    db.execute("BEGIN IMMEDIATE")
    calls: list[tuple[int, bytes, int]] = []
    for line in lines:
        number = _insert(db, line)
        queries.remember_model(db, line.model, line.digest, "{}")
        calls += [(turn, bytes.fromhex(line.fingerprint), number) for turn in line.turns or [0]]
    calls.sort(key=lambda call: call[0])
    db.executemany(
        "INSERT INTO calls (kind, time, fingerprint, answer) VALUES ('call', 0, ?, ?)",
        [call[1:] for call in calls],
    )
    db.execute("COMMIT")


def _insert(db: sqlite3.Connection, line: _Line) -> int:
    number = db.execute(
        "INSERT INTO answers (fingerprint, reusable, created, model, digest, request, response,"
        " fragments) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            bytes.fromhex(line.fingerprint), int(line.reusable), line.created or time.time(),
            line.model, line.digest, json.dumps(line.request).encode(),
            json.dumps(line.response).encode(),
            json.dumps(line.fragments).encode() if line.fragments else None,
        ),
    ).lastrowid  # fmt: skip
    assert number is not None
    return number


def _problem(text: str) -> LLMConfigError:
    return LLMConfigError([ConfigProblem("ledger.path", text)])
