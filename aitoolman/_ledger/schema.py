"""The SQLite file: its tables, how it is opened, and how older files are brought up to date."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from pathlib import Path

from .._datamodel import LLMConfigError
from .._datamodel.errors import ConfigProblem
from .connections import LedgerConnection, creating

__all__ = [
    "BUSY_SECONDS",
    "FILES",
    "SCHEMA_VERSION",
    "connect",
    "default_path",
    "open_ledger",
    "prepare_file",
]

SCHEMA_VERSION = 2
_READABLE_VERSION = 1
"""The oldest one that can be read as it stands."""
FILES = ("", "-wal", "-shm")
"""What SQLite adds to a file's name: nothing, for its log, for the index of its log."""
PAGE_BYTES = 2048
"""A call changes a few bytes in each of some pages, and whole pages are written."""
LOG_BYTES = 16 << 20
"""So much of the write-ahead log is moved to the file at once."""
BUSY_SECONDS = 30.0
"""How long a process waits for another one's write."""

_MAGIC = 0x41495443  # "AITC" in the file header: tells a ledger from any other SQLite file

# Each entry brings a file from version n to n + 1; entry 0 makes a new one.
_MIGRATIONS = [
    """
    CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    -- What a model name stood for when it was used, so that replay resolves nothing.
    CREATE TABLE models (
        name TEXT NOT NULL, digest TEXT NOT NULL, description TEXT NOT NULL,
        last_used REAL NOT NULL,
        PRIMARY KEY (name, digest)
    ) WITHOUT ROWID;

    -- Every answer that was paid for, by fingerprint; several of one fingerprint in order of id.
    CREATE TABLE answers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        fingerprint BLOB NOT NULL,
        reusable INTEGER NOT NULL,
        created REAL NOT NULL,
        model TEXT NOT NULL,
        digest TEXT NOT NULL,
        request BLOB NOT NULL,
        response BLOB NOT NULL,
        fragments BLOB
    );
    -- Holds all that a list of finished keys needs, so that the big rows are not read for it.
    CREATE INDEX answers_by_fingerprint ON answers (fingerprint, reusable, id);

    -- Media of requests, each once.
    CREATE TABLE media (sha256 BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;

    -- Every call and every audit event, in one sequence, append-only.
    CREATE TABLE calls (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        time REAL NOT NULL,
        client TEXT, context TEXT, source TEXT, request_id TEXT,
        model TEXT, answered_by TEXT, fingerprint BLOB, sample INTEGER, answer INTEGER,
        status TEXT, error TEXT, attempts TEXT,
        prompt_tokens INTEGER, completion_tokens INTEGER, cached_tokens INTEGER,
        reasoning_tokens INTEGER, total_tokens INTEGER, cost REAL,
        from_ledger INTEGER NOT NULL DEFAULT 0,
        queue_time REAL, time_to_first_token REAL, total_response_time REAL,
        event TEXT, fields TEXT
    );
    CREATE INDEX calls_by_answer ON calls (answer) WHERE answer IS NOT NULL;

    -- Requests on their way: who sends, until when that is believed.
    CREATE TABLE claims (
        fingerprint BLOB PRIMARY KEY, owner TEXT NOT NULL, pid INTEGER NOT NULL,
        host TEXT NOT NULL, lease REAL NOT NULL
    ) WITHOUT ROWID;
    """,
    # Claims have a file of their own (claims.py); the table stays for older programs at work now.
    # Only a replay needs that index: it makes one for itself.
    """
    DROP INDEX calls_by_answer;
    """,
]


def default_path(beside: Path | None) -> Path:
    """``.aitoolman/ledger.db`` beside a configuration file, else in the working directory."""
    return (beside.absolute().parent if beside else Path.cwd()) / ".aitoolman" / "ledger.db"


def open_ledger(path: Path, *, read_only: bool = False) -> LedgerConnection:
    """A connection to the ledger at `path`, made or brought up to date where needed.

    Raises:
        LLMConfigError: The file is no ledger, is from a newer version, or cannot be opened.
    """
    if read_only and not path.exists():
        raise _problem(path, "is not there: nothing was recorded under this name")
    connection = None
    try:
        if not read_only:
            prepare_file(path)
        connection = _connect_for_reading(path) if read_only else _connect_for_writing(path)
        _check(connection, path, read_only)
    except BaseException as exc:
        if connection is not None:
            connection.close()
        if isinstance(exc, sqlite3.Error | OSError):
            raise _problem(path, f"cannot be opened as a ledger: {exc}") from exc
        raise
    return connection


def prepare_file(path: Path) -> None:
    """Make the folder (ignored by git when it is ours) and the file, readable by its owner only."""
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    if folder.name == ".aitoolman" and not (folder / ".gitignore").exists():
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    # Only where there is none: closing it would drop the locks that SQLite holds in this process.
    with creating, contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def connect(path: Path) -> LedgerConnection:
    """A connection that may write, with a write-ahead log.

    Raises:
        sqlite3.Error: The file is not there, is no SQLite file, or cannot be written.
    """
    connection = _sqlite(path, "mode=rw")
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file
        _switch_to_wal(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_for_writing(path: Path) -> LedgerConnection:
    connection = connect(path)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // PAGE_BYTES}")
    return connection


def _connect_for_reading(path: Path) -> LedgerConnection:
    connection = _sqlite(path, "mode=ro")
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:  # a folder that is read-only has no place for WAL's own files
        connection.close()
        if os.access(path.parent, os.W_OK):
            raise
        connection = _sqlite(path, "mode=ro&immutable=1")
    return connection


def _sqlite(path: Path, options: str) -> LedgerConnection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        factory=LedgerConnection,
    )


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Several processes may make the file at once; this one step does not wait by itself."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _check(connection: sqlite3.Connection, path: Path, read_only: bool) -> None:
    magic = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    if not empty and magic != _MAGIC:
        raise _problem(path, "is an SQLite file, but no aitoolman ledger; name another path")
    if version > SCHEMA_VERSION:
        raise _problem(
            path,
            f"was written by a newer aitoolman (ledger version {version}, this one knows"
            f" {SCHEMA_VERSION}); update aitoolman",
        )
    if version < _READABLE_VERSION and read_only:
        what = "is empty" if empty else f"is of ledger version {version}: record to it once"
        raise _problem(path, what)
    if version < SCHEMA_VERSION and not read_only:
        _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for script in _MIGRATIONS[version:]:
            for statement in _statements(script):
                connection.execute(statement)
        if version == 0:
            connection.execute("INSERT INTO about VALUES ('ledger_id', ?)", (secrets.token_hex(8),))
        connection.execute(f"PRAGMA application_id = {_MAGIC}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    lines = [line.split("--")[0] for line in script.splitlines()]
    return [s for s in "\n".join(lines).split(";") if s.strip()]


def _problem(path: Path, message: str) -> LLMConfigError:
    return LLMConfigError([ConfigProblem("ledger.path", f"{path} {message}")])
