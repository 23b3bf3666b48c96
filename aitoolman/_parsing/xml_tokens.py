"""The tags, comments and CDATA sections in a text that may be anything.

No entity is defined, no document type read, nothing fetched; time is linear in the text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Token", "decode_entities", "tokens"]

_NAME = r"[^\W\d][\w.:-]*"
_ATTRIBUTE = rf"""{_NAME}\s*=\s*(?:"[^"<]*"|'[^'<]*'|[^\s"'<>=]+)"""
_MARKUP = re.compile(
    rf"<(?P<end>/?)(?P<name>{_NAME})(?:\s+{_ATTRIBUTE})*+\s*(?P<empty>/?)>|<!--|<!\[CDATA\["
)
_CLOSING = {"<!--": "-->", "<![CDATA[": "]]>"}
_ENTITY = re.compile(r"&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos));")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}

Kind = Literal["start", "end", "empty", "cdata", "drop"]


class Token(NamedTuple):
    """A stretch of markup."""

    kind: Kind
    start: int
    end: int
    name: str = ""
    """A tag's name; the text of a CDATA section."""


def tokens(text: str) -> Iterator[Token]:
    """All markup in `text`, in order. What looks like no tag (``a < b``, ``<b and c>``) is text."""
    at = 0
    unclosed: set[str] = set()  # asked for once, so that a million of them cost one search each
    while found := _MARKUP.search(text, at):
        token = _tag(found) if found["name"] else _section(text, found, unclosed)
        at = token.end
        yield token


def _tag(found: re.Match[str]) -> Token:
    kind: Kind = "end" if found["end"] else "empty" if found["empty"] else "start"
    return Token(kind, found.start(), found.end(), found["name"])


def _section(text: str, found: re.Match[str], unclosed: set[str]) -> Token:
    closing = _CLOSING[found[0]]
    end = -1 if closing in unclosed else text.find(closing, found.end())
    if end < 0:  # the mark alone goes; what follows is ordinary text
        unclosed.add(closing)
        return Token("drop", found.start(), found.end())
    if closing == "-->":
        return Token("drop", found.start(), end + 3)
    return Token("cdata", found.start(), end + 3, text[found.end() : end])


def decode_entities(text: str) -> str:
    """`text` with XML's five entities and character numbers decoded; all else stays as it is."""
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name:
        return _NAMED[name]
    code = int(decimal) if decimal else int(hexadecimal, 16)
    legal = 0 < code < 0xD800 or 0xDFFF < code <= 0x10FFFF
    return chr(code) if legal else found[0]
