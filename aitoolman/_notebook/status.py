"""The status line of a call: what it waits for, how fast it goes, what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._datamodel import LLMError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._datamodel import LLMModuleResult, LLMProviderResponse

__all__ = ["failure_of", "live_status", "result_facts", "result_status", "status_word"]


def live_status(
    responses: Sequence[LLMProviderResponse], pieces: int, seconds: float, since_first: float
) -> str:
    """One line about requests under way.

    Args:
        responses: What the client knows of them so far.
        pieces: Fragments that came, a token each with most vendors.
        seconds: Since the start.
        since_first: Seconds since the first fragment; 0 before it.
    """
    parts = [_phase(responses, pieces, since_first), f"{seconds:.1f} s"]
    if pieces:
        parts.append(f"≈{pieces} tokens")
    tries = max((len(r.attempts) for r in responses), default=0)
    if tries:
        parts.append(f"attempt {tries + 1}")
    return " · ".join(parts)


def _phase(responses: Sequence[LLMProviderResponse], pieces: int, since_first: float) -> str:
    if pieces:
        return f"{pieces / since_first:.0f} tokens/s" if since_first > 0.2 else "streaming"
    if responses and all(r.queue_time is None for r in responses):
        ahead = responses[0].queue_length
        return f"queued, {ahead} ahead" if ahead else "queued"
    return "waiting for the first token"


def failure_of(result: LLMModuleResult) -> str | None:
    """Why a call has no answer to be used; None where it has one."""
    try:
        result.raise_for_status()
    except LLMError as exc:
        return str(exc)
    return None


def result_status(result: LLMModuleResult) -> str:
    """One line about a finished call."""
    return " · ".join([result.model_name, status_word(result), *result_facts(result)])


def status_word(result: LLMModuleResult) -> str:
    """How a call ended."""
    return result.status.value + (" (repaired)" if result.repaired else "")


def result_facts(result: LLMModuleResult) -> list[str]:
    """What a call took, each thing in a few words."""
    parts = [*_amounts(result), *_times(result)]
    if result.cost is not None:
        parts.append(f"cost {result.cost:.6f}".rstrip("0").rstrip("."))
    if len(result.responses) > 1:
        parts.append(f"asked {len(result.responses)} times")
    if len(result.attempts) > len(result.responses):
        parts.append(f"{len(result.attempts)} attempts")
    if result.from_ledger:
        parts.append("from ledger")
    return parts


def _amounts(result: LLMModuleResult) -> list[str]:
    sent, received = result.prompt_tokens, result.completion_tokens
    if sent is None and received is None:
        return []
    cached = f" ({result.cached_tokens} cached)" if result.cached_tokens else ""
    counts = ["?" if count is None else str(count) for count in (sent, received)]
    return [f"{counts[0]}{cached} + {counts[1]} tokens"]


def _times(result: LLMModuleResult) -> list[str]:
    total, first, count = (
        result.total_response_time,
        result.time_to_first_token,
        result.completion_tokens,
    )
    if total is None:
        return []
    parts = [f"{total:.2f} s"]
    if first is not None and count and total - first > 0.05:
        parts.append(f"{count / (total - first):.0f} tokens/s")
    if result.queue_time is not None and result.queue_time > 0.05:
        parts.append(f"queued {result.queue_time:.2f} s")
    return parts
