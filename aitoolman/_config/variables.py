"""``${NAME}`` and ``${NAME:-default}`` in the strings of the provider file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .._datamodel import ConfigProblem
from .paths import child

__all__ = ["Substitution", "has_reference", "malformed_reference"]

_REFERENCE = re.compile(
    r"(?P<literal>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>(?:(?!\$\{)[^}])*))?\}"
)


def has_reference(text: str) -> bool:
    """True where `text` refers to a variable, so that its value is not known before use."""
    return any(match["name"] for match in _REFERENCE.finditer(text))


def malformed_reference(text: str) -> bool:
    """True where a ``${`` is left that is no reference."""
    return "${" in text and "${" in _REFERENCE.sub("", text)


class Substitution:
    """One pass over an entry: collects what is missing, and which values came from outside.

    A variable that is set but empty counts as missing, as an empty key never works; write
    ``${NAME:-}`` where nothing is meant.

    Args:
        environ: Where the variables are looked up.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[ConfigProblem] = []
        self.used: list[tuple[str, str]] = []
        """(key path, value) of every variable that was put in."""

    def apply(self, value: Any, path: str) -> Any:
        """`value` with all references replaced; tables and lists are copied."""
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, Mapping):
            return {name: self.apply(item, child(path, name)) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.apply(item, f"{path}[{i}]") for i, item in enumerate(value)]
        return value

    def _text(self, text: str, path: str) -> str:
        if "${" not in text:
            return text
        return _REFERENCE.sub(lambda match: self._reference(match, path), text)

    def _reference(self, match: re.Match[str], path: str) -> str:
        if match["literal"]:
            return "${"
        name, value = match["name"], self._environ.get(match["name"], "")
        if value:
            self.used.append((path, value))
        elif match["default"] is None:
            self.problems.append(_missing(name, path))
        return value or match["default"] or ""


def _missing(name: str, path: str) -> ConfigProblem:
    return ConfigProblem(
        path,
        f"the environment variable {name} is not set (or empty); "
        f"set it before the program starts, or write ${{{name}:-default}}",
    )
