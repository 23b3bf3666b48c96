"""Answers that clients share: one that is kept is given again, one that is on its way waited for.

Only where the configuration says so. A request counts by its fingerprint, so a client gets answers
of what its own model name stands for, and it was asked before whether it may use that name.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from .._datamodel import FinishReason
from .._ledger.below import bare_response
from .._ledger.records import Fragment, decode_fragments, decode_response

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .._datamodel import LLMProviderResponse
    from .._ledger.queries import StoredAnswer
    from .audit import Audit
    from .calls import Call

__all__ = ["Sharing"]

_log = logging.getLogger("aitoolman.service")


class _Hit(NamedTuple):
    """A kept answer, read."""

    response: LLMProviderResponse
    fragments: list[Fragment]
    stored: StoredAnswer


class Sharing:
    """Finds for each request whether it must be sent at all.

    Args:
        audit: Keeps the answers.
        send: Sends a request to its vendor.
        answered: Writes an answer down and hands it to whoever asked.
    """

    def __init__(
        self,
        audit: Audit,
        send: Callable[[Call], None],
        answered: Callable[[Call, StoredAnswer | None], Coroutine[None, None, None]],
    ) -> None:
        self._audit = audit
        self._send = send
        self._answered = answered
        self._asking: dict[bytes, list[Call]] = {}
        """By fingerprint: a request is on its way, and these wait for its answer."""

    async def serve(self, call: Call) -> None:
        """Give the kept answer; else wait for another client's request, once; else send."""
        key = None if call.request.call.fresh else await self._audit.key(call)
        hit = await self._hit(call, key)
        if call.request.is_cancelled or call.cut:
            await self._end(call)
        elif hit is not None:
            await self._give(call, hit)
        else:
            self._ask(call, key)

    async def _hit(self, call: Call, key: bytes | None) -> _Hit | None:
        """The kept answer, or the one that is on its way; None where that one fails."""
        hit = self._find(call, key)
        if hit is None and key in self._asking:
            self._asking[key].append(call)
            await call.woken.wait()
            hit = self._find(call, key)
        return hit

    def _ask(self, call: Call, key: bytes | None) -> None:
        """Send it; whoever asks the same from now on waits for it."""
        if key is not None and key not in self._asking:
            self._asking[key] = []
            call.leads = key
        self._send(call)

    def done(self, call: Call) -> None:
        """A request that was sent has its answer in the file, or has none."""
        if call.leads is not None:
            for waiting in self._asking.pop(call.leads):
                waiting.woken.set()

    def _find(self, call: Call, key: bytes | None) -> _Hit | None:
        stored = None if key is None else self._audit.kept(key)
        if stored is None:
            return None
        try:
            response = decode_response(stored.response, call.request)
            return _Hit(response, decode_fragments(stored.fragments), stored)
        except ValueError as exc:
            _log.warning("answer %d of the ledger cannot be read, asking: %s", stored.id, exc)
            return None

    async def _give(self, call: Call, hit: _Hit) -> None:
        if call.request.stream:
            call.take_all(hit.fragments)
        await self._finish(call, hit.response, hit.stored)

    async def _end(self, call: Call) -> None:
        text = "the request was cancelled"
        await self._finish(call, bare_response(call.request, FinishReason.cancelled, text), None)

    async def _finish(
        self, call: Call, response: LLMProviderResponse, stored: StoredAnswer | None
    ) -> None:
        call.request.response.set_result(response)
        await self._answered(call, stored)
