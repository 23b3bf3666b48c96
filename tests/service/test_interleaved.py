"""Reasoning and text in any order: what is shown of them is the same in process and served."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aitoolman import LLMLocalClient, Message
from aitoolman._service.calls import _split

from ..fake_llm import Reply
from .conftest import Sink
from .served import ServedClient

HI = [Message("user", "hi")]
pieces_of_answers = st.lists(
    st.tuples(st.sampled_from("rt"), st.text("abcé", min_size=1, max_size=4)), max_size=12
)


def streamed(pieces):
    """A vendor's stream that sends the pieces in their order."""
    fields = {"r": "reasoning_content", "t": "content"}
    deltas = [{"delta": {fields[kind]: text}, "index": 0} for kind, text in pieces]
    choices = [*deltas, {"delta": {}, "index": 0, "finish_reason": "stop"}]
    events = [f"data: {json.dumps({'choices': [choice]})}\n\n" for choice in choices]
    return Reply(raw_stream=[event.encode() for event in [*events, "data: [DONE]\n\n"]])


@pytest.fixture
def pair(provider_config):
    """A local client and a served one, both on the library's own loop."""
    clients = LLMLocalClient(provider_config), ServedClient(provider_config)
    yield clients
    for client in clients:
        client.sync.close()


async def ask(client, shared):
    text = Sink()
    reasoning = text if shared else Sink()
    request = await client.request(
        "fast", HI, stream=True, output_channel=text, reasoning_channel=reasoning
    )
    response = await request.response
    whole = (response.response_text, response.response_reasoning, response.finish_reason)
    return text.got, reasoning.got, whole


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=pieces_of_answers, shared=st.booleans())
@example(pieces=[("r", "a"), ("t", "b"), ("r", "c"), ("t", "d"), ("r", "e")], shared=True)
@example(pieces=[("r", "a"), ("t", "b"), ("r", "c"), ("t", "d"), ("r", "e")], shared=False)
def test_channels_show_the_same_in_process_and_served(fake_llm, pair, pieces, shared):
    """One channel for both gets every piece in its order, two follow the rule, at either place."""
    fake_llm.script(lambda request: streamed(pieces))
    local, served = (asyncio.run(ask(client, shared)) for client in pair)
    assert served == local
    if shared:
        assert local[0] == [*(text for _, text in pieces), None]


@given(pieces_of_answers, st.integers(0, 20), st.integers(0, 20))
def test_what_a_client_has_is_told_from_what_it_lacks(pieces, reasoning, text):
    """Together they are the answer, and what is missing keeps its order."""
    known, missing = _split(pieces, (reasoning, text))
    for kind, count in (("r", reasoning), ("t", text)):
        whole = "".join(t for k, t in pieces if k == kind)
        assert "".join(t for k, t in known if k == kind) == whole[:count]
        assert "".join(t for k, t in missing if k == kind) == whole[count:]
    unknown = [(k, c) for k, t in missing for c in t]
    letters = [(k, c) for k, t in pieces for c in t]
    left = {"r": reasoning, "t": text}
    expected = []
    for kind, letter in letters:
        left[kind] -= 1
        if left[kind] < 0:
            expected.append((kind, letter))
    assert unknown == expected
