"""The environment that templates run in: no way to Python's inside, bounded loops and sizes.

Jinja's sandbox closes the ways out and keeps templates from changing what they are given. It lets
a slip such as ``{{ "x" * 10**10 }}`` or ``{{ "x".center(10**10) }}`` take all memory, though, and
two nested loops over numbers all time; they are errors here, and so is every text that grows too
long piece by piece. How long a template takes over the values it is given is as unbounded as the
caller's own code.
"""

from __future__ import annotations

import functools
import itertools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, Template, pass_eval_context
from jinja2.compiler import CodeGenerator, optimizeconst
from jinja2.environment import TemplateModule
from jinja2.exceptions import SecurityError
from jinja2.filters import make_attrgetter
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range

from .growth import FILTERS, METHODS, formatted_size, sum_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sized

    from jinja2 import nodes
    from jinja2.compiler import Frame
    from jinja2.loaders import BaseLoader
    from jinja2.nodes import EvalContext
    from jinja2.runtime import Context

    from .growth import Estimate

__all__ = ["MAX_NUMBERS", "MAX_SIZE", "make_environment", "numbers_used"]

MAX_NUMBERS = 1_000_000
"""Numbers that all ``range`` of one rendering give together."""

MAX_SIZE = 20_000_000
"""Characters, items or bits that one operator, method, filter or whole template may make."""

PACK = 40
"""Pieces of text that are made before their size is looked at."""

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


def _too_long() -> SecurityError:
    return SecurityError(f"the text would become larger than {MAX_SIZE:,} characters")


def _counted(texts: Iterable[str], between: int = 0) -> Iterator[str]:
    """The same texts, as long as all of them together stay within the bound."""
    size = 0
    for text in texts:
        size += between + (len(text) if isinstance(text, str) else 0)
        if size > MAX_SIZE:
            raise _too_long()
        yield text


class _Pieces(list[str]):
    """The last pieces of a long text; those before were packed and counted."""

    def __init__(self) -> None:
        self.packed: list[str] = []
        self.size = 0

    def pack(self, pieces: list[str]) -> _Pieces:
        """Make one text of the pieces that came since the last time."""
        text = "".join(pieces)
        self.clear()
        self.size += len(text)
        if self.size > MAX_SIZE:
            raise _too_long()
        self.packed.append(text)
        return self


def _pack(pieces: list[str]) -> _Pieces:
    """What a block or macro goes on with, once it has collected many pieces."""
    return (pieces if isinstance(pieces, _Pieces) else _Pieces()).pack(pieces)


def _concat(texts: Iterable[str]) -> str:
    """What a template, block or macro gave piece by piece, as one text."""
    if isinstance(texts, list):
        return "".join(_pack(texts).packed) if isinstance(texts, _Pieces) else _joined(texts)
    # The length of a text that was just made is the cheapest way to count: prompts take this path.
    rest, size, packed = iter(texts), 0, []
    while True:
        some = list(itertools.islice(rest, PACK))
        text = "".join(some)
        size += len(text)
        if size > MAX_SIZE:
            raise _too_long()
        packed.append(text)
        if len(some) < PACK:
            return "".join(packed)


def _joined(texts: Iterable[str]) -> str:
    text = "".join(texts)
    if len(text) > MAX_SIZE:
        raise _too_long()
    return text


class _Compiler(CodeGenerator):
    """Writes templates that count what they collect, and what ``~`` makes."""

    def end_write(self, frame: Frame) -> None:
        super().end_write(frame)
        self._pack(frame)

    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        super().visit_Output(node, frame)
        self._pack(frame)

    def _pack(self, frame: Frame) -> None:
        if frame.buffer is not None:
            pieces = frame.buffer
            self.writeline(f"if len({pieces}) > {PACK}: {pieces} = environment.pack({pieces})")

    @optimizeconst
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        self.write("environment.joined(map(str, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")))")


class _Template(Template):
    def make_module(self, *args: Any, **named: Any) -> TemplateModule:
        """What ``import`` runs, its own text counted as well."""
        context = self.new_context(*args, **named)
        return TemplateModule(self, context, list(_counted(self.root_render_func(context))))


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(_SIZE_OF)
    code_generator_class = _Compiler
    template_class = _Template
    concat = staticmethod(_concat)
    joined = staticmethod(_joined)
    pack = staticmethod(_pack)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _check(operator, _SIZE_OF[operator], left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, called: Any, /, *args: Any, **named: Any) -> Any:
        _check_method(called, args, named)
        if len(args) == 1 and _is_join(called):
            args = (_counted(args[0], len(called.__self__)),)
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


def _is_join(called: Any) -> bool:
    text = getattr(called, "__self__", None)
    return isinstance(text, str) and getattr(called, "__name__", "") == "join"


@pass_eval_context
def _bounded_join(
    context: EvalContext, value: Iterable[Any], d: Any = "", attribute: str | int | None = None
) -> str:
    """The filter ``join``."""
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    between = str(d)
    return between.join(_counted(map(str, value), len(between)))


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
    environment.filters.update(bounded, join=_bounded_join)
    environment.globals["range"] = _bounded_range
    return environment
