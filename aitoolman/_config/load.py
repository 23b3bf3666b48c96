"""Reading TOML: files and texts to `Config`, whose repr keeps secrets to itself."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from .._datamodel import ConfigProblem, LLMConfigError
from .._secrets import mask_tree

__all__ = ["Config", "Table", "load_config", "load_config_str"]

MAX_DEPTH = 100
"""Tables and lists inside one another; what is deeper than this is no configuration."""


class Table(dict[str, Any]):
    """A TOML table: a dict whose repr masks secrets, whatever table of a file it is."""

    def __init__(self, data: Any = (), name: str = "") -> None:
        super().__init__(data)
        self.name = name

    def __repr__(self) -> str:
        return repr(mask_tree(dict(self), name=self.name))


class Config(Table):
    """A configuration as it stands in its file.

    Attributes:
        path: The file, absolute; None where the configuration was given as text.
    """

    def __init__(self, data: Any = (), path: Path | None = None) -> None:
        super().__init__(data)
        self.path = path

    def __repr__(self) -> str:
        where = f", path={str(self.path)!r}" if self.path else ""
        return f"Config({super().__repr__()}{where})"


def load_config(filename: str | os.PathLike[str]) -> Config:
    """Read a TOML file.

    What the file means is checked where it is used, when a client or an application is built.

    Raises:
        OSError: The file cannot be read; a missing one is a FileNotFoundError.
        LLMConfigError: The file is no TOML; the message has line and column.
    """
    path = Path(filename).expanduser().absolute()
    try:
        raw = path.read_bytes()
    except FileNotFoundError as exc:
        raise FileNotFoundError(_missing(filename)) from exc
    return _parse(_decode(raw, path), path)


def load_config_str(s: str) -> Config:
    """Read TOML text; relative paths in it start from the working directory.

    Raises:
        LLMConfigError: The text is no TOML; the message has line and column.
    """
    return _parse(s, None)


def _missing(filename: str | os.PathLike[str]) -> str:
    message = f"there is no configuration file {os.fspath(filename)!r}"
    if Path(filename).is_absolute():
        return message
    near = Path("config") / filename  # where `aitoolman init` puts it
    hint = f"; did you mean {str(near)!r}?" if near.is_file() else ""
    return f"{message} in {str(Path.cwd())!r}{hint}"


def _decode(raw: bytes, path: Path) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        column = exc.start - raw.rfind(b"\n", 0, exc.start)
        message = "not UTF-8, which TOML must be; save the file as UTF-8"
        raise _syntax_error(path, f"line {line}, column {column}", message) from None


def _parse(text: str, path: Path | None) -> Config:
    try:
        return Config(_tables(tomllib.loads(text.replace("\r\n", "\n"))), path)
    except tomllib.TOMLDecodeError as exc:
        message, where = _split_position(str(exc))
        where = where or f"end of document, line {len(text.splitlines())}"
        raise _syntax_error(path, where, message) from None
    except RecursionError:
        raise _syntax_error(path, "document", "nested too deeply") from None
    except ValueError:
        # tomllib lets int() speak for itself where a number has thousands of digits.
        raise _syntax_error(path, "document", "a number is too large") from None


def _split_position(message: str) -> tuple[str, str]:
    """What tomllib says, and its line and column where the text goes on after the mistake."""
    match = re.fullmatch(r"(.*) \(at (?:(line \d+, column \d+)|.*)\)", message, re.DOTALL)
    return (match.group(1), match.group(2) or "") if match else (message, "")


def _syntax_error(path: Path | None, where: str, message: str) -> LLMConfigError:
    problem = ConfigProblem(where, f"TOML syntax: {message}")
    return LLMConfigError([problem], str(path) if path else None)


def _tables(value: Any, name: str = "", depth: int = 0) -> Any:
    """The parsed document with every table, at any depth, made one that masks its secrets."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        return Table({key: _tables(v, key, depth + 1) for key, v in value.items()}, name)
    if isinstance(value, list):
        return [_tables(item, name, depth + 1) for item in value]
    return value
