"""The client that calls vendors from this very process."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._provider.checking import checked_config
from .._provider.inspection import known_secrets
from .._secrets import Redactor
from .home import HomedClient

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._datamodel import (
        LLMProviderRequest,
        LLMProviderResponse,
        Message,
        ModelDescription,
        RequestPreview,
    )
    from .home import Engine

__all__ = ["LLMLocalClient"]

_audit = logging.getLogger("aitoolman.audit")


class LLMLocalClient(HomedClient):
    """Calls vendors directly.

    It works with ``async with``, which makes the running loop its home and closes it at the end,
    and without: then it starts on first use, on the library's background loop, and is closed by
    `close` or at interpreter exit. Limits (``parallel``, ``rpm``, ``tpm``) hold over all loops and
    threads that use it.

    Args:
        config: The provider configuration, see docs/configuration.md. Its table ``[ledger]`` puts
            a ledger in place.
        ledger: False leaves the table ``[ledger]`` aside.

    Raises:
        LLMConfigError: The configuration has mistakes; all of them are in the message.
    """

    def __init__(self, config: Mapping[str, Any], *, ledger: bool = True) -> None:
        super().__init__()
        self.config = checked_config(config)
        self._source = config
        self._ledger = self.config.resolve_ledger() if ledger else None
        if self._ledger is not None and self._ledger.mode == "off":
            self._ledger = None
        self._ledger_file = self._find_ledger_file()

    def __repr__(self) -> str:
        return f"LLMLocalClient({', '.join(self.config.entries)})"

    def _open(self) -> Engine:
        if self._ledger is not None and self._ledger_file is not None:
            from .._ledger.client import ledger_engine

            below = LLMLocalClient(self._source, ledger=False)
            return ledger_engine(below, self._ledger_file, self._ledger, self.client_id)
        from .._provider.manager import LLMProviderManager

        return LLMProviderManager(self.config)

    @property
    def ledger_path(self) -> Path | None:
        """The file that records the calls; None without a ledger, and in a replay."""
        return None if self.ledger_mode == "replay" else self._ledger_file

    @property
    def ledger_mode(self) -> str:
        """The mode in the table ``[ledger]``; ``off`` without one."""
        return "off" if self._ledger is None else self._ledger.mode

    def _find_ledger_file(self) -> Path | None:
        """Beside the configuration unless named; found once: the working folder may change."""
        if self._ledger is None:
            return None
        if self._ledger.path is not None:
            return Path(self._ledger.path).absolute()
        from .._ledger.schema import default_path

        return default_path(Path(self.config.file) if self.config.file else None)

    def redact(self, text: str) -> str:
        """`text` without the keys, tokens and passwords of the configuration."""
        if self._engine is None:
            return Redactor(known_secrets(self.config)).text(text)
        return str(self._engine.redact(text))

    async def audit_event(self, context_id: str, event_type: str, **kwargs: Any) -> None:
        """Log a business event at INFO on ``aitoolman.audit``, and record it in the ledger."""
        _audit.info("%s %s %s", context_id, event_type, self.redact(str(kwargs)))
        if self.ledger_path is not None:
            from .._ledger.client import record_event

            await record_event(self, context_id, event_type, kwargs)

    async def lookup(
        self, requests: Sequence[LLMProviderRequest], *, record: bool = True
    ) -> list[LLMProviderResponse | None]:
        """Answers that the ledger has, found in bulk and recorded as calls; None for the others."""
        if self._ledger is None:
            return [None] * len(requests)
        self._ensure_home()
        found = await self._at_home(lambda engine: engine.lookup(requests, record))
        return found if found is not None else [None] * len(requests)

    async def describe(self, model_name: str) -> ModelDescription:
        """What `model_name` stands for, with its limits and prices; never a key.

        Raises:
            LLMApiRequestError: There is no such model.
        """
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
        """The request as it would be sent: URL, masked headers, body, estimated tokens and cost.

        Raises:
            LLMApiRequestError: There is no such model.
            LLMApplicationError: The request cannot be built.
        """
        self._ensure_home()
        preview: RequestPreview | None = await self._at_home(
            lambda engine: engine.preview(model_name, messages, tools, options, stream)
        )
        assert preview is not None
        return preview
