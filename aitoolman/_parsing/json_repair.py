"""Repair of broken JSON: a cut end is closed here, the rest is json-repair's, with bounded work."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["Work", "repair"]

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?P<end>"?)|[{}\[\]]', re.DOTALL)
_CUT_ESCAPE = re.compile(  # also the first half of a pair, which is no character by itself
    r"(?<!\\)(?:\\\\)*(?P<cut>(?:\\u[dD][89abAB][0-9a-fA-F]{2})?(?:\\(?:u[0-9a-fA-F]{0,3})?)?)\Z"
)
_CLOSING = {"{": "}", "[": "]"}
_MOST_WORK = 1_000_000


class Work:
    """How much more work the repairs of one text may take."""

    def __init__(self, length: int) -> None:
        self.left = min(100_000 + 20 * length, _MOST_WORK)

    def spend(self, amount: int) -> None:
        """Raise ValueError when all of it is used up."""
        self.left -= amount
        if self.left < 0:
            raise ValueError("the JSON is too broken to be repaired")


class _Metered(str):
    """A text that refuses to be read without end: the repair is quadratic on hostile input."""

    __slots__ = ("work",)
    work: Work

    @classmethod
    def of(cls, text: str, work: Work) -> _Metered:
        metered = cls(text)
        metered.work = work
        return metered

    def __getitem__(self, key: Any) -> str:
        part = super().__getitem__(key)
        # A step in a long string copies what was read of it, so it costs more further on.
        self.work.spend(1 + (len(part) >> 4) + (key >> 13 if isinstance(key, int) else 0))
        return part if len(part) <= 1 else _Metered.of(part, self.work)

    def __add__(self, other: str) -> _Metered:
        return _Metered.of(str.__add__(self, other), self.work)

    def __radd__(self, other: str) -> _Metered:
        return _Metered.of(str.__add__(other, self), self.work)


def repair(text: str, work: Work) -> dict[str, Any] | list[Any]:
    """The object or array that `text`, which begins with its bracket, was meant to be.

    Raises:
        ValueError: It cannot be read as one, or not with the work that is left.
    """
    value = _closed(text)
    if value is None:
        value = _plain(_repaired(text, work))
    wanted = dict if text[0] == "{" else list
    if not isinstance(value, wanted) or (not value and text[1:-1].strip()):
        raise ValueError("the JSON is too broken to be repaired")
    return value


def _closed(text: str) -> Any:
    """The value of JSON that is well-formed as far as it goes; None for any other.

    This is the usual damage, an answer at its longest length, and there is nothing to guess.
    """
    opened: list[str] = []
    tail = ""
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in _CLOSING:
            opened.append(_CLOSING[mark])
        elif mark[0] != '"':
            if not opened or opened.pop() != mark:
                return None
        elif not token["end"]:
            text, tail = _without_cut_escape(text), '"'
    return _loaded(text + tail + "".join(reversed(opened)))


def _without_cut_escape(text: str) -> str:
    found = _CUT_ESCAPE.search(text, max(len(text) - 1000, 0))
    return text if found is None else text[: found.start("cut")]


def _loaded(text: str) -> Any:
    constants: list[str] = []
    try:
        value = json.loads(text, strict=False, parse_constant=constants.append)
    except (ValueError, RecursionError):
        return None
    return None if constants else value


def _repaired(text: str, work: Work) -> Any:
    import json_repair

    try:
        return json_repair.repair_json(
            _Metered.of(text, work), return_objects=True, skip_json_loads=True
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
