"""Hostile vendors: whatever they send, the outcome is an answer or one of our two errors."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitoolman import LLMApiRequestError, LLMApplicationError, LLMResponseFormatError, Message
from aitoolman._provider.formats import make_format
from aitoolman._provider.formats.answers import decode_json
from tests.vendors import anthropic, openai
from tests.vendors.openai import Answering
from tests.vendors.reply import Call, Reply
from tests.vendors.shapes import SHAPES

from .bench import event, new_response, request

OURS = {kind: make_format(kind, {"model": "m"}) for kind in ("openai", "anthropic")}
EXPECTED = (LLMResponseFormatError, LLMApiRequestError)
REPLY = Reply("Hi there", reasoning="hm", tool_calls=[Call("f", {"x": [1, {"y": 2}]})])

WORDS = st.sampled_from(
    ["choices", "delta", "message", "content", "role", "tool_calls", "function", "name", "id",
     "arguments", "index", "finish_reason", "stop_reason", "usage", "prompt_tokens", "type", "text",
     "thinking", "signature", "content_block", "content_block_start", "content_block_delta",
     "text_delta", "input_json_delta", "partial_json", "message_delta", "input", "tool_use",
     "reasoning", "reasoning_details", "error", "object", "stop", "refusal", "function_call"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=25,
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = [at] if at else []
    if isinstance(value, (dict, list)):
        for key, item in inner:
            found += paths(item, (*at, key)) if isinstance(item, (dict, list)) else [(*at, key)]
    return found


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    value = copy.deepcopy(value)
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return value


def real_events(kind: str) -> list[Any]:
    vendor = anthropic if kind == "anthropic" else openai
    pieces = vendor.events(Answering(REPLY, {"model": "m"}, 1, SHAPES["openrouter"], 40))
    lines = b"".join(pieces).decode().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def feed(kind: str, events: list[Any]) -> None:
    response = new_response()
    try:
        for data in events:
            OURS[kind].parse_stream_event(response, event(data))
    except EXPECTED:
        pass
    OURS[kind].finish_stream(response)
    assert isinstance(response.response_text, str)
    assert isinstance(response.response_reasoning, str)
    assert response.stream_state is None
    with contextlib.suppress(RecursionError):
        json.dumps(response.response_message)


@pytest.mark.parametrize("depth", [200, 500, 900, 3000])
def test_any_depth_ends_well(depth: int) -> None:
    """Arguments nested as deeply as the decoder allows, streamed and whole."""
    deep = '{"a":' * depth + "1" + "}" * depth
    call = f'[{{"id":"1","function":{{"name":"f","arguments":{deep}}}}}]'
    block = f'{{"type":"tool_use","id":"1","name":"f","input":{deep}}}'
    feed("openai", [f'{{"choices":[{{"delta":{{"tool_calls":{call}}}}}]}}'])
    feed("anthropic", [f'{{"type":"content_block_start","index":0,"content_block":{block}}}'])
    for kind, text in (
        ("openai", f'{{"choices":[{{"message":{{"tool_calls":{call}}}}}]}}'),
        ("anthropic", f'{{"content":[{block}]}}'),
    ):
        with contextlib.suppress(*EXPECTED, ValueError):
            OURS[kind].parse_batch_response(new_response(stream=False), decode_json(text))


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@given(events=st.lists(JSON | st.text(max_size=20), max_size=4))
def test_any_events_end_well(kind: str, events: list[Any]) -> None:
    """Arbitrary JSON made of the vendors' own words is read, or refused as ours."""
    feed(kind, events)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@settings(max_examples=200)
@given(data=st.data())
def test_a_wrong_value_anywhere_in_a_stream_ends_well(kind: str, data: st.DataObject) -> None:
    """A real stream with one value replaced by anything."""
    events = real_events(kind)
    place = data.draw(st.integers(0, len(events) - 1))
    path = data.draw(st.sampled_from(paths(events[place])))
    events[place] = changed(events[place], path, data.draw(JSON))
    feed(kind, events)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@settings(max_examples=200)
@given(data=st.data())
def test_a_wrong_value_anywhere_in_a_whole_answer_ends_well(kind: str, data: st.DataObject) -> None:
    """A real answer with one value replaced by anything."""
    vendor = anthropic if kind == "anthropic" else openai
    answer = vendor.whole(Answering(REPLY, {"model": "m"}, 1, SHAPES["openrouter"], 40))
    path = data.draw(st.sampled_from(paths(answer)))
    response = new_response(stream=False)
    try:
        OURS[kind].parse_batch_response(response, changed(answer, path, data.draw(JSON)))
    except EXPECTED:
        return
    assert isinstance(response.response_text, str)
    assert isinstance(response.finish_reason, str)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("origin", ["openai", "anthropic"])
@given(raw=st.dictionaries(WORDS, JSON, max_size=6))
def test_any_foreign_message_is_translated_or_refused(
    kind: str, origin: str, raw: dict[str, Any]
) -> None:
    """Odd raw messages of another vendor (a hand-edited history) never break the builder."""
    name = "deepseek" if origin == kind == "openai" else origin
    if origin == kind == "anthropic":
        name = "anthropic-compatible"
    message = Message("assistant", raw_value=raw, dialect=name)
    try:
        body = OURS[kind].make_request_body(request("hi", message, "go on"))
    except LLMApplicationError:
        return
    json.dumps(body)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@given(raw=st.dictionaries(WORDS, JSON, max_size=6))
def test_any_message_of_ones_own_dialect_goes_out(kind: str, raw: dict[str, Any]) -> None:
    """Odd raw messages that say they are this dialect's are sent; the vendor decides."""
    name = "generic" if kind == "openai" else "anthropic"
    message = Message("assistant", raw_value=raw, dialect=name)
    json.dumps(OURS[kind].make_request_body(request("hi", message, "go on")))


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@given(tools=st.dictionaries(st.text(max_size=8), JSON, max_size=3))
def test_any_tool_definition_is_sent_or_refused(kind: str, tools: dict[str, Any]) -> None:
    """A configuration's nonsense is the application's mistake, never a crash."""
    try:
        json.dumps(OURS[kind].serialize_tool_description(tools))
    except LLMApplicationError:
        return
