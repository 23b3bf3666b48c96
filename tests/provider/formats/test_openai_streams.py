"""OpenAI's streams as servers really write them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from aitoolman import LLMApiRequestError, LLMResponseFormatError
from aitoolman._provider.formats import LLMFormatStrategy, StreamEvent, make_format

from .bench import event, new_response, play

DONE = "[DONE]"


def ours(**config: Any) -> LLMFormatStrategy:
    return make_format("openai", {"model": "m", **config})


def delta(finish: Any = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def call(arguments: Any = None, *, name: str | None = None, **more: Any) -> dict[str, Any]:
    function: dict[str, Any] = {} if name is None else {"name": name}
    if arguments is not None:
        function["arguments"] = arguments
    return {"function": function, **more}


def calls_of(*groups: list[dict[str, Any]], **config: Any) -> list[tuple[str, str, Any]]:
    response, _ = play(
        ours(**config), [*(delta(tool_calls=g) for g in groups), delta("stop"), DONE]
    )
    return [(c.name, c.arguments_text, c.id) for c in response.response_tool_calls]


@pytest.mark.parametrize("junk", ["", "  ", ": keepalive", ":keepalive", "[PING]", "ping", "{}"])
def test_keep_alives_are_ignored(junk: str) -> None:
    """Empty data, comments sent as data and pings say nothing."""
    response, said = play(ours(), [junk, delta(content="a"), junk, delta("stop"), junk, DONE])
    assert response.response_text == "a"
    assert said[0] == StreamEvent()


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": []},
        {"choices": None},
        {"choices": [None]},
        {"object": "chat.completion.chunk"},
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": [{"index": 0}]},
        {"choices": [{"delta": {"content": None, "tool_calls": None, "function_call": None}}]},
        {"choices": [{"index": 1, "delta": {"content": "other"}, "finish_reason": "length"}]},
        {"error": None, "choices": [], "something_new": {"x": [1]}},
    ],
)
def test_empty_chunks_and_other_choices_are_ignored(odd: Any) -> None:
    """Null lists, missing deltas, unknown fields and alternatives change nothing."""
    response, _ = play(ours(), [odd, delta(content="a"), odd, delta("stop"), odd, DONE])
    assert response.response_text == "a"
    assert response.finish_reason == "stop"
    assert response.response_tool_calls == []


def test_content_may_be_a_list_of_parts() -> None:
    """Text parts are text, thinking parts reasoning, references nothing."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "a"},
        {"type": "reference", "reference_ids": [1]},
    ]
    response, _ = play(ours(), [delta(content=parts), delta(content="b"), delta("stop")])
    assert (response.response_text, response.response_reasoning) == ("ab", "hm")


def test_reasoning_under_two_names_counts_once() -> None:
    """A server that is being renamed sends both; the raw message keeps what came."""
    response, said = play(
        ours(), [delta(reasoning="hm", reasoning_content="hm"), delta(content="a"), delta("stop")]
    )
    assert response.response_reasoning == "hm"
    assert said[0].reasoning == "hm"
    assert response.response_message is not None
    assert response.response_message.raw_value == {
        "role": "assistant",
        "content": "a",
        "reasoning_content": "hm",
        "reasoning": "hm",
    }


def test_reasoning_names_can_be_configured() -> None:
    """Any field of the delta can be the reasoning."""
    mine = ours(quirks={"reasoning_in": ["my-thoughts"]})
    response, _ = play(mine, [delta(**{"my-thoughts": "hm"}), delta(content="a"), delta("stop")])
    assert response.response_reasoning == "hm"
    assert response.response_message is not None
    assert response.response_message.raw_value == {
        "role": "assistant",
        "content": "a",
        "my-thoughts": "hm",
    }


def test_reasoning_details_are_put_together_for_the_next_turn() -> None:
    """Pieces of one index grow into one; signatures and encrypted blocks are kept."""
    pieces = [
        [{"type": "reasoning.text", "text": "a ", "index": 0, "format": "f"}],
        [{"type": "reasoning.text", "text": "plan", "index": 0, "signature": None}],
        [{"type": "reasoning.text", "signature": "sig", "index": 0}],
        [{"type": "reasoning.encrypted", "data": "xyz", "index": 1}],
    ]
    events = [delta(reasoning="r", reasoning_details=p) for p in pieces]
    response, _ = play(ours(dialect="openrouter"), [*events, delta("stop", content="ok")])
    assert response.response_message is not None
    assert response.response_message.raw_value is not None
    assert response.response_message.raw_value["reasoning_details"] == [
        {"type": "reasoning.text", "text": "a plan", "index": 0, "format": "f", "signature": "sig"},
        {"type": "reasoning.encrypted", "data": "xyz", "index": 1},
    ]


