"""`LLMLedgerClient`: any client, with a ledger around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._transport.home import HomedClient
from .engine import LedgerEngine
from .options import LedgerOptions
from .queries import Owner
from .records import event_row
from .schema import default_path
from .writer import LedgerWriter

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from .._datamodel import (
        LLMProviderRequest,
        LLMProviderResponse,
        Message,
        ModelDescription,
        RequestPreview,
    )
    from .._transport.client import LLMClient

__all__ = ["LLMLedgerClient"]


class LLMLedgerClient(HomedClient):
    """Records every call of another client, and reuses or replays what it recorded.

    Args:
        client: The client that is asked where the ledger has no answer.
        path: The ledger's file; None is ``.aitoolman/ledger.db`` in the working directory. A file
            that ends in ``.jsonl`` is an export, to be replayed only.
        mode: ``"read_write"`` reuses answers and records new ones; ``"record"`` only records;
            ``"refresh"`` asks anew and records; ``"replay"`` answers from the ledger alone;
            ``"off"`` passes everything through.
        retention: ``"full"``, or ``"metadata"``: numbers only, no prompts and no answers.
        pace: How replayed streams are timed: 0 at once, 1 as recorded.

    Raises:
        LLMConfigError: An unknown mode, retention or pace.
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
        self.path = Path(path).absolute() if path is not None else default_path(None)
        self.options = LedgerOptions.checked(mode, retention, pace)

    def __repr__(self) -> str:
        return f"LLMLedgerClient({self.client!r}, {str(self.path)!r}, mode={self.options.mode!r})"

    def _open(self) -> LedgerEngine:
        writer = None if self.options.mode == "off" else LedgerWriter(self._file())
        return LedgerEngine(self.client, writer, self.options, Owner.new(self.client_id))

    def _file(self) -> Path:
        if self.path.suffix != ".jsonl":
            return self.path
        from .portable import unpack

        return unpack(self.path, self.options.mode)

    async def lookup(
        self, requests: Sequence[LLMProviderRequest]
    ) -> list[LLMProviderResponse | None]:
        """Answers that the ledger has, found in bulk and recorded as calls; None for the others."""
        self._ensure_home()
        found = await self._at_home(lambda engine: engine.lookup(requests))
        return found if found is not None else [None] * len(requests)

    async def audit_event(self, context_id: str, event_type: str, **kwargs: Any) -> None:
        """Record a business event in the ledger and pass it on to the client below."""
        self._ensure_home()
        row = event_row(self.client_id, context_id, event_type, kwargs)

        async def post(engine: LedgerEngine) -> None:
            engine.post_event(row)

        await self._at_home(post)
        if self.options.mode != "replay":
            await self.client.audit_event(context_id, event_type, **kwargs)

    async def describe(self, model_name: str) -> ModelDescription:
        """What the client below says of a model."""
        return await self.client.describe(model_name)

    async def preview(
        self,
        model_name: str,
        messages: list[Message],
        tools: dict[str, dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        stream: bool = False,
    ) -> RequestPreview:
        """What the client below would send."""
        return await self.client.preview(model_name, messages, tools, options, stream)
