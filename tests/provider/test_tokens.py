"""Token estimates: plausible, never negative, better with every answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman import MediaContent, Message, ToolCall
from aitoolman._provider.tokens import (
    TokenEstimator,
    estimate_tokens,
    measure_prompt,
    text_tokens,
)

ENGLISH = "The quick brown fox jumps over the lazy dog. "


def user(text: str, **more: object) -> Message:
    return Message(role="user", content=text, **more)  # type: ignore[arg-type]


def test_english_is_about_four_characters_a_token() -> None:
    """A text of 4,500 letters is estimated near 1,000 tokens, as tokenizers have it."""
    assert 900 <= estimate_tokens([user(ENGLISH * 100)]) <= 1300


@pytest.mark.parametrize("text", ["请问今天天气怎么样", "東京は今日も雨です", "오늘날씨어때요"])
def test_cjk_is_about_a_token_a_character(text: str) -> None:
    """Chinese, Japanese and Korean weigh four times a Latin letter."""
    assert text_tokens(text) == len(text)


def test_each_message_costs_something() -> None:
    """Ten short messages weigh more than one of the same text."""
    assert estimate_tokens([user("a")] * 10) > estimate_tokens([user("a" * 10)])


def test_tools_media_calls_and_reasoning_count() -> None:
    """Whatever is sent raises the estimate."""
    base = estimate_tokens([user("hi")])
    call = ToolCall("add", '{"a": 1, "b": 2}', {"a": 1, "b": 2})
    assert estimate_tokens([user("hi")], {"add": {"description": "adds two numbers"}}) > base
    assert estimate_tokens([user("hi", media_content=MediaContent("image", url="u"))]) > base + 100
    assert estimate_tokens([user("hi", tool_calls=[call])]) > base
    assert estimate_tokens([user("hi", reasoning_content="because of this")]) > base
    assert estimate_tokens([Message(raw_value={"content": ["a long raw message"]})]) > base


def test_a_ratio_replaces_the_quarter() -> None:
    """Twice the ratio is twice the text's tokens."""
    size = measure_prompt([user(ENGLISH * 10)])
    fixed = size.fixed
    assert size.tokens(0.5) - fixed == pytest.approx(2 * (size.tokens(0.25) - fixed), abs=1)


@given(st.text())
def test_any_text_has_an_estimate(text: str) -> None:
    """Nothing breaks it, and only the empty text has no token."""
    assert (text_tokens(text) == 0) == (text == "")


@given(st.text(), st.text())
def test_more_text_never_has_fewer_tokens(first: str, second: str) -> None:
    """The estimate grows with the text."""
    assert text_tokens(first + second) >= text_tokens(first)


@pytest.mark.parametrize("true_ratio", [0.12, 0.25, 0.8])
def test_it_learns_a_models_ratio(true_ratio: float) -> None:
    """After twenty answers the estimate is within 5 % of what the vendor counts."""
    estimator = TokenEstimator()
    size = measure_prompt([user(ENGLISH * 20)])
    for _ in range(20):
        estimator.learn("m", size, round(size.characters * true_ratio) + size.fixed)
    assert estimator.ratio("m") == pytest.approx(true_ratio, rel=0.05)
    assert estimator.ratio("other") == 0.25


def test_it_follows_a_change() -> None:
    """Old observations fade."""
    estimator = TokenEstimator()
    size = measure_prompt([user(ENGLISH * 20)])
    for tokens in [round(size.characters * 0.2)] * 50 + [round(size.characters * 0.6)] * 50:
        estimator.learn("m", size, tokens + size.fixed)
    assert estimator.ratio("m") == pytest.approx(0.6, rel=0.02)


@pytest.mark.parametrize("tokens", [None, 0, 1, 10**9])
def test_a_count_out_of_all_reason_does_not_spoil_it(tokens: int | None) -> None:
    """A vendor that cuts prompts or counts wrongly moves the ratio only so far."""
    estimator = TokenEstimator()
    for _ in range(100):
        estimator.learn("m", measure_prompt([user(ENGLISH)]), tokens)
    assert 0.05 <= estimator.ratio("m") <= 2.0


def test_media_teach_nothing() -> None:
    """A guess about an image is no ground for a text's ratio."""
    estimator = TokenEstimator()
    image = user("hi", media_content=[MediaContent("image", url="u")])
    estimator.learn("m", measure_prompt([image]), 50_000)
    assert estimator.ratio("m") == 0.25


@pytest.mark.parametrize("content", [5, ["parts"], [{"type": "text", "text": "hi"}], b"x", ""])
def test_content_of_an_odd_type_has_a_size_too(content):
    """What some callers send, and some vendors take, spoils no answer."""
    assert estimate_tokens([Message("user", content)]) > 0