@pytest.mark.parametrize("config", [{}, {"dialect": "openai"}], ids=["guess", "given"])
def test_calls_with_an_index_may_be_interleaved(config: Any) -> None:
    """The index says where each piece belongs."""
    found = calls_of(
        [call("", name="f", index=0, id="a"), call("", name="g", index=1, id="b")],
        [call('{"x":', index=0), call('{"y":', index=1)],
        [call("2}", index=1), call("1}", index=0)],
        **config,
    )
    assert found == [("f", '{"x":1}', "a"), ("g", '{"y":2}', "b")]


@pytest.mark.parametrize(
    "groups",
    [
        # several whole calls without index, in one chunk and in several (Gemini)
        [[call("{}", name="f", id="a"), call('{"y":2}', name="g", id="b")]],
        [[call("{}", name="f", id="a")], [call('{"y":2}', name="g", id="b")]],
        # index 0 for all (Ollama)
        [[call("{}", name="f", id="a", index=0)], [call('{"y":2}', name="g", id="b", index=0)]],
        # ids repeated in each delta
        [[call("{", name="f", id="a", index=0)], [call("}", id="a", index=0)],
         [call('{"y"', name="g", id="b", index=1)], [call(":2}", id="b", index=1)]],
        # name and id repeated in each delta
        [[call("{", name="f", id="a", index=0)], [call("}", name="f", id="a", index=0)],
         [call('{"y":2}', name="g", id="b", index=1)]],
        # pieces without index or id after the first
        [[call("{", name="f", id="a")], [call("}")],
         [call('{"y":', name="g", id="b")], [call("2}")]],
        # whole arguments at the end a second time
        [[call("{}", name="f", id="a", index=0)], [call('{"y":2}', name="g", id="b", index=1)],
         [call('{"y":2}', name="g", id="b", index=1)]],
        # empty pieces, nulls, a name of its own first
        [[call(name="f", id="a", index=0)], [call("", index=0)], [call("{}", index=0)],
         [call(None, name="g", id="b", index=1)], [call('{"y":2}', index=1)], [call("", index=1)]],
        # an id that comes later, and empty ids in the pieces
        [[call("", name="f", index=0)], [call("{}", id="a", index=0)],
         [call("", name="g", id="b", index=1)], [call('{"y":2}', id="", index=1)]],
    ],
    ids=["one-chunk", "no-index", "all-zero", "repeated-ids", "repeated-names", "tail",
         "said-twice", "empties", "late-id"],
)  # fmt: skip
def test_calls_come_apart_however_they_are_marked(groups: list[list[dict[str, Any]]]) -> None:
    """Two calls are two calls, each with its own name, arguments and id."""
    assert calls_of(*groups) == [("f", "{}", "a"), ("g", '{"y":2}', "b")]


def test_calls_without_any_id_are_told_apart_by_their_names() -> None:
    """A name after finished arguments begins a new call; equal calls stay two."""
    found = calls_of(
        [call("{}", name="f")], [call("{}", name="f")], [call("{", name="f")], [call("}")]
    )
    assert found == [("f", "{}", None)] * 3


def test_the_same_id_twice_with_other_arguments_is_two_calls() -> None:
    """A server that reuses an id still means two calls."""
    found = calls_of([call('{"x":1}', name="f", id="a")], [call('{"x":2}', name="f", id="a")])
    assert found == [("f", '{"x":1}', "a"), ("f", '{"x":2}', "a")]


def test_a_trusted_index_outweighs_changing_ids() -> None:
    """With `tool_index = "given"` a server may make up a new id for each piece."""
    found = calls_of(
        [call("{", name="f", id="a", index=0)],
        [call("}", name="f", id="b", index=0)],
        quirks={"tool_index": "given"},
    )
    assert found == [("f", "{}", "a")]


def test_arguments_may_be_an_object() -> None:
    """A dict in place of JSON text is one whole set of arguments, streamed and not."""
    response, _ = play(
        ours(), [delta(tool_calls=[call({"x": 1}, name="f", id="a")]), delta("stop")]
    )
    assert response.response_tool_calls[0].arguments == {"x": 1}
    assert response.response_tool_calls[0].arguments_text == '{"x":1}'
    found = ours().parse_tool_calls([call({"x": 1}, name="f", id="a")])
    assert found == response.response_tool_calls


