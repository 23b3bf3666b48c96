"""The environment that templates run in: no way to Python's inside, bounded loops and sizes.

Jinja's sandbox closes the ways out and keeps templates from changing what they are given. It lets
a slip such as ``{{ "x" * 10**10 }}`` or ``{{ "x".center(10**10) }}`` take all memory, though, and
two nested loops over numbers all time; they are errors here. What a template does with the values
it is given is as unbounded as the caller's own code.
"""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range

from .growth import FILTERS, METHODS, formatted_size, sum_size

if TYPE_CHECKING:
    from collections.abc import Sized

    from jinja2.loaders import BaseLoader
    from jinja2.runtime import Context

    from .growth import Estimate

__all__ = ["MAX_NUMBERS", "MAX_SIZE", "make_environment", "numbers_used"]

MAX_NUMBERS = 1_000_000
"""Numbers that all ``range`` of one rendering give together."""

MAX_SIZE = 20_000_000
"""Characters, items or bits that one operator, method or filter may make."""

numbers_used: ContextVar[list[int]] = ContextVar("aitoolman_numbers_used")
"""Set to ``[0]`` for each rendering."""


def _product_size(left: Any, right: Any) -> int:
    for many, times in ((left, right), (right, left)):
        if isinstance(many, str | bytes | list | tuple) and isinstance(times, int):
            return len(many) * times
    return _bits(left) + _bits(right)


def _power_bits(base: Any, exponent: Any) -> int:
    return _bits(base) * exponent if isinstance(exponent, int) else 0


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


_SIZE_OF: dict[str, Estimate] = {
    "*": _product_size,
    "**": _power_bits,
    "+": sum_size,
    "%": formatted_size,
}


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(_SIZE_OF)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _check(operator, _SIZE_OF[operator], left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, called: Any, /, *args: Any, **named: Any) -> Any:
        _check_method(called, args, named)
        return super().call(context, called, *args, **named)


def _check(word: str, estimate: Estimate, *args: Any, **named: Any) -> None:
    """Refuse what would become too large; a call that does not fit fails by itself."""
    try:
        size = estimate(*args, **named)
    except (TypeError, AttributeError, ValueError):
        return
    if size > MAX_SIZE:
        raise SecurityError(f"`{word}` would make something larger than {MAX_SIZE:,}")


def _check_method(called: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    # A sandboxed `format` is a function around the method, which it names as what it wraps.
    method = getattr(called, "__wrapped__", called)
    text, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if isinstance(text, str) and name in METHODS:
        _check(name, METHODS[name], text, *args, **named)


def _bounded_filter(name: str, function: Any) -> Any:
    """The filter, behind a look at how large its result would be."""
    passed = bool(getattr(function, "jinja_pass_arg", None))

    @functools.wraps(function)  # with Jinja's marks, which say what is passed first
    def bounded(*args: Any, **named: Any) -> Any:
        _check(name, FILTERS[name], *args[passed:], **named)
        return function(*args, **named)

    return bounded


def _bounded_range(*bounds: int) -> Sized:
    numbers = safe_range(*bounds)
    used = numbers_used.get([0])
    used[0] += len(numbers)
    if used[0] > MAX_NUMBERS:
        raise SecurityError(f"the loops of the template go over more than {MAX_NUMBERS:,} numbers")
    return numbers


def make_environment(loader: BaseLoader) -> ImmutableSandboxedEnvironment:
    """The environment for prompt templates that `loader` finds."""
    environment = _Sandbox(
        loader=loader,
        undefined=StrictUndefined,
        autoescape=False,  # a prompt is text, not HTML
        cache_size=0,
        auto_reload=False,
    )
    environment.globals.pop("lipsum")
    bounded = {name: _bounded_filter(name, environment.filters[name]) for name in FILTERS}
    environment.filters.update(bounded)
    environment.globals["range"] = _bounded_range
    return environment
