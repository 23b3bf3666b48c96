"""Tool calls of OpenAI's format: whole ones, and ones that arrive in pieces."""

from __future__ import annotations

from typing import Any

from ..._datamodel import LLMResponseFormatError, ToolCall
from .answers import decode_json, encode_json, parse_arguments, text_of

__all__ = ["ToolCallCollector", "read_tool_calls"]


def read_tool_calls(tool_calls: Any) -> list[ToolCall]:
    """Whole tool calls in this library's words; null and no list at all mean none.

    Raises:
        LLMResponseFormatError: Something else than tool calls stands there.
    """
    if tool_calls is None:
        return []
    if not isinstance(tool_calls, list):
        raise LLMResponseFormatError(f"tool_calls is {type(tool_calls).__name__}, not a list")
    return [_read_call(call) for call in tool_calls if call is not None]


def _read_call(call: Any) -> ToolCall:
    if not isinstance(call, dict):
        raise LLMResponseFormatError(f"a tool call is {type(call).__name__}, not an object")
    kind = text_of(call.get("type"), "the type of a tool call") or "function"
    call_id = _id(call.get("id"))
    if kind == "custom":
        inner = _object(call.get("custom"), "custom")
        return ToolCall(_name(inner), text_of(inner.get("input"), "input"), None, call_id, kind)
    function = _object(call.get("function"), "function")
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        return ToolCall(_name(function), encode_json(arguments), arguments, call_id, kind)
    text = text_of(arguments, "the arguments of a tool call")
    return ToolCall(_name(function), text, parse_arguments(text), call_id, kind)


