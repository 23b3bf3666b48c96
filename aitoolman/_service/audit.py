"""The audit: everything that happens at a server, numbered, written, then published.

It is the server's ledger: rows of ``calls``, whose ``seq`` is the number. Kinds of rows: ``start``
of a server, ``request``, ``call`` (the answer), ``cancel``, ``cut`` (ended without an answer),
``auth`` (somebody was kept out) and ``event`` (of an application).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from .._ledger.records import CALL_COLUMNS
from .._ledger.writer import LedgerWriter
from .._transport import wire

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .._datamodel import LLMProviderResponse, MediaContent, Message
    from .calls import Call

__all__ = ["Audit"]

_log = logging.getLogger("aitoolman.service")
_NAMES = CALL_COLUMNS.split(", ")
_INSERT = f"INSERT INTO calls ({CALL_COLUMNS}) VALUES ({', '.join('?' * len(_NAMES))})"  # noqa: S608
_SELECT = f"SELECT seq, {CALL_COLUMNS} FROM calls WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
_PAGE_BYTES = 8_000_000
TOGETHER_SECONDS = 0.001
"""How long a request's row waits for company: much less than its vendor takes to answer."""
_NUMBERS = (
    "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "total_tokens",
    "cost", "queue_time", "time_to_first_token", "total_response_time",
)  # fmt: skip


class _Batch(NamedTuple):
    """Rows of one transaction, and who waits for it."""

    rows: list[dict[str, Any]]
    done: asyncio.Future[list[int]]


class Audit:
    """Writes rows, and hands each on with its number once it is in the file.

    Args:
        path: The ledger's file.
        full: False keeps every text out: prompts, answers, errors.
        publish: Called with each row, in order.
    """

    def __init__(self, path: Path, *, full: bool, publish: Callable[[wire.Event], None]) -> None:
        self.ledger_id = ""
        self.head = 0
        self.full = full
        self._publish = publish
        self._writer = LedgerWriter(path)
        self._batch: _Batch | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, boot: str, about: Mapping[str, Any]) -> int:
        """Note the start; mark what an earlier server left without an answer, and count it.

        Raises:
            LLMConfigError: The file cannot be opened.
        """
        self.ledger_id, left = await self._writer.run(_prepare)
        for values in left:
            cut = {**values, "kind": "cut", "error": "the server ended before the answer"}
            self._write(cut)
        await self._write({"kind": "start", "event": boot, "fields": _json(about)})
        return len(left)

    async def close(self) -> None:
        """Write what is still waiting."""
        self._flush()
        await self._writer.close()

    # Rows

    def request(self, call: Call) -> None:
        """A request came in."""
        request = call.request
        self._write(
            self._who(call, "request")
            | {"fields": _json(_asked(request) if self.full else {"stream": request.stream})},
            wait=TOGETHER_SECONDS,
        )

    async def answer(self, call: Call, response: LLMProviderResponse, wired: bytes) -> None:
        """A request has its answer; returns when it is in the file."""
        values = self._who(call, "cut" if call.cut else "call")
        values |= {name: getattr(response, name) for name in _NUMBERS}
        values |= {
            "answered_by": response.model_name,
            "status": response.status.value,
            "from_ledger": int(response.from_ledger),
            "attempts": _attempts(response, self.full),
        }
        if self.full:
            values["error"] = call.cut or response.error_text
            values["fields"] = _json(wire.decode(wired, wire.WireResponse))
        await asyncio.shield(self._write(values))  # others wait for the same commit

    def cancel(self, label: str, context_id: str | None, request_id: str | None) -> None:
        """A client called requests off."""
        self._write(
            {"kind": "cancel", "client": label, "context": context_id, "request_id": request_id}
        )

    def refused(self, sentence: str) -> None:
        """Somebody was kept out."""
        self._write({"kind": "auth", "status": "refused", "error": sentence})

    async def event(self, label: str, audit: wire.Audit) -> None:
        """A business event of an application; returns when it is in the file."""
        fields = audit.fields if self.full else _numbers_of(audit.fields)
        await asyncio.shield(self._write(
            {
                "kind": "event", "client": label, "context": audit.context_id,
                "event": audit.event, "fields": _json(fields),
            }
        ))  # fmt: skip

    @staticmethod
    def _who(call: Call, kind: str) -> dict[str, Any]:
        request = call.request
        return {
            "kind": kind, "client": request.client_id, "context": request.context_id,
            "source": call.own_source, "request_id": call.audit_id,
            "model": request.model_name, "sample": request.call.sample,
        }  # fmt: skip

    def _write(self, values: dict[str, Any], wait: float = 0.0) -> asyncio.Future[list[int]]:
        """Write a row with all others of this moment; the future is done after the commit.

        Args:
            values: By column.
            wait: Seconds that the row may wait for others.
        """
        loop = asyncio.get_running_loop()
        if self._batch is None:
            self._batch = _Batch([], loop.create_future())
        self._batch.rows.append({"time": time.time(), "from_ledger": 0} | values)
        if self._timer is not None and not wait:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_later(wait, self._flush)
        return self._batch.done

    def _flush(self) -> None:
        """Hand what has gathered to the writer."""
        batch, self._batch = self._batch, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if batch is not None:
            written = self._writer.begin(lambda db: _insert(db, batch.rows))
            written.add_done_callback(lambda done: self._written(done, batch))

    def _written(self, written: asyncio.Future[list[int]], batch: _Batch) -> None:
        if written.cancelled():
            batch.done.cancel()
        elif (exc := written.exception()) is not None:
            kinds = ", ".join(str(values["kind"]) for values in batch.rows)
            _log.error("the audit lost rows (%s): %s", kinds, exc)
            batch.done.set_exception(exc)
            batch.done.exception()  # not everybody waits for it
        else:
            self._publish_all(written.result(), batch)
            batch.done.set_result(written.result())

    def _publish_all(self, numbers: list[int], batch: _Batch) -> None:
        for number, values in zip(numbers, batch.rows, strict=True):
            self.head = max(self.head, number)
            self._publish(_event(number, values))

    # Reading

    async def page(self, after: int, limit: int) -> wire.Rows:
        """The rows after a number."""
        self._flush()
        events, head = await self._writer.run(lambda db: _page(db, after, limit))
        return wire.Rows(self.ledger_id, head, events)

    async def answer_of(self, request_id: str) -> bytes | None:
        """The answer that was given to a request, as it travels; None where there is none."""
        self._flush()
        text = await self._writer.run(lambda db: _answer_of(db, request_id))
        if text is None:
            return None
        return wire.encode(msgspec.json.decode(text, type=wire.WireResponse))


