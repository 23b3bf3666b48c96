"""Sinks that never return: a cancel still gives an answer, and leaves nothing."""

from __future__ import annotations

import asyncio

import pytest


class Stubborn:
    """Takes some writes and hangs in the others."""

    def __init__(self, hangs):
        self.hangs = hangs
        self.hanging = asyncio.Event()

    async def write(self, message):
        if self.hangs(message):
            self.hanging.set()
            await asyncio.Event().wait()


@pytest.mark.parametrize(
    "hangs", [lambda message: True, lambda message: message is None], ids=["all", "end"]
)
async def test_a_cancel_gets_its_answer_though_the_sink_hangs(make_desk, hangs, nothing_left):
    """Also when the sink hangs in the very end of the message."""
    desk, sink = make_desk(), Stubborn(hangs)
    request = desk.start(output_channel=sink)
    await sink.hanging.wait()
    await desk.manager.cancel_request(request.request_id)
    response = await asyncio.wait_for(request.response, 3)
    assert response.finish_reason in ("cancelled", "error: application")
    assert not desk.manager.under_way()


async def test_a_cancelled_future_frees_a_hanging_request(make_desk, nothing_left):
    """Nobody waits for the answer any more: the request ends by itself."""
    desk, sink = make_desk(), Stubborn(lambda message: True)
    started = desk.manager.process_request(desk.request(output_channel=sink))
    await sink.hanging.wait()
    started.request.response.cancel()
    await asyncio.wait_for(started.task, 3)
    assert not desk.manager._running
