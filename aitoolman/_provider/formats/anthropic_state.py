"""What a stream of Anthropic's format has brought: content blocks under construction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._datamodel import ToolCall
from .answers import encode_json, parse_arguments
from .thinking import ThinkSplitter

if TYPE_CHECKING:
    from .dialect import Dialect

__all__ = ["AnthropicStream", "Block"]


class Block:
    """One content block under construction."""

    __slots__ = ("pieces", "raw", "signature", "thoughts")

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.pieces: list[str] = []
        self.thoughts: list[str] = []
        self.signature: list[str] = []

    def whole(self) -> dict[str, Any]:
        """The block as the vendor's whole answer has it."""
        raw = dict(self.raw)
        kind = raw.get("type")
        if kind == "text":
            raw["text"] = (raw.get("text") or "") + "".join(self.pieces)
        elif kind == "thinking":
            raw["thinking"] = (raw.get("thinking") or "") + "".join(self.thoughts)
            raw["signature"] = (raw.get("signature") or "") + "".join(self.signature)
        elif self.pieces:
            raw["input"] = parse_arguments(self.text) or {}
        return raw

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def call(self) -> ToolCall:
        """The tool call of a ``tool_use`` block, its arguments as the model wrote them."""
        given = self.raw.get("input")
        text = self.text if self.pieces else encode_json(given if given is not None else {})
        name, call_id = self.raw.get("name") or "", self.raw.get("id") or None
        return ToolCall(name, text, parse_arguments(text), call_id)


class AnthropicStream:
    """What a stream has brought so far."""

    __slots__ = ("_highest", "blocks", "splitter", "usage")

    def __init__(self, dialect: Dialect) -> None:
        self.blocks: dict[int, Block] = {}
        self._highest: int | None = None
        self.usage: dict[str, Any] = {}
        tags = dialect.think_tags
        self.splitter = ThinkSplitter(opened=tags == "opened") if tags != "off" else None

    def block(self, index: Any, kind: str) -> Block:
        """The block that a delta extends; one that was never opened begins here."""
        if type(index) is not int:
            index = self._highest or 0
        return self.blocks.get(index) or self.open(index, {"type": kind})

    def open(self, index: int, raw: dict[str, Any]) -> Block:
        """A new block at `index`."""
        block = self.blocks[index] = Block(raw)
        self._highest = index if self._highest is None else max(self._highest, index)
        return block

    def ordered(self) -> list[Block]:
        return [self.blocks[index] for index in sorted(self.blocks)]
