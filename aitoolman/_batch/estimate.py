"""What a run would cost and how long it would take; what is unknown stays None."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .words import clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._datamodel import ModelDescription
    from .history import Experience

__all__ = ["Estimate", "Range", "estimate"]


class Range(NamedTuple):
    """Low, expected and high; None where unknown."""

    low: float | None = None
    expected: float | None = None
    high: float | None = None


class Estimate(NamedTuple):
    """Of the rows that are still to be sent."""

    rows: int | None
    prompt_tokens: int | None
    completion_tokens: Range
    cost: Range
    seconds: float | None
    """At the limits in force; None where unknown."""
    limit: str | None
    """The limit that decides the time: ``parallel``, ``rpm`` or ``tpm``."""
    advice: str
    """One sentence: the time, why, and which key changes it."""


def estimate(
    rows: int | None,
    prompt_tokens: int | None,
    longest: int | None,
    experience: Experience,
    model: ModelDescription | None,
) -> Estimate:
    """An estimate for `rows` requests.

    Args:
        rows: How many are to be sent; None where unknown.
        prompt_tokens: Of all of them together.
        longest: The most tokens an answer may have; None without a limit.
        experience: Of past answers.
        model: Limits and prices.
    """
    lengths = _lengths(rows, longest, experience)
    price = (model.price if model else None) or {}
    cost = Range(*(_cost(price, prompt_tokens, tokens) for tokens in lengths))
    if rows is None or model is None:
        return Estimate(rows, prompt_tokens, lengths, cost, None, None, "unknown")
    if rows == 0:
        return Estimate(rows, prompt_tokens, lengths, cost, 0.0, None, "nothing to send")
    times = _times(rows, prompt_tokens, lengths.expected, experience, model.limits)
    seconds, limit = _decider(times, experience, model.limits)
    advice = _advice(seconds, limit, times, model)
    return Estimate(rows, prompt_tokens, lengths, cost, seconds, limit, advice)


def _lengths(rows: int | None, longest: int | None, seen: Experience) -> Range:
    if rows is None:
        return Range()
    shortest = 1 if seen.shortest is None else seen.shortest
    expected = None if seen.completion_tokens is None else rows * seen.completion_tokens
    return Range(rows * shortest, expected, None if longest is None else rows * longest)


def _cost(
    price: Mapping[str, float], prompt_tokens: int | None, completion_tokens: float | None
) -> float | None:
    if prompt_tokens is None or completion_tokens is None:
        return None
    if prompt_tokens == completion_tokens == 0:
        return 0.0
    if "input" not in price or "output" not in price:
        return None
    money = prompt_tokens * price["input"] + completion_tokens * price["output"]
    return money / 1_000_000


def _times(
    rows: int,
    prompt_tokens: int | None,
    completion_tokens: float | None,
    seen: Experience,
    limits: Mapping[str, Any],
) -> dict[str, float]:
    """Seconds that each limit takes on its own, as far as it can be told."""
    times: dict[str, float] = {}
    if limits.get("parallel") and seen.seconds is not None:
        times["parallel"] = rows * seen.seconds / limits["parallel"]
    if limits.get("rpm"):
        times["rpm"] = 60 * rows / limits["rpm"]
    if limits.get("tpm") and prompt_tokens is not None:
        times["tpm"] = 60 * (prompt_tokens + (completion_tokens or 0)) / limits["tpm"]
    return times


def _decider(
    times: Mapping[str, float], seen: Experience, limits: Mapping[str, Any]
) -> tuple[float | None, str | None]:
    """The whole time and the limit that makes it so long; unknown without a latency."""
    if not times or (limits.get("parallel") and "parallel" not in times):
        return None, None
    slowest = max(times, key=lambda name: times[name])
    return max(times[slowest], seen.seconds or 0.0), slowest


def _advice(
    seconds: float | None,
    limit: str | None,
    times: Mapping[str, float],
    model: ModelDescription,
) -> str:
    table = f"[api.{_quoted(model.entries[0])}]" if model.entries else "[api]"
    if seconds is not None and limit is not None:
        return f"{limit} = {model.limits[limit]}: {clock(seconds)}; set {table} {limit}"
    known = [
        f"{name} = {value}{f' alone: {clock(times[name])}' if name in times else ''}"
        for name, value in model.limits.items()
        if value
    ]
    limits = f"{', '.join(known)} in {table}" if known else "no limits known"
    return f"unknown until some answers were timed: try run(limit=20) ({limits})"


def _quoted(name: str) -> str:
    return (
        name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else f'"{name}"'
    )
