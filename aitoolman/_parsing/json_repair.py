"""Repair of broken JSON by json-repair, with its work bounded and its result plain."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["repair"]


class _Metered(str):
    """A text that refuses to be read without end: the repair is quadratic on hostile input."""

    __slots__ = ("left",)
    left: list[int]

    @classmethod
    def of(cls, text: str, left: list[int]) -> _Metered:
        metered = cls(text)
        metered.left = left
        return metered

    def __getitem__(self, key: Any) -> str:
        part = super().__getitem__(key)
        self.left[0] -= 1 + (len(part) >> 4)
        if self.left[0] < 0:
            raise ValueError("the JSON is too broken to be repaired")
        return part if len(part) <= 1 else _Metered.of(part, self.left)

    def __add__(self, other: str) -> _Metered:
        return _Metered.of(str.__add__(self, other), self.left)

    def __radd__(self, other: str) -> _Metered:
        return _Metered.of(str.__add__(other, self), self.left)


def repair(text: str) -> dict[str, Any] | list[Any]:
    """The object or array that `text`, which begins with its bracket, was meant to be.

    Raises:
        ValueError: It cannot be read as one, or not with reasonable work.
    """
    value = _plain(_repaired(text))
    wanted = dict if text[0] == "{" else list
    if not isinstance(value, wanted) or (not value and text[1:-1].strip()):
        raise ValueError("the JSON is too broken to be repaired")
    return value


def _repaired(text: str) -> Any:
    import json_repair

    steps = min(100_000 + 20 * len(text), 2_000_000)
    try:
        return json_repair.repair_json(
            _Metered.of(text, [steps]), return_objects=True, skip_json_loads=True
        )
    except RecursionError:
        raise ValueError("the JSON is nested too deeply to be read") from None
    except Exception as exc:  # its own slips on odd input must not look like ours
        raise ValueError(f"the JSON is too broken to be repaired: {exc}") from exc


def _plain(value: Any) -> Any:
    """The same without string subclasses, and with null for what JSON has no number for."""
    try:
        return json.loads(json.dumps(value), parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply to be read") from None
