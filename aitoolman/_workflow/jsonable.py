"""Any value as JSON and back: the same again, or marked as a repr. Loading executes nothing."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
from typing import TYPE_CHECKING, Any

from .snapshots import Unsaved, unsaved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["from_json", "to_json"]

_MARK = "$aitoolman"
MAX_DEPTH = 100
"""Containers inside one another; deeper ones are kept as text."""
_MAX_BITS = 10_000
"""Larger integers are refused by JSON readers, Python's own among them."""


def to_json(value: Any, depth: int = 0) -> Any:
    """`value` in JSON's words; what has none becomes a marked object, never pickled.

    Tuples, sets, bytes, special floats and dictionaries with keys that are no text come back as
    they were; anything else becomes `Unsaved`, named tuples and dataclasses a dict of their fields.
    """
    if value is None or type(value) is bool:
        return value
    write = _WRITERS.get(type(value))
    if write is not None and depth < MAX_DEPTH:
        return write(value, depth)
    return _other(value, depth)


def _text(value: str, depth: int) -> Any:
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        return _marked("text", _base64(value.encode("utf-8", "surrogatepass")))
    return value


def _int(value: int, depth: int) -> Any:
    return value if value.bit_length() < _MAX_BITS else _marked("int", hex(value))


def _float(value: float, depth: int) -> Any:
    return value if math.isfinite(value) else _marked("float", repr(value))


def _list(value: Any, depth: int) -> list[Any]:
    return [to_json(item, depth + 1) for item in value]


def _dict(value: Mapping[Any, Any], depth: int) -> Any:
    if _MARK not in value and all(type(key) is str and _text(key, 0) is key for key in value):
        return {key: to_json(item, depth + 1) for key, item in value.items()}
    pairs = [[to_json(k, depth + 1), to_json(v, depth + 1)] for k, v in value.items()]
    return _marked("dict", pairs)


def _other(value: Any, depth: int) -> Any:
    if isinstance(value, Unsaved):
        return {_MARK: "repr", "type": value.type, "value": value.text}
    if depth < MAX_DEPTH:
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            return _dict(value._asdict(), depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _dict({f.name: getattr(value, f.name, None) for f in _shown(value)}, depth)
    return _other(unsaved(value), depth)


def _shown(value: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(value) if field.repr]


def _marked(kind: str, value: Any) -> dict[str, Any]:
    return {_MARK: kind, "value": value}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


_WRITERS: dict[type, Callable[[Any, int], Any]] = {
    str: _text,
    int: _int,
    float: _float,
    list: _list,
    dict: _dict,
    tuple: lambda value, depth: _marked("tuple", _list(value, depth)),
    set: lambda value, depth: _marked("set", _list(value, depth)),
    frozenset: lambda value, depth: _marked("frozenset", _list(value, depth)),
    bytes: lambda value, depth: _marked("bytes", _base64(value)),
}


def from_json(value: Any) -> Any:
    """The value that `to_json` wrote, marks resolved.

    Raises:
        ValueError: A mark is none that `to_json` writes.
    """
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _MARK not in value:
        return {key: from_json(item) for key, item in value.items()}
    try:
        return _READERS[value[_MARK]](value)
    except (KeyError, TypeError, AttributeError, binascii.Error) as exc:
        raise ValueError(f"a broken mark: {str(value)[:100]}") from exc


def _bytes(mark: dict[str, Any]) -> bytes:
    return base64.b64decode(mark["value"], validate=True)


def _items(mark: dict[str, Any]) -> list[Any]:
    return [from_json(item) for item in [*mark["value"]]]


def _special_float(mark: dict[str, Any]) -> float:
    if mark["value"] not in ("nan", "inf", "-inf"):
        raise KeyError
    return float(mark["value"])


def _repr(mark: dict[str, Any]) -> Unsaved:
    if not (isinstance(mark["type"], str) and isinstance(mark["value"], str)):
        raise TypeError
    return Unsaved(mark["type"], mark["value"])


_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "text": lambda mark: _bytes(mark).decode("utf-8", "surrogatepass"),
    "int": lambda mark: int(mark["value"], 16),
    "float": _special_float,
    "dict": lambda mark: dict(_items(mark)),
    "tuple": lambda mark: tuple(_items(mark)),
    "set": lambda mark: set(_items(mark)),
    "frozenset": lambda mark: frozenset(_items(mark)),
    "bytes": _bytes,
    "repr": _repr,
}
