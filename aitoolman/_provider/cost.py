"""Money for tokens, from prices per million and what the vendor counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._config import Price
    from .._datamodel import Attempt

__all__ = ["token_cost", "total_cost"]


def token_cost(
    price: Price | None,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    cached_tokens: int | None = None,
) -> float | None:
    """What the tokens cost; None where a count or a price that is needed is unknown.

    Cached tokens are part of the prompt's and cost `cached_input`, or `input` where that is not
    given. Reasoning tokens are part of the completion's and cost nothing extra.
    """
    if price is None or prompt_tokens is None or completion_tokens is None:
        return None
    cached = min(max(cached_tokens or 0, 0), prompt_tokens)
    cached_price = price.input if price.cached_input is None else price.cached_input
    parts = (
        _part(prompt_tokens - cached, price.input),
        _part(cached, cached_price),
        _part(completion_tokens, price.output),
    )
    return _sum(parts)


def _part(tokens: int, price: float | None) -> float | None:
    if tokens == 0:
        return 0.0
    return None if price is None else tokens * price / 1_000_000


def _sum(parts: Sequence[float | None]) -> float | None:
    """The sum, None where a part (or everything) is unknown."""
    known = [part for part in parts if part is not None]
    return sum(known) if parts and len(known) == len(parts) else None


def total_cost(attempts: Sequence[Attempt]) -> float | None:
    """Money for all attempts, failed ones included; None where one may have cost an unknown sum."""
    return _sum([attempt.cost for attempt in attempts])
