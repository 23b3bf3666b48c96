"""Whatever arrives, the server keeps serving, and its memory does not grow."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket

import psutil
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from aitoolman import (
    LLMApplicationError,
    LLMProviderResponse,
    MediaContent,
    Message,
    ToolCall,
)
from aitoolman._transport import wire
from aitoolman.zmqclient import LLMZmqClient

from ..fake_llm import Reply
from .conftest import TOKEN, until
from .test_security import RawClient, packed

HI = [Message("user", "hi")]
OPS = [
    "hello", "request", "cancel", "bye", "ping", "describe", "preview", "audit", "page",
    "welcome", "answer", "",
]  # fmt: skip


async def serves(server):
    async with LLMZmqClient(server.endpoint, TOKEN) as client:
        return (await (await client.request("fast", HI)).response).finish_reason == "stop"


def mutated(rng: random.Random, data: bytes) -> bytes:
    """The bytes with some changed, cut out or put in."""
    raw = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(raw) + 1)
        what = rng.random()
        if what < 0.5 and raw:
            raw[place % len(raw)] = rng.randrange(256)
        elif what < 0.75:
            raw[place:place] = rng.randbytes(rng.randint(1, 8))
        else:
            del raw[place : place + rng.randint(1, 8)]
    return bytes(raw)


def messages(rng: random.Random, count: int):
    """Random and mutated messages of one to four frames."""
    bodies = [
        wire.encode(body)
        for body in (
            packed(), wire.Hello(b"c", "s" * 64), wire.Ask("fast"),
            wire.Audit("c", "e", {"n": 1}), wire.Page(0, 5),
        )
    ]  # fmt: skip
    for n in range(count):
        header = wire.encode(wire.Header(wire.VERSION, rng.choice(OPS), f"r{n}"))
        body = rng.choice(bodies)
        frames = [header, body]
        what = rng.random()
        if what < 0.3:
            frames = [mutated(rng, header), body]
        elif what < 0.7:
            frames = [header, mutated(rng, body)]
        elif what < 0.9:
            frames = [rng.randbytes(rng.randint(0, 200)) for _ in range(rng.randint(1, 4))]
        yield frames


async def flood(server, rng, count):
    """Send junk from several clients, read what comes back."""
    clients = [RawClient(server.endpoint) for _ in range(3)]
    try:
        for client in clients:
            await client.hello()
        for n, frames in enumerate(messages(rng, count)):
            socket_ = clients[n % 3].socket
            while True:
                try:
                    socket_.send_multipart(frames, zmq.NOBLOCK)
                    break
                except zmq.Again:
                    await asyncio.sleep(0.001)
            if n % 50 == 0:
                await asyncio.sleep(0)
                for client in clients:
                    while client.socket.poll(0):
                        client.socket.recv_multipart()
        await asyncio.sleep(0.2)
    finally:
        for client in clients:
            client.close()


async def test_random_and_mutated_messages_end_nothing(fake_llm, server):
    """Thousands of them, and the next honest client is served; the calls they made are gone."""
    fake_llm.keep = 10
    await flood(server, random.Random(1), 3_000)
    assert await serves(server)
    assert server.reception.junk > 100
    await until(lambda: not server.requests.running)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_hundred_thousand_messages_leave_memory_flat(fake_llm, serve):
    """After warming up, another 100,000 cost no memory."""
    server = await serve(grace=0.5, lease=2.0)
    fake_llm.keep = 10
    fake_llm.script(lambda request: Reply("x"))
    rng = random.Random(2)
    await flood(server, rng, 20_000)
    gc.collect()
    before = psutil.Process().memory_info().rss
    await flood(server, rng, 100_000)
    assert await serves(server)
    gc.collect()
    assert psutil.Process().memory_info().rss - before < 60_000_000


async def test_bytes_that_are_no_zeromq_end_nothing(server):
    """An HTTP request, random bytes and half a greeting on the port harm nobody."""
    host, port = "127.0.0.1", int(server.endpoint.rpartition(":")[2])
    held = []
    for data in (b"GET / HTTP/1.1\r\n\r\n", random.Random(3).randbytes(500), b"\xff" + bytes(8)):
        for _ in range(10):
            connection = socket.create_connection((host, port))
            connection.sendall(data)
            held.append(connection)
    assert await serves(server)
    for connection in held:
        connection.close()


async def test_a_body_that_cannot_be_read_is_refused_by_its_id(server):
    """The header is enough to tell the client which request it was."""
    client = RawClient(server.endpoint)
    await client.hello()
    client.send("request", "r9", wire.Ask("fast"))
    header, body = await client.receive()
    assert (header.op, header.id) == ("refused", "r9")
    assert "cannot be read" in wire.decode(body, wire.Refusal).reason
    client.close()


async def test_too_many_frames_and_too_large_ones_are_dropped(serve):
    """Limits hold for the frames as well as for the sum."""
    server = await serve(max_bytes=10_000)
    client = RawClient(server.endpoint)
    await client.hello()
    header = wire.encode(wire.Header(wire.VERSION, "request", "r"))
    client.socket.send_multipart([header, *[b"x" * 5_000] * 6])
    client.socket.send_multipart([b"x" * 5_000, b"y"])
    await until(lambda: server.reception.junk == 2)
    client.socket.send_multipart([header, b"x" * 50_000])
    assert await serves(server)
    client.close()


async def test_a_client_survives_junk_from_its_server(fake_llm, server):
    """Messages that cannot be read are left out; the answer comes after all."""
    async with LLMZmqClient(server.endpoint, TOKEN) as client:
        await (await client.request("fast", HI)).response
        (session,) = server.reception.sessions.values()
        for frames in list(messages(random.Random(4), 300)):
            server.reception.port.send([session.route, *frames])
        assert (await (await client.request("fast", HI)).response).finish_reason == "stop"


# The wire itself

texts = st.text(max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(texts, plain, max_size=3)
media = st.builds(
    MediaContent,
    media_type=texts,
    raw_value=st.none() | tables,
    data=st.none() | st.binary(max_size=20),
    mime_type=st.none() | texts,
    filename=st.none(),
    url=st.none() | texts,
    options=st.none() | tables,
)
tool_calls = st.builds(
    ToolCall, texts, texts, arguments=st.none() | tables, id=st.none() | texts, type=texts
)
sent_messages = st.builds(
    Message,
    role=st.none() | texts,
    content=st.none() | texts,
    reasoning_content=st.none() | texts,
    tool_call_id=st.none() | texts,
    raw_value=st.none() | tables,
    dialect=st.none() | texts,
    media_content=st.none() | st.lists(media, min_size=1, max_size=2),
    tool_calls=st.none() | st.lists(tool_calls, max_size=2),
)


@given(st.lists(sent_messages, max_size=3))
def test_messages_survive_the_wire(given_messages):
    """What is packed, encoded, decoded and unpacked is equal."""
    request = wire.WireRequest("m", wire.pack_messages(given_messages))
    read = wire.decode(wire.encode(request), wire.WireRequest)
    assert wire.unpack_messages(read.messages) == given_messages


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    """Decoding raises ValueError and nothing else."""
    for kind in (wire.Header, wire.WireRequest, wire.WireResponse, wire.Welcome, wire.Rows):
        try:
            wire.decode(data, kind)
        except ValueError:
            continue


def test_fields_of_a_later_version_are_ignored():
    """An end that knows more can talk to one that knows less."""
    import msgspec

    data = msgspec.msgpack.encode({"v": 1, "op": "ping", "id": "x", "later": [1, 2]})
    assert wire.decode(data, wire.Header) == wire.Header(1, "ping", "x")


def test_every_field_of_a_response_has_its_place_on_the_wire():
    """A field that is added to responses must be added to the wire, or be left out on purpose."""
    left_out = {"client_id", "context_id", "request_id", "exchange", "stream_state"}
    fields = set(LLMProviderResponse.__dataclass_fields__) - left_out
    assert fields == set(wire.WireResponse.__struct_fields__)


def test_nothing_on_the_wire_names_a_file_or_an_address_of_a_vendor():
    """There is no field by which a client could name one."""
    names = set(wire.WireRequest.__struct_fields__) | set(wire.WireMedia.__struct_fields__)
    assert not names & {"filename", "headers", "api_key", "endpoint"}


@pytest.mark.parametrize("value", [2**65, {"a": {1, 2}}, object()], ids=["int", "set", "object"])
def test_values_that_have_no_bytes_are_a_clear_error(value):
    """No other error than the caller's own leaves the encoder."""
    with contextlib.suppress(LLMApplicationError):
        data = wire.encode(wire.WireRequest("m", [], options={"x": value}))
        assert wire.decode(data, wire.WireRequest).model_name == "m"
