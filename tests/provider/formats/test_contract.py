"""One suite for every format and dialect, streamed and not, against vendors that check strictly."""

from __future__ import annotations

import copy
import json

import pytest

from aitoolman import (
    LLMApplicationError,
    MediaContent,
    Message,
    ToolCall,
)
from tests.vendors.reply import Call, Reply

from .bench import CASES, TOOLS, TWO_CALLS, Case, exchange, full_reply, request, second_turn

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20
pytestmark = [
    pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.dialect}-{c.shape}"),
    pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"]),
]


def test_text_arrives(case: Case, stream: bool) -> None:
    """The text is whole, the fragments add up to it, and the end is `stop`."""
    reply = Reply("Grüße 😀 and\n\ntwo lines")
    _, _, response, events = exchange(case, request("hi", stream=stream), reply)
    assert response.response_text == reply.text
    assert response.finish_reason == "stop"
    assert response.error_text is None
    assert response.response_message is not None
    assert response.response_message.content == reply.text
    if stream:
        assert "".join(e.text for e in events) == reply.text
        assert events[-1].done


def test_reasoning_is_kept_apart(case: Case, stream: bool) -> None:
    """Reasoning never lands in the answer, whatever field or tag it came in."""
    reply = Reply("42", reasoning="six times\nseven")
    _, _, response, events = exchange(case, request("hi", stream=stream), reply)
    assert response.response_text == "42"
    assert response.response_reasoning.strip() == "six times\nseven"
    if stream:
        assert "".join(e.reasoning for e in events) == response.response_reasoning
        assert "".join(e.text for e in events) == "42"


@pytest.mark.parametrize(
    "calls",
    [
        TWO_CALLS[:1],
        TWO_CALLS,
        (*TWO_CALLS, Call("weather", {"city": "Bonn"})),
        (Call("weather", {}),),
        (Call("weather", {"city": "Köln"}), Call("weather", {"city": "Köln"})),
    ],
    ids=["one", "two", "three", "no-arguments", "twice-the-same"],
)
def test_tool_calls_come_whole_and_in_order(
    case: Case, stream: bool, calls: tuple[Call, ...]
) -> None:
    """However a call is split over deltas, name, arguments and id come out whole."""
    asked = request("hi", stream=stream, tools=TOOLS)
    response = exchange(case, asked, Reply("", tool_calls=calls)).response
    found = response.response_tool_calls
    assert [(c.name, c.arguments) for c in found] == [(c.name, dict(c.arguments)) for c in calls]
    assert response.finish_reason == "tool_calls"
    assert len({c.id for c in found}) == len(calls)


def test_broken_arguments_are_kept_as_text(case: Case, stream: bool) -> None:
    """Arguments that are no JSON give None and the text as the model wrote it."""
    broken = '{"city": "Köl'
    if case.kind == "anthropic" and not stream:
        pytest.skip("its whole answers carry an object, never text")
    asked = request("hi", stream=stream, tools=TOOLS)
    response = exchange(case, asked, Reply("", tool_calls=(Call("weather", broken),))).response
    assert response.response_tool_calls[0].arguments is None
    assert response.response_tool_calls[0].arguments_text == broken


@pytest.mark.parametrize(
    ("word", "ours"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"),
     ("brand_new", "unknown")],
)  # fmt: skip
def test_finish_reasons_are_in_our_words(case: Case, stream: bool, word: str, ours: str) -> None:
    """Every vendor's word becomes the value of a FinishReason."""
    response = exchange(case, request("hi", stream=stream), Reply("x", finish=word)).response
    assert response.finish_reason == ours


def test_usage_counts_cached_and_reasoning(case: Case, stream: bool) -> None:
    """Prompt tokens include the cached ones, completion tokens the reasoning."""
    usage = {"prompt": 100, "completion": 30, "cached": 60, "reasoning": 10}
    response = exchange(case, request("hi", stream=stream), Reply("x", usage=usage)).response
    assert (response.prompt_tokens, response.completion_tokens) == (100, 30)
    assert response.cached_tokens == 60
    assert response.total_tokens == 130
    assert response.reasoning_tokens == (None if case.kind == "anthropic" else 10)


def test_missing_usage_stays_unknown(case: Case, stream: bool) -> None:
    """No count is made up."""
    response = exchange(case, request("hi", stream=stream), Reply("x", usage=None)).response
    assert response.prompt_tokens is None
    assert response.completion_tokens is None
    assert response.total_tokens is None


