"""The client that calls vendors from this very process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .._config import ProviderConfig
from .home import HomedClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._datamodel import Message, ModelDescription, RequestPreview
    from .._provider.manager import LLMProviderManager

__all__ = ["LLMLocalClient"]

_audit = logging.getLogger("aitoolman.audit")


class LLMLocalClient(HomedClient):
    """Calls vendors directly.

    It works with ``async with``, which makes the running loop its home and closes it at the end,
    and without: then it starts on first use, on the library's background loop, and is closed by
    `close` or at interpreter exit. Limits (``parallel``, ``rpm``, ``tpm``) hold over all loops and
    threads that use it.

    Args:
        config: The provider configuration, see docs/configuration.md.

    Raises:
        LLMConfigError: The configuration has mistakes; all of them are in the message.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = ProviderConfig.from_dict(config)

    def __repr__(self) -> str:
        return f"LLMLocalClient({', '.join(self.config.entries)})"

    def _open(self) -> LLMProviderManager:
        from .._provider.manager import LLMProviderManager

        return LLMProviderManager(self.config)

    async def audit_event(self, context_id: str, event_type: str, **kwargs: Any) -> None:
        """Log a business event at INFO on ``aitoolman.audit``."""
        _audit.info("%s %s %s", context_id, event_type, kwargs)

    async def describe(self, model_name: str) -> ModelDescription:
        """What `model_name` stands for, with its limits and prices; never a key.

        Raises:
            LLMApiRequestError: There is no such model.
        """
        self._ensure_home()
        description = await self._at_home(lambda engine: engine.describe(model_name))
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
        preview = await self._at_home(
            lambda engine: engine.preview(model_name, messages, tools, options, stream)
        )
        assert preview is not None
        return preview
