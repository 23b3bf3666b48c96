"""Each hole of the obvious design, tried at such a server, where it is open, and at ours.

The obvious design: a ROUTER that knows clients by their routing ids and lets a newcomer take one
over, a token inside the messages, plain sockets, requests and cancels found by the id that the
message names. An attack returns what it got hold of.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
import zmq

from aitoolman._service.port import Port

from ..fake_llm import Gate, Reply
from .conftest import TOKEN, until
from .test_security import RawClient, packed


class Naive:
    """The obvious server; its vendor answers a request when the gate opens."""

    def __init__(self):
        self.context = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.router_handover = True
        self.publisher = self.context.socket(zmq.PUB)
        ports = [s.bind_to_random_port("tcp://127.0.0.1") for s in (self.router, self.publisher)]
        self.endpoint, self.pub_endpoint = (f"tcp://127.0.0.1:{port}" for port in ports)
        self.gate = Gate()
        self.running = {}
        self.sent = 0
        self.port = Port(self.router, self.on_frames)

    def on_frames(self, frames):
        route, said = frames[0].bytes, json.loads(frames[1].bytes)
        if said["token"] != TOKEN:
            return
        if said["op"] == "request":
            self.sent += 1
            self.running[said["id"]] = asyncio.ensure_future(self.answer(route, said))
        elif said["op"] == "cancel" and said["id"] in self.running:
            self.running[said["id"]].cancel()

    async def answer(self, route, said):
        self.publisher.send(json.dumps(said).encode())
        await self.gate.wait()
        self.port.send([route, b"secret answer to " + said["id"].encode()])

    @property
    def under_way(self):
        return sum(not task.done() for task in self.running.values())

    @property
    def requests_sent(self):
        return self.sent

    def close(self):
        for task in self.running.values():
            task.cancel()
        self.port.close()
        self.context.destroy(linger=0)

    def client(self, routing_id=None, endpoint=None):
        return NaiveClient(endpoint or self.endpoint, None, routing_id)


class NaiveClient(RawClient):
    """Says what its server wants to hear."""

    async def begin(self):
        """There is nothing to do."""

    def say(self, op, name):
        said = {"op": op, "id": name, "token": TOKEN, "prompt": "secret prompt"}
        self.socket.send(json.dumps(said).encode())


class OurClient(RawClient):
    """Has the token, and uses the protocol as it likes."""

    async def begin(self):
        await self.hello()

    def say(self, op, name):
        self.send(op, name, packed("secret prompt") if op == "request" else None)


class Ours:
    """Our server, seen in the same way."""

    def __init__(self, server, fake_llm):
        self.server, self.fake_llm = server, fake_llm
        self.endpoint, self.pub_endpoint = server.endpoint, server.pub_endpoint
        self.gate = Gate()
        fake_llm.script(lambda seen: Reply("secret answer", gate=self.gate))

    @property
    def under_way(self):
        return len(self.server.requests.running)

    @property
    def requests_sent(self):
        return self.fake_llm.requests_seen

    def client(self, routing_id=None, endpoint=None):
        return OurClient(endpoint or self.endpoint, TOKEN, routing_id)


async def received(client, seconds=0.4):
    """All that arrives at a raw client, as bytes."""
    got = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                if client.socket.poll(0):
                    got += b"".join(client.socket.recv_multipart())
                else:
                    await asyncio.sleep(0.005)
    return got


@contextlib.asynccontextmanager
async def relay(endpoint):
    """A place in the network between client and server: its address, and what it saw going in."""
    host, port = endpoint.removeprefix("tcp://").split(":")
    seen, tasks = bytearray(), []

    async def serve(reader, writer):
        tasks.append(asyncio.current_task())
        with contextlib.suppress(asyncio.CancelledError):
            await pass_on(reader, writer)

    async def pass_on(reader, writer):
        there, back = await asyncio.open_connection(host, int(port))

        async def copy(source, target, kept):
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    kept.extend(data)
                    target.write(data)

        try:
            await asyncio.gather(copy(reader, back, seen), copy(there, writer, bytearray()))
        finally:
            writer.close()
            back.close()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield f"tcp://{host}:{server.sockets[0].getsockname()[1]}", seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.01)  # what was closed is let go by the loop


# Attacks


async def reading_the_network(house, made):
    """What somebody on the way sees of token and prompt."""
    async with relay(house.endpoint) as (endpoint, seen):
        alice = house.client(endpoint=endpoint)
        made.append(alice)
        await alice.begin()
        alice.say("request", "r1")
        await until(lambda: house.under_way)
        await until(lambda: len(seen) > 100)
        return TOKEN.encode() in seen or b"secret prompt" in seen


async def replaying_the_network(house, made):
    """Whether the bytes of another's connection, sent again, are acted on again."""
    async with relay(house.endpoint) as (endpoint, seen):
        alice = house.client(endpoint=endpoint)
        made.append(alice)
        await alice.begin()
        alice.say("request", "r1")
        await until(lambda: house.requests_sent == 1)
    host, port = house.endpoint.removeprefix("tcp://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(bytes(seen[:64]))  # the greeting, which has to be answered first
    await reader.readexactly(64)
    writer.write(bytes(seen[64:]))
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(0.5):
            while await reader.read(1_000):
                pass
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return house.requests_sent > 1


async def listening_to_the_audit(house, made):
    """What a listener without a credential hears."""
    thief = RawClient(house.pub_endpoint, None, kind=zmq.SUB)
    thief.socket.subscribe(b"")
    alice = house.client()
    made += [thief, alice]
    await alice.begin()
    await asyncio.sleep(0.2)  # the subscription has to arrive, where it is let in
    alice.say("request", "r1")
    await until(lambda: house.under_way)
    return b"secret prompt" in await received(thief)


async def taking_an_identity_over(house, made):
    """Whose answer goes to a newcomer under a client's routing id."""
    alice = house.client(b"alice")
    made.append(alice)
    await alice.begin()
    alice.say("request", "r1")
    await until(lambda: house.under_way)
    eve = house.client(b"alice")
    made.append(eve)
    eve.say("cancel", "nothing")
    await received(eve, 0.2)
    house.gate.open()
    return b"secret answer" in await received(eve)


async def squatting_an_identity(house, made):
    """Whether a client finds its own place taken by somebody who was first."""
    eve, bob = house.client(b"bob"), None
    made.append(eve)
    await eve.begin()
    eve.say("cancel", "nothing")
    await received(eve, 0.2)
    if isinstance(house, Naive):  # it knows its clients by name
        house.router.router_handover = False
        bob = house.client(b"bob")
        made.append(bob)
        bob.say("request", "r1")
        await asyncio.sleep(0.3)
        return not house.under_way
    from aitoolman import LLMZmqClient, Message

    async with LLMZmqClient(house.endpoint, TOKEN) as client:
        await client.request("fast", [Message("user", "hi")])
        await until(lambda: house.under_way)
    return False


async def stealing_a_late_answer(house, made):
    """What somebody gets who comes under a departed client's routing id and asks nothing."""
    alice = house.client(b"alice")
    await alice.begin()
    alice.say("request", "r1")
    await until(lambda: house.under_way)
    alice.close()
    await asyncio.sleep(0.1)
    eve = house.client(b"alice")
    made.append(eve)
    await eve.begin()
    eve.say("cancel", "nothing")
    await received(eve, 0.2)
    house.gate.open()
    return b"secret answer" in await received(eve)


async def cancelling_anothers_request(house, made):
    """Whether naming an id is enough to end another's request."""
    alice, eve = house.client(), house.client()
    made += [alice, eve]
    await alice.begin()
    await eve.begin()
    alice.say("request", "r1")
    await until(lambda: house.under_way)
    eve.say("cancel", "r1")
    await received(eve, 0.3)
    return not house.under_way


ATTACKS = [
    reading_the_network, replaying_the_network, listening_to_the_audit, taking_an_identity_over,
    squatting_an_identity, stealing_a_late_answer, cancelling_anothers_request,
]  # fmt: skip


@pytest.fixture
def made():
    """Raw clients, closed with the test."""
    clients = []
    yield clients
    for client in clients:
        client.close()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_the_obvious_server_is_open_to(attack, made):
    """The attack works: what it would show of our server, it does show."""
    house = Naive()
    try:
        assert await attack(house, made)
    finally:
        house.close()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_our_server_is_closed_to(attack, made, fake_llm, server):
    """The same attack, by somebody who even has a token where that helps, gets nothing."""
    house = Ours(server, fake_llm)
    assert not await attack(house, made)
    house.gate.open()
