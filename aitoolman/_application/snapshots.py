"""Values as they were at one moment: copies for the record, JSON for the file."""

from __future__ import annotations

import base64
import copy
import dataclasses
import datetime
import enum
import math
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Unsaved", "from_json", "snapshot", "to_json"]

_PLAIN = (str, int, float, bool, bytes, type(None))
_MARK = "$aitoolman"
MAX_DEPTH = 50
"""Containers inside one another; deeper ones are kept as text."""


class Unsaved(NamedTuple):
    """Stands for a value that could not be kept: its type and its repr."""

    type: str
    text: str


def snapshot(value: Any) -> Any:
    """A copy that later changes of `value` don't reach; what cannot be copied becomes `Unsaved`."""
    if isinstance(value, _PLAIN):
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - any object may refuse to be copied
        return unsaved(value)


def unsaved(value: Any) -> Unsaved:
    """The mark for a value that cannot be kept."""
    try:
        text = repr(value)
    except Exception as exc:  # noqa: BLE001 - a repr may raise anything
        text = f"<repr failed: {type(exc).__name__}>"
    return Unsaved(f"{type(value).__module__}.{type(value).__qualname__}", text[:2000])


def to_json(value: Any, depth: int = 0) -> Any:
    """`value` in JSON's words; what has none becomes a marked object, never pickled."""
    if value is None or (isinstance(value, (str, bool, int)) and type(value) in (str, bool, int)):
        return value
    if isinstance(value, float) and type(value) is float:
        return value if math.isfinite(value) else {_MARK: "float", "value": repr(value)}
    if depth > MAX_DEPTH:
        return _marked(unsaved(value))
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return [to_json(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    return _special(value, depth)


def _mapping(value: Mapping[Any, Any], depth: int) -> Any:
    if all(isinstance(key, str) for key in value) and _MARK not in value:
        return {key: to_json(item, depth + 1) for key, item in value.items()}
    items = [[to_json(k, depth + 1), to_json(v, depth + 1)] for k, v in value.items()]
    return {_MARK: "dict", "items": items}


def _special(value: Any, depth: int) -> Any:
    if isinstance(value, Unsaved):
        return _marked(value)
    if isinstance(value, bytes):
        return {_MARK: "bytes", "value": base64.b64encode(value).decode()}
    if isinstance(value, enum.Enum):
        return to_json(value.value, depth + 1)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return to_json(value._asdict(), depth + 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return to_json(fields, depth + 1)
    return _marked(unsaved(value))


def _marked(value: Unsaved) -> dict[str, str]:
    return {_MARK: "repr", "type": value.type, "value": value.text}


def from_json(value: Any) -> Any:
    """The value that `to_json` wrote, marks resolved."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value.get(_MARK):
        case None:
            return {key: from_json(item) for key, item in value.items()}
        case "float":
            return float(value["value"])
        case "bytes":
            return base64.b64decode(value["value"])
        case "dict":
            return {_hashable(from_json(k)): from_json(v) for k, v in value["items"]}
        case _:
            return Unsaved(value.get("type", ""), value.get("value", ""))


def _hashable(key: Any) -> Any:
    return tuple(_hashable(item) for item in key) if isinstance(key, list) else key
