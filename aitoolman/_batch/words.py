"""Numbers for people."""

from __future__ import annotations

__all__ = ["clock", "count", "money", "plural"]


def clock(seconds: float) -> str:
    """``13 h 53 min``, ``4 min 10 s``, ``8 s``, ``0.4 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def count(number: float | None) -> str:
    """``50,000``; ``unknown`` for None."""
    return "unknown" if number is None else f"{round(number):,}"


def money(amount: float | None) -> str:
    """Two digits after the point, or as many as it takes to see three that count."""
    if amount is None:
        return "unknown"
    if amount == 0 or amount >= 1:
        return f"{amount:,.2f}"
    return f"{amount:.3g}" if amount >= 0.0001 else f"{amount:.2e}"


def plural(number: int, noun: str) -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
