"""The audit: everything that happens at a server, numbered, written, then published.

It is the server's ledger: rows of ``calls``, whose ``seq`` is the number, and the answers in
``answers``. Kinds of rows: ``start`` of a server, ``request`` (with what was asked), ``call`` (its
answer), ``cancel``, ``cut`` (ended without an answer), ``auth`` (somebody was kept out) and
``event`` (of an application). A text that broke off, which nobody can use again, stands in its row.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from .._ledger.models import UNRESOLVED, Models
from .._ledger.questions import question_now
from .._ledger.records import CALL_NAMES, call_row, encode_response, storable
from .._ledger.store import LedgerStore
from .._transport import wire
from . import auditfile
from .auditfile import NewRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .._datamodel import LLMProviderResponse
    from .._ledger.models import Describer
    from .._ledger.queries import StoredAnswer
    from .calls import Call

__all__ = ["Audit"]

_log = logging.getLogger("aitoolman.service")


class _Batch(NamedTuple):
    """Rows of one transaction, and a future for each."""

    rows: list[NewRow]
    done: list[asyncio.Future[None]]


class Audit:
    """Writes rows, and hands each on with its number once it is in the file.

    Args:
        path: The ledger's file.
        models: Tells what model names stand for.
        full: False keeps every text out: prompts, answers, errors.
        redact: Cuts secrets out of a text.
        publish: Called with each row, in order.
    """

    def __init__(
        self,
        path: Path,
        models: Describer,
        *,
        full: bool,
        redact: Callable[[str], str],
        publish: Callable[[wire.Event], None],
    ) -> None:
        self.ledger_id = ""
        self.head = 0
        self.full = full
        self._path = path
        self._redact = redact
        self._publish = publish
        self._describer = models
        self._store: LedgerStore | None = None
        self._batch: _Batch | None = None
        self._writing = 0
        """Batches that the writer has."""

    async def open(self, boot: str, about: Mapping[str, Any]) -> int:
        """Note the start; mark what an earlier server left without an answer, and count it.

        Raises:
            LLMConfigError: The file cannot be opened.
        """
        self._store = LedgerStore(self._path, full=self.full, redact=self._redact)
        self._keeper = self._store.keeper
        self._models = Models(self._describer, self._store, replay=False)
        self.ledger_id, left = await self._store.begin(auditfile.prepare)
        for values in left:
            cut = {**values, "kind": "cut", "error": "the server ended before the answer"}
            self._write(NewRow(cut))
        await self._write(NewRow({"kind": "start", "event": boot, "fields": _json(about)}))
        return len(left)

    async def close(self) -> None:
        """Write what is still waiting."""
        if self._store is not None:
            self._flush()
            await self._store.close()

    # Rows

    def request(self, call: Call) -> None:
        """A request came in."""
        call.question = question_now(call.request)
        values = self._who(call, "request") | {"fields": self._asked(call)}
        media = call.question.media if call.question is not None and self.full else {}
        self._write(NewRow(values, media=media))

    def _asked(self, call: Call) -> str:
        """What a request says, in the ledger's form; media by their hashes."""
        said = _json({"stream": call.request.stream})
        if call.question is None or not self.full:
            return said
        return self._redact(f"{said[:-1]},{call.question.encoded.decode()[1:]}")

    async def answer(
        self, call: Call, response: LLMProviderResponse, kept: StoredAnswer | None = None
    ) -> None:
        """A request has its answer; returns when it is in the file.

        Args:
            call: The request.
            response: Its answer.
            kept: That answer, where it is in the file already.
        """
        digest = await self._digest(call)
        key = None if call.question is None else call.question.key(digest)
        row = self._keeper.row(call_row(call.request, response, key, kept and kept.id))
        values = dict(zip(CALL_NAMES, row, strict=True))
        values |= self._who(call, "cut" if call.cut else "call")
        if call.cut and self.full:
            values["error"] = call.cut
        if kept is not None:
            new = NewRow(values, said=kept.response.decode())
        else:
            new = self._with_answer(call, values, digest, response)
        await self._write(new)

    def _with_answer(
        self, call: Call, values: dict[str, Any], digest: str, response: LLMProviderResponse
    ) -> NewRow:
        """A row, and its answer as the ledger keeps it; what broke off stands in the row."""
        key = values["fingerprint"]
        if call.question is not None and key is not None and not call.cut:
            answer = self._keeper.answer(call.question, digest, key, call.fragments, response)
            if answer is not None:
                return NewRow(values, answer)
        if self.full:
            values["fields"] = self._keeper.blob(encode_response(response)).decode()
        return NewRow(values)

    async def _digest(self, call: Call) -> str:
        """What the model's name stands for."""
        name = call.request.model_name
        try:
            return self._models.known_digest(name) or await self._models.digest(name)
        except Exception:  # noqa: BLE001 - no reason to lose its answer
            _log.exception("the model %s could not be described", name)
            return UNRESOLVED

    # Answers to be given again

    async def key(self, call: Call) -> bytes | None:
        """The fingerprint of a request; None for one that can have none."""
        if call.question is None:
            return None
        return call.question.key(await self._digest(call))

    def kept(self, key: bytes) -> StoredAnswer | None:
        """The newest answer under a fingerprint that can be given again."""
        assert self._store is not None
        return self._store.find(key)

    def cancel(self, label: str, context_id: str | None, request_id: str | None) -> None:
        """A client called requests off."""
        values = {
            "kind": "cancel", "client": label, "context": context_id, "request_id": request_id,
        }  # fmt: skip
        self._write(NewRow(values))

    def refused(self, sentence: str) -> None:
        """Somebody was kept out."""
        self._write(NewRow({"kind": "auth", "status": "refused", "error": sentence}))

    async def event(self, label: str, audit: wire.Audit) -> None:
        """A business event of an application; returns when it is in the file."""
        fields = audit.fields if self.full else _numbers_of(audit.fields)
        values = {
            "kind": "event", "client": label, "context": audit.context_id,
            "event": audit.event, "fields": self._redact(_json(fields)),
        }  # fmt: skip
        await self._write(NewRow(values))

    @staticmethod
    def _who(call: Call, kind: str) -> dict[str, Any]:
        request = call.request
        return {
            "kind": kind, "client": request.client_id, "context": request.context_id,
            "source": call.own_source, "request_id": call.audit_id,
            "model": request.model_name, "sample": request.call.sample,
        }  # fmt: skip

    def _write(self, row: NewRow) -> asyncio.Future[None]:
        """Write a row, with all others that come while earlier ones are written.

        Args:
            row: Its text is made fit for the file.

        Returns:
            Done after the commit.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._batch is None:
            self._batch = _Batch([], [])
        values = {"time": time.time(), "from_ledger": 0} | row.values
        fit = {n: storable(v) if isinstance(v, str) else v for n, v in values.items()}
        self._batch.rows.append(row._replace(values=fit))
        self._batch.done.append(done)
        if not self._writing:
            self._flush()
        return done

    def _flush(self) -> None:
        """Hand what has gathered to the writer."""
        batch, self._batch = self._batch, None
        if batch is not None:
            assert self._store is not None
            self._writing += 1
            written = self._store.begin(lambda db: auditfile.insert(db, batch.rows))
            written.add_done_callback(lambda done: self._written(done, batch))

    def _written(self, written: asyncio.Future[list[int]], batch: _Batch) -> None:
        self._writing -= 1
        error = written.exception()
        for done in batch.done:
            _settle(done, error)
        if error is None:  # whoever waits goes first, the listeners after them
            asyncio.get_running_loop().call_soon(self._publish_all, written.result(), batch)
        else:
            kinds = ", ".join(str(row.values["kind"]) for row in batch.rows)
            _log.error("the audit lost rows (%s): %s", kinds, error)
        self._flush()

    def _publish_all(self, numbers: list[int], batch: _Batch) -> None:
        for number, row in zip(numbers, batch.rows, strict=True):
            self.head = max(self.head, number)
            self._publish(row.event(number))

    # Reading

    async def page(self, after: int, limit: int) -> wire.Rows:
        """The rows after a number, as they were published."""
        assert self._store is not None
        self._flush()
        events, head = await self._store.begin(lambda db: auditfile.page_of(db, after, limit))
        return wire.Rows(self.ledger_id, head, events)

    async def answer_of(self, request_id: str) -> bytes | None:
        """The answer that was given to a request, as it travels; None where none is kept."""
        assert self._store is not None
        self._flush()
        return await self._store.begin(lambda db: auditfile.answer_of(db, request_id))


def _settle(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
        done.exception()  # not everybody waits for it


def _numbers_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if isinstance(value, int | float)}


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()
