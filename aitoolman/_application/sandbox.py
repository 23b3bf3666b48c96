"""The environment that templates run in: no way to Python's inside, bounded loops and sizes.

Jinja's sandbox closes the ways out and keeps templates from changing what they are given. It lets
a slip such as ``{{ "x" * 10**10 }}`` take all memory, though, and two nested loops over numbers all
time; both are errors here. What a template does with the values it is given is as unbounded as the
caller's own code.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range

if TYPE_CHECKING:
    from collections.abc import Sized

    from jinja2.loaders import BaseLoader
    from jinja2.runtime import Context

__all__ = ["MAX_NUMBERS", "MAX_SIZE", "make_environment", "numbers_used"]

MAX_NUMBERS = 1_000_000
"""Numbers that all ``range`` of one rendering give together."""

MAX_SIZE = 20_000_000
"""Characters, items or bits that ``*`` and ``**`` may make."""

numbers_used: ContextVar[list[int]] = ContextVar("aitoolman_numbers_used")
"""Set to ``[0]`` for each rendering."""


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        size = _power_bits(left, right) if operator == "**" else _product_size(left, right)
        if size > MAX_SIZE:
            raise SecurityError(f"`{operator}` would make something larger than {MAX_SIZE:,}")
        return super().call_binop(context, operator, left, right)


def _product_size(left: Any, right: Any) -> int:
    for many, times in ((left, right), (right, left)):
        if isinstance(many, str | bytes | list | tuple) and isinstance(times, int):
            return len(many) * times
    return _bits(left) + _bits(right)


def _power_bits(base: Any, exponent: Any) -> int:
    return _bits(base) * exponent if isinstance(exponent, int) else 0


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


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
    environment.globals["range"] = _bounded_range
    return environment
