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

    from .._config import LedgerConfig
    from .._datamodel import (
        LLMProviderRequest,
        LLMProviderResponse,
        Message,
        ModelDescription,
        RequestPreview,
    )
    from .._transport.client import LLMClient

__all__ = ["LLMLedgerClient", "ledger_engine", "record_event"]


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
        return _engine(self.client, self.path, self.options, self.client_id)

    @property
    def ledger_path(self) -> Path | None:
        """The ledger's file; None in mode ``off``."""
        return None if self.options.mode == "off" else self.path

    async def lookup(
        self, requests: Sequence[LLMProviderRequest]
    ) -> list[LLMProviderResponse | None]:
        """Answers that the ledger has, found in bulk and recorded as calls; None for the others."""
        self._ensure_home()
        found = await self._at_home(lambda engine: engine.lookup(requests))
        return found if found is not None else [None] * len(requests)

    async def audit_event(self, context_id: str, event_type: str, **kwargs: Any) -> None:
        """Record a business event in the ledger and pass it on to the client below."""
        await record_event(self, context_id, event_type, kwargs)
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


def ledger_engine(
    client: LLMClient, path: Path | None, config: LedgerConfig, client_id: str
) -> LedgerEngine:
    """The engine of a client that has a table ``[ledger]`` in its configuration."""
    options = LedgerOptions.checked(config.mode, config.retention, 0.0)
    return _engine(client, path or default_path(None), options, client_id)


def _engine(client: LLMClient, path: Path, options: LedgerOptions, client_id: str) -> LedgerEngine:
    if options.mode == "off":
        writer = None
    elif path.suffix == ".jsonl":
        from .portable import unpack

        writer = LedgerWriter(unpack(path, options.mode))
    else:
        writer = LedgerWriter(path)
    return LedgerEngine(client, writer, options, Owner.new(client_id))


async def record_event(
    client: HomedClient, context_id: str, event_type: str, fields: dict[str, Any]
) -> None:
    """Put a business event into the ledger of a client that has one."""
    row = event_row(client.client_id, context_id, event_type, fields)

    async def post(engine: LedgerEngine) -> None:
        engine.post_event(row)

    client._ensure_home()
    await client._at_home(post)
