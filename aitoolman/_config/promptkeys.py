"""Every key of the prompt file: what it may be and what it is when it is not given."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from .._datamodel import ConfigProblem
from . import defaults
from .paths import child, kind, quoted
from .rules import (
    Key,
    boolean,
    check_table,
    integer,
    json_table,
    json_value,
    name_text,
    table,
    text,
)

__all__ = [
    "EXAMPLE_KEYS",
    "MODULE_DEFAULT_KEYS",
    "MODULE_KEYS",
    "PARAM_KEYS",
    "TEMPLATE_KEYS",
    "TOOL_KEYS",
]


def _param_type(value: Any, path: str) -> Iterator[ConfigProblem]:
    """Any word (the vendor's limits count when the tool is sent), or a list of words."""
    for item in value if isinstance(value, (list, tuple)) else [value]:
        yield from name_text(item, path)


def _list(value: Any, path: str) -> Iterator[ConfigProblem]:
    if isinstance(value, (list, tuple)):
        yield from json_value(value, path)
    else:
        yield ConfigProblem(path, f"must be a list, not {kind(value)}")


def _required(value: Any, path: str) -> Iterator[ConfigProblem]:
    """True or false for the parameter itself; a list belongs to a nested object's schema."""
    yield from (_list if isinstance(value, (list, tuple)) else boolean)(value, path)


_SCHEMA_WORDS = (
    *("additionalProperties", "allOf", "anyOf", "const", "examples", "exclusiveMaximum"),
    *("exclusiveMinimum", "format", "maxItems", "maxLength", "maximum", "minItems", "minLength"),
    *("minimum", "multipleOf", "nullable", "oneOf", "pattern", "title", "uniqueItems"),
)

PARAM_KEYS: dict[str, Key] = {
    "type": Key(_param_type),
    "description": Key(text),
    "required": Key(_required, False),
    "enum": Key(_list),
    "items": Key(json_table),
    "properties": Key(json_table),
    "default": Key(json_value),
    **dict.fromkeys(_SCHEMA_WORDS, Key(json_value)),
}


def _params(value: Any, path: str) -> Iterator[ConfigProblem]:
    if not isinstance(value, Mapping):
        yield ConfigProblem(path, f"must be a table of parameters, not {kind(value)}")
        return
    for name, item in value.items():
        yield from _param(name, item, path)


def _param(name: Any, item: Any, path: str) -> Iterator[ConfigProblem]:
    if not isinstance(item, Mapping):
        message = f"must be a parameter's table, not {kind(item)}; JSON Schema goes to `parameters`"
        yield ConfigProblem(child(path, name), message)
        return
    yield from text(name, child(path, name))
    yield from table(PARAM_KEYS)(item, child(path, name))


TOOL_KEYS: dict[str, Key] = {
    "type": Key(name_text, "function"),
    "description": Key(text, ""),
    "param": Key(_params),
    "parameters": Key(json_table),
    "input_schema": Key(json_table),
    "strict": Key(boolean),
}
_ARGUMENTS = ("param", "parameters", "input_schema")


def _tools(value: Any, path: str) -> Iterator[ConfigProblem]:
    if not isinstance(value, Mapping):
        yield ConfigProblem(path, f"must be a table of tools, not {kind(value)}")
        return
    for name, item in value.items():
        yield from text(name, child(path, name))
        yield from _tool(item, quoted(path, name))


def _tool(item: Any, path: str) -> Iterator[ConfigProblem]:
    if not isinstance(item, Mapping):
        yield ConfigProblem(path, f"must be a table, not {kind(item)}")
        return
    yield from table(TOOL_KEYS | _vendor_keys(item))(item, path)
    given = [name for name in _ARGUMENTS if name in item]
    for name in given[1:]:
        message = f"stands beside `{given[0]}`; a tool describes its arguments once"
        yield ConfigProblem(child(path, name), message)


def _vendor_keys(item: Mapping[str, Any]) -> dict[str, Key]:
    """Keys of a vendor's own (``cache_control`` ...), which go out as they are.

    What looks like a slip of a known key is none of them.
    """
    return {name: Key(json_value) for name in item if not _is_slip(name)}


def _is_slip(name: object) -> bool:
    if not isinstance(name, str) or name in TOOL_KEYS:
        return True
    return bool(difflib.get_close_matches(name, TOOL_KEYS))


TEMPLATE_KEYS: dict[str, Key] = {"user": Key(text, required=True), "system": Key(text)}


def _example_user(value: Any, path: str) -> Iterator[ConfigProblem]:
    """Text, or the variables of the user template."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from text(name, child(path, name))
            yield from json_value(item, child(path, name))
    elif isinstance(value, str):
        yield from text(value, path)
    else:
        yield ConfigProblem(
            path, f"must be text or a table of template variables, not {kind(value)}"
        )


EXAMPLE_KEYS: dict[str, Key] = {
    "user": Key(_example_user, required=True),
    "assistant": Key(text, required=True),
}


def _examples(value: Any, path: str) -> Iterator[ConfigProblem]:
    if not isinstance(value, (list, tuple)):
        yield ConfigProblem(path, f"must be a list of tables ([[{path}]]), not {kind(value)}")
        return
    for index, item in enumerate(value):
        problems: list[ConfigProblem] = []
        check_table(item, EXAMPLE_KEYS, f"{path}[{index}]", problems)
        yield from problems


MODULE_DEFAULT_KEYS: dict[str, Key] = {
    "model": Key(name_text),
    "stream": Key(boolean, defaults.STREAM),
    "output_channel": Key(text, defaults.OUTPUT_CHANNEL),
    "reasoning_channel": Key(text, defaults.REASONING_CHANNEL),
    "post_processor": Key(text),
    "format_retries": Key(integer(0), defaults.FORMAT_RETRIES),
    "options": Key(json_table, {}),
    "tools": Key(_tools, {}),
}

MODULE_KEYS: dict[str, Key] = {
    "description": Key(text, ""),
    "template": Key(table(TEMPLATE_KEYS), required=True),
    "examples": Key(_examples, []),
    **MODULE_DEFAULT_KEYS,
}

GLOBAL_TOOLS = _tools
