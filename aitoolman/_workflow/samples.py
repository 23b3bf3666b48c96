"""Numbers for identical requests, so that a run repeated with a ledger finds the same answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._datamodel import current_call
from .._ledger.fingerprint import canonical_request, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._application.call import Call

__all__ = ["SampleNumbers"]

REMEMBERED = 100_000
"""How many different requests a workflow remembers; the oldest are forgotten first."""


class SampleNumbers:
    """The n-th identical request of one workflow asks for sample n, counted from 0.

    Args:
        taken: Keys and numbers of calls that this workflow shares with the one it was forked from.
    """

    def __init__(self, taken: Iterable[tuple[int, int]] = ()) -> None:
        self._taken: dict[int, set[int]] = {}
        self._lowest: dict[int, int] = {}  # no number below it is free
        for key, number in taken:
            self._taken.setdefault(key, set()).add(number)

    def number(self, call: Call) -> tuple[int, int] | None:
        """Key and number of a call; None where its caller says which sample it wants."""
        if call.sample is not None or current_call().sample:
            return None
        key = _key(call)
        if key is None:
            return None
        taken = self._taken.setdefault(key, set())
        number = self._lowest.get(key, 0)
        while number in taken:
            number += 1
        taken.add(number)
        self._lowest[key] = number + 1
        self._forget_oldest()
        return key, number

    def give_back(self, numbers: Iterable[tuple[int, int]]) -> None:
        """Make the numbers of an undone step free again."""
        for key, number in numbers:
            self._taken.get(key, set()).discard(number)
            self._lowest[key] = min(number, self._lowest.get(key, 0))

    def _forget_oldest(self) -> None:
        if len(self._taken) > REMEMBERED:
            oldest = next(iter(self._taken))
            del self._taken[oldest]
            self._lowest.pop(oldest, None)


def _key(call: Call) -> int | None:
    request = call.request
    try:
        canonical = canonical_request(request.messages, request.tools, request.options)
        return int.from_bytes(fingerprint(request.model_name, canonical, 0)[:8], "big")
    except (OSError, TypeError, ValueError):
        return None  # what is wrong with the request is told by the call itself
