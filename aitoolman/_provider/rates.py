"""Requests and tokens per minute: what the configuration allows and what vendors' headers tell."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import deque
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MINUTE",
    "Learned",
    "RateWindow",
    "Remaining",
    "read_remaining",
    "retry_after",
    "seconds_until",
]

MINUTE = 60.0

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|ns|[dhms]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|ns|[dhms])")
_FOREVER = 10 * 365 * 86400.0


class RateWindow:
    """At most so much in any sixty seconds. Entries may be corrected once more is known.

    Args:
        limit: Requests, or tokens.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0.0
        self._entries: deque[list[float]] = deque()

    def ready_in(self, weight: float, now: float) -> float:
        """Seconds until `weight` more fits; what is larger than the limit goes when all is free."""
        self._forget(now)
        excess = self._used + min(weight, self.limit) - self.limit
        if excess <= 0:
            return 0.0
        for start, size in self._entries:
            excess -= size
            if excess <= 0:
                return start + MINUTE - now
        return 0.0

    def take(self, weight: float, now: float) -> list[float]:
        """Count `weight` from now on; what comes back can be given to `correct`."""
        entry = [now, weight]
        self._entries.append(entry)
        self._used += weight
        return entry

    def correct(self, entry: list[float], weight: float) -> None:
        """Replace an estimate by what it really was, while it still counts."""
        if entry[1] >= 0:
            self._used += weight - entry[1]
            entry[1] = weight

    def _forget(self, now: float) -> None:
        while self._entries and self._entries[0][0] + MINUTE <= now:
            entry = self._entries.popleft()
            self._used -= entry[1]
            entry[1] = -1.0


class Learned:
    """What a vendor said is left until a moment, minus what was sent since.

    Answers overtake one another, so each carries the number of the request it belongs to, and an
    older one does not replace a newer.
    """

    def __init__(self) -> None:
        self._left = math.inf
        self._until = -math.inf
        self._newest = 0
        self._sent = 0.0

    def take(self, weight: float) -> float:
        """Count what is sent; gives the mark for `observe`."""
        self._sent += weight
        self._left -= weight
        return self._sent

    def observe(self, number: int, mark: float, left: float, reset_in: float, now: float) -> None:
        """Take over what the answer to request `number` said."""
        if number < self._newest and now < self._until:
            return
        self._newest = number
        self._until = now + reset_in
        self._left = left - (self._sent - mark)

    def ready_in(self, weight: float, now: float) -> float:
        """Seconds until the vendor's next period, where this one is used up."""
        if now >= self._until or self._left >= weight:
            return 0.0
        return self._until - now


class Remaining(NamedTuple):
    """What a vendor's headers say is left, and the seconds until it is full again."""

    requests: tuple[float, float] | None = None
    tokens: tuple[float, float] | None = None


_REQUESTS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
)
_TOKENS = (
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
)
_NOTHING = Remaining()


def read_remaining(headers: Mapping[str, str], wall: float) -> Remaining:
    """Rate-limit headers as OpenAI, Anthropic and their likes send them.

    Args:
        headers: Of an answer; names in any case.
        wall: Unix time, for headers that name a moment.
    """
    requests, tokens = _pair(headers, _REQUESTS, wall), _pair(headers, _TOKENS, wall)
    return Remaining(requests, tokens) if requests or tokens else _NOTHING


def _pair(
    headers: Mapping[str, str], names: tuple[tuple[str, str], ...], wall: float
) -> tuple[float, float] | None:
    for left_name, reset_name in names:
        left_text = headers.get(left_name)
        if left_text is not None:
            left = _number(left_text)
            reset = seconds_until(headers.get(reset_name, ""), wall)
            return None if left is None or reset is None else (left, reset)
    return None


def retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds that the server asks to wait, or None.

    Reads ``retry-after-ms`` and ``Retry-After`` as seconds, duration or HTTP date.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return min(milliseconds / 1000, _FOREVER)
    return seconds_until(headers.get("Retry-After", ""), wall)


def seconds_until(text: str, wall: float) -> float | None:
    """The seconds that a header means: a number, ``6m0s``, an RFC 3339 or HTTP date, Unix time."""
    text = text.strip()[:64]
    number = _number(text)
    if number is not None:
        return _from_number(number, wall)
    if _DURATION.fullmatch(text):
        return min(sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(text)), _FOREVER)
    moment = _moment(text)
    return None if moment is None else min(max(moment - wall, 0.0), _FOREVER)


def _from_number(number: float, wall: float) -> float:
    """Seconds; a number as large as Unix time (or a thousand times that) names a moment."""
    if number > 1e11:
        number /= 1000
    return min(max(number - wall, 0.0) if number > 1e9 else number, _FOREVER)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _moment(text: str) -> float | None:
    for read in (dt.datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            return aware.timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None
