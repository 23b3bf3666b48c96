"""Copies of responses, one for every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._datamodel import LLMProviderResponse

__all__ = ["response_like"]


def response_like(response: LLMProviderResponse, **changes: Any) -> LLMProviderResponse:
    """A shallow copy with some fields changed; `copy.copy` takes many times as long."""
    twin = object.__new__(type(response))
    twin.__dict__.update(response.__dict__, **changes)
    return twin
