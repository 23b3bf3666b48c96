"""Anthropic's answers, streamed and whole, as Claude and its imitators write them."""

from __future__ import annotations

from typing import Any

import pytest

from aitoolman import LLMApiRequestError, LLMResponseFormatError
from aitoolman._provider.formats import LLMFormatStrategy, make_format

from .bench import event, new_response, play


def ours(**config: Any) -> LLMFormatStrategy:
    return make_format("anthropic", {"model": "m", **config})


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: Any, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def text(index: Any, said: Any) -> dict[str, Any]:
    return delta(index, "text_delta", text=said)


def end(reason: Any = "end_turn", **usage: Any) -> list[dict[str, Any]]:
    return [
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage or None},
        {"type": "message_stop"},
    ]


STOPS = [
    ("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"),
    ("model_context_window_exceeded", "length"), ("tool_use", "tool_calls"),
    ("refusal", "content_filter"), ("pause_turn", "unknown"), ("something_new", "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("word", "ours_word"), STOPS)
def test_every_stop_reason_has_our_word(word: str, ours_word: str) -> None:
    """Streamed and whole alike; a pause and a refusal explain themselves."""
    response, _ = play(ours(), [start(0, type="text", text=""), text(0, "a"), *end(word)])
    whole = new_response(stream=False)
    content = [{"type": "text", "text": "a"}]
    ours().parse_batch_response(whole, {"content": content, "stop_reason": word})
    assert (response.finish_reason, whole.finish_reason) == (ours_word, ours_word)
    assert response.error_text == whole.error_text
    quoted = ("refusal", "pause_turn", "something_new")
    assert (response.error_text is not None) == (word in quoted)


def test_a_refusal_says_why_where_the_vendor_does() -> None:
    """`stop_details` gives the explanation."""
    response = new_response(stream=False)
    details = {"type": "refusal", "explanation": "weapons"}
    ours().parse_batch_response(
        response, {"content": [], "stop_reason": "refusal", "stop_details": details}
    )
    assert response.error_text == "the model refused: weapons"


def test_blocks_keep_their_order_and_parts() -> None:
    """Thinking, signature, citations, calls and unknown blocks make the vendor's whole message."""
    citation = {"type": "char_location", "cited_text": "x"}
    response, said = play(
        ours(),
        [
            {"type": "message_start", "message": {"usage": {"input_tokens": 1}}},
            {"type": "ping"},
            start(0, type="thinking", thinking="", signature=""),
            delta(0, "thinking_delta", thinking="h"),
            delta(0, "thinking_delta", thinking="m"),
            delta(0, "signature_delta", signature="sig"),
            {"type": "content_block_stop", "index": 0},
            start(1, type="redacted_thinking", data="xyz"),
            start(2, type="text", text=""),
            text(2, "Hello"),
            delta(2, "citations_delta", citation=citation),
            start(3, type="server_tool_use", id="s1", name="web_search", input={}),
            delta(3, "input_json_delta", partial_json='{"query": "x"}'),
            start(4, type="web_search_tool_result", tool_use_id="s1", content=[{"a": 1}]),
            start(5, type="tool_use", id="t1", name="f", input={}),
            delta(5, "input_json_delta", partial_json=""),
            delta(5, "input_json_delta", partial_json='{"x": '),
            delta(5, "input_json_delta", partial_json="1}"),
            *end("tool_use"),
        ],
    )
    assert response.response_message is not None
    assert response.response_message.raw_value == {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "text", "text": "Hello", "citations": [citation]},
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}},
            {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"a": 1}]},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
        ],
    }
    assert [(c.name, c.arguments, c.id) for c in response.response_tool_calls] == [
        ("f", {"x": 1}, "t1")
    ]
    assert said[-1].done


def test_usage_adds_up_over_the_stream() -> None:
    """Prompt tokens include cache reads and writes; the last output count holds."""
    first = {"input_tokens": 5, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 30,
             "output_tokens": 1}  # fmt: skip
    response, _ = play(
        ours(), [{"type": "message_start", "message": {"usage": first}}, *end(output_tokens=9)]
    )
    assert (response.prompt_tokens, response.cached_tokens) == (95, 60)
    assert (response.completion_tokens, response.total_tokens) == (9, 104)


def test_a_delta_without_a_start_begins_a_block() -> None:
    """Imitators leave events out."""
    response, _ = play(ours(), [text(0, "a"), delta(1, "thinking_delta", thinking="b"), *end()])
    assert (response.response_text, response.response_reasoning) == ("a", "b")


