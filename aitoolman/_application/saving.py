"""Modules written into a prompt file, so that the file renders the same bytes.

A new file gets what the modules lean on as well: defaults, templates, tools, aliases. In a file
that exists only the tables of these modules are replaced or added; every other line stays as it is.
What was written is read back and compared before the file is touched.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._config import load_config, load_config_str
from .._config.promptkeys import MODULE_DEFAULT_KEYS
from .._datamodel import LLMApplicationError, LLMUnknownNameError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .modules import ModuleSet

__all__ = ["save_modules", "toml_tables"]

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f"}
_ESCAPES["\r"] = "\\r"


def save_modules(modules: ModuleSet, path: str | os.PathLike[str], names: Iterable[str]) -> Path:
    """Write modules that were added into a prompt file.

    Args:
        modules: Where they were added.
        path: The file; it may exist.
        names: Which ones; empty for all that were added.

    Raises:
        LLMUnknownNameError: No module of this name was added.
        LLMApplicationError: The file is written in a way that cannot be changed safely.
    """
    target = Path(path).expanduser()
    chosen = list(names) or list(modules.added)
    for name in chosen:
        if name not in modules.added:
            hint = did_you_mean(name, modules.added)
            raise LLMUnknownNameError(f"no module {name!r} was added to this application; {hint}")
    tables = {name: modules.added[name] for name in chosen}
    text = _extended(target, tables) if target.exists() else _new_file(modules, tables)
    _write(target, text)
    return target


def _new_file(modules: ModuleSet, tables: Mapping[str, Any]) -> str:
    config = modules.config
    unset = {name: key.default for name, key in MODULE_DEFAULT_KEYS.items()}
    default = {k: v for k, v in config.defaults.items() if v != unset[k] and v is not None}
    around = {
        "model_alias": config.aliases,
        "module_default": default,
        "template": config.templates,
        "tools": config.tools,
    }
    document = {name: table for name, table in around.items() if table} | {"module": dict(tables)}
    text = "\n".join(toml_tables(document))
    _check(text, document)
    return text


def _extended(target: Path, tables: Mapping[str, Any]) -> str:
    before = load_config(target)
    document = _plain(before)
    document["module"] = {**document.get("module", {}), **tables}
    kept = _without(target.read_text("utf-8-sig").replace("\r\n", "\n"), tables)
    text = kept.rstrip("\n") + "\n\n" + "\n".join(toml_tables({"module": dict(tables)}))
    try:
        _check(text.lstrip("\n"), document)
    except (ValueError, LLMApplicationError):
        raise LLMApplicationError(
            f"{target} is written in a way that cannot be changed without touching the rest of it;"
            " save into another file and move the modules by hand"
        ) from None
    return text.lstrip("\n")


def _check(text: str, document: Mapping[str, Any]) -> None:
    if _plain(load_config_str(text)) != _plain(document):
        raise LLMApplicationError("the modules cannot be written as TOML")


def _write(target: Path, text: str) -> None:
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8", newline="\n")
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


# Taking tables out of a text


def _without(text: str, tables: Mapping[str, Any]) -> str:
    """The text without the tables of these modules."""
    kept, ours = [], False
    for line, in_string in _lines(text):
        header = None if in_string else _header(line)
        if header is not None:
            ours = _only(header) == "module" and _only(header["module"]) in tables
        if not ours:
            kept.append(line)
    return "\n".join(kept)


def _header(line: str) -> dict[str, Any] | None:
    """The nested tables that a header line opens; None for any other line."""
    try:
        return tomllib.loads(line) if line.lstrip().startswith("[") else None
    except tomllib.TOMLDecodeError:
        return None


def _only(table: Any) -> str | None:
    """The one key of a header's table; an array of tables has come to its element."""
    table = table[0] if isinstance(table, list) else table
    return next(iter(table), None)


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it begins inside a multi-line string."""
    inside = ""
    for line in text.split("\n"):
        yield line, bool(inside)
        inside = _string_after(line, inside)


def _string_after(line: str, inside: str) -> str:
    """The quotes of the multi-line string that goes on after `line`, or nothing."""
    position = 0
    while position < len(line):
        if inside:
            if inside == '"""' and line[position] == "\\":
                position += 2
            elif line.startswith(inside, position):
                position, inside = position + 3, ""
            else:
                position += 1
        elif line[position] == "#":
            break
        elif line.startswith(('"""', "'''"), position):
            position, inside = position + 3, line[position : position + 3]
        elif line[position] in "\"'":
            position = _string_end(line, position)
        else:
            position += 1
    return inside


def _string_end(line: str, start: int) -> int:
    quote, position = line[start], start + 1
    while position < len(line) and line[position] != quote:
        position += 2 if quote == '"' and line[position] == "\\" else 1
    return position + 1


# Writing TOML


def toml_tables(document: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The lines of tables within tables; texts of several lines stay readable."""
    for name, value in document.items():
        path = f"{prefix}.{_key(name)}" if prefix else _key(name)
        plain = {k: v for k, v in value.items() if not _is_section(k, v)}
        sections = {k: v for k, v in value.items() if _is_section(k, v)}
        if plain or not sections:
            yield f"[{path}]"
            yield from (f"{_key(k)} = {_value(v)}" for k, v in plain.items())
            yield ""
        for key, section in sections.items():
            if isinstance(section, list):
                yield from _array_of_tables(f"{path}.{_key(key)}", section)
            else:
                yield from toml_tables({key: section}, path)


def _is_section(name: str, value: Any) -> bool:
    if isinstance(value, list):
        return name == "examples" and bool(value)
    return hasattr(value, "items") and name != "options" and bool(value)


def _array_of_tables(path: str, items: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for item in items:
        yield f"[[{path}]]"
        yield from (f"{_key(k)} = {_value(v)}" for k, v in item.items())
        yield ""


def _key(name: str) -> str:
    return name if _BARE.match(name) else _quoted(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _multi_line(value) if "\n" in value else _quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if hasattr(value, "items"):
        inside = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item) for item in value)}]"
    raise LLMApplicationError(f"TOML has no word for a {type(value).__name__}")


def _quoted(text: str) -> str:
    return f'"{"".join(_escaped(char) for char in text)}"'


def _multi_line(text: str) -> str:
    shown = "".join("\n" if char == "\n" else _escaped(char, quotes=False) for char in text)
    shown = re.sub(r'"(?=""|"?\Z)', '\\\\"', shown)
    return f'"""\n{shown}"""'


def _escaped(char: str, *, quotes: bool = True) -> str:
    if char == '"' and not quotes:
        return char
    if char in _ESCAPES:
        return _ESCAPES[char]
    return f"\\u{ord(char):04x}" if ord(char) < 32 or ord(char) == 127 else char