def test_old_function_calls_are_tool_calls() -> None:
    """`function_call` of the first generation is read as one call."""
    response, _ = play(
        ours(),
        [delta(function_call={"name": "f", "arguments": "{"}),
         delta(function_call={"arguments": "}"}), delta("function_call")],
    )  # fmt: skip
    assert [(c.name, c.arguments) for c in response.response_tool_calls] == [("f", {})]
    assert response.finish_reason == "tool_calls"


def test_vendor_fields_of_a_call_go_back() -> None:
    """What a vendor adds to a call stands in the raw message."""
    extra = {"extra_content": {"google": {"thought_signature": "s"}}}
    response, _ = play(ours(), [delta(tool_calls=[call("{}", name="f", id="a", **extra)])])
    assert response.response_message is not None
    assert response.response_message.raw_value is not None
    assert response.response_message.raw_value["tool_calls"][0]["extra_content"] == {
        "google": {"thought_signature": "s"}
    }


@pytest.mark.parametrize(
    ("word", "ours_word"),
    [
        ("stop", "stop"), ("eos", "stop"), ("end_turn", "stop"), ("STOP", "stop"),
        ("length", "length"), ("max_tokens", "length"), ("model_length", "length"),
        ("MAX_TOKENS", "length"), ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"), ("sensitive", "content_filter"),
        ("tool_calls", "tool_calls"), ("function_call", "tool_calls"), ("tool_use", "tool_calls"),
        ("error", "error"), ("insufficient_system_resource", "error"),
        ("never_heard_of", "unknown"), (17, "unknown"), (["x"], "unknown"),
        (None, None), ("", None), ("null", None),
    ],
)  # fmt: skip
def test_finish_words_of_all_vendors(word: Any, ours_word: str | None) -> None:
    """Known words become ours, unknown ones `unknown`, null is no end."""
    response, _ = play(ours(), [delta(word, content="a"), DONE])
    assert response.finish_reason == ours_word
    assert (response.error_text is not None) == (ours_word in ("error", "unknown"))


def test_stop_with_tool_calls_is_tool_calls() -> None:
    """Several vendors end with `stop` although tools are called; a length limit stays one."""
    pieces = delta(tool_calls=[call("{}", name="f", id="a")])
    assert play(ours(), [pieces, delta("stop")])[0].finish_reason == "tool_calls"
    assert play(ours(), [pieces, delta("length")])[0].finish_reason == "length"


def test_a_refusal_is_text_and_a_filtered_end() -> None:
    """OpenAI's refusal field is shown, and the call does not pass for a good answer."""
    response, _ = play(ours(), [delta(refusal="I can"), delta(refusal="not"), delta("stop"), DONE])
    assert response.response_text == "I cannot"
    assert response.finish_reason == "content_filter"
    assert response.error_text == "the model refused: I cannot"
    whole = new_response(stream=False)
    message = {"role": "assistant", "content": None, "refusal": "I cannot"}
    ours().parse_batch_response(whole, {"choices": [{"message": message, "finish_reason": "stop"}]})
    assert (whole.response_text, whole.finish_reason) == ("I cannot", "content_filter")


def test_events_after_the_end_still_count() -> None:
    """Usage, text and even calls behind the finish reason are taken."""
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    response, _ = play(
        ours(), [delta("stop", content="a"), delta(content="b"), {"choices": [], "usage": usage}]
    )
    assert response.response_text == "ab"
    assert response.total_tokens == 7
    assert response.response_message is not None
    assert response.response_message.content == "ab"


def test_no_done_marker_is_needed() -> None:
    """A finish reason is enough."""
    response, said = play(ours(), [delta(content="a"), delta("stop")])
    assert response.finish_reason == "stop"
    assert not any(e.done for e in said)


def test_everything_is_there_without_finish_stream() -> None:
    """Text, calls and message stand in the response when the last event is read."""
    response, _ = play(
        ours(), [delta(content="a"), delta(tool_calls=[call("{}", name="f", id="x")]),
                 delta("tool_calls"), DONE], finish=False,
    )  # fmt: skip
    assert response.response_tool_calls[0].name == "f"
    assert response.response_message is not None


