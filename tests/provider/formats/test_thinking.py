"""Reasoning left in the text: the same split however the text is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman._provider.formats.thinking import ThinkSplitter, split_think

PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<", ">", "think", "/", "\n", " ", "a", "<thi", "</"]),
    max_size=12,
).map("".join)


def cut_up(text: str, cuts: list[int], *, opened: bool) -> tuple[str, str]:
    splitter = ThinkSplitter(opened=opened)
    places = sorted({c % (len(text) + 1) for c in cuts} | {0, len(text)})
    found = [splitter.push(text[a:b]) for a, b in itertools.pairwise(places)]
    found.append(splitter.flush())
    return "".join(t for t, _ in found), "".join(r for _, r in found)


@given(PIECES, st.lists(st.integers(0, 60), max_size=8), st.booleans())
def test_the_split_does_not_depend_on_the_cuts(text: str, cuts: list[int], opened: bool) -> None:
    """Any cuts give what the whole text gives."""
    assert cut_up(text, cuts, opened=opened) == split_think(text, opened=opened)


@given(st.text(max_size=20), st.text(max_size=20))
def test_inside_and_outside_come_apart(inside: str, outside: str) -> None:
    """What stands between the tags is reasoning, what follows is the answer."""
    if "</think>" in inside:
        return
    text, reasoning = split_think(f"\n <think>\n{inside}</think>\n\n{outside}")
    assert text == outside.lstrip()
    assert reasoning == inside.lstrip("\n")


@pytest.mark.parametrize(
    ("text", "answer", "reasoning"),
    [
        ("plain", "plain", ""),
        ("  plain", "  plain", ""),
        ("", "", ""),
        ("   ", "   ", ""),
        ("I wrote <think> in HTML</think>", "I wrote <think> in HTML</think>", ""),
        ("<think></think>yes", "yes", ""),
        ("<think>cut off", "", "cut off"),
        ("<think>cut </thin", "", "cut </thin"),
        ("<thinking>no</thinking>", "<thinking>no</thinking>", ""),
        ("<think>a</think>b<think>c</think>", "b<think>c</think>", "a"),
        ("<thi", "<thi", ""),
    ],
)
def test_only_a_tag_that_begins_the_answer_counts(text: str, answer: str, reasoning: str) -> None:
    """Tags later on are text; an unclosed one makes everything reasoning."""
    assert split_think(text) == (answer, reasoning)


def test_a_missing_opening_tag_can_be_configured() -> None:
    """`opened`: a chat template has written the tag already."""
    assert split_think("hm</think>\nyes", opened=True) == ("yes", "hm")
    assert split_think("<think>hm</think>yes", opened=True) == ("yes", "hm")
    assert split_think("never closed", opened=True) == ("", "never closed")


def test_text_flows_at_once_when_there_is_no_tag() -> None:
    """Nothing is held back longer than it takes to know."""
    splitter = ThinkSplitter()
    assert splitter.push("H") == ("H", "")
    assert splitter.settled
