"""Reasoning and text in any order: a ledger shows, keeps and replays them as the client does."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aitoolman import LLMLedgerClient, LLMLocalClient, LLMScriptedClient

from ..service.test_interleaved import pieces_of_answers, streamed
from .helpers import Sink, ask, ledger_in

MIXED = [("r", "a"), ("t", "b"), ("r", "c"), ("t", "d"), ("r", "e")]


async def shown(client, shared):
    """What the channels got, and the answer."""
    text = Sink()
    thoughts = text if shared else Sink()
    response = await ask(client, model="fast", stream=True, sink=text, thoughts=thoughts)
    return text.got, thoughts.got, response.response_text, response.response_reasoning


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=pieces_of_answers, shared=st.booleans())
@example(pieces=MIXED, shared=True)
@example(pieces=MIXED, shared=False)
def test_channels_show_the_same_with_a_ledger(
    fake_llm, provider_config, tmp_path_factory, pieces, shared
):
    """One channel for both gets every piece, two follow the rule: live and replayed."""
    fake_llm.script(lambda request: streamed(pieces))
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"

    async def main():
        async with LLMLocalClient(provider_config) as bare:
            expected = await shown(bare, shared)
        async with LLMLedgerClient(LLMLocalClient(provider_config), path) as client:
            assert await shown(client, shared) == expected
        async with LLMLedgerClient(LLMScriptedClient([]), path, mode="replay") as client:
            assert await shown(client, shared) == expected

    asyncio.run(main())


async def test_a_stream_is_kept_in_its_order(fake_llm, provider_config, tmp_path):
    """Reasoning that comes after text is kept, whatever the caller's channels are."""
    fake_llm.script(streamed(MIXED))
    async with LLMLedgerClient(LLMLocalClient(provider_config), tmp_path / "ledger.db") as client:
        await ask(client, model="fast", stream=True, sink=Sink(), thoughts=Sink())
    kept = ledger_in(tmp_path).call(1).fragments
    assert [(f.kind, f.text) for f in kept] == MIXED


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_not_streamed_has_no_stream(path, stream):
    """A whole answer is kept once; whoever streams it later gets it in one piece."""
    async with LLMLedgerClient(LLMScriptedClient("an answer"), path) as client:
        await ask(client)
        sink = Sink()
        response = await ask(client, stream=stream, sink=sink)
    assert sink.got == ["an answer", None]
    assert response.from_ledger
    assert ledger_in(path.parent).call(1).fragments == []


def test_a_client_at_home_elsewhere_gives_everything(fake_llm, provider_config, tmp_path):
    """The client below was used on another loop before: late reasoning is kept all the same."""
    fake_llm.script(streamed(MIXED))
    below = LLMLocalClient(provider_config)
    below.sync.describe("fast")
    client = LLMLedgerClient(below, tmp_path / "ledger.db")

    async def main():
        async with client:
            await ask(client, model="fast", stream=True, sink=Sink(), thoughts=Sink())

    asyncio.run(main())
    below.sync.close()
    kept = ledger_in(tmp_path).call(1).fragments
    assert [(f.kind, f.text) for f in kept] == MIXED