def test_text_in_the_opening_event_counts() -> None:
    """Imitators put the first text there, and Claude's empty one adds nothing."""
    response, said = play(ours(), [start(0, type="text", text="a"), text(0, "b"), *end()])
    assert response.response_text == "ab"
    assert said[0].text == "a"
    assert response.response_message is not None
    assert response.response_message.raw_value is not None
    assert response.response_message.raw_value["content"] == [{"type": "text", "text": "ab"}]


def test_a_whole_tool_call_in_the_opening_event_counts() -> None:
    """Its input may come without deltas."""
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}
    response, _ = play(ours(), [start(0, **block), *end("tool_use")])
    assert response.response_tool_calls[0].arguments == {"x": 1}


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "ping"}, {"type": "brand_new_event", "delta": 3},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta", "x": 1}},
        {"type": "content_block_delta", "index": 0, "delta": None},
        {"type": "content_block_stop", "index": 0}, {"type": "message_delta", "delta": {}},
        {"type": "message_start", "message": None}, {}, "", ": keepalive",
    ],
    ids=str,
)  # fmt: skip
def test_unknown_events_and_pings_are_ignored(odd: Any) -> None:
    """New kinds of events and deltas change nothing."""
    response, _ = play(ours(), [odd, text(0, "a"), odd, *end(), odd])
    assert response.response_text == "a"
    assert response.finish_reason == "stop"


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        {"type": "error", "error": {"details": None, "type": "api_error", "message": "Overloaded"}},
        {"error": {"message": "Overloaded"}},
    ],
)
def test_errors_inside_a_stream_raise(bad: Any) -> None:
    """Overload in the middle of an answer is the vendor's error; the text before it stays."""
    mine, response = ours(), new_response()
    mine.parse_stream_event(response, event(text(0, "so far")))
    with pytest.raises(LLMApiRequestError, match="Overloaded"):
        mine.parse_stream_event(response, event(bad, "error"))
    mine.finish_stream(response)
    assert response.response_text == "so far"
    assert response.finish_reason is None


@pytest.mark.parametrize(
    "bad",
    [
        "not json", "null", "[]", "3",
        text(0, 3), delta(0, "thinking_delta", thinking={}),
        delta(0, "signature_delta", signature=1),
        delta(0, "input_json_delta", partial_json=[]),
        {"type": "content_block_start", "index": 0, "content_block": 3},
        {"type": "content_block_delta", "index": 0, "delta": 3},
        start(0, type="text", text=3),
        '{"type": "content_block_delta", "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=lambda b: str(b)[:50],
)  # fmt: skip
def test_what_cannot_be_understood_is_a_format_error(bad: Any) -> None:
    """Wrong types and broken JSON never pass as something else."""
    with pytest.raises(LLMResponseFormatError):
        ours().parse_stream_event(new_response(), event(bad))


@pytest.mark.parametrize(
    "data",
    [
        {}, [], None, 3, {"content": 3}, {"content": [3]},
        {"content": [{"type": "text", "text": 3}]},
        {"content": [{"type": "tool_use", "name": 3}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_whole_answer_without_sense_is_a_format_error(data: Any) -> None:
    """No content, wrong types: the answer cannot be understood."""
    with pytest.raises(LLMResponseFormatError):
        ours().parse_batch_response(new_response(stream=False), data)


def test_an_error_in_a_200_answer_is_an_error() -> None:
    """A vendor's error object is one also under status 200."""
    data = {"type": "error", "error": {"type": "api_error", "message": "boom"}}
    with pytest.raises(LLMApiRequestError, match="boom"):
        ours().parse_batch_response(new_response(stream=False), data)


def test_think_tags_of_imitators_are_split() -> None:
    """A compatible server that leaves the tags in the text, streamed and not."""
    mine = ours(dialect="anthropic-compatible")
    response, _ = play(mine, [text(0, "<th"), text(0, "ink>hm</think>\n"), text(0, "yes"), *end()])
    assert (response.response_text, response.response_reasoning) == ("yes", "hm")
    whole = new_response(stream=False)
    content = [{"type": "text", "text": "<think>hm</think>\nyes"}]
    mine.parse_batch_response(whole, {"content": content, "stop_reason": "end_turn"})
    assert (whole.response_text, whole.response_reasoning) == ("yes", "hm")


def test_parse_tool_calls_reads_blocks() -> None:
    """The specification's method takes Anthropic's blocks."""
    found = ours().parse_tool_calls(
        [{"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}]
    )
    assert [(c.name, c.arguments_text, c.id) for c in found] == [("f", '{"x":1}', "t")]