def test_the_next_turn_carries_everything_back_exactly(case: Case, stream: bool) -> None:
    """Reasoning, signatures, ids and order survive; the vendor takes the follow-up."""
    reply = full_reply(case)
    first = exchange(case, request("hi", stream=stream, tools=TOOLS), reply).response
    before = copy.deepcopy(first.response_message)
    body, notes, _, _ = exchange(case, second_turn(first, stream=stream), Reply("done"), number=2)
    sent = next(m for m in body["messages"] if m["role"] == "assistant")
    assert before is not None
    assert json.dumps(sent) == json.dumps(before.raw_value)
    assert first.response_message == before
    assert notes == []


def test_a_stream_rebuilds_the_message_of_a_whole_answer(case: Case, stream: bool) -> None:
    """The raw message of a stream is the one the vendor would have sent in one piece."""
    reply = full_reply(case)
    asked = request("hi", stream=stream, tools=TOOLS)
    whole = exchange(case, request("hi", tools=TOOLS), reply).response.response_message
    found = exchange(case, asked, reply).response.response_message
    assert whole is not None
    assert found is not None
    said = {k: v for k, v in (whole.raw_value or {}).items() if v is not None}
    assert found.raw_value is not None
    assert {k: v for k, v in found.raw_value.items() if v is not None} == said
    assert found.dialect == case.dialect


def test_a_history_without_raw_messages_is_taken(case: Case, stream: bool) -> None:
    """Turns that the user wrote, tool calls and reasoning included, are sent as it likes."""
    first = exchange(
        case, request("hi", stream=stream, tools=TOOLS), Reply("", tool_calls=TWO_CALLS)
    ).response
    assert first.response_message is not None
    plain = first.response_message._replace(
        raw_value=None, dialect=None, reasoning_content="I looked it up"
    )
    first.response_message = plain
    body = exchange(case, second_turn(first, stream=stream), Reply("done"), number=2).body
    assert "result 1" in json.dumps(body)


def test_ids_that_the_vendor_refuses_are_replaced_consistently(case: Case, stream: bool) -> None:
    """A foreign id of odd characters and length still links call and result."""
    odd = "functions.weather:0/" + "x" * 60
    calls = [ToolCall("weather", "{}", {}, odd), ToolCall("add", "{}", {}, None)]
    history = [
        Message("user", "hi"),
        Message("assistant", tool_calls=calls),
        Message("tool", "rain", tool_call_id=odd),
        Message("tool", "3"),
    ]
    exchange(case, request(*history, stream=stream, tools=TOOLS), Reply("done"))


def test_images_go_out_in_the_vendors_form(case: Case, stream: bool) -> None:
    """An image in the prompt is taken, as data and as URL; who takes none is told so clearly."""
    media = [
        MediaContent("image", data=PNG),
        MediaContent("image", url="https://example.org/cat.png"),
    ]
    asked = request(Message("user", "what is this?", media), stream=stream)
    if case.dialect == "deepseek":
        with pytest.raises(LLMApplicationError, match="deepseek takes no 'image' content"):
            exchange(case, asked, Reply("a cat"))
        return
    body = exchange(case, asked, Reply("a cat")).body
    assert "iVBORw0KGgo" in json.dumps(body)
    assert "https://example.org/cat.png" in json.dumps(body)


def test_an_image_in_a_tool_result_reaches_the_model(case: Case, stream: bool) -> None:
    """A tool may answer with an image, in the place the vendor has for it."""
    if case.dialect == "deepseek":
        pytest.skip("takes text only")
    asked = request("hi", stream=stream, tools=TOOLS)
    first = exchange(case, asked, Reply("", tool_calls=TWO_CALLS)).response
    follow_up = second_turn(first, stream=stream)
    image = MediaContent("image", data=PNG)
    follow_up.messages[-1] = follow_up.messages[-1]._replace(media_content=image)
    body = exchange(case, follow_up, Reply("done"), number=2).body
    assert "iVBORw0KGgo" in json.dumps(body)


def test_options_of_another_vendor_do_not_break_the_request(case: Case, stream: bool) -> None:
    """The usual options go out under the names this vendor knows, or not at all, with a note."""
    options = {"max_tokens": 100, "temperature": 1, "stop": ["END"], "seed": 7, "top_k": 5,
               "enable_thinking": True, "tool_choice": "auto"}  # fmt: skip
    body = exchange(case, request("hi", stream=stream, **options), Reply("ok")).body
    assert 100 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert body.get("stop") == ["END"] or body.get("stop_sequences") == ["END"]
    assert "tool_choice" not in body
    assert "tools" not in body
