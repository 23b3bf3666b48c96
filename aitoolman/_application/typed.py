"""Types as post-processors: JSON from the text, validated into a dataclass, TypedDict, model ..."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import types
import typing
from typing import Any

import msgspec

from .._datamodel import LLMApplicationError
from ..postprocess import parse_json

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["is_data_type", "parser_for", "type_name"]

_CONTAINERS = (dict, list, tuple, set, frozenset)
_SCALARS = (bool, int, float)
_SCHEMA_LIMIT = 800


def is_data_type(spec: Any) -> bool:
    """True for what text can be parsed into; False for a class that is merely called with it."""
    if typing.get_origin(spec) is not None or isinstance(spec, types.UnionType):
        return True
    if not isinstance(spec, type):
        return False
    return (
        spec in _CONTAINERS
        or spec in _SCALARS
        or issubclass(spec, (enum.Enum, msgspec.Struct))
        or dataclasses.is_dataclass(spec)
        or typing.is_typeddict(spec)
        or _is_namedtuple(spec)
        or _is_pydantic(spec)
    )


def type_name(spec: Any) -> str:
    """How a type is called in results and messages: ``Ticket``, ``list[Ticket]``."""
    arguments = typing.get_args(spec)
    if spec in (None, types.NoneType):
        return "None"
    if not arguments:
        return str(getattr(spec, "__name__", repr(spec)))
    if isinstance(spec, types.UnionType) or typing.get_origin(spec) is typing.Union:
        return " | ".join(type_name(a) for a in arguments)
    inner = ", ".join(type_name(a) for a in arguments)
    return f"{getattr(spec, '__name__', 'type')}[{inner}]"


@functools.lru_cache(maxsize=64)
def parser_for(spec: Any) -> Callable[[str], Any]:
    """A function that reads JSON from a text and makes a `spec` of it.

    Raises:
        LLMApplicationError: No value of this type can be read from JSON.
    """
    convert = _pydantic_converter(spec) if _has_pydantic(spec) else _converter(spec)
    read = _plain_or_json if _is_scalar(spec) else parse_json
    return lambda text: convert(read(text))


def _plain_or_json(text: str) -> Any:
    """A bare word needs no quotes where a word or number is wanted."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()


def _is_scalar(spec: Any) -> bool:
    if isinstance(spec, type):
        return spec in _SCALARS or issubclass(spec, enum.Enum)
    return typing.get_origin(spec) is typing.Literal


def _is_namedtuple(spec: Any) -> bool:
    return isinstance(spec, type) and issubclass(spec, tuple) and hasattr(spec, "_fields")


def _is_pydantic(spec: Any) -> bool:
    return hasattr(spec, "__pydantic_validator__")


def _has_pydantic(spec: Any) -> bool:
    return _is_pydantic(spec) or any(_has_pydantic(a) for a in typing.get_args(spec))


def _pydantic_converter(spec: Any) -> Callable[[Any], Any]:
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(spec)

    def convert(data: Any) -> Any:
        try:
            return adapter.validate_python(data)
        except ValidationError as exc:
            problems = exc.errors(include_url=False, include_context=False, include_input=False)
            reasons = "; ".join(f"{p['msg']} - at `{_path(p['loc'])}`" for p in problems[:10])
            raise ValueError(f"the answer does not fit: {reasons}.") from exc

    return convert


def _path(steps: tuple[int | str, ...]) -> str:
    return "$" + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps)


def _converter(spec: Any) -> Callable[[Any], Any]:
    if _is_namedtuple(spec):
        return _one_tuple(spec)
    if typing.get_origin(spec) is list and _is_namedtuple(typing.get_args(spec)[0]):
        return _list_of_tuples(typing.get_args(spec)[0])
    return _msgspec_converter(spec)


def _one_tuple(spec: Any) -> Callable[[Any], Any]:
    from_object, from_array = _msgspec_converter(_twin(spec)), _msgspec_converter(spec)
    return lambda data: (
        from_array(data) if isinstance(data, list) else spec(**vars(from_object(data)))
    )


def _list_of_tuples(spec: Any) -> Callable[[Any], Any]:
    convert = _msgspec_converter(list[_twin(spec)])  # type: ignore[misc]
    return lambda data: [spec(**vars(twin)) for twin in convert(data)]


def _msgspec_converter(spec: Any) -> Callable[[Any], Any]:
    _check(spec)
    schema = _schema(spec)

    def convert(data: Any) -> Any:
        try:
            return msgspec.convert(data, spec, strict=False)
        except msgspec.ValidationError as exc:
            raise ValueError(f"the answer does not fit: {exc}.{schema}") from exc

    return convert


def _check(spec: Any) -> None:
    try:
        info = msgspec.inspect.type_info(spec)
    except Exception as exc:
        raise LLMApplicationError(f"{_cannot(spec)}: {exc}") from exc
    for part in _inside(info):
        if isinstance(part, msgspec.inspect.CustomType):
            raise LLMApplicationError(
                f"{_cannot(spec)}: nothing tells how to read {type_name(part.cls)} from JSON; "
                "make it a dataclass, or use a function"
            )


def _cannot(spec: Any) -> str:
    return f"the type {type_name(spec)} cannot be a post-processor"


def _inside(info: Any) -> Iterator[msgspec.inspect.Type]:
    """A type's description and all that it is made of."""
    waiting, seen = [info], set[int]()
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            waiting += node
        elif (
            isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(node) not in seen
        ):
            seen.add(id(node))
            waiting += [getattr(node, name) for name in node.__struct_fields__]
            if isinstance(node, msgspec.inspect.Type):
                yield node


def _schema(spec: Any) -> str:
    """The type in words a model knows, where they are few."""
    try:
        schema = msgspec.json.schema(spec)
        definitions = schema.get("$defs", {})
        if "$ref" in schema and len(definitions) == 1:
            (schema,) = definitions.values()
        text = msgspec.json.encode(schema).decode()
    except (TypeError, ValueError, RecursionError):
        return ""
    return f" It must fit this JSON schema: {text}" if len(text) <= _SCHEMA_LIMIT else ""


def _twin(spec: Any) -> type:
    """A dataclass with the fields of a named tuple: JSON objects have names, tuples have places."""
    hints = typing.get_type_hints(spec, include_extras=True)
    fields = [
        (name, hints.get(name, Any), dataclasses.field(default=spec._field_defaults[name]))
        if name in spec._field_defaults
        else (name, hints.get(name, Any))
        for name in spec._fields
    ]
    return dataclasses.make_dataclass(spec.__name__, fields)
