"""What a value may be: a rule looks at one value and yields its problems.

No message shows a text from the file, except where the allowed ones are few names: any value
could be a key pasted into the wrong line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from .._datamodel import ConfigProblem, did_you_mean
from .paths import child, kind, quoted
from .variables import has_reference, malformed_reference

__all__ = ["Key", "Rule", "check_table", "copied"]

Rule = Callable[[Any, str], Iterator[ConfigProblem]]
MAX_DEPTH = 50
_BODY = ("body_options", "options")
# What other libraries call it, or where a request field goes.
_OTHERS_WORDS = {
    "api_base": ("url",),
    "api_key_env": ("api_key",),
    "base_url": ("url",),
    "endpoint": ("url",),
    "max_concurrency": ("parallel",),
    "max_tokens": _BODY,
    "messages": ("template",),
    "prompt": ("template",),
    "system": ("template",),
    "temperature": _BODY,
    "top_p": _BODY,
    "user": ("template",),
}


class Key(NamedTuple):
    """One key of a table: what it may be, and what it is when it is not there."""

    rule: Rule
    default: Any = None
    required: bool = False


def check_table(
    table: Any, keys: Mapping[str, Key], path: str, problems: list[ConfigProblem]
) -> dict[str, Any]:
    """The sound values of `table`, copied; whatever is wrong with it is added to `problems`."""
    if not isinstance(table, Mapping):
        problems.append(ConfigProblem(path, f"must be a table, not {kind(table)}"))
        return {}
    sound: dict[str, Any] = {}
    for name, value in table.items():
        found = list(_check_key(name, value, keys, path))
        problems += found
        if not found:
            sound[name] = copied(value)
    problems += _missing(table, keys, path)
    return sound


def _check_key(
    name: Any, value: Any, keys: Mapping[str, Key], path: str
) -> Iterator[ConfigProblem]:
    where = child(path, name)
    if name in keys:
        yield from keys[name].rule(value, where)
    elif isinstance(name, str):
        yield ConfigProblem(where, f"unknown key; {_advice(name, keys)}")
    else:
        yield ConfigProblem(where, f"must be a string to be a key, not {kind(name)}")


def _advice(name: str, keys: Mapping[str, Key]) -> str:
    meant = next((key for key in _OTHERS_WORDS.get(name, ()) if key in keys), None)
    return f"{meant!r} is meant for this" if meant else did_you_mean(name, keys)


def _missing(
    table: Mapping[str, Any], keys: Mapping[str, Key], path: str
) -> Iterator[ConfigProblem]:
    for name, key in keys.items():
        if key.required and name not in table:
            yield ConfigProblem(child(path, name), "is missing and has no default")


def copied(value: Any) -> Any:
    """A plain copy of checked tables and lists, so that nobody's input is shared or changed."""
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [copied(item) for item in value]
    return value


# rules


def boolean(value: Any, path: str) -> Iterator[ConfigProblem]:
    """``true`` or ``false``."""
    if not isinstance(value, bool):
        yield ConfigProblem(path, f"must be true or false, not {kind(value)}")


def integer(least: int) -> Rule:
    """A whole number from `least` up."""

    def rule(value: Any, path: str) -> Iterator[ConfigProblem]:
        wanted = f"must be a whole number, at least {least}"
        if isinstance(value, bool) or not isinstance(value, int):
            yield ConfigProblem(path, f"{wanted}; it is {kind(value)}")
        elif not least <= value < 2**63:
            yield ConfigProblem(path, wanted)

    return rule


def number(least: float, *, above: bool = False) -> Rule:
    """A finite number from `least` up, or greater than it."""

    def rule(value: Any, path: str) -> Iterator[ConfigProblem]:
        wanted = f"must be a number {'greater than' if above else 'of at least'} {least:g}"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            yield ConfigProblem(path, f"{wanted}; it is {kind(value)}")
        elif not _finite(value) or value < least or (above and value == least):
            yield ConfigProblem(path, f"{wanted}, and finite")

    return rule


def _finite(value: int | float) -> bool:
    return abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)


def text(value: Any, path: str) -> Iterator[ConfigProblem]:
    """Any string that can be written as UTF-8."""
    if not isinstance(value, str):
        yield ConfigProblem(path, f"must be a string, not {kind(value)}")
    elif not _encodable(value):
        yield ConfigProblem(path, "holds a half of a surrogate pair, which is no character")