def _insert(db: sqlite3.Connection, rows: list[dict[str, Any]]) -> list[int]:
    """Add rows; gives their numbers."""
    return [_insert_one(db, [values.get(name) for name in _NAMES]) for values in rows]


def _insert_one(db: sqlite3.Connection, row: list[Any]) -> int:
    try:
        return db.execute(_INSERT, row).lastrowid or 0
    except UnicodeEncodeError:  # lone surrogates
        return db.execute(_INSERT, [_storable(value) for value in row]).lastrowid or 0


def _prepare(db: sqlite3.Connection) -> tuple[str, list[dict[str, Any]]]:
    db.execute("CREATE INDEX IF NOT EXISTS calls_by_request ON calls (request_id)")
    ledger_id = db.execute("SELECT value FROM about WHERE key = 'ledger_id'").fetchone()[0]
    rows = db.execute(
        "SELECT client, context, source, request_id, model, sample FROM calls AS asked"
        " WHERE kind = 'request' AND seq >"
        " (SELECT coalesce(max(seq), 0) FROM calls WHERE kind = 'start')"
        " AND NOT EXISTS (SELECT 1 FROM calls WHERE request_id = asked.request_id"
        " AND kind IN ('call', 'cut') AND seq > asked.seq) ORDER BY seq"
    ).fetchall()
    names = ("client", "context", "source", "request_id", "model", "sample")
    return ledger_id, [dict(zip(names, row, strict=True)) for row in rows]


def _page(db: sqlite3.Connection, after: int, limit: int) -> tuple[list[wire.Event], int]:
    events: list[wire.Event] = []
    size = 0
    for row in db.execute(_SELECT, (after, limit)):
        size += sum(len(value) for value in row if isinstance(value, str))
        if events and size > _PAGE_BYTES:
            break
        events.append(_event(row[0], dict(zip(_NAMES, row[1:], strict=True))))
    return events, db.execute("SELECT coalesce(max(seq), 0) FROM calls").fetchone()[0]


def _answer_of(db: sqlite3.Connection, request_id: str) -> str | None:
    row = db.execute(
        "SELECT fields FROM calls WHERE request_id = ? AND kind = 'call' AND fields IS NOT NULL"
        " ORDER BY seq DESC LIMIT 1",
        (request_id,),
    ).fetchone()
    return row[0] if row else None


def _event(seq: int, values: Mapping[str, Any]) -> wire.Event:
    known = {n: v for n, v in values.items() if v is not None and not isinstance(v, bytes)}
    return wire.Event(seq, known)


def _asked(request: Any) -> dict[str, Any]:
    messages = [_message(message) for message in request.messages]
    asked: dict[str, Any] = {"stream": request.stream, "messages": messages}
    asked |= {"tools": request.tools} if request.tools else {}
    return asked | ({"options": request.options} if request.options else {})


def _message(message: Message) -> dict[str, Any]:
    """A message with its media described: an audit is no archive of images."""
    said = {name: value for name, value in message._asdict().items() if value is not None}
    if message.media_content is not None:
        said["media_content"] = [_medium(media) for media in message.media]
    if message.tool_calls is not None:
        said["tool_calls"] = [call._asdict() for call in message.tool_calls]
    return said


def _medium(media: MediaContent) -> dict[str, Any]:
    said = {name: value for name, value in media._asdict().items() if value is not None}
    data = said.pop("data", None)
    if data is not None:
        said |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return said


def _attempts(response: LLMProviderResponse, full: bool) -> str:
    kept = [a if full else a._replace(reason="") for a in response.attempts]
    return _json([attempt._asdict() for attempt in kept])


def _numbers_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if isinstance(value, int | float)}


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(wire.without_surrogates(msgspec.to_builtins(value))).decode()


def _storable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