def test_finish_stream_again_or_without_events_does_no_harm() -> None:
    """It is safe on an empty and on a finished response."""
    response = new_response()
    ours().finish_stream(response)
    assert response.response_message is None
    response, _ = play(ours(), [delta("stop", content="a")])
    before = response.response_message
    ours().finish_stream(response)
    assert response.response_message == before


def test_a_stream_cut_inside_a_think_tag_keeps_its_text() -> None:
    """What was held back while a tag was possible is not lost."""
    response, _ = play(ours(), [delta(content="<thi")])
    assert response.response_text == "<thi"
    assert response.finish_reason is None


def test_held_text_is_given_out_with_the_end() -> None:
    """The last event brings what a possible tag held back, so that channels get it too."""
    response, said = play(ours(), [delta(content="<thi"), delta("stop")])
    assert said[-1].text == "<thi"
    assert response.response_text == "<thi"


@pytest.mark.parametrize(
    "bad",
    [
        {"error": {"message": "boom", "code": 500}},
        {"error": "boom"},
        {"id": "x", "error": {"message": "boom"}, "choices": []},
        {"error": {"message": "boom"},
         "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]},
        {"choices": [{"delta": {}, "error": {"message": "boom"}, "finish_reason": "error"}]},
        {"object": "error", "message": "boom", "code": 400},
        [{"error": {"code": 503, "message": "boom", "status": "UNAVAILABLE"}}],
        {"type": "error", "error": {"type": "overloaded_error", "message": "boom"}},
    ],
    ids=["openai", "text", "openrouter", "openrouter-late", "choice", "vllm", "gemini",
         "anthropic"],
)  # fmt: skip
def test_errors_inside_a_stream_raise(bad: Any) -> None:
    """An error object in a 200 stream is the vendor's error, and the text before it stays."""
    mine, response = ours(), new_response()
    mine.parse_stream_event(response, event(delta(content="so far")))
    with pytest.raises(LLMApiRequestError, match="boom") as caught:
        mine.parse_stream_event(response, event(bad))
    assert caught.value.vendor_error.message == "boom"
    mine.finish_stream(response)
    assert response.response_text == "so far"


def test_an_event_named_error_is_one() -> None:
    """`event: error` counts, whatever its data looks like."""
    with pytest.raises(LLMApiRequestError, match="boom"):
        ours().parse_stream_event(new_response(), event({"msg": "boom"}, "error"))


@pytest.mark.parametrize(
    "bad",
    [
        "not json", "{", '{"choices": ', "null", "3", "[]", '"text"',
        {"choices": {}}, {"choices": [3]}, {"choices": ["x"]}, {"choices": [{"delta": 3}]},
        delta(content=3), delta(content={"a": 1}["a"]), delta(content=[3]),
        delta(reasoning={}), delta(tool_calls=3), delta(tool_calls="x"), delta(tool_calls=[3]),
        delta(tool_calls=[call(3, name="f")]), delta(tool_calls=[{"function": {"name": 3}}]),
        '{"choices": [{"delta": {"content": ' + "[" * 100_000,
        '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=lambda b: str(b)[:40],
)  # fmt: skip
def test_what_cannot_be_understood_is_a_format_error(bad: Any) -> None:
    """Wrong types and broken JSON never pass as something else."""
    with pytest.raises(LLMResponseFormatError):
        ours().parse_stream_event(new_response(), event(bad))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"choices":[{"delta":{"content":"\\ud83d\\ude00"}}]}', "😀"),
        ('{"choices":[{"delta":{"content":"a\\ud83d"}}]}', "a\N{REPLACEMENT CHARACTER}"),
        ('{"choices":[{"delta":{"content":"a"},"logprobs":NaN}]}', "a"),
        ('{"choices":[{"delta":{"content":"a"}}],"created":1e999}', "a"),
    ],
    ids=["pair", "half-a-pair", "nan", "infinite"],
)
def test_careless_json_is_read(text: str, expected: str) -> None:
    """Half an emoji, NaN and huge numbers don't lose the text beside them."""
    assert play(ours(), [text, delta("stop")])[0].response_text == expected


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
         (10, 5, None, None, 15)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 4,
          "prompt_cache_miss_tokens": 6}, (10, 5, 4, None, 15)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35,
          "completion_tokens_details": {"reasoning_tokens": 20}}, (10, 25, None, 20, 35)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35},
         (10, 5, None, None, 35)),
        ({"prompt_tokens": "10", "completion_tokens": None, "prompt_tokens_details": None},
         (None, None, None, None, None)),
        ({"prompt_tokens": True, "completion_tokens": -1, "total_tokens": []},
         (None, None, None, None, None)),
        ({"prompt_tokens": 10.0, "completion_tokens": 5}, (10, 5, None, None, 15)),
        ([], (None, None, None, None, None)),
        ("many", (None, None, None, None, None)),
    ],
    ids=["plain", "deepseek", "xai", "unexplained-total", "strings", "nonsense", "floats", "list",
         "text"],
)  # fmt: skip
def test_usage_is_read_as_each_vendor_means_it(usage: Any, counts: tuple[Any, ...]) -> None:
    """Cached and reasoning tokens are parts of the two main counts; nonsense is no count."""
    response, _ = play(ours(), [delta("stop", content="a"), {"choices": [], "usage": usage}])
    assert counts == (
        response.prompt_tokens,
        response.completion_tokens,
        response.cached_tokens,
        response.reasoning_tokens,
        response.total_tokens,
    )


