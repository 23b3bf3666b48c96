"""Streams of every dialect that end before their time."""

from __future__ import annotations

import pytest

from aitoolman import LLMApiRequestError
from tests.vendors.reply import Reply

from .bench import CASES, Case, exchange, new_response, request, strategy

pytestmark = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.dialect}-{c.shape}")


def test_an_error_inside_the_answer_is_an_error(case: Case) -> None:
    """An error object in a 200 stream raises, and the text before it is kept."""
    reply = Reply("so far", stream_error="Overloaded", error_code="overloaded_error")
    response = new_response()
    with pytest.raises(LLMApiRequestError, match="Overloaded") as caught:
        exchange(case, request("hi", stream=True), reply, into=response)
    assert caught.value.vendor_error.code == "overloaded_error"
    strategy(case).finish_stream(response)
    assert response.response_text == "so far"
    assert response.finish_reason is None


def test_a_stream_that_just_ends_has_no_finish_reason(case: Case) -> None:
    """Nobody takes a cut stream for a finished answer; the partial text stays."""
    response = exchange(case, request("hi", stream=True), Reply("half of", finish="")).response
    assert response.response_text == "half of"
    assert response.finish_reason is None
    assert response.stream_state is None
