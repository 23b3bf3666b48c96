"""Requests on their way: who sends, and until when that is believed.

Whoever means to ask claims the question first, so that it is sent once by however many programs use
one ledger. There are two writes for every request, and none of them matters after a crash of the
machine: claims stand in a small SQLite file of their own beside the ledger, which is written on the
loop in some microseconds, never synchronised to the disk, and never waited for.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import socket
import sqlite3
import time
from typing import TYPE_CHECKING, NamedTuple

from .schema import FILES, connect, prepare_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from .connections import LedgerConnection
    from .queries import StoredAnswer

__all__ = ["LEASE_SECONDS", "Claim", "Claims", "Owner", "claims_path"]

_log = logging.getLogger("aitoolman.ledger")

LEASE_SECONDS = 15.0
"""How long a claim holds without being renewed."""
RETRY_SECONDS = 0.001
"""How long to wait where another program is writing at this moment."""
CLOSE_SECONDS = 1.0
"""How long closing waits for that."""
MANY = 500
"""The most claims taken in one go; then other work on the loop has its turn."""
PATIENCE_SECONDS = 30.0
"""After so long without a chance to write, calls go on without claims."""
FORGET_SECONDS = 3600.0
"""Claims that ended so long ago are removed, whoever left them behind."""

_TABLE = """
CREATE TABLE IF NOT EXISTS claims (
    fingerprint BLOB PRIMARY KEY, owner TEXT NOT NULL, pid INTEGER NOT NULL,
    host TEXT NOT NULL, lease REAL NOT NULL
) WITHOUT ROWID
"""


class Owner(NamedTuple):
    """Who holds a claim: one request of one ledger client in one process."""

    token: str
    pid: int
    host: str


class Claim(NamedTuple):
    """The right to ask one question."""

    fingerprint: bytes
    owner: Owner


def claims_path(ledger: Path) -> Path:
    """The file with the claims of a ledger."""
    own = ledger.resolve()  # links to one ledger are one ledger
    return own.with_name(f"{own.name}-claims")


class _Wanted(NamedTuple):
    claim: Claim
    outcome: asyncio.Future[Claim | StoredAnswer | None]


class Claims:
    """What one ledger client has claimed, and its view of what others have. For one loop.

    What is wanted in one turn of the loop is one transaction. A file that fails costs no answer:
    that is logged, and calls go on without claims.

    Args:
        path: The file; made where there is none.
        name: Marks the claims of this client.
        look: Finds answers in the ledger.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        look: Callable[[Sequence[bytes]], Mapping[bytes, StoredAnswer]],
    ) -> None:
        self.path = path
        self._look = look
        # A client's name is the same in each process forked with it, and each time it is opened.
        self._name = f"{name}-{secrets.token_hex(4)}"
        self._pid, self._host = os.getpid(), socket.gethostname()
        self._numbers = itertools.count(1)
        self._wanted: list[_Wanted] = []
        self._held: dict[str, Claim] = {}
        """By the owner's token: a request that was called off may still hold the same question."""
        self._ended: list[Claim] = []
        """Ended, and still in the file."""
        self._timer: asyncio.TimerHandle | None = None
        self._busy_since: float | None = None
        self._db: LedgerConnection | None = None
        try:
            self._db = _open(path)
        except (sqlite3.Error, OSError) as exc:
            self._give_up(exc)

    async def take(self, fingerprint: bytes) -> Claim | StoredAnswer | None:
        """The right to ask, or the answer where the ledger has one by now.

        None while another living request has the right.
        """
        token = f"{self._name}/{next(self._numbers)}"
        claim = Claim(fingerprint, Owner(token, self._pid, self._host))
        loop = asyncio.get_running_loop()
        wanted = _Wanted(claim, loop.create_future())
        self._wanted.append(wanted)
        if len(self._wanted) == 1:
            if self._held:
                loop.call_soon(self._take_all)
            else:  # a single one has no company to wait for
                self._take_all()
        try:
            return await wanted.outcome
        except asyncio.CancelledError:  # it may have been taken all the same
            self.release(claim)
            raise

    def answered(self, claim: Claim) -> None:
        """The answer is in the ledger: nobody waits for this claim, it goes with the next write."""
        if self._held.pop(claim.owner.token, None) is not None and self._db is not None:
            self._ended.append(claim)

    def release(self, claim: Claim) -> None:
        """Give the right back at once. Again is fine."""
        if self._held.pop(claim.owner.token, None) is not None:
            self._ended.append(claim)
            if not self._write(_nothing) and self._db is not None:
                self._keep_up_in(RETRY_SECONDS)

    async def close(self) -> None:
        """Give everything back and close the file. Again is fine."""
        self._ended += self._held.values()
        self._held.clear()
        tries = int(CLOSE_SECONDS / RETRY_SECONDS)
        while self._ended and self._db is not None and not self._write(_nothing) and tries:
            tries -= 1
            await asyncio.sleep(RETRY_SECONDS)
        self._close()

    def _take_all(self) -> None:
        loop = asyncio.get_running_loop()
        wanted = [w for w in self._wanted[:MANY] if not w.outcome.done()]
        claims = [w.claim for w in wanted]
        taken: set[Claim] = set()
        if not self._write(lambda db: taken.update(take_claims(db, claims))):
            if self._db is not None:
                loop.call_later(RETRY_SECONDS, self._take_all)
                return
            taken.update(claims)
        del self._wanted[:MANY]
        if self._wanted:
            loop.call_soon(self._take_all)
        found = self._look([claim.fingerprint for claim in claims])  # it may have come just now
        for claim, outcome in wanted:
            if claim in taken:
                self._held[claim.owner.token] = claim
            if claim.fingerprint in found:
                self.answered(claim)
                outcome.set_result(found[claim.fingerprint])
            else:
                outcome.set_result(claim if claim in taken else None)
        if self._held and self._timer is None:
            self._keep_up_in(LEASE_SECONDS / 3)

    # Keeping up

    def _keep_up_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._keep_up)

    def _keep_up(self) -> None:
        """Prolong what is held and remove what has ended, as long as there is any."""
        self._timer = None
        if not (self._held or self._ended):
            return
        held = list(self._held.values())
        done = self._write(lambda db: renew_claims(db, held))
        if self._db is not None and (self._held or self._ended):
            self._keep_up_in(LEASE_SECONDS / 3 if done else RETRY_SECONDS)

    # The file

    def _write(self, work: Callable[[sqlite3.Connection], None]) -> bool:
        """`work` and the removal of what has ended, in one transaction.

        Returns:
            False where another program is writing at this moment, or the file fails.
        """
        if self._db is None:
            self._ended.clear()
            return False
        try:
            self._write_to(self._db, work)
        except Exception as exc:  # noqa: BLE001 - in a spoilt file, a row may hold anything
            code = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # without its extension
            now = time.monotonic()
            self._busy_since = self._busy_since or now
            if code != sqlite3.SQLITE_BUSY or now - self._busy_since > PATIENCE_SECONDS:
                self._give_up(exc)
            return False
        self._busy_since = None
        return True

    def _write_to(self, db: LedgerConnection, work: Callable[[sqlite3.Connection], None]) -> None:
        with db.at_work:
            db.execute("BEGIN IMMEDIATE")
            try:
                if self._ended:
                    end_claims(db, self._ended)
                work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        self._ended.clear()

    def _give_up(self, exc: Exception) -> None:
        _log.error(
            "%s failed, so other programs may send the same requests; calls go on: %s: %s",
            self.path, type(exc).__name__, exc,
        )  # fmt: skip
        self._close()

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._db is not None:
            self._db.close()
            self._db = None


