"""Reading a magic's line: its options, and ``name=value`` pairs with their Python values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from IPython.core.interactiveshell import InteractiveShell
    from IPython.core.magic_arguments import MagicArgumentParser

__all__ = ["Line", "evaluate", "options_of", "parse_line", "usage", "without_line_end"]

_PAIR = re.compile(r"([^\W\d]\w*)=")
_BLANK = re.compile(r"\s*")


class Line(NamedTuple):
    """A magic's line, taken apart."""

    words: list[str]
    """What argparse gets."""
    params: dict[str, Any]


def usage(message: str) -> Exception:
    """An error that shows itself as one line and gives the reply status ``error``."""
    from IPython.core.error import UsageError

    return UsageError(message)


def evaluate(shell: InteractiveShell, expression: str, what: str) -> Any:
    """The value of a Python expression in the notebook's names.

    Raises:
        UsageError: It fails; the text of it is never used instead.
    """
    try:
        return shell.ev(expression.strip())
    except Exception as exc:  # noqa: BLE001 - the user's expression may raise anything
        kind = type(exc).__name__
        raise usage(f"{what}: {{{expression.strip()}}} fails: {kind}: {exc}") from None


def parse_line(shell: InteractiveShell, line: str, expressions: Collection[str] = ()) -> Line:
    """The words of a line, and its ``name=value`` and ``name={expression}`` pairs.

    An expression is taken whole, up to the brace that closes it, and keeps its Python type. Any
    other value is text, with or without quotes around it.

    Args:
        shell: Whose names the expressions see.
        line: The text behind the magic's name.
        expressions: Options whose value is an expression, blanks and all.

    Raises:
        UsageError: An expression that is broken or fails, a quote that is not closed.
    """
    words: list[str] = []
    params: dict[str, Any] = {}
    position = _skip(line, 0)
    while position < len(line):
        pair = _PAIR.match(line, position)
        if pair is None and words and words[-1] in expressions:
            word, position = _expression(words[-1], line, position)
            words.append(word)
        elif pair is None:
            word, position = _word(line, position)
            words.append(word)
        else:
            name = pair[1]
            if name in params:
                raise usage(f"{name}= is given twice")
            params[name], position = _value(shell, name, line, pair.end())
        position = _skip(line, position)
    return Line(words, params)


def without_line_end(cell: str) -> str:
    """A cell's body without the one line end that the notebook adds."""
    return cell.removesuffix("\r\n" if cell.endswith("\r\n") else "\n")


def _skip(line: str, position: int) -> int:
    found = _BLANK.match(line, position)
    assert found is not None
    return found.end()


def _value(shell: InteractiveShell, name: str, line: str, start: int) -> tuple[Any, int]:
    if not line.startswith("{", start):
        return _word(line, start)
    expression, end = _expression(name, line, start)
    return evaluate(shell, expression, name), end


def _expression(name: str, line: str, start: int) -> tuple[str, int]:
    """The shortest text up to the end of a word that is an expression, braces around it or not."""
    braced = line.startswith("{", start)
    problem = "the closing brace is missing"
    for end in _word_ends(line, start):
        if braced and line[end - 1] != "}":
            continue
        text = line[start + 1 : end - 1] if braced else line[start:end]
        try:
            compile(text.strip(), "<argument>", "eval")
        except (SyntaxError, ValueError) as exc:
            problem = getattr(exc, "msg", None) or str(exc)
        else:
            return text, end
    if "'await' outside" in problem:
        problem = "an expression here cannot await; store its value under a name first"
    elif braced:
        problem += "; text that begins with a brace goes in quotes"
    raise usage(f"{name} {line[start:]}: no Python expression ({problem})")


def _word_ends(line: str, start: int) -> Iterator[int]:
    for end in range(start + 1, len(line) + 1):
        if end == len(line) or line[end].isspace():
            yield end


def _word(line: str, start: int) -> tuple[str, int]:
    """Text up to the next blank, or between quotes as it stands."""
    quote = line[start : start + 1]
    if quote in ('"', "'"):
        end = line.find(quote, start + 1)
        if end == -1:
            raise usage(f"the quote is not closed: {line[start:]}")
        return line[start + 1 : end], end + 1
    end = start
    while end < len(line) and not line[end].isspace():
        end += 1
    return line[start:end], end


def options_of(parser: MagicArgumentParser, words: list[str]) -> Any:
    """The options in `words`.

    Raises:
        UsageError: They don't fit; the message says how it is used.
    """
    return parser.parse_args(words)
