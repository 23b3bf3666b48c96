"""The manager with the embedded model: a real llama.cpp server, started on first use."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from aitoolman import LLMProviderManager, LLMProviderRequest, Message
from aitoolman._provider import llamacpp

from ..virtual_clock import until

pytestmark = [pytest.mark.model, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch):
    monkeypatch.setattr(llamacpp, "LINGER_SECONDS", 0.2)


def request(number, stream=False):
    options = {"temperature": 0, "max_tokens": 8}
    messages = [Message("user", "Say hello.")]
    return LLMProviderRequest(
        "c", None, f"r{number}", "tiny", messages, options=options, stream=stream
    )


async def ask(manager, *args, **fields):
    asked = request(*args, **fields)
    manager.process_request(asked)
    return await asked.response


@pytest.fixture
async def manager():
    entry = {"type": "llamacpp", "model": "smollm2-135m", "n_ctx": 512, "retry_duration": 0.01}
    async with LLMProviderManager({"api": {"tiny": entry}}) as manager:
        yield manager


async def test_streamed_and_whole_answers_are_the_same(manager):
    """The real server, both ways: text, counts, finish reason."""
    whole, streamed = await ask(manager, 1), await ask(manager, 2, stream=True)
    assert whole.response_text == streamed.response_text != ""
    assert {whole.finish_reason, streamed.finish_reason} <= {"stop", "length"}
    assert whole.prompt_tokens == streamed.prompt_tokens > 0
    assert streamed.time_to_first_token > 0


async def test_a_child_that_died_is_started_again(manager):
    """The next request finds it dead, starts another, and is answered."""
    await ask(manager, 1)
    lease = manager._endpoints["tiny"]._target.lease
    psutil.Process(lease.pid).kill()
    await until(lease.failure)
    response = await ask(manager, 2)
    assert response.finish_reason in ("stop", "length")
    assert manager._endpoints["tiny"]._target.lease.pid != lease.pid


async def test_cancelling_while_it_starts_leaves_the_manager_well(manager):
    """The start is called off or used by the next; either way the next is answered."""
    first = request(1)
    manager.process_request(first)
    await asyncio.sleep(0)
    await manager.cancel_request("r1")
    assert (await first.response).finish_reason == "cancelled"
    assert (await ask(manager, 2)).finish_reason in ("stop", "length")
