"""The real llama.cpp server in its OpenAI and its Anthropic API, as far as the small model can."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from aitoolman import LLMProviderResponse, Message, ToolCall
from aitoolman._provider.llamacpp import Lease, LlamaSettings, acquire

from .bench import TOOLS

pytestmark = [
    pytest.mark.model,
    pytest.mark.timeout(120),
    pytest.mark.parametrize("kind", ["openai", "anthropic"]),
    pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"]),
]


@pytest.fixture
async def server() -> AsyncIterator[Lease]:
    lease = await acquire(LlamaSettings("smollm2-135m", n_ctx=1024))
    yield lease
    lease.release()


@pytest.fixture
def desk(make_desk: Any, server: Lease, kind: str) -> Any:
    """A manager whose model `m` is the real server behind one of its two APIs."""
    url = server.url if kind == "openai" else f"{server.base_url}/v1/messages"
    dialect = "llamacpp" if kind == "openai" else "anthropic-compatible"
    return make_desk(
        url=url, type=kind, dialect=dialect, api_key=server.api_key, timeout=60, max_retries=0
    )


async def test_it_answers_with_text_and_usage(desk: Any, stream: bool, kind: str) -> None:
    """Text, counts and the end of a short answer."""
    found: LLMProviderResponse = await desk.ask(
        "Say hello.", stream=stream, options={"max_tokens": 8, "temperature": 0}
    )
    assert found.error_text is None
    assert found.response_text
    assert found.finish_reason in ("stop", "length")
    assert found.prompt_tokens is not None
    assert found.prompt_tokens > 5
    assert found.completion_tokens is not None
    assert 0 < found.completion_tokens <= 8


async def test_a_length_limit_is_seen(desk: Any, stream: bool, kind: str) -> None:
    """Two tokens are not enough for a story."""
    found = await desk.ask("Tell a story.", stream=stream, options={"max_tokens": 2})
    assert found.finish_reason == "length"


async def test_its_own_turn_goes_back(desk: Any, stream: bool, kind: str) -> None:
    """The raw message of one turn is taken in the next, with a system prompt."""
    options = {"max_tokens": 8, "temperature": 0}
    first = await desk.ask("Say hello.", stream=stream, options=options)
    messages = [Message("system", "Be brief."), Message("user", "Say hello."),
                first.response_message, Message("user", "Again.")]  # fmt: skip
    second = await desk.ask(messages=messages, stream=stream, options=options)
    assert second.error_text is None
    assert second.response_text


async def test_a_history_with_tool_calls_is_taken(desk: Any, stream: bool, kind: str) -> None:
    """Calls and results of a conversation in neutral words are read by the real server."""
    call = ToolCall("weather", '{"city": "Bonn"}', {"city": "Bonn"}, "id1")
    messages = [Message("user", "Weather?"), Message("assistant", tool_calls=[call]),
                Message("tool", "rain", tool_call_id="id1")]  # fmt: skip
    found = await desk.ask(messages=messages, tools=TOOLS, stream=stream, options={"max_tokens": 4})
    assert found.error_text is None
    assert found.finish_reason is not None


async def test_a_prompt_too_long_is_the_vendors_error(desk: Any, stream: bool, kind: str) -> None:
    """The server's own code for it arrives, and nobody asks again."""
    found = await desk.ask("word " * 3000, stream=stream, options={"max_tokens": 2})
    assert found.finish_reason == "error: request"
    assert len(found.attempts) == 1
    assert "exceed" in (found.error_text or "")
