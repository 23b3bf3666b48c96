"""XML to dicts, for XML as models write it."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any, Dict, Optional  # noqa: UP035 - the specification's words

from .xml_text import find_element
from .xml_tokens import Token, decode_entities, tokens

__all__ = ["parse_xml"]

MAX_DEPTH = 100
"""Deeper than any answer that makes sense."""


def parse_xml(s: str, root: str) -> Optional[Dict[str, Any]]:  # noqa: UP006, UP045
    """What is inside the element `root` of a model's answer, chosen as `get_xml_tag_content` does.

    A tag that holds tags becomes a dict, one that holds text that text, stripped; tags of one name
    become a list. XML's five entities and character numbers are decoded, CDATA is taken as it is,
    attributes and comments are left out. A lone ``&`` or ``<`` is text. So is markup in a tag whose
    content begins with text (``<note>press <b>Enter</b></note>``), except in the root, where text
    beside tags is left out. A missing end tag ends where its parent ends or, once it holds text,
    where the next tag begins.

    Returns:
        A dict, empty for an empty root; the text itself where the root holds nothing but text;
        None where the root is not there.

    Raises:
        ValueError: Tags are nested deeper than 100.
    """
    element = find_element(s, root)
    if element is None:
        return None
    value: Any = _Tree(element.content).value()
    return value or {}


class _Node:
    """An element while it is read."""

    def __init__(self, name: str, end: int | None) -> None:
        self.name = name
        self.end = end
        """The index of its end tag's token; None where that is missing."""
        self.text: list[tuple[str, bool]] = []
        self.children: dict[str, Any] = {}

    @property
    def begins_with_text(self) -> bool:
        return not self.children and any(exact or part.strip() for part, exact in self.text)

    def add(self, name: str, value: Any) -> None:
        if name not in self.children:
            self.children[name] = value
        elif isinstance(self.children[name], list):
            self.children[name].append(value)
        else:
            self.children[name] = [self.children[name], value]

    def value(self) -> Any:
        return self.children or _joined(self.text)


def _joined(parts: list[tuple[str, bool]]) -> str:
    """Text with entities decoded and outer white space gone; CDATA (the exact parts) untouched."""
    exact = [i for i, part in enumerate(parts) if part[1]]
    first, last = (exact[0], exact[-1] + 1) if exact else (len(parts), len(parts))
    before = "".join(p for p, _ in parts[:first])
    middle = "".join(p if e else decode_entities(p) for p, e in parts[first:last])
    after = "".join(p for p, _ in parts[last:])
    before = before.lstrip() if exact else before.strip()
    return decode_entities(before) + middle + decode_entities(after.rstrip())


class _Tree:
    """One pass over the tokens; the stack of open elements ends at the one being read."""

    def __init__(self, content: str) -> None:
        self.content = content
        self.tokens = list(tokens(content))
        self.end_of = _matching_ends(self.tokens)
        self.ends = set(self.end_of.values())
        self.nodes = [_Node("", len(self.tokens))]
        self.literal_until = 0
        """Tokens before this one are text: they stand in an element that begins with text."""

    def value(self) -> Any:
        at = 0
        for index, token in enumerate(self.tokens):
            self.add_text(self.content[at : token.start])
            self.take(index, token)
            at = token.end
        self.add_text(self.content[at:])
        while len(self.nodes) > 1:
            self.close()
        return self.nodes[0].value()

    def add_text(self, text: str, exact: bool = False) -> None:
        if text or exact:
            self.nodes[-1].text.append((text, exact))

    def close(self) -> None:
        node = self.nodes.pop()
        self.nodes[-1].add(node.name, node.value())

    def take(self, index: int, token: Token) -> None:
        if token.kind == "cdata":
            self.add_text(token.name, exact=True)
        elif token.kind == "drop":
            return
        elif index < self.literal_until or (token.kind == "end" and index not in self.ends):
            self.add_text(self.content[token.start : token.end])
        elif token.kind == "end":
            self.take_end(index)
        else:
            self.take_start(index, token)

    def take_end(self, index: int) -> None:
        while self.nodes[-1].end != index:
            self.close()
        self.close()

    def take_start(self, index: int, token: Token) -> None:
        self.close_unended(token.name)
        parent, end = self.nodes[-1], self.end_of.get(index)
        is_root = len(self.nodes) == 1
        if parent.begins_with_text and not (is_root and end is not None):
            self.literal_until = index + 1 if is_root else parent.end or 0
            self.add_text(self.content[token.start : token.end])
        elif token.kind == "empty":
            parent.add(token.name, "")
        else:
            self.open(token.name, end)

    def open(self, name: str, end: int | None) -> None:
        if len(self.nodes) > MAX_DEPTH:
            raise ValueError(f"the XML is nested more than {MAX_DEPTH} tags deep")
        self.nodes.append(_Node(name, end))

    def close_unended(self, name: str) -> None:
        """End the elements without an end tag that the start of a tag `name` ends."""
        while self.nodes[-1].end is None and self.nodes[-1].begins_with_text:
            self.close()
        unended = [n.name for n in itertools.takewhile(lambda n: n.end is None, self.nodes[::-1])]
        if name in unended:
            for _ in range(unended.index(name) + 1):
                self.close()


def _matching_ends(found: list[Token]) -> dict[int, int]:
    """Start tag to end tag, as indices; what an outer end tag passes over has none."""
    matched: dict[int, int] = {}
    opened: list[tuple[str, int]] = []
    waiting: Counter[str] = Counter()
    for index, token in enumerate(found):
        if token.kind == "start":
            opened.append((token.name, index))
            waiting[token.name] += 1
        elif token.kind == "end" and waiting[token.name]:
            matched[_pop_to(token.name, opened, waiting)] = index
    return matched


def _pop_to(name: str, opened: list[tuple[str, int]], waiting: Counter[str]) -> int:
    while True:
        popped, start = opened.pop()
        waiting[popped] -= 1
        if popped == name:
            return start