def _nothing(db: sqlite3.Connection) -> None:
    """What has ended is removed in any case."""


def _open(path: Path) -> LedgerConnection:
    """The file; one that a crash of the machine has spoilt is made anew.

    Raises:
        sqlite3.Error: It cannot be used.
        OSError: It cannot be made.
    """
    try:
        return _open_once(path)
    except sqlite3.OperationalError:  # locked, or not allowed
        raise
    except sqlite3.DatabaseError:
        for ending in FILES:
            path.with_name(path.name + ending).unlink(missing_ok=True)
        return _open_once(path)


def _open_once(path: Path) -> LedgerConnection:
    prepare_file(path)
    db = connect(path)
    try:
        db.execute("PRAGMA synchronous = OFF")
        db.execute(_TABLE)
        db.execute("PRAGMA busy_timeout = 0")  # from here on it is used on the loop
        try:
            db.execute("DELETE FROM claims WHERE lease < ?", (time.time() - FORGET_SECONDS,))
        except sqlite3.OperationalError as exc:  # another program is writing: next time
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
    except BaseException:
        db.close()
        raise
    return db


# What is done in one transaction


def take_claims(
    db: sqlite3.Connection, claims: Collection[Claim], now: float | None = None
) -> list[Claim]:
    """Take the right to ask, unless living requests have it; returns what was taken."""
    now = time.time() if now is None else now
    rows = [(key, *owner, now + LEASE_SECONDS) for key, owner in claims]
    new = db.executemany("INSERT OR IGNORE INTO claims VALUES (?, ?, ?, ?, ?)", rows).rowcount
    if new == len(rows):
        return list(claims)
    return [c for c, row in zip(claims, rows, strict=True) if _take_over(db, c, row, now)]


def _take_over(
    db: sqlite3.Connection, claim: Claim, row: tuple[bytes, str, int, str, float], now: float
) -> bool:
    """True where the claim stands, or could be put in the place of one that has lapsed."""
    token, pid, host, lease = db.execute(
        "SELECT owner, pid, host, lease FROM claims WHERE fingerprint = ?", (claim.fingerprint,)
    ).fetchone()
    if token == claim.owner.token:
        return True
    if lease > now and not _is_dead(pid, host, claim.owner):
        return False
    db.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)", row)
    return True


def _is_dead(pid: int, host: str, owner: Owner) -> bool:
    """True where the process certainly runs no more (only known on the same machine)."""
    if host != owner.host or os.name == "nt":  # there, os.kill would end the process
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it runs, and is not ours to signal
        return False
    return False


def renew_claims(db: sqlite3.Connection, claims: Iterable[Claim], now: float | None = None) -> None:
    """Prolong claims that are still held."""
    lease = (time.time() if now is None else now) + LEASE_SECONDS
    db.executemany(
        "UPDATE claims SET lease = ? WHERE fingerprint = ? AND owner = ?",
        [(lease, claim.fingerprint, claim.owner.token) for claim in claims],
    )


def end_claims(db: sqlite3.Connection, claims: Iterable[Claim]) -> None:
    """Remove claims, unless others have taken them over."""
    db.executemany(
        "DELETE FROM claims WHERE fingerprint = ? AND owner = ?",
        [(claim.fingerprint, claim.owner.token) for claim in claims],
    )
