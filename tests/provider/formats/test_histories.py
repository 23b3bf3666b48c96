"""History of one vendor in front of another, and what happens to raw messages on the way."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from aitoolman import LLMApplicationError, MediaContent, Message, ToolCall
from aitoolman._provider.formats import make_format, register_format
from aitoolman._provider.formats.openai import OpenAICompatibleFormat
from aitoolman._provider.formats.registry import _registered
from tests.vendors.anthropic import signature
from tests.vendors.reply import Refused, Reply

from .bench import CASES, TOOLS, Case, exchange, full_reply, request, second_turn, strategy

ANTHROPIC = Case("anthropic", "anthropic")
OPENAI = Case("openai", "openai")
CLAUDE_TURN = {
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": signature("hm")},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "Hello"},
    ],
}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"to-{c.dialect}-{c.shape}")
@pytest.mark.parametrize("origin", CASES, ids=lambda c: f"from-{c.dialect}-{c.shape}")
def test_a_history_of_any_vendor_is_taken_by_any_other(case: Case, origin: Case) -> None:
    """Raw messages of one vendor, calls, results and reasoning included, are translated."""
    first = exchange(origin, request("hi", tools=TOOLS), full_reply(origin)).response
    try:
        body, notes, _, _ = exchange(case, second_turn(first), Reply("ok"), number=2)
    except Refused as refused:
        raise AssertionError(f"{origin} -> {case}: {refused.message}") from refused
    shown = json.dumps(body, ensure_ascii=False)
    assert all(text in shown for text in ("Let me see", "result 0", "result 1", "weather"))
    if (origin.dialect, case.dialect) == ("anthropic", "openai"):
        assert any("thinking" in note for note in notes)


@pytest.mark.parametrize("case", CASES[:6], ids=lambda c: c.dialect)
@pytest.mark.parametrize("origin", CASES[:6], ids=lambda c: c.dialect)
def test_nothing_given_is_changed(case: Case, origin: Case) -> None:
    """Messages, tools and options are the same after building a body as before."""
    first = exchange(origin, request("hi", tools=TOOLS), full_reply(origin)).response
    asked = second_turn(first)
    asked.options = {"stop": "x", "max_tokens": 3, "thinking": {"type": "enabled"}}
    before = copy.deepcopy((asked.messages, asked.tools, asked.options))
    body = strategy(case, body_options={"top_p": 0.5}).make_request_body(asked)
    body["messages"][-1]["content"] = "changed"
    assert (asked.messages, asked.tools, asked.options) == before


def test_a_raw_message_of_unknown_origin_goes_out_as_it_is() -> None:
    """Without a dialect nobody may touch it, and the neutral fields are ignored."""
    raw = {"zeta": 1, "role": "assistant", "content": None, "alpha": [1, {"b": 2}]}
    message = Message("user", "ignored", raw_value=raw)
    for kind in ("openai", "anthropic"):
        body = make_format(kind, {"model": "m"}).make_request_body(request("hi", message))
        assert json.dumps(body["messages"][-1]) == json.dumps(raw)


def test_a_dialect_outside_the_table_is_sent_in_plain_words() -> None:
    """The neutral fields stand in for a raw message that nobody can read, with a note."""
    message = Message("assistant", "hello", raw_value={"x": 1}, dialect="martian")
    body, notes = strategy(OPENAI).make_request(request("hi", message))
    assert body["messages"][-1] == {"role": "assistant", "content": "hello"}
    assert "martian" in notes[0]


def test_a_message_with_nothing_to_say_elsewhere_is_left_out() -> None:
    """A raw message of an unknown dialect without neutral fields cannot be sent; a note says so."""
    message = Message(raw_value={"x": 1}, dialect="martian")
    body, notes = strategy(OPENAI).make_request(request("hi", message))
    assert len(body["messages"]) == 1
    assert "left out" in notes[0]


def test_a_registered_format_translates_its_own_messages() -> None:
    """A strategy of one's own is asked for the neutral words of its raw messages."""

    class Martian(OpenAICompatibleFormat):
        def convert_message(self, message: Message) -> Message:
            return Message("assistant", "from Mars")

    register_format("martian-test", Martian)
    try:
        message = Message(raw_value={"x": 1}, dialect="martian-test")
        body = strategy(OPENAI).make_request_body(request("hi", message))
    finally:
        del _registered["martian-test"]
    assert body["messages"][-1]["content"] == "from Mars"


def claude(raw: dict[str, Any] = CLAUDE_TURN, **fields: Any) -> Message:
    return Message("assistant", raw_value=raw, dialect="anthropic", **fields)


