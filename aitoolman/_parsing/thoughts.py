"""Thinking that a server left in the text."""

from __future__ import annotations

import re

__all__ = ["after_thoughts"]

_THINK_TAG = re.compile(r"<(/?)(?:think|thinking)>", re.IGNORECASE)


def after_thoughts(text: str) -> str:
    """What follows a leading ``<think>`` block; all of `text` where there is none.

    Some chat templates write the opening tag themselves, so a closing tag alone ends thoughts too.
    An opening tag further down belongs to the answer.
    """
    for tag in _THINK_TAG.finditer(text):
        if tag[1]:
            return text[tag.end() :]
        if text[: tag.start()].strip():
            break
    return text