def _encodable(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def name_text(value: Any, path: str) -> Iterator[ConfigProblem]:
    """A string that is not empty."""
    yield from text(value, path)
    if isinstance(value, str) and not value.strip():
        yield ConfigProblem(path, "must not be empty")


def file_path(value: Any, path: str) -> Iterator[ConfigProblem]:
    """A file's path, as an operating system takes it."""
    yield from name_text(value, path)
    if isinstance(value, str) and "\0" in value:
        yield ConfigProblem(path, "holds a NUL character, which no path can have")


def one_of(*allowed: str) -> Rule:
    """One of a few names, or a reference to an environment variable."""

    def rule(value: Any, path: str) -> Iterator[ConfigProblem]:
        names = " or ".join(f'"{name}"' for name in allowed)
        if not isinstance(value, str):
            yield ConfigProblem(path, f"must be {names}, not {kind(value)}")
        elif value not in allowed and not has_reference(value):
            yield ConfigProblem(path, f"must be {names}; {did_you_mean(value, allowed)}")

    return rule


def with_variables(inner: Rule) -> Rule:
    """`inner`, and every ``${`` in a string is a well-formed reference."""

    def rule(value: Any, path: str) -> Iterator[ConfigProblem]:
        yield from inner(value, path)
        yield from references(value, path)

    return rule


def references(value: Any, path: str, depth: int = 0) -> Iterator[ConfigProblem]:
    """Problems of ``${...}`` in the strings of a value, at any depth."""
    if isinstance(value, str) and malformed_reference(value):
        yield ConfigProblem(
            path, "has a ${ that is no ${NAME} or ${NAME:-default}; write $${ for a literal ${"
        )
    elif isinstance(value, Mapping) and depth < MAX_DEPTH:
        for name, item in value.items():
            yield from references(item, child(path, name), depth + 1)
    elif isinstance(value, (list, tuple)) and depth < MAX_DEPTH:
        for index, item in enumerate(value):
            yield from references(item, f"{path}[{index}]", depth + 1)


def json_table(value: Any, path: str) -> Iterator[ConfigProblem]:
    """A table of values that JSON can carry."""
    if not isinstance(value, Mapping):
        yield ConfigProblem(path, f"must be a table, not {kind(value)}")
    else:
        yield from json_value(value, path)


def json_value(value: Any, path: str, depth: int = 0) -> Iterator[ConfigProblem]:
    """Anything that JSON can carry: no dates, no NaN, no objects."""
    if depth > MAX_DEPTH:
        yield ConfigProblem(path, "is nested too deeply")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from text(name, child(path, name))
            yield from json_value(item, child(path, name), depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from json_value(item, f"{path}[{index}]", depth + 1)
    else:
        yield from _json_scalar(value, path)


def _json_scalar(value: Any, path: str) -> Iterator[ConfigProblem]:
    if isinstance(value, str):
        yield from text(value, path)
    elif isinstance(value, (int, float)):
        if not _finite(value):
            yield ConfigProblem(path, "must be a finite number that fits in 64 bits")
    elif value is not None:
        yield ConfigProblem(path, f"cannot be sent as JSON: it is {kind(value)}")


def names(value: Any, path: str) -> Iterator[ConfigProblem]:
    """A list of different names, at least one."""
    if not isinstance(value, (list, tuple)) or not value:
        yield ConfigProblem(path, "must be a list of names, at least one")
        return
    for index, item in enumerate(value):
        yield from name_text(item, f"{path}[{index}]")
        if isinstance(item, str) and item in (v for v in value[:index] if isinstance(v, str)):
            yield ConfigProblem(f"{path}[{index}]", "names the same entry again")


def tables_of(keys: Mapping[str, Key]) -> Rule:
    """A table of tables, each with the same keys; the outer names are the user's."""

    def rule(value: Any, path: str) -> Iterator[ConfigProblem]:
        if not isinstance(value, Mapping):
            yield ConfigProblem(path, f"must be a table, not {kind(value)}")
            return
        for name, item in value.items():
            problems: list[ConfigProblem] = []
            check_table(item, keys, quoted(path, name), problems)
            yield from name_text(name, quoted(path, name))
            yield from problems

    return rule


def table(keys: Mapping[str, Key]) -> Rule:
    """One table with these keys."""

    def rule(value: Any, path: str) -> Iterator[ConfigProblem]:
        problems: list[ConfigProblem] = []
        check_table(value, keys, path, problems)
        yield from problems

    return rule
