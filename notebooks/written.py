"""Answers of the lessons that the embedded model is too small for, written for the lesson.

`record.py` plays them once, and the lessons replay what was recorded. A lesson's answers are a list,
in the order in which it asks, or a function of the request where several requests run at once.
"""

from __future__ import annotations

from aitoolman import ScriptedReply as Reply


ANSWERS = {}


def knows(lesson: str) -> bool:
    return lesson in ANSWERS


def answers(lesson: str):
    return ANSWERS[lesson]
