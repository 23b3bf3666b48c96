"""The interface between an application and whatever carries its requests."""

from __future__ import annotations

import abc
import hashlib
from typing import TYPE_CHECKING, Any

from .._datamodel import ModelDescription, RequestPreview
from .._sync import Sync

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from .._datamodel import LLMProviderRequest, LLMProviderResponse, Message, TextSink

__all__ = ["LLMClient"]


class LLMClient(abc.ABC):
    """Carries requests to models. Wrapping, replacing or writing one changes nothing above it.

    A client of your own implements `request`, `cancel` and `audit_event` with these arguments;
    everything else has a default here. Its `request` may read `current_call` for the source,
    sample and freshness of the call, before its first ``await``.
    """

    @abc.abstractmethod
    async def request(
        self,
        model_name: str,
        messages: list[Message],
        tools: dict[str, dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        stream: bool = False,
        context_id: str | None = None,
        output_channel: TextSink | None = None,
        reasoning_channel: TextSink | None = None,
    ) -> LLMProviderRequest:
        """Start a request and return at once; its ``response`` future brings the answer.

        A failure of the request is an answer (see ``finish_reason``), not an exception. Cancelling
        the future, or whoever awaits it, ends the request.
        """

    @abc.abstractmethod
    async def cancel(self, request_id: str) -> None:
        """End a request; its answer has the status ``cancelled``. An unknown id is ignored."""

    @abc.abstractmethod
    async def audit_event(self, context_id: str, event_type: str, **kwargs: Any) -> None:
        """Record a business event of the application."""

    async def cancel_all(self, context_id: str | None = None) -> None:  # noqa: B027
        """End all requests of this client, or of one context and those below it (``ctx/1``)."""

    def under_way(self, context_id: str | None = None) -> list[LLMProviderResponse]:
        """What is known so far of the requests under way, for showing; any thread may ask.

        Args:
            context_id: Only those of this context and of those below it.
        """
        return []

    async def describe(self, model_name: str) -> ModelDescription:
        """What `model_name` stands for, as far as answers depend on it."""
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        digest = hashlib.sha256(f"{kind}\0{model_name}".encode()).hexdigest()
        return ModelDescription(model_name, digest, (model_name,))

    async def preview(
        self,
        model_name: str,
        messages: list[Message],
        tools: dict[str, dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        stream: bool = False,
    ) -> RequestPreview:
        """The request as it would be sent, without sending it."""
        from .._provider.tokens import estimate_tokens

        body: dict[str, Any] = {"messages": [m._asdict() for m in messages]}
        body |= {"tools": tools} if tools else {}
        return RequestPreview(
            model_name, list(messages), body | (options or {}), estimate_tokens(messages, tools)
        )

    @property
    def sync(self) -> Any:
        """The same names for code that does not await."""
        return Sync(self, self)

    @property
    def ledger_path(self) -> Path | None:
        """The file that records the calls of this client; None where nothing is recorded."""
        return None

    @property
    def ledger_mode(self) -> str:
        """What the ledger of this client does, see `LLMLedgerClient`; ``off`` without one."""
        return "off"

    async def lookup(
        self, requests: Sequence[LLMProviderRequest], *, record: bool = True
    ) -> list[LLMProviderResponse | None]:
        """Answers that a ledger already has, found in bulk; None for each it has not.

        Args:
            requests: What would be sent.
            record: False only looks: the ledger's list of calls does not tell of it.
        """
        return [None] * len(requests)

    def redact(self, text: str) -> str:
        """`text` without the secrets that this client knows."""
        return text

    async def drain(self) -> None:
        """Close as soon as every request that is under way has its answer."""
        await self.close()

    async def close(self) -> None:  # noqa: B027 - optional for a client of one's own
        """End everything that this client runs. Again is fine."""

    async def __aenter__(self) -> LLMClient:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