def test_signed_thinking_goes_back_exactly() -> None:
    """Thinking, signature and redacted blocks are the same bytes in the next request."""
    body, notes = strategy(ANTHROPIC).make_request(request("hi", claude(), "go on"))
    assert json.dumps(body["messages"][1]) == json.dumps(CLAUDE_TURN)
    assert notes == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda block: block.pop("signature"),
        lambda block: block.update(signature=""),
        lambda block: block.update(signature=None),
        lambda block: block.update(thinking="something else"),
    ],
    ids=["unsigned", "empty", "null", "edited"],
)
def test_spoilt_thinking_is_dropped_whole_with_a_note(spoil: Any) -> None:
    """Edited or unsigned thinking takes all thinking of the turn along; the text stays."""
    raw = copy.deepcopy(CLAUDE_TURN)
    spoil(raw["content"][0])
    message = claude(raw, reasoning_content="hm")
    body, notes, _, _ = exchange(ANTHROPIC, request("hi", message, "go on"), Reply("ok"))
    assert body["messages"][1]["content"] == [{"type": "text", "text": "Hello"}]
    assert "thinking left out" in notes[0]


def test_blank_text_blocks_do_not_poison_the_history() -> None:
    """The vendor sends blocks of white space that it then refuses to take back."""
    raw = {
        "role": "assistant",
        "content": [{"type": "text", "text": "\n\n"}, *CLAUDE_TURN["content"]],
    }
    body, notes, _, _ = exchange(ANTHROPIC, request("hi", claude(raw), "go on"), Reply("ok"))
    assert body["messages"][1] == CLAUDE_TURN
    assert "empty text block" in notes[0]


def test_turns_alternate_and_results_come_first() -> None:
    """Users in a row become one turn, with tool results in front of any text."""
    call = ToolCall("add", '{"a": 1}', {"a": 1}, "id1")
    history = [
        Message("user", "one"),
        Message("user", "two"),
        Message("assistant", "a"),
        Message("assistant", tool_calls=[call]),
        Message("user", "by the way"),
        Message("tool", "2", tool_call_id="id1"),
        Message("user", "go on"),
    ]
    body = exchange(ANTHROPIC, request(*history, tools=TOOLS), Reply("ok")).body
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
    assert [b["type"] for b in body["messages"][2]["content"]] == ["tool_result", "text", "text"]


def test_an_assistant_may_begin() -> None:
    """A conversation that starts with the assistant gets a user's turn in front, with a note."""
    asked = request(Message("assistant", "Welcome"), "hi")
    body, notes, _, _ = exchange(ANTHROPIC, asked, Reply("ok"))
    assert body["messages"][0]["role"] == "user"
    assert any("put in front" in note for note in notes)


def test_system_messages_are_taken_out_of_the_turns() -> None:
    """All of them stand in `system`, in order; one inside the conversation moves with a note."""
    asked = request(Message("system", "A"), "hi", Message("assistant", "x"),
                    Message("developer", "B"), "go", system="Z")  # fmt: skip
    body, notes, _, _ = exchange(ANTHROPIC, asked, Reply("ok"))
    assert body["system"] == "Z\n\nA\n\nB"
    assert "moved" in notes[0]


def test_a_system_prompt_with_a_cache_mark_stays_a_block() -> None:
    """A raw system block keeps its `cache_control`."""
    block = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    message = Message("system", raw_value={"role": "system", "content": [block]})
    body = strategy(ANTHROPIC).make_request_body(request(Message("system", "A"), message, "hi"))
    assert body["system"] == [{"type": "text", "text": "A"}, block]


def test_a_prompt_without_a_user_is_an_error_that_says_so() -> None:
    """Anthropic cannot be asked with a system prompt alone."""
    with pytest.raises(LLMApplicationError, match="no message besides the system prompt"):
        strategy(ANTHROPIC).make_request_body(request(Message("system", "A")))


def test_a_prefill_loses_its_trailing_space() -> None:
    """The vendor refuses a last assistant turn that ends with white space."""
    asked = request("hi", Message("assistant", "The answer is "))
    body = exchange(ANTHROPIC, asked, Reply("42")).body
    assert body["messages"][-1]["content"] == "The answer is"


def test_claude_tool_results_become_tool_messages() -> None:
    """A raw user turn of Anthropic with results and an image splits for OpenAI."""
    source = {"type": "base64", "media_type": "image/png", "data": "AAA="}
    answer = [{"type": "text", "text": "2"}, {"type": "image", "source": source}]
    call = {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}
    results = {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t1", "content": answer},
        {"type": "text", "text": "and?"},
    ]}  # fmt: skip
    asked = request(
        "hi",
        Message(raw_value={"role": "assistant", "content": [call]}, dialect="anthropic"),
        Message(raw_value=results, dialect="anthropic"),
        tools=TOOLS,
    )
    body = exchange(OPENAI, asked, Reply("ok")).body
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "tool", "user", "user"]
    assert body["messages"][2] == {"role": "tool", "content": "2", "tool_call_id": "t1"}
    assert body["messages"][3]["content"][0]["image_url"]["url"] == "data:image/png;base64,AAA="


def test_openai_content_parts_become_blocks() -> None:
    """Raw text and image parts go to Anthropic; audio, which it cannot hear, is an error."""
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    message = Message(raw_value={"role": "user", "content": parts}, dialect="openai")
    body = exchange(ANTHROPIC, request(message), Reply("ok")).body
    assert [b["type"] for b in body["messages"][0]["content"]] == ["image", "text"]
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    message = Message(raw_value={"role": "user", "content": [sound]}, dialect="openai")
    with pytest.raises(LLMApplicationError, match="takes no 'audio' content"):
        strategy(ANTHROPIC).make_request_body(request(message))


