"""Every dialect over real HTTP, through the manager, in front of the strict scripted server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aitoolman import LLMProviderResponse, MediaContent, Message
from tests.fake_llm import FakeLLM, Reply

from .bench import CASES, TOOLS, TWO_CALLS, Case, full_reply, second_turn

pytestmark = [
    pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.dialect}-{c.shape}"),
    pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"]),
]


@pytest.fixture
def desk(make_desk: Any, fake_llm: FakeLLM, case: Case) -> Any:
    """A manager whose model `m` is the vendor of the case."""
    fake_llm.shape = case.shape if case.kind == "openai" else "openai"
    fake_llm.required_key = "sk-secret"
    url = fake_llm.openai_url if case.kind == "openai" else fake_llm.anthropic_url
    return make_desk(
        url=url, type=case.kind, dialect=case.dialect, api_key="sk-secret", max_retries=0
    )


async def test_a_conversation_with_tools_is_taken_to_its_end(
    desk: Any, fake_llm: FakeLLM, case: Case, stream: bool
) -> None:
    """Reasoning and calls come and go back exactly; the server refuses nothing."""
    fake_llm.script([full_reply(case), Reply("Rain in Köln, and 3")])
    first: LLMProviderResponse = await desk.ask(stream=stream, tools=TOOLS)
    assert (first.finish_reason, first.error_text) == ("tool_calls", None)
    assert first.response_text == "Let me see"
    calls = [(c.name, c.arguments) for c in first.response_tool_calls]
    assert calls == [(c.name, c.arguments) for c in TWO_CALLS]
    follow_up = second_turn(first).messages
    second: LLMProviderResponse = await desk.ask(stream=stream, tools=TOOLS, messages=follow_up)
    assert (second.finish_reason, second.error_text) == ("stop", None)
    assert second.response_text == "Rain in Köln, and 3"
    assert second.notes == []
    sent = next(m for m in fake_llm.requests[1].messages if m["role"] == "assistant")
    assert first.response_message is not None
    assert json.dumps(sent) == json.dumps(first.response_message.raw_value)
    assert [r.refused for r in fake_llm.requests] == [None, None]


async def test_text_reasoning_and_usage_arrive(
    desk: Any, fake_llm: FakeLLM, case: Case, stream: bool
) -> None:
    """Both texts and all counts, with an image in the question where the vendor sees."""
    usage = {"prompt": 100, "completion": 30, "cached": 60, "reasoning": 10}
    fake_llm.script(Reply("Ein Bär 🐻", reasoning="brown,\nfurry", usage=usage))
    media = MediaContent("image", data=b"\x89PNG\r\n\x1a\n")
    asked = Message("user", "what is it?", None if case.dialect == "deepseek" else media)
    found: LLMProviderResponse = await desk.ask(stream=stream, messages=[asked])
    assert found.error_text is None
    assert found.response_text == "Ein Bär 🐻"
    assert found.response_reasoning.strip() == "brown,\nfurry"
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == (100, 30, 60)


async def test_what_is_left_out_is_noted_in_the_response(
    desk: Any, fake_llm: FakeLLM, case: Case, stream: bool
) -> None:
    """A raw message that nobody can read is left out, and the response says so."""
    lost = Message(raw_value={"x": 1}, dialect="martian")
    fake_llm.script(Reply("ok"))
    found = await desk.ask(stream=stream, messages=[Message("user", "hi"), lost])
    assert found.response_text == "ok"
    assert found.notes == ["a message of the unknown dialect 'martian' left out"]
