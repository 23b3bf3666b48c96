"""What model names stand for, asked once and noted in the file."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from .._datamodel import LLMError, ModelDescription

if TYPE_CHECKING:
    from .store import LedgerStore

__all__ = ["UNRESOLVED", "Models"]

_log = logging.getLogger("aitoolman.ledger")

UNRESOLVED = "unresolved"
"""The digest of a model name that stood for nothing that could be told."""


class Describer(Protocol):
    """Whoever can tell what a model name stands for."""

    async def describe(self, model_name: str) -> ModelDescription: ...


class Models:
    """The client's word on models.

    Args:
        below: The client.
        store: The file.
        replay: True: the file's word goes first, so that nothing is resolved.
    """

    def __init__(self, below: Describer, store: LedgerStore, replay: bool) -> None:
        self._below = below
        self._store = store
        self._replay = replay
        self._digests: dict[str, str] = {}
        self._failed: set[str] = set()
        self._asking = asyncio.Lock()

    async def describe(self, model_name: str) -> ModelDescription:
        """What the client below says of a model; in a replay, what it said.

        Raises:
            LLMError: There is no such model.
        """
        if self._replay:
            known = self._store.description(model_name)
            if known is not None:
                return known
        return await self._below.describe(model_name)

    def known_digest(self, model_name: str) -> str | None:
        """`digest`, where it was asked before."""
        return self._digests.get(model_name)

    async def digest(self, model_name: str) -> str:
        """What a key depends on; `UNRESOLVED` for a name that stands for nothing."""
        async with self._asking:
            return self._digests.get(model_name) or await self._ask(model_name)

    async def _ask(self, model_name: str) -> str:
        try:
            found = await self._below.describe(model_name)
        except LLMError as exc:
            _log.debug("model %r is not described: %s", model_name, exc)
            await self._note_failure(model_name)
            return UNRESOLVED
        await self._store.note_model(found)
        self._digests[model_name] = found.digest
        return found.digest

    async def _note_failure(self, model_name: str) -> None:
        """So that a replay knows of the name; asked again next time."""
        if model_name not in self._failed:
            self._failed.add(model_name)
            await self._store.note_model(ModelDescription(model_name, UNRESOLVED))
