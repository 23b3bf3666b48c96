"""Types of answer columns: declared by the post-processor's type, else found in the answers.

A column is of one kind for a part of a batch and for the whole of it, as far as the kind is
declared; a found kind can only widen (int to float, anything to text).
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

__all__ = [
    "Kind",
    "as_cell",
    "as_record",
    "declared_kind",
    "declared_kinds",
    "joined",
    "kind_of",
    "sound_text",
]

Kind = Literal["bool", "int", "float", "text", "object"]
"""What a column holds; ``object`` is anything nested: Python values in pandas and lists, JSON text
in polars and Arrow."""

_SCALARS: dict[type, Kind] = {bool: "bool", int: "int", float: "float", str: "text"}
INT64 = 2**63


def kind_of(value: Any) -> Kind | None:
    """The kind of one value; None for None."""
    if value is None:
        return None
    if isinstance(value, enum.Enum):
        return kind_of(value.value)
    if isinstance(value, int) and not isinstance(value, bool):
        return "int" if -INT64 <= value < INT64 else "text"
    for scalar, kind in _SCALARS.items():
        if isinstance(value, scalar):
            return kind
    return "object"


def joined(one: Kind | None, other: Kind | None) -> Kind | None:
    """The kind that holds both."""
    if one == other or other is None:
        return one
    if one is None:
        return other
    if {one, other} == {"int", "float"}:
        return "float"
    return "object" if "object" in (one, other) else "text"


def declared_kind(spec: Any) -> Kind | None:
    """The kind of a declared type; None where any value fits it."""
    if isinstance(spec, type) and issubclass(spec, enum.Enum):
        return _all_kinds(member.value for member in spec)
    if isinstance(spec, type) and spec in _SCALARS:
        return _SCALARS[spec]
    origin, arguments = typing.get_origin(spec), typing.get_args(spec)
    if origin is typing.Annotated:
        return declared_kind(arguments[0])
    if origin is Literal:
        return _all_kinds(arguments)
    if origin in (typing.Union, types.UnionType):
        kinds = [declared_kind(a) for a in arguments if a is not types.NoneType]
        return None if None in kinds else _join(kinds)
    if spec in (Any, object, None, types.NoneType) or isinstance(spec, (str, typing.TypeVar)):
        return None
    return "object"


def _all_kinds(values: Iterable[Any]) -> Kind | None:
    return _join([kind_of(value) for value in values])


def _join(kinds: Iterable[Kind | None]) -> Kind | None:
    found: Kind | None = None
    for kind in kinds:
        found = joined(found, kind)
    return found


def declared_kinds(spec: Any) -> dict[str, Kind | None] | None:
    """The columns of a record type (dataclass, TypedDict, named tuple, model); None for others."""
    if not isinstance(spec, type):
        return None
    if hasattr(spec, "model_fields"):
        return {name: declared_kind(f.annotation) for name, f in spec.model_fields.items()}
    if _names(spec) is None and not typing.is_typeddict(spec):
        return None
    return {name: declared_kind(hint) for name, hint in _hints(spec).items()}


def _hints(spec: Any) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(spec)
    except Exception:  # noqa: BLE001 - a name that cannot be resolved here
        hints = dict(getattr(spec, "__annotations__", {}))
    return {name: hints.get(name, Any) for name in _names(spec) or hints}


def _names(value: Any) -> list[str] | None:
    """The fields of a record or record type; None for others."""
    if dataclasses.is_dataclass(value):
        return [f.name for f in dataclasses.fields(value)]
    kind = value if isinstance(value, type) else type(value)
    for attribute in ("model_fields", "__struct_fields__"):
        if hasattr(kind, attribute):
            return list(getattr(kind, attribute))
    return list(kind._fields) if issubclass(kind, tuple) and hasattr(kind, "_fields") else None


def as_record(data: Any) -> dict[str, Any] | None:
    """An answer with named parts as a dict of them; None for any other."""
    if isinstance(data, Mapping):
        return {sound_text(str(key)): value for key, value in data.items()}
    names = None if data is None or isinstance(data, (str, type)) else _names(data)
    return None if names is None else {name: getattr(data, name) for name in names}


def as_cell(value: Any, kind: Kind, *, nested: bool) -> Any:
    """`value` as its column holds it; what does not fit a number's column is None.

    Args:
        value: Part of an answer.
        kind: The column's.
        nested: The frame holds nested Python values; else they become JSON text.
    """
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None:
        return None
    if kind == "object":
        plain = to_plain(value)
        return plain if nested else _json(plain)
    own = kind_of(value)
    if kind == "text":
        return sound_text(_json(to_plain(value)) if own == "object" else str(value))
    if kind == "float" and own == "int":
        return float(value)
    return value if own == kind else None


def _json(plain: Any) -> str:
    return sound_text(json.dumps(plain, ensure_ascii=False, default=str))


def sound_text(text: str) -> str:
    """`text` without the half characters of a broken stream, which no column can hold."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()


def to_plain(value: Any) -> Any:
    """Records inside `value` as dicts, so that it can be written down."""
    record = as_record(value)
    if record is not None:
        return {key: to_plain(item) for key, item in record.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value
