"""Many requests looked up at once."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from . import records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._datamodel import LLMProviderResponse
    from .asking import Asked
    from .queries import StoredAnswer
    from .store import LedgerStore

__all__ = ["find_all"]

_log = logging.getLogger("aitoolman.ledger")

SLICE = 200
"""After so many answers, other work on the loop gets its turn."""


async def find_all(
    store: LedgerStore, wanted: Sequence[Asked], record: bool
) -> list[LLMProviderResponse | None]:
    """The kept answer to each, all of them recorded in one transaction; None for a miss."""
    found: list[LLMProviderResponse | None] = []
    rows = []
    for start in range(0, len(wanted), SLICE):
        part = wanted[start : start + SLICE]
        stored = store.find_many([a.key for a in part if a.key is not None and a.shared])
        for asked in part:
            hit = stored.get(asked.key) if asked.key is not None and asked.shared else None
            response = _decoded(asked, hit) if hit is not None else None
            found.append(response)
            if hit is not None and response is not None and record:
                rows.append(records.call_row(asked.request, response, asked.key, hit.id))
        await asyncio.sleep(0)
    await store.record_all(rows)
    return found


def _decoded(asked: Asked, hit: StoredAnswer) -> LLMProviderResponse | None:
    try:
        return records.decode_response(hit.response, asked.request)
    except ValueError as exc:
        _log.warning("answer %d of the ledger cannot be read: %s", hit.id, exc)
        return None
