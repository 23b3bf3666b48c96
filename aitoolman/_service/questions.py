"""What clients ask a server beside calls: models, previews, events and pages of the audit."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._datamodel import LLMApiRequestError, LLMApplicationError, LLMError
from .._transport import wire
from .reception import refusal
from .requests import check_model

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from .._provider.manager import LLMProviderManager
    from .audit import Audit
    from .sessions import Session
    from .veil import Veil

__all__ = ["Questions"]

_log = logging.getLogger("aitoolman.service")

MAX_ROWS = 1_000


class Questions:
    """Answers each question with ``said``, or with ``refused`` and the reason.

    Args:
        spawn: Runs a coroutine and keeps it.
    """

    def __init__(
        self,
        manager: LLMProviderManager,
        audit: Audit,
        veil: Veil,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._manager = manager
        self._audit = audit
        self._veil = veil
        self._spawn = spawn

    def on_describe(self, session: Session, request_id: str, body: memoryview) -> None:
        ask = wire.decode(body, wire.Ask)

        async def describe() -> wire.Wire:
            check_model(session.guest, ask.model_name)
            return wire.said_description(await self._manager.describe(ask.model_name))

        self._spawn(self._say(session, request_id, describe))

    def on_preview(self, session: Session, request_id: str, body: memoryview) -> None:
        asked = wire.decode(body, wire.WireRequest)

        async def preview() -> wire.Wire:
            check_model(session.guest, asked.model_name)
            messages = wire.unpack_messages(asked.messages)
            return wire.said_preview(
                await self._manager.preview(
                    asked.model_name, messages, asked.tools, asked.options, asked.stream
                )
            )

        self._spawn(self._say(session, request_id, preview))

    def on_audit(self, session: Session, request_id: str, body: memoryview) -> None:
        event = wire.decode(body, wire.Audit)

        async def write() -> wire.Wire:
            await self._audit.event(session.label, event)
            return wire.Said("")

        self._spawn(self._say(session, request_id, write))

    def on_page(self, session: Session, request_id: str, body: memoryview) -> None:
        page = wire.decode(body, wire.Page)

        async def fetch() -> wire.Wire:
            if not session.guest.monitor:
                raise LLMApiRequestError(f"{session.guest.name!r} may not read the audit")
            return await self._audit.page(page.after, max(1, min(page.limit, MAX_ROWS)))

        self._spawn(self._say(session, request_id, fetch))

    async def _say(
        self,
        session: Session,
        request_id: str,
        question: Callable[[], Coroutine[Any, Any, wire.Wire]],
    ) -> None:
        try:
            body = wire.encode(await question())
        except LLMError as exc:
            kind = "application" if isinstance(exc, LLMApplicationError) else "request"
            session.send("refused", request_id, refusal(self._veil.text(str(exc)), kind))
        except Exception as exc:  # noqa: BLE001 - the client is told, the log has it
            _log.exception("a question could not be answered")
            reason = f"the server failed: {type(exc).__name__}"
            session.send("refused", request_id, refusal(reason))
        else:
            session.send("said", request_id, body)
