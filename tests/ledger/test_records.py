"""What is written of an answer is what is read of it."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from aitoolman import Attempt, LLMProviderRequest, LLMProviderResponse, Message, ToolCall
from aitoolman._ledger import records

from .helpers import user

texts = st.text(max_size=20) | st.just("half \ud83d a pair")
seconds = st.none() | st.floats(0, 1e6)
tokens = st.none() | st.integers(0, 2**40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(texts, json_values, max_size=3)
calls = st.builds(ToolCall, texts, texts, st.none() | tables, st.none() | texts)
attempts = st.builds(
    lambda *values: Attempt(*values),
    texts, st.floats(0, 2e9), st.floats(0, 1e4), st.sampled_from(["ok", "wait", "retry", "stop"]),
    st.none() | st.integers(100, 599), st.none() | texts, texts, st.floats(0, 100), tokens, tokens,
    seconds,
)  # fmt: skip
messages = st.builds(
    lambda text, raw, asked: Message("assistant", text, raw_value=raw, tool_calls=asked),
    st.none() | texts, st.none() | tables, st.none() | st.lists(calls, max_size=2),
)  # fmt: skip
request = LLMProviderRequest("me", "ctx", "r1", "m", user("hi"))
responses = st.builds(
    lambda **fields: LLMProviderResponse("other", None, "r0", stream=True, **fields),
    model_name=texts,
    start_time=st.none() | st.floats(0, 2e9),
    queue_time=seconds,
    total_response_time=seconds,
    response_text=texts,
    response_reasoning=texts,
    response_tool_calls=st.lists(calls, max_size=2),
    finish_reason=st.none() | st.sampled_from(["stop", "length", "error", "cancelled"]),
    error_text=st.none() | texts,
    prompt_tokens=tokens,
    completion_tokens=tokens,
    response_message=st.none() | messages,
    attempts=st.lists(attempts, max_size=3),
    cost=seconds,
    notes=st.lists(texts, max_size=2),
)
fragments = st.lists(
    st.builds(records.Fragment, st.sampled_from("rt"), st.floats(0, 1e4), texts), max_size=8
)


@given(responses)
def test_an_answer_comes_back_as_it_was(response):
    """Every kept field, whatever it holds; ids and the manner of streaming are the asker's."""
    found = records.decode_response(records.encode_response(response), request)
    assert found == dataclasses.replace(
        response,
        client_id="me", context_id="ctx", request_id="r1", stream=False, from_ledger=True,
    )  # fmt: skip


@given(fragments)
def test_a_stream_comes_back_as_it_was(stream):
    """Kinds, times and texts, in order."""
    assert records.decode_fragments(records.encode_fragments(stream)) == stream


@given(responses)
def test_a_row_can_always_be_written(response):
    """No text of an answer keeps its call from being recorded, with or without the words."""
    import sqlite3

    row = records.call_row(request, response, b"k")
    db = sqlite3.connect(":memory:")
    for kept in (row, records.without_words(row), records.with_words(row, str.upper)):
        marks = ", ".join("?" * len(kept))
        db.execute(f"SELECT {marks}", kept).fetchone()
    db.close()
