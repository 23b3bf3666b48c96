"""How large a text would be that a template's method, filter or operator makes.

Only what grows beyond its operands is listed: ``{{ "x".center(10**9) }}`` and its kin are slips
that would take all memory before anybody could look at the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sized
from typing import Any

__all__ = ["FILTERS", "METHODS", "Estimate", "formatted_size", "sum_size"]

Estimate = Callable[..., int]
"""Takes what the function takes, the text first; gives characters or items, roughly from above."""

_WIDTH = re.compile(r"\d{6,}")
_WIDTH_FROM_VALUES = re.compile(r"%[^a-zA-Z%]*\*|\{[^{}]*:[^{}]*\{")


def _width(text: Any, width: Any = 0, *rest: Any, **named: Any) -> int:
    """The width that a text is filled up to."""
    return _number(named.get("width", width))


def _tabs(text: Any, tabsize: Any = 8) -> int:
    return str(text).count("\t") * _number(tabsize)


def _replaced(text: Any, old: Any, new: Any, count: Any = None) -> int:
    times = str(text).count(str(old))
    limit = _number(count)
    return (min(times, limit) if limit > 0 else times) * _length(str(new))


def _indented(text: Any, width: Any = 4, *rest: Any, **named: Any) -> int:
    return (str(text).count("\n") + 1) * (_number(width) or _length(width))


def _wrapped(
    text: Any, width: Any = 79, break_long: Any = True, wrapstring: Any = None, *rest: Any
) -> int:
    return _length(str(text)) // max(_number(width), 1) * _length(wrapstring)


def _filled(items: Any, count: Any, *rest: Any, **named: Any) -> int:
    return _number(count)


def _json(value: Any, indent: Any = None) -> int:
    return _number(indent)


def formatted_size(pattern: Any, *values: Any, **named: Any) -> int:
    """The widths that a format string asks for, itself or by its values."""
    if not isinstance(pattern, str):
        return 0
    given = [*values, *named.values()] if _WIDTH_FROM_VALUES.search(pattern) else []
    flat = [item for value in given for item in (value if isinstance(value, tuple) else (value,))]
    return max([*map(int, _WIDTH.findall(pattern)), *map(_number, flat)], default=0)


def sum_size(left: Any, right: Any) -> int:
    """The size of two texts or lists put together."""
    kinds = (str, bytes, list, tuple)
    both = isinstance(left, kinds) and isinstance(right, kinds)
    return len(left) + len(right) if both else 0


def _number(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 0


def _length(value: Any) -> int:
    return len(value) if isinstance(value, Sized) else 0


METHODS: dict[str, Estimate] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _width),
    "expandtabs": _tabs,
    "replace": _replaced,
    "format": formatted_size,
    "format_map": lambda pattern, values: formatted_size(pattern, **values),
}
"""By the name of the method of a text."""

FILTERS: dict[str, Estimate] = {
    "center": _width,
    "replace": _replaced,
    "indent": _indented,
    "wordwrap": _wrapped,
    "batch": _filled,
    "slice": _filled,
    "tojson": _json,
    "format": formatted_size,
}
"""By the name of the filter."""
