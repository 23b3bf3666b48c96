"""A ZeroMQ socket on an event loop: nothing that arrives is overlooked."""

from __future__ import annotations

import asyncio
import random

import pytest
import zmq

from aitoolman._service.port import Port

from .conftest import until

COUNT = 2_000


@pytest.mark.parametrize("seed", range(3))
async def test_messages_that_cross_in_bursts_all_arrive(tmp_path, seed):
    """Both ends send at random moments, also from within a message: each frame arrives, in order.

    A signal that is swallowed by sending, and not looked for, would leave the last ones lying.
    """
    rng = random.Random(seed)
    context = zmq.Context()
    here, there = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    for socket in (here, there):
        socket.set_hwm(0)
    here.bind(f"ipc://{tmp_path}/p")
    there.connect(f"ipc://{tmp_path}/p")
    await until(lambda: here.poll(0, zmq.POLLOUT))
    got = {"here": [], "there": []}
    echoed = []

    def on_here(frames):
        got["here"].append([frame.bytes for frame in frames])

    def on_there(frames):
        got["there"].append([frame.bytes for frame in frames])
        if rng.random() < 0.3:
            echoed.append(b"echo %d" % len(echoed))
            ports["there"].send([echoed[-1]])

    ports = {"here": Port(here, on_here), "there": Port(there, on_there)}
    sent = [[b"%d" % n, *[b"x"] * rng.randint(0, 3)] for n in range(COUNT)]
    for frames in sent:
        ports["here"].send(frames)
        if rng.random() < 0.1:
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
    try:
        await until(lambda: len(got["there"]) == COUNT and len(got["here"]) == len(echoed))
        assert got["there"] == sent
        assert [frames[0] for frames in got["here"]] == echoed
    finally:
        for port in ports.values():
            port.close()
        context.destroy(linger=0)


async def test_a_port_whose_context_ends_closes_itself():
    """No error on the loop, and closing it again is fine."""
    context = zmq.Context()
    socket = context.socket(zmq.PULL)
    socket.bind("inproc://gone")
    port = Port(socket, lambda frames: None)
    ending = asyncio.get_running_loop().run_in_executor(None, context.term)
    await until(lambda: port.closed)
    await ending
    port.close()
