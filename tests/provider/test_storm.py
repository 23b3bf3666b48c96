"""Three hundred calls, some failing, some cancelled at random: nothing is left."""

from __future__ import annotations

import asyncio
import random

import pytest

from ..fake_llm import Reply


def weather(rng):
    """A reply of some kind, good or bad."""
    kinds = [
        lambda: Reply("some words to say", chunk_delay=rng.random() * 0.002),
        lambda: Reply("some words to say", delay=rng.random() * 0.01),
        lambda: Reply(status=rng.choice([400, 401, 404])),
        lambda: Reply(status=rng.choice([429, 500, 503])),
        lambda: Reply("lost in the middle", drop_after=rng.randrange(-1, 4)),
        lambda: Reply("lost in the middle", drop_after=rng.randrange(-1, 4), reset=True),
        lambda: Reply("never ending", finish=""),
        lambda: Reply("bad", stream_error="died"),
        lambda: Reply(raw_body=b"<html>"),
    ]
    return rng.choice(kinds[:2] * 6 + kinds)()


@pytest.mark.parametrize("seed", range(2))
async def test_three_hundred_calls_in_a_storm(make_desk, fake_llm, make_sink, nothing_left, seed):
    """One answer and one ``None`` each, never more than `parallel` at the server, nothing left."""
    rng = random.Random(seed)
    fake_llm.script(lambda seen: weather(rng))
    desk = make_desk(parallel=12, max_retries=2, retry_duration=0.002, adaptive=bool(seed))
    called, sinks = [], []

    async def callback(request):
        called.append(request.request_id)

    async def one(number):
        await asyncio.sleep(rng.random() * 0.2)
        sink = make_sink()
        request = desk.request(stream=rng.random() < 0.5, output_channel=sink,
                               source=rng.choice(["a", "b", None]))  # fmt: skip
        started = desk.manager.process_request(request, callback)
        fate, moment = rng.random(), rng.random() * 0.1
        if fate < 0.15:
            asyncio.get_running_loop().call_later(moment, request.response.cancel)
        elif fate < 0.3:
            await asyncio.sleep(moment)
            await desk.manager.cancel_request(request.request_id)
        await asyncio.wait([started.task])
        sinks.append(sink)
        assert request.response.done()
        return request

    requests = await asyncio.gather(*[one(n) for n in range(300)])
    assert len(called) == len(set(called)) == 300
    assert all(sink.got.count(None) == 1 and sink.got[-1] is None for sink in sinks)
    reasons = {r.response.result().finish_reason for r in requests if not r.response.cancelled()}
    assert reasons >= {"stop", "cancelled", "error: request"}
    assert fake_llm.max_concurrent <= 12
    limits = desk.manager._endpoints["m"].limits
    assert (limits.in_use, limits.waiting, len(desk.manager._running)) == (0, 0, 0)
    await desk.manager.close()
    await fake_llm.reaches(lambda server: server.open_connections == 0)
