"""The server's requests: begun once, answered once, written down, and sent to whoever asked."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Any

from .._datamodel import FinishReason, LLMApiRequestError, LLMApplicationError
from .._transport import wire
from .answers import FinishedAnswers
from .calls import Call
from .reception import refusal
from .sharing import Sharing

if TYPE_CHECKING:
    from .._datamodel import LLMProviderRequest
    from .._ledger.queries import StoredAnswer
    from .._provider.manager import LLMProviderManager
    from .audit import Audit
    from .limits import Limits
    from .pulse import Pulse
    from .security import Guest
    from .sessions import Session
    from .veil import Veil

__all__ = ["Requests", "check_model"]

_log = logging.getLogger("aitoolman.service")


def check_model(guest: Guest, model_name: str) -> None:
    """Raise where a client may not use a model.

    Raises:
        LLMApiRequestError: It may not; the allowed ones are named.
    """
    if not guest.may_use(model_name):
        known = ", ".join(sorted(guest.models or ()))
        raise LLMApiRequestError(
            f"{guest.name!r} may not use the model {model_name!r}; allowed: {known or 'none'}"
        )


class Requests:
    """All requests under way, over all sessions.

    A request is known by its session and the id that the client gave it: a second arrival joins the
    first, or gets the answer that is there.

    Args:
        share: Give a client the answer to what another one asked.
    """

    def __init__(
        self,
        manager: LLMProviderManager,
        audit: Audit,
        veil: Veil,
        pulse: Pulse,
        limits: Limits,
        share: bool = False,
    ) -> None:
        self.running: dict[str, Call] = {}
        """By the manager's request id."""
        self.finished = FinishedAnswers()
        self.closing = False
        self._manager = manager
        self._audit = audit
        self._veil = veil
        self._pulse = pulse
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sharing = Sharing(audit, self._send, self._answered) if share else None

    # Messages

    def on_request(self, session: Session, request_id: str, body: memoryview) -> None:
        """A request, for the first time or again."""
        if len(body) > self._limits.max_bytes:
            session.send("refused", request_id, refusal(self._too_large(len(body))))
            return
        wired = wire.decode(body, wire.WireRequest)
        if request_id in session.calls:
            self._join(session.calls[request_id], wired)
        elif (answer := self.finished.get(session.label, request_id)) is not None:
            session.send("answer", request_id, answer)
        elif self._is_full(session):
            busy = wire.Busy(max(len(session.calls), len(self.running)))
            session.send("busy", request_id, wire.encode(busy))
        else:
            self._admit(session, request_id, wired)

    def _too_large(self, size: int) -> str:
        return f"the request has {size:,} bytes; at most {self._limits.max_bytes:,} are taken"

    def _is_full(self, session: Session) -> bool:
        total, own = self._limits.max_total, self._limits.max_requests
        return self.closing or len(self.running) >= total or len(session.calls) >= own

    def _admit(self, session: Session, request_id: str, wired: wire.WireRequest) -> None:
        try:
            check_model(session.guest, wired.model_name)
        except LLMApiRequestError as exc:
            session.send("refused", request_id, refusal(str(exc)))
            return
        if wired.again:
            self.spawn(self._recall(session, request_id, wired))
        else:
            self._begin(session, request_id, wired)

    def _join(self, call: Call, wired: wire.WireRequest) -> None:
        call.epoch = self._pulse.epoch
        call.resume(wired.have)

    async def _recall(self, session: Session, request_id: str, wired: wire.WireRequest) -> None:
        """A request that was sent before: perhaps an earlier server finished it."""
        answer = await self._audit.answer_of(f"{session.label}/{request_id}")
        answer = answer or self.finished.get(session.label, request_id)
        if answer is not None:
            session.send("answer", request_id, answer)
        elif request_id in session.calls:
            self._join(session.calls[request_id], wired)
        elif wired.have != (0, 0):
            text = "the server was restarted in the middle of this answer; its text broke off"
            session.send("refused", request_id, refusal(text))
        elif session.route is not None:
            self._begin(session, request_id, wired)

    def on_cancel(self, session: Session, request_id: str, body: memoryview) -> None:
        """The session's own request of this id shall end."""
        call = session.calls.get(request_id)
        if call is not None:
            self._audit.cancel(session.label, call.request.context_id, call.audit_id)
            self._cancel(call)

    def cut_all(self, session: Session, why: str) -> None:
        """End what nobody waits for any more."""
        for call in list(session.calls.values()):
            call.cut = call.cut or why
            del session.calls[call.id]
            self._cancel(call)

    def _cancel(self, call: Call) -> None:
        call.request.is_cancelled = True
        call.woken.set()
        self.spawn(self._manager.cancel_request(call.request.request_id))

    def spawn(self, coroutine: Any) -> None:
        """Run something beside the loop's callbacks, and keep it until it is done."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # A request's life

    def _begin(self, session: Session, request_id: str, wired: wire.WireRequest) -> None:
        call = Call(session, request_id, wired, next(self._numbers), self._loop)
        call.epoch = self._pulse.epoch
        session.calls[request_id] = self.running[call.request.request_id] = call
        self._audit.request(call)
        if self._sharing is None:
            self._send(call)
        else:
            self.spawn(self._sharing.serve(call))

    def _send(self, call: Call) -> None:
        self._manager.process_request(call.request, self._on_answered)

    def may_send(self, request: LLMProviderRequest) -> None:
        """Keep back what was in line while this process stood still: others have it by now.

        Raises:
            LLMApiRequestError: The request must not go out.
        """
        self._pulse.feel()
        call = self.running.get(request.request_id)
        if call is None:
            return
        if call.epoch != self._pulse.epoch:
            call.cut = "the server stood still while the request was in line"
            raise LLMApiRequestError(call.cut)
        call.sent = True

    async def _on_answered(self, request: LLMProviderRequest) -> None:
        call = self.running[request.request_id]
        try:
            await self._answered(call)
        finally:
            if self._sharing is not None:
                self._sharing.done(call)

    async def _answered(self, call: Call, kept: StoredAnswer | None = None) -> None:
        """Write an answer down, unless it is kept already, then hand it over."""
        call.flush()
        body = self._pack(call)
        try:
            await self._audit.answer(call, call.request.response.result(), kept)
        except Exception as exc:  # noqa: BLE001 - a full disk must not cost a paid answer
            _log.error("an answer could not be written down: %s", exc)
        finally:
            del self.running[call.request.request_id]
        self._deliver(call, body)

    def _pack(self, call: Call) -> bytes:
        response = call.request.response.result()
        self._veil.response(response)
        try:
            return wire.encode(wire.pack_response(response))
        except LLMApplicationError as exc:  # the vendor's raw message holds something odd
            response.response_message = None
            response.finish_reason, response.error_text = FinishReason.error_format.value, str(exc)
            return wire.encode(wire.pack_response(response))

    def _deliver(self, call: Call, body: bytes) -> None:
        """Send an answer; a call that was cut gets none, its client asks again where it can."""
        session = call.session
        if session.calls.get(call.id) is call:
            del session.calls[call.id]
        if call.cut is None:
            self.finished.add(session.label, call.id, body)
            session.send("answer", call.id, body)

    # The end

    async def drain(self, seconds: float) -> None:
        """Take no more; wait for what is under way, then mark the rest as cut."""
        self.closing = True
        end = self._loop.time() + seconds
        while self.running and self._loop.time() < end:  # noqa: ASYNC110 - bounded, once
            await asyncio.sleep(0.02)
        for call in self.running.values():
            call.cut = call.cut or "the server was stopped"

    async def close(self) -> None:
        """Wait for what was started beside."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=3)
