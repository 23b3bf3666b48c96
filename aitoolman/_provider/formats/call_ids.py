"""Ids that link tool calls and their results, made to fit the vendor that gets them."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from .convert import dicts, goes_out_raw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._datamodel import Message, ToolCall
    from .dialect import Dialect

__all__ = ["fit_call_ids"]

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def fit_call_ids(messages: Sequence[Message], dialect: Dialect) -> list[Message]:
    """The messages with tool-call ids that the vendor accepts; raw messages keep theirs.

    Calls without an id get one; results without one answer the open calls in order.
    """
    raw_ids = {i for m in messages if goes_out_raw(m, dialect) for i in _raw_ids(m.raw_value)}
    fitted: list[Message] = []
    open_ids: list[str] = []
    for number, message in enumerate(messages):
        if goes_out_raw(message, dialect):
            open_ids = _raw_ids(message.raw_value) or open_ids
        elif message.tool_calls:
            calls = [
                _with_id(c, f"call_{number}_{i}", dialect) for i, c in enumerate(message.tool_calls)
            ]
            open_ids = [c.id or "" for c in calls]
            message = message._replace(tool_calls=calls)
        elif message.role == "tool":
            message = _answering(message, open_ids, raw_ids, dialect)
        fitted.append(message)
    return fitted


def _with_id(call: ToolCall, fallback: str, dialect: Dialect) -> ToolCall:
    return call._replace(id=_fit_id(fallback if call.id is None else call.id, dialect))


def _answering(
    message: Message, open_ids: list[str], raw_ids: set[str], dialect: Dialect
) -> Message:
    call_id = message.tool_call_id
    if call_id is None and open_ids:
        return message._replace(tool_call_id=open_ids.pop(0))
    if call_id is None or call_id in raw_ids:
        return message
    fitted = _fit_id(call_id, dialect)
    if fitted in open_ids:
        open_ids.remove(fitted)
    return message._replace(tool_call_id=fitted)


def _fit_id(call_id: str, dialect: Dialect) -> str:
    """The id itself where the vendor takes it, else nine letters and digits made from it."""
    if re.fullmatch(dialect.tool_id_pattern, call_id):
        return call_id
    number = int.from_bytes(hashlib.sha256(call_id.encode("utf-8", "replace")).digest()[:8], "big")
    return "".join(_ALPHABET[number // 62**place % 62] for place in range(9))


def _raw_ids(raw: Any) -> list[str]:
    found = [c.get("id") for c in dicts(raw.get("tool_calls"))]
    found += [b.get("id") for b in dicts(raw.get("content")) if b.get("type") == "tool_use"]
    return [i for i in found if isinstance(i, str)]
