"""`LLMLedgerClient`: any client, with a ledger around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .._transport.home import HomedClient
from .engine import LedgerEngine
from .options import LedgerOptions
from .records import event_row
from .schema import default_path
from .store import LedgerStore

if TYPE_CHECKING:
    import asyncio
    import os
    from collections.abc import Sequence

    from .._config import LedgerConfig
    from .._datamodel import (
        LLMProviderRequest,
        LLMProviderResponse,
        Message,
        ModelDescription,
        RequestPreview,
        TextSink,
    )
    from .._transport.client import LLMClient

__all__ = ["LLMLedgerClient", "ledger_engine", "record_event"]


class LLMLedgerClient(HomedClient):
    """Records every call of another client, and reuses or replays what it recorded.

    Args:
        client: The client that is asked where the ledger has no answer. It is entered on first use
            and closed with this one, unless it is in use already.
        path: The ledger's file; None is ``.aitoolman/ledger.db`` beside the client's configuration,
            else in the working directory. A file that ends in ``.jsonl`` is an export, to be
            replayed only.
        mode: ``"read_write"`` reuses answers and records new ones; ``"record"`` only records;
            ``"refresh"`` asks anew and records; ``"replay"`` answers from the ledger alone;
            ``"off"`` passes everything through.
        retention: ``"full"``, or ``"metadata"``: numbers only, no prompts and no answers.
        pace: How kept streams are timed: 0 at once, 1 as recorded, 2 twice as slow.

    Raises:
        LLMConfigError: An unknown mode, retention or pace; an export in another mode than replay.
            On first use: the file cannot be used as a ledger.
    """

    def __init__(
        self,
        client: LLMClient,
        path: str | os.PathLike[str] | None = None,
        mode: str = "read_write",
        *,
        retention: str = "full",
        pace: float = 0.0,
    ) -> None:
        super().__init__()
        self.client = client
        self.path = _beside(client) if path is None else Path(path).expanduser().absolute()
        self.options = LedgerOptions.checked(mode, retention, pace, self.path)
        self._opener: bool | None = None

    def __repr__(self) -> str:
        return f"LLMLedgerClient({self.client!r}, {str(self.path)!r}, mode={self.options.mode!r})"

    def _open(self) -> LedgerEngine:
        return _engine(self.client, self.path, self.options, self.client_id)

    @property
    def ledger_mode(self) -> str:
        """The mode; of a client below that keeps a ledger, where this one is ``off``."""
        return self.client.ledger_mode if self._off else self.options.mode

    @property
    def _off(self) -> bool:
        return self.options.mode == "off"

    @property
    def ledger_path(self) -> Path | None:
        """The file that records the calls; None in the modes ``off`` and ``replay``."""
        return self.path if self.options.records else None

    # Calls: in mode `off` they go straight to the client below

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

        Raises:
            RuntimeError: The client is closed.
            LLMConfigError: The file cannot be used as a ledger.
        """
        target: Any = self.client if self._off else super()
        if self._off:
            self._is_opener()
        request: LLMProviderRequest = await target.request(
            model_name=model_name,
            messages=messages,
            tools=tools,
            options=options,
            stream=stream,
            context_id=context_id,
            output_channel=output_channel,
            reasoning_channel=reasoning_channel,
        )
        return request

    async def cancel(self, request_id: str) -> None:
        """End a request; its answer has the status ``cancelled``. An unknown id is ignored."""
        await (self.client.cancel(request_id) if self._off else super().cancel(request_id))

    async def cancel_all(self, context_id: str | None = None) -> None:
        """End all requests of this client, or those of one context and of those below it."""
        await (self.client.cancel_all(context_id) if self._off else super().cancel_all(context_id))

    async def lookup(
        self, requests: Sequence[LLMProviderRequest], *, record: bool = True
    ) -> list[LLMProviderResponse | None]:
        """Answers that the ledger has, found in bulk and recorded as calls; None for the others.

        Args:
            requests: What would be sent.
            record: False only looks: no row tells of it.
        """
        if self._off:
            return [None] * len(requests)
        self._ensure_home()
        found = await self._at_home(lambda engine: engine.lookup(requests, record))
        return found if found is not None else [None] * len(requests)

    async def audit_event(self, context_id: str, event_type: str, **kwargs: Any) -> None:
        """Record a business event in the ledger and pass it on to the client below."""
        if self.options.records:
            await record_event(self, context_id, event_type, kwargs)
        if self.options.mode != "replay":
            await self.client.audit_event(context_id, event_type, **kwargs)

    async def describe(self, model_name: str) -> ModelDescription:
        """What the client below says of a model; in a replay, what it said.

        Raises:
            LLMError: There is no such model.
        """
        if self._off:
            return await self.client.describe(model_name)
        self._ensure_home()
        description: ModelDescription | None = await self._at_home(
            lambda engine: engine.describe(model_name)
        )
        assert description is not None
        return description

    async def preview(
        self,
        model_name: str,
        messages: list[Message],
        tools: dict[str, dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        stream: bool = False,
    ) -> RequestPreview:
        """What the client below would send; in a replay an estimate, where it cannot tell.

        Raises:
            LLMError: There is no such model, or the request cannot be built.
        """
        if self._off:
            return await self.client.preview(model_name, messages, tools, options, stream)
        self._ensure_home()
        preview: RequestPreview | None = await self._at_home(
            lambda engine: engine.preview(model_name, messages, tools, options, stream)
        )
        assert preview is not None
        return preview

    def redact(self, text: str) -> str:
        """`text` without the secrets that the client below knows."""
        return self.client.redact(text)

    def under_way(self, context_id: str | None = None) -> list[LLMProviderResponse]:
        """What is known so far of the requests under way; any thread may ask."""
        return self.client.under_way(context_id)

    # Life: in mode `off` it is that of the client below

    @property
    def home(self) -> asyncio.AbstractEventLoop | None:
        """The loop this client lives on, or None before its first use."""
        return getattr(self.client, "home", None) if self._off else super().home

    async def __aenter__(self) -> Self:
        if not self._off:
            return await super().__aenter__()
        if self._is_opener():
            await self.client.__aenter__()
        return self

    def _is_opener(self) -> bool:
        """True where nobody used the client below before this one did."""
        if self._opener is None:
            self._opener = getattr(self.client, "home", None) is None
        return self._opener

    async def drain(self) -> None:
        """Close as soon as every request that is under way has its answer."""
        if self._off and self._opener:
            await self.client.drain()
        await super().drain()

    async def close(self) -> None:
        """End all requests and write what is still waiting. Again is fine."""
        if self._off and self._opener:
            await self.client.close()
        await super().close()


def _beside(client: LLMClient) -> Path:
    file = getattr(getattr(client, "config", None), "file", None)
    return default_path(Path(file) if file else None).absolute()


def ledger_engine(
    client: LLMClient, path: Path, config: LedgerConfig, client_id: str
) -> LedgerEngine:
    """The engine of a client that has a table ``[ledger]`` in its configuration.

    Raises:
        LLMConfigError: The file cannot be used as a ledger.
    """
    options = LedgerOptions.checked(config.mode, config.retention, config.pace, path)
    return _engine(client, path, options, client_id)


def _engine(client: LLMClient, path: Path, options: LedgerOptions, client_id: str) -> LedgerEngine:
    if path.suffix == ".jsonl":
        from .portable import unpack

        path = unpack(path)
    store = LedgerStore(
        path,
        full=options.retention == "full",
        read_only=options.mode == "replay",
        redact=client.redact,
    )
    return LedgerEngine(client, store, options, client_id)


async def record_event(
    client: HomedClient, context_id: str, event_type: str, fields: dict[str, Any]
) -> None:
    """Put a business event into the ledger of a client that has one; durable on return."""
    row = event_row(client.client_id, context_id, event_type, fields)
    client._ensure_home()
    await client._at_home(lambda engine: engine.record(row))
