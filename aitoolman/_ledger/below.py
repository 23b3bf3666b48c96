"""The client under a ledger: entered on the ledger's own loop, asked, and called off."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .._datamodel import FinishReason, LLMProviderResponse, use_call

if TYPE_CHECKING:
    from .._datamodel import LLMProviderRequest, ModelDescription
    from .._transport.client import LLMClient
    from .flights import Flight

__all__ = ["Below", "bare_response", "failed_response"]

_log = logging.getLogger("aitoolman.ledger")

CALL_OFF_SECONDS = 3.0
"""How long a client may take to end a request that was called off."""


class Below:
    """A client that is opened on first use, where nobody else has, and closed in that case."""

    def __init__(self, client: LLMClient) -> None:
        self.client = client
        self._entering: asyncio.Lock | None = None
        self._looked = self._entered = False

    async def open(self) -> None:
        """Give the client this loop for a home, unless it has one."""
        if self._looked:
            return
        self._entering = self._entering or asyncio.Lock()
        async with self._entering:
            if not self._looked:
                if getattr(self.client, "home", None) is None:
                    await self.client.__aenter__()
                    self._entered = True
                self._looked = True

    async def close(self) -> None:
        """Close the client if it was opened here."""
        if self._entered:
            self._entered = self._looked = False
            await self.client.__aexit__(None, None, None)

    async def describe(self, model_name: str) -> ModelDescription:
        """What the client says of a model."""
        await self.open()
        return await self.client.describe(model_name)

    async def ask(self, flight: Flight, request: LLMProviderRequest) -> LLMProviderResponse:
        """The client's answer; the fragments of a stream are given to `flight` as they come.

        Raises:
            Exception: Whatever the client raises.
        """
        await self.open()
        text, thoughts = (flight.sink("t"), flight.sink("r")) if request.stream else (None, None)
        with use_call(request.call):
            flight.inner = await self.client.request(
                model_name=request.model_name,
                messages=request.messages,
                tools=request.tools,
                options=request.options,
                stream=request.stream,
                context_id=request.context_id,
                output_channel=text,
                reasoning_channel=thoughts,
            )
        try:
            return _checked(await flight.inner.response)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return bare_response(request, FinishReason.cancelled, "the client cancelled it")

    async def call_off(self, inner: LLMProviderRequest) -> None:
        """End a request: ask for it first, and insist where that does not help."""
        try:
            await self.client.cancel(inner.request_id)
        except Exception:  # noqa: BLE001 - a user's client may raise anything
            _log.warning("the client could not cancel %s", inner.request_id, exc_info=True)
        _, late = await asyncio.wait({inner.response}, timeout=CALL_OFF_SECONDS)
        for future in late:
            future.cancel()


def _checked(response: object) -> LLMProviderResponse:
    if not isinstance(response, LLMProviderResponse):
        kind = type(response).__name__
        raise TypeError(f"the client answered with a {kind} instead of an LLMProviderResponse")
    return response


def failed_response(request: LLMProviderRequest, exc: Exception) -> LLMProviderResponse:
    """An answer for the record: what the client raised."""
    return bare_response(request, FinishReason.of_error(exc), f"{type(exc).__name__}: {exc}")


def bare_response(
    request: LLMProviderRequest, reason: FinishReason, text: str
) -> LLMProviderResponse:
    """An answer that only says why there is none."""
    return LLMProviderResponse(
        request.client_id,
        request.context_id,
        request.request_id,
        request.model_name,
        request.stream,
        finish_reason=reason.value,
        error_text=text,
    )