def _object(value: Any, key: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise LLMResponseFormatError(f"a tool call has no object {key!r}")


def _name(function: dict[str, Any]) -> str:
    return text_of(function.get("name"), "the name of a tool call")


def _id(value: Any) -> str | None:
    """An id as text; a number is one to the vendor, and goes back as text."""
    return None if value is None or isinstance(value, (dict, list, bool)) else str(value)


_LOOKS_FLOOR, _LOOKS_PER_CHARACTER = 1_000_000, 20
"""How many characters of a call's arguments are read to learn whether they are finished."""


class _Slot:
    """One call under construction."""

    __slots__ = (
        *("_finished", "_last", "_looked", "_pieces"),
        *("extras", "id", "index", "kind", "name", "size", "whole"),
    )

    def __init__(self, index: Any, call_id: str | None) -> None:
        self.index = index
        self.id = call_id
        self.kind: str | None = None
        self.name = ""
        self.whole: dict[str, Any] | None = None
        self.extras: dict[str, Any] = {}
        self.size = 0
        self._pieces: list[str] = []
        self._last = ""
        self._finished: bool | None = None
        self._looked = 0

    def add(self, text: str) -> None:
        """Take a piece of the arguments."""
        self._pieces.append(text)
        self.size += len(text)
        if not text.isspace():
            self._last, self._finished = text, None

    def replace(self, arguments: dict[str, Any]) -> None:
        """Take arguments that came as an object, not as text."""
        text = encode_json(arguments)
        self.whole, self._pieces, self.size = arguments, [text], len(text)

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def complete(self) -> bool:
        """True once the arguments are a finished JSON object: nothing can follow them."""
        if self.whole is not None:
            return True
        if self._finished is None:
            self._finished = self._last.rstrip().endswith("}") and self._is_object()
        return self._finished

    def _is_object(self) -> bool:
        # Each look reads all of the text, so pieces that all end in a brace are not looked at
        # without end.
        if self._looked > _LOOKS_FLOOR + _LOOKS_PER_CHARACTER * self.size:
            return False
        self._looked += self.size
        return isinstance(_json(self.text), dict)

    def raw(self) -> dict[str, Any]:
        """The call as the vendor's whole answer has it."""
        arguments = self.whole if self.whole is not None else self.text
        head = {"id": self.id} if self.id is not None else {}
        function = {"name": self.name, "arguments": arguments}
        return {**head, "type": self.kind or "function", "function": function, **self.extras}


class ToolCallCollector:
    """Puts tool-call deltas together.

    Args:
        trust_index: ``index`` alone says which call a delta belongs to. Otherwise it may be
            missing, or 0 for every call (Gemini, Ollama); then a new id with a name, or a name
            after finished arguments, begins a new call.
    """

    __slots__ = ("_latest", "_slots", "_trust_index")

    def __init__(self, *, trust_index: bool) -> None:
        self._slots: list[_Slot] = []
        self._latest: dict[Any, _Slot] = {}
        """By index, by id, and by both: a stream may hold a hundred thousand calls."""
        self._trust_index = trust_index

    def __bool__(self) -> bool:
        return bool(self._slots)

    def push(self, deltas: Any) -> None:
        """Take the ``tool_calls`` of one delta.

        Raises:
            LLMResponseFormatError: Something else than tool-call deltas stands there.
        """
        if isinstance(deltas, dict):
            deltas = [deltas]
        if not isinstance(deltas, list):
            raise LLMResponseFormatError(f"tool_calls is {type(deltas).__name__}, not a list")
        for delta in deltas:
            if isinstance(delta, dict):
                self._push_one(delta)
            elif delta is not None:
                raise LLMResponseFormatError(f"a tool call is {type(delta).__name__}, no object")

    def raw(self) -> list[dict[str, Any]]:
        """All calls as the vendor's whole answer has them, by index where all have one."""
        slots = self._slots
        if all(type(s.index) is int for s in slots):
            slots = sorted(slots, key=lambda s: s.index)
        return [slot.raw() for slot in slots]

    def _push_one(self, delta: dict[str, Any]) -> None:
        function = delta.get("function")
        function = function if isinstance(function, dict) else {}
        name = text_of(function.get("name"), "the name of a tool call")
        arguments = function.get("arguments")
        slot = self._slot_for(delta.get("index"), _id(delta.get("id")), name, arguments)
        if slot is None:
            return
        _fill(slot, delta, name)
        self._note(slot)
        if isinstance(arguments, dict):
            slot.replace(arguments)
        elif text := text_of(arguments, "the arguments of a tool call"):
            slot.add(text)

    def _slot_for(self, index: Any, call_id: str | None, name: str, arguments: Any) -> _Slot | None:
        """The call that a delta belongs to; None for one that says again what is known."""
        index = index if type(index) is int else None
        slot = self._find(index, call_id, name)
        if slot is not None and not (self._trust_index and index is not None):
            if _repeats(slot, call_id, name, arguments):
                return None
            if _begins_anew(slot, call_id, name, arguments):
                slot = None
        if slot is None:
            slot = _Slot(index, call_id)
            self._slots.append(slot)
            for key in _keys(slot):
                self._latest[key] = slot
        return slot

    def _note(self, slot: _Slot) -> None:
        """Make a call findable by the id that it got late."""
        for key in _keys(slot):
            self._latest.setdefault(key, slot)

    def _find(self, index: int | None, call_id: str | None, name: str) -> _Slot | None:
        """The latest call with this index, or id; a delta that has neither continues the last."""
        if index is not None:
            return self._latest.get((index, call_id)) or self._latest.get(index)
        if call_id:
            return self._latest.get(call_id)
        return self._slots[-1] if self._slots and not name else None


def _keys(slot: _Slot) -> list[Any]:
    """What a later delta may name a call by: a number, a text, or a pair of both."""
    named = [slot.id, (slot.index, slot.id)] if slot.id else []
    return [slot.index, *named] if slot.index is not None else named[:1]


def _repeats(slot: _Slot, call_id: str | None, name: str, arguments: Any) -> bool:
    """True where the whole finished call comes a second time, under the same id."""
    if not call_id or slot.id != call_id or name != slot.name or not slot.complete:
        return False
    if isinstance(arguments, dict):
        return arguments == slot.whole
    return isinstance(arguments, str) and len(arguments) == slot.size and arguments == slot.text


def _begins_anew(slot: _Slot, call_id: str | None, name: str, arguments: Any) -> bool:
    if not name:
        return False
    if call_id and slot.id and call_id != slot.id:
        return True
    return bool(arguments) and slot.complete


def _fill(slot: _Slot, delta: dict[str, Any], name: str) -> None:
    slot.id = slot.id or _id(delta.get("id"))
    slot.kind = slot.kind or text_of(delta.get("type"), "the type of a tool call") or None
    if name and name != slot.name:
        slot.name += name
    for key, value in delta.items():
        if key not in ("index", "id", "type", "function") and value is not None:
            slot.extras[key] = value


def _json(text: str) -> Any:
    try:
        return decode_json(text)
    except ValueError:
        return None
