"""Values as they were at one moment: copies that later changes don't reach."""

from __future__ import annotations

import copy
import dataclasses
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Unsaved", "as_text", "duplicate", "is_whole", "snapshot", "unsaved"]

_PLAIN = frozenset(
    {str, int, float, bool, bytes, complex, type(None), FunctionType, MethodType, ModuleType, type}
)
"""Types of values that a step cannot change, or would not."""
_TEXT_LIMIT = 2000


class Unsaved(NamedTuple):
    """Stands for a value that could not be kept: its type and its repr."""

    type: str
    text: str


def unsaved(value: Any) -> Unsaved:
    """The mark for a value that cannot be kept."""
    try:
        text = repr(value)
    except Exception as exc:  # noqa: BLE001 - a repr may raise anything
        text = f"<repr failed: {type(exc).__name__}>"
    return Unsaved(f"{type(value).__module__}.{type(value).__qualname__}", text[:_TEXT_LIMIT])


def as_text(value: Any) -> str:
    """`str(value)`, or why there is none."""
    try:
        return str(value)
    except Exception as exc:  # noqa: BLE001 - a value of the user's may raise anything
        return f"<no text: {type(exc).__name__}>"


def snapshot(value: Any) -> Any:
    """A copy that later changes of `value` don't reach; what cannot be copied becomes `Unsaved`."""
    return _copied(value, unsaved)


def duplicate(value: Any) -> Any:
    """A copy, in which what cannot be copied is shared with `value`."""
    return _copied(value, lambda part: part)


def is_whole(value: Any) -> bool:
    """True where a snapshot lacks nothing."""
    found: list[Unsaved] = []
    _copied(value, lambda part: part, found)
    return not found


def _copied(value: Any, otherwise: Callable[[Any], Any], marks: list[Unsaved] | None = None) -> Any:
    if type(value) in _PLAIN:
        return value
    if type(value) is dict and all(type(item) in _PLAIN for item in value.values()):
        return value.copy()
    try:
        return _Copier(otherwise, marks)(value)
    except RecursionError:
        return otherwise(value)


class _Copier:
    """Copies containers by itself, so that one part that cannot be copied does not spoil all."""

    def __init__(self, otherwise: Callable[[Any], Any], marks: list[Unsaved] | None) -> None:
        self._otherwise = otherwise
        self._marks = marks
        self._done: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if id(value) not in self._done:
            self._done[id(value)] = self._copy(value, kind)
        return self._done[id(value)]

    def _copy(self, value: Any, kind: type) -> Any:
        if kind is dict:
            twin = self._done[id(value)] = {}
            twin.update((key, self(item)) for key, item in value.items())
            return twin
        if kind is list:
            items = self._done[id(value)] = []
            items.extend(map(self, value))
            return items
        if kind in (tuple, set, frozenset):
            return kind(map(self, value))
        if kind is Unsaved:
            if self._marks is not None:
                self._marks.append(value)
            return value
        return self._object(value, kind)

    def _object(self, value: Any, kind: type) -> Any:
        if _is_handle(value):
            return self._otherwise(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return kind._make(map(self, value))  # type: ignore[attr-defined]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._dataclass(value)
        if isinstance(value, type):
            return value
        try:
            return copy.deepcopy(value)
        except Exception:  # noqa: BLE001 - any object may refuse to be copied
            return self._otherwise(value)

    def _dataclass(self, value: Any) -> Any:
        try:
            twin = self._done[id(value)] = copy.copy(value)
            for field in dataclasses.fields(value):
                if hasattr(value, field.name):
                    object.__setattr__(twin, field.name, self(getattr(value, field.name)))
        except Exception:  # noqa: BLE001 - any object may refuse to be copied
            return self._otherwise(value)
        return twin


def _is_handle(value: Any) -> bool:
    """True for what stands for something that lives on: tasks, applications, clients."""
    from .._application.app import LLMApplication
    from .._transport.client import LLMClient
    from .tasks import Task

    return isinstance(value, (Task, LLMApplication, LLMClient))
