"""The application over a real client and a real HTTP server."""

from __future__ import annotations

import asyncio

import pytest

from aitoolman._application.app import LLMApplication
from aitoolman._datamodel import FinishReason
from aitoolman._transport.local import LLMLocalClient

from ..fake_llm import Reply
from .doubles import module

pytestmark = pytest.mark.usefixtures("nothing_left")


async def test_a_streamed_answer_arrives_fragment_by_fragment(fake_llm, provider_config):
    """Reasoning, its end, text, its end; and the whole in the result."""
    fake_llm.script(Reply("Hello you", reasoning="Hm.", chunks=["Hel", "lo you"]))
    async with LLMLocalClient(provider_config) as client:
        app = LLMApplication(client, module(stream=True))
        result = await app["m"](text="x")
    assert result.data == "Hello you"
    assert result.model_name == "fast"
    assert await app.channels["reasoning"].read_whole_message() == "Hm."
    stdout = app.channels["stdout"]
    assert [await stdout.read() for _ in range(3)] == ["Hel", "lo you", None]


async def test_a_cancelled_stream_ends_at_the_server_and_in_the_channel(fake_llm, provider_config):
    """The connection is closed, the partial text stays, and one None ends it."""
    fake_llm.script(Reply("Hello", chunks=["Hel", "lo"], hang=True, pause_at=2))
    async with LLMLocalClient(provider_config) as client:
        app = LLMApplication(client, module(stream=True, reasoning_channel=""))
        call = asyncio.ensure_future(app["m"](text="x"))
        stdout = app.channels["stdout"]
        got = await stdout.read()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await fake_llm.reaches(lambda server: server.closed_early == 1)
        while (fragment := await stdout.read()) is not None:
            got += fragment
        assert "Hello".startswith(got)
        assert stdout.statistics().unread_characters == 0


async def test_cancel_all_of_a_factorys_source_ends_all_its_calls(fake_llm, provider_config):
    """One call ends what a whole batch has in flight, and nothing else."""
    fake_llm.script(Reply("late", hang=True))
    async with LLMLocalClient(provider_config) as client:
        factory = LLMApplication.factory(client, module())
        other = LLMApplication(client, module())
        calls = [asyncio.ensure_future(factory()["m"](text="x")) for _ in range(5)]
        lone = asyncio.ensure_future(other["m"](text="x"))
        await fake_llm.reaches(lambda server: server.open_requests == 6)
        await client.cancel_all(factory.source)
        results = await asyncio.gather(*calls)
        assert {result.status for result in results} == {FinishReason.cancelled}
        fake_llm.release()
        assert (await lone).data == "late"


async def test_an_unknown_model_is_a_result_with_one_clear_sentence(provider_config):
    """Nothing is raised by the call itself."""
    async with LLMLocalClient(provider_config) as client:
        result = await LLMApplication(client, module())["m"](text="x", _model_name="fats")
    assert result.status is FinishReason.error_request
    assert "'fast'" in result.error_text


def test_one_program_text_awaits_and_waits(fake_llm, provider_config):
    """The synchronous face gives the same results from a thread without a loop."""
    fake_llm.script("Hello")
    with LLMLocalClient(provider_config).sync as client:
        app = LLMApplication(client, module(reasoning_channel=""))
        assert app.sync["m"](text="x").data == "Hello"
        preview = app.sync["m"].preview(text="x")
        assert preview.url == fake_llm.openai_url
        assert "sk-test-key" not in repr(preview)
