"""Tool definitions, in the ``param`` form or as JSON Schema, checked for all vendors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ..._datamodel import LLMApplicationError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ToolDefinition", "read_tool"]

_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_SCHEMA_KEYS = ("parameters", "input_schema")
_OWN_KEYS = {"type", "name", "description", "param", "strict", *_SCHEMA_KEYS}


class ToolDefinition(NamedTuple):
    """One tool, checked."""

    name: str
    description: str
    schema: dict[str, Any]
    """JSON Schema of the arguments."""
    strict: bool | None
    extras: dict[str, Any]
    """Vendor's own keys, such as ``cache_control``."""
    native_type: str | None
    """Set for a tool that the vendor runs itself (``web_search`` ...): `extras` is all it has."""


def read_tool(name: str, config: Mapping[str, Any], name_pattern: str) -> ToolDefinition:
    """Check one tool and bring its arguments into JSON Schema.

    Raises:
        LLMApplicationError: The tool cannot be sent; the message names it and the rule.
    """
    if not isinstance(config, dict):
        raise _wrong(name, f"its definition is {type(config).__name__}, not a table")
    config = _unwrapped(config)
    if re.fullmatch(name_pattern, name) is None:
        raise _wrong(name, f"this vendor wants tool names that match {name_pattern}")
    kind = config.get("type", "function")
    extras = {k: v for k, v in config.items() if k not in _OWN_KEYS}
    if not isinstance(kind, str):
        raise _wrong(name, "type must be a string such as 'function'")
    if kind != "function":
        native = {k: v for k, v in config.items() if k not in ("type", "name")}
        return ToolDefinition(name, "", {}, None, native, kind)
    description = config.get("description", "")
    if not isinstance(description, str):
        raise _wrong(name, "description must be a string")
    schema, strict = _schema(name, config), config.get("strict")
    return ToolDefinition(name, description, schema, strict, extras, None)


def _unwrapped(config: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's own nesting, ``{"type": "function", "function": {...}}``, laid flat."""
    inner = config.get("function")
    if not isinstance(inner, dict):
        return dict(config)
    return {**inner, **{k: v for k, v in config.items() if k != "function"}}


def _schema(name: str, config: dict[str, Any]) -> dict[str, Any]:
    given = [k for k in ("param", *_SCHEMA_KEYS) if config.get(k) is not None]
    if len(given) > 1:
        raise _wrong(name, f"{' and '.join(given)} exclude each other")
    if not given:
        return {"type": "object", "properties": {}}
    value = config[given[0]]
    if not isinstance(value, dict):
        raise _wrong(name, f"{given[0]} must be a table")
    return _from_params(name, value) if given[0] == "param" else _plain_schema(name, value)


def _plain_schema(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type", "object") != "object":
        raise _wrong(name, f"its parameters must be of type 'object', not {schema['type']!r}")
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        raise _wrong(name, "properties must be a table")
    for parameter, spec in properties.items():
        if isinstance(spec, dict) and "type" in spec:
            _check_type(name, parameter, spec["type"])
    return {"type": "object", "properties": {}, **schema}


def _from_params(name: str, params: dict[str, Any]) -> dict[str, Any]:
    properties = {p: _property(name, p, spec) for p, spec in params.items()}
    required = [p for p, spec in params.items() if spec.get("required") is True]
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return {**schema, "required": required} if required else schema


def _property(name: str, parameter: str, spec: Any) -> dict[str, Any]:
    if not isinstance(spec, dict):
        raise _wrong(name, f"parameter {parameter!r} must be a table with 'type'")
    required = spec.get("required", False)
    if not isinstance(required, (bool, list)):
        raise _wrong(name, f"'required' of parameter {parameter!r} must be true or false")
    if "type" in spec:
        _check_type(name, parameter, spec["type"])
    # A list belongs to a nested object's own schema; true and false to the tool's.
    return {k: v for k, v in spec.items() if k != "required" or isinstance(v, list)}


def _check_type(name: str, parameter: str, kind: Any) -> None:
    for word in kind if isinstance(kind, list) and kind else [kind]:
        if word not in _TYPES:
            hint = did_you_mean(str(word), _TYPES)
            raise _wrong(name, f"parameter {parameter!r} has the impossible type {word!r}; {hint}")


def _wrong(name: str, rule: str) -> LLMApplicationError:
    return LLMApplicationError(f"tool {name!r} cannot be sent: {rule}")