def test_geminis_hidden_reasoning_is_counted() -> None:
    """Where the total alone has the reasoning, it belongs to the completion."""
    usage = {"prompt_tokens": 20, "completion_tokens": 424, "total_tokens": 1016}
    response, _ = play(ours(dialect="gemini"), [delta("stop", content="a") | {"usage": usage}])
    assert (response.completion_tokens, response.reasoning_tokens) == (996, 572)


def test_usage_may_stand_in_the_choice() -> None:
    """Moonshot writes it there."""
    chunk = delta("stop", content="a")
    chunk["choices"][0]["usage"] = {"prompt_tokens": 1, "completion_tokens": 2}
    assert play(ours(), [chunk])[0].total_tokens == 3


@pytest.mark.parametrize(
    "data",
    [
        {"choices": []}, {"choices": None}, {}, {"choices": [3]}, {"choices": [{}]},
        {"choices": [{"message": None}]}, {"choices": [{"message": {"content": 3}}]},
        {"choices": [{"message": {"content": "a", "tool_calls": {}}}]},
        {"choices": [{"message": {"content": "a", "tool_calls": [{}]}}]},
        {"choices": [{"message": {"content": "a", "tool_calls": [{"function": 3}]}}]},
        {"choices": [{"message": {"content": "a", "reasoning": 3}}]},
        [], None, 3, "text",
    ],
    ids=str,
)  # fmt: skip
def test_a_whole_answer_without_sense_is_a_format_error(data: Any) -> None:
    """No choice, no message, wrong types: the answer cannot be understood."""
    with pytest.raises(LLMResponseFormatError):
        ours().parse_batch_response(new_response(stream=False), data)


@pytest.mark.parametrize(
    "data",
    [
        {"error": {"message": "boom"}},
        {"choices": [{"message": {"content": ""}, "error": {"message": "boom"}}]},
        [{"error": {"message": "boom"}}],
    ],
)
def test_an_error_in_a_200_answer_is_an_error(data: Any) -> None:
    """A vendor's error object is one also under status 200."""
    with pytest.raises(LLMApiRequestError, match="boom"):
        ours().parse_batch_response(new_response(stream=False), data)


def test_a_whole_answer_without_a_finish_reason_is_unknown() -> None:
    """Nobody said that it was finished."""
    response = new_response(stream=False)
    ours().parse_batch_response(response, {"choices": [{"message": {"content": "a"}}]})
    assert (response.response_text, response.finish_reason) == ("a", "unknown")


def test_deeply_nested_parts_do_no_harm() -> None:
    """A hostile depth is read, or refused as ours, also when the message is put together."""
    for depth in (100, 300, 900, 5000):
        text = '{"choices":[{"delta":{"content":[' + '{"type":"thinking","thinking":[' * depth
        text += "]}" * depth + "]}}]}"
        mine, response = ours(), new_response()
        with contextlib.suppress(LLMResponseFormatError):
            mine.parse_stream_event(response, event(text))
        mine.finish_stream(response)
        assert response.stream_state is None


def test_interleaved_streams_stay_apart() -> None:
    """One strategy serves many streams at once."""
    mine, first, second = ours(), new_response(), new_response()
    for letter in "abc":
        mine.parse_stream_event(first, event(delta(content=letter)))
        mine.parse_stream_event(second, event(delta(content=letter.upper())))
    assert (first.response_text, second.response_text) == ("abc", "ABC")
