"""One tag's content out of a model's answer."""

from __future__ import annotations

from typing import NamedTuple, Optional

from .thoughts import after_thoughts
from .xml_tokens import tokens

__all__ = ["Element", "find_element", "get_xml_tag_content"]


class Element(NamedTuple):
    """A tag's content and the whole of it, as they stand in the text."""

    content: str
    whole: str


def get_xml_tag_content(s: str, root: str, with_tag: bool = False) -> Optional[str]:  # noqa: UP045
    """What stands between ``<root>`` and ``</root>`` in a model's answer, unchanged.

    Of several, the last complete one with something in it wins: models like to mention a tag before
    they use it. A leading ``<think>`` block is left out. Where the end tag is missing, the content
    goes on to the end of the text. White space and entities stay as they are; a content that is
    one CDATA section comes without its marks.

    Args:
        s: The text.
        root: The tag's name, in the text's letter case.
        with_tag: Return the tags as well (a missing end tag is added).

    Returns:
        The content, or None where the tag is not there.
    """
    element = find_element(s, root)
    if element is None:
        return None
    return element.whole if with_tag else _without_cdata(element.content)


def find_element(s: str, root: str) -> Element | None:
    """The element that `get_xml_tag_content` and `parse_xml` read."""
    text = after_thoughts(s)
    complete, unclosed = _occurrences(text, root)
    candidates = [*complete[::-1], *(_to_the_end(text, root, *tag) for tag in unclosed[-1:])]
    written = (element for element in candidates if element.content.strip())
    return next(written, candidates[0] if candidates else None)


def _occurrences(text: str, root: str) -> tuple[list[Element], list[tuple[int, int]]]:
    """The outermost complete elements, and the start tags that nothing closes."""
    opened: list[tuple[int, int]] = []
    spans: list[tuple[int, int, int, int]] = []
    for token in tokens(text):
        if token.name != root or token.kind in ("cdata", "drop"):
            continue
        if token.kind == "start":
            opened.append((token.start, token.end))
            continue
        if token.kind == "empty":
            spans.append((token.start, token.end, token.end, token.end))
        elif opened:
            start, inner = opened.pop()
            while spans and spans[-1][0] > start:
                spans.pop()
            spans.append((start, inner, token.start, token.end))
    return [Element(text[b:c], text[a:d]) for a, b, c, d in spans], opened


def _to_the_end(text: str, root: str, start: int, inner: int) -> Element:
    rest = _without_closing_fence(text[inner:])
    return Element(rest, f"{text[start:inner]}{rest}</{root}>")


def _without_closing_fence(text: str) -> str:
    """`text` without the end of a code fence that began before it."""
    if text.count("```") % 2 and text.rstrip().endswith("```"):
        return text.rstrip().removesuffix("```").rstrip()
    return text


def _without_cdata(content: str) -> str:
    stripped = content.strip()
    if not stripped.startswith("<![CDATA[") or stripped.find("]]>") != len(stripped) - 3:
        return content
    return stripped[9:-3]
