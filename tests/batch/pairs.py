"""Tables of test cases in which every pair of values of any two axes comes together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["pairwise"]

Pair = frozenset[tuple[str, str]]


def pairwise(axes: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Few cases that hold every pair of values; the same ones each time.

    Greedy: each case starts from a pair that is missing yet, and takes on each other axis the
    value that brings in the most missing pairs.
    """
    missing = {
        frozenset({(a, x), (b, y)})
        for a, b in itertools.combinations(axes, 2)
        for x, y in itertools.product(axes[a], axes[b])
    }
    cases = []
    while missing:
        case = dict(sorted(min(missing, key=sorted)))
        for axis in axes:
            if axis not in case:
                case[axis] = max(
                    axes[axis], key=lambda v, a=axis: len(missing & set(_with(case, a, v)))
                )
        missing -= set(_pairs(case))
        cases.append({axis: case[axis] for axis in axes})
    return cases


def _with(case: Mapping[str, str], axis: str, value: str) -> Iterator[Pair]:
    return (frozenset({(axis, value), item}) for item in case.items())


def _pairs(case: Mapping[str, str]) -> Iterator[Pair]:
    return (frozenset(two) for two in itertools.combinations(case.items(), 2))