def test_thoughts_left_in_the_text_stay_behind() -> None:
    """Think tags in a raw message are reasoning to the next vendor, not text."""
    raw = {"role": "assistant", "content": "<think>\nhm</think>\n\nHello"}
    message = Message(raw_value=raw, dialect="vllm")
    body = exchange(ANTHROPIC, request("hi", message, "go on"), Reply("ok")).body
    assert body["messages"][1]["content"] == "Hello"


def test_foreign_calls_get_what_gemini_asks_for() -> None:
    """Calls that Gemini did not make carry the documented stand-in for a thought signature."""
    call = ToolCall("add", '{"a": 1}', {"a": 1}, "id1")
    asked = request("hi", Message("assistant", tool_calls=[call]),
                    Message("tool", "2", tool_call_id="id1"), tools=TOOLS)  # fmt: skip
    body = exchange(Case("gemini", "gemini"), asked, Reply("ok")).body
    signature_sent = body["messages"][1]["tool_calls"][0]["extra_content"]["google"]
    assert signature_sent == {"thought_signature": "skip_thought_signature_validator"}


def test_broken_arguments_of_earlier_calls_are_sent_as_an_empty_object() -> None:
    """Servers that parse history fail on broken JSON; a note names the tool."""
    call = ToolCall("add", '{"a": ', None, "id1")
    asked = request("hi", Message("assistant", tool_calls=[call]),
                    Message("tool", "bad arguments", tool_call_id="id1"), tools=TOOLS)  # fmt: skip
    for case in (OPENAI, ANTHROPIC):
        body, notes, _, _ = exchange(case, asked, Reply("ok"))
        assert "'add' has broken arguments" in notes[0]
        assert '{\\"a\\": ' not in json.dumps(body)


def test_deepseek_gets_reasoning_in_every_assistant_turn() -> None:
    """Also where there was none: an empty one keeps the history from being refused."""
    asked = request("hi", Message("assistant", "x"), "and",
                    Message("assistant", "y", reasoning_content="because"), "so")  # fmt: skip
    body = exchange(Case("deepseek", "deepseek"), asked, Reply("ok")).body
    said = [m.get("reasoning_content") for m in body["messages"]]
    assert said == [None, "", None, "because", None]


def test_reasoning_goes_out_under_the_dialects_name() -> None:
    """`reasoning_content` by default, elsewhere as the dialect says, or left out with a note."""
    asked = request("hi", Message("assistant", "x", reasoning_content="why"), "so")
    sent = {
        name: make_format("openai", {"model": "m", "dialect": name}).make_request(asked)
        for name in ("generic", "vllm", "openai")
    }
    assert sent["generic"][0]["messages"][1]["reasoning_content"] == "why"
    assert sent["vllm"][0]["messages"][1]["reasoning"] == "why"
    assert sent["openai"][0]["messages"][1] == {"role": "assistant", "content": "x"}
    assert "reasoning left out" in sent["openai"][1][0]


def test_mistral_takes_reasoning_as_parts_where_told_so() -> None:
    """The quirk `thinking_part` writes reasoning into the content."""
    config = {"model": "m", "dialect": "mistral", "quirks": {"send_reasoning": "may"}}
    asked = request("hi", Message("assistant", "x", reasoning_content="why"), "so")
    content = make_format("openai", config).make_request_body(asked)["messages"][1]["content"]
    assert content[0] == {"type": "thinking", "thinking": [{"type": "text", "text": "why"}]}


def test_an_unsigned_thought_goes_to_a_server_that_takes_it() -> None:
    """A compatible server without signatures gets reasoning as a thinking block."""
    config = {"model": "m", "dialect": "anthropic-compatible"}
    asked = request("hi", Message("assistant", "x", reasoning_content="why"), "so")
    blocks = make_format("anthropic", config).make_request_body(asked)["messages"][1]["content"]
    assert blocks[0] == {"type": "thinking", "thinking": "why", "signature": ""}


def test_serialize_message_translates_one_message() -> None:
    """The specification's method works alone, for own, foreign and plain messages."""
    ours = strategy(OPENAI)
    assert ours.serialize_message(claude())["content"] == "Hello"
    assert ours.serialize_message(Message("user", "hi")) == {"role": "user", "content": "hi"}
    assert strategy(ANTHROPIC).serialize_message(claude()) == CLAUDE_TURN
    media = Message("user", None, MediaContent("image", raw_value={"type": "x", "y": 1}))
    assert ours.serialize_message(media)["content"] == [{"type": "x", "y": 1}]


def test_convert_message_gives_neutral_words() -> None:
    """Each format can say what its raw message means, for everybody else."""
    neutral = strategy(ANTHROPIC).convert_message(claude())
    assert (neutral.content, neutral.reasoning_content, neutral.raw_value) == ("Hello", "hm", None)
    raw = {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}  # fmt: skip
    neutral = strategy(OPENAI).convert_message(Message(raw_value=raw))
    assert neutral.reasoning_content == "hm"
    assert neutral.tool_calls == [ToolCall("f", "{}", {}, "1")]
