"""How a key is named to the user: its path as in TOML, and what stands there in TOML's words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

__all__ = ["child", "kind", "quoted"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_KINDS = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    type(None): "nothing",
}


def child(path: str, name: object) -> str:
    """The path of a key below `path`, quoted where TOML wants it."""
    part = name if isinstance(name, str) and _BARE.fullmatch(name) else _quote(name)
    return f"{path}.{part}" if path else part


def quoted(path: str, name: object) -> str:
    """The path of a table whose name the user chose: ``api."GPT-4"``."""
    return f"{path}.{_quote(name)}"


def _quote(name: object) -> str:
    """A name in double quotes, printable whatever it holds; what is no string shows its type."""
    if not isinstance(name, str):
        return f"<{type(name).__name__}>"
    printable = name.encode("utf-8", "backslashreplace").decode()
    return json.dumps(printable, ensure_ascii=False)


def kind(value: object) -> str:
    """What a value is, in TOML's words, without showing it."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list"
    return _KINDS.get(type(value), f"a {type(value).__name__}")
