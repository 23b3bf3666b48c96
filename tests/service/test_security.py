"""Every hole of a shared socket, tried: who can read, pose, cancel, steal and squat."""

from __future__ import annotations

import asyncio
import os
import time

import msgspec
import pytest
import zmq
from zmq.utils.z85 import encode as z85_encode

from aitoolman import LLMApiRequestError, LLMConfigError, Message
from aitoolman._service.security import (
    SERVER_PUBLIC,
    SERVER_SECRET,
    check_token,
    is_local,
    new_token,
    token_keys,
    z85,
)
from aitoolman._service.server import LLMServer
from aitoolman._transport import wire
from aitoolman.zmqclient import LLMZmqClient

from ..fake_llm import Reply
from .conftest import OTHER_TOKEN, QUICK, TOKEN, until

HI = [Message("user", "a secret prompt")]


class RawClient:
    """A client that says what it likes, under the routing id it likes."""

    def __init__(self, endpoint, token=TOKEN, routing_id=None, kind=zmq.DEALER, rcvhwm=1_000):
        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        self.socket.linger, self.socket.rcvhwm = 0, rcvhwm
        if routing_id is not None:
            self.socket.routing_id = routing_id
        if token is not None:
            keys = token_keys(token)
            self.socket.curve_serverkey = SERVER_PUBLIC()
            self.socket.curve_publickey, self.socket.curve_secretkey = keys.public, keys.secret
        self.socket.connect(endpoint)

    def send(self, op, request_id="", body=None, version=wire.VERSION):
        header = wire.encode(wire.Header(version, op, request_id))
        self.socket.send_multipart([header, b"" if body is None else wire.encode(body)])

    async def receive(self, timeout=3.0):
        """The next message, or None."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                await asyncio.sleep(0.005)
            else:
                return wire.decode(frames[0], wire.Header), frames[1]
        return None

    async def hello(self, session=""):
        self.send("hello", body=wire.Hello(b"challenge", session))
        header, body = await self.receive()
        assert header.op == "welcome"
        return wire.decode(body, wire.Welcome)

    def close(self):
        self.context.destroy(linger=0)


@pytest.fixture
def raw():
    """Makes raw clients that are closed with the test."""
    made = []

    def make(*arguments, **options):
        made.append(RawClient(*arguments, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def packed(text="hi", stream=False):
    return wire.WireRequest("fast", [wire.WireMessage("user", text)], stream=stream)


# Reading


async def test_neither_token_nor_prompt_can_be_read_on_the_way(fake_llm, server):
    """A relay between client and server sees neither the token nor a word of the prompt."""
    seen = bytearray()
    host, port = "127.0.0.1", int(server.endpoint.rpartition(":")[2])

    async def relay(reader, writer):
        other_reader, other_writer = await asyncio.open_connection(host, port)

        async def copy(source, target):
            while data := await source.read(65536):
                seen.extend(data)
                target.write(data)
            target.close()

        await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))

    middle = await asyncio.start_server(relay, host, 0)
    endpoint = f"tcp://{host}:{middle.sockets[0].getsockname()[1]}"
    async with LLMZmqClient(endpoint, TOKEN) as client:
        request = await client.request("fast", HI)
        assert (await request.response).finish_reason == "stop"
    middle.close()
    assert len(seen) > 500
    assert TOKEN.encode() not in seen
    assert b"secret prompt" not in seen


@pytest.mark.parametrize("token", [None, OTHER_TOKEN])
async def test_the_audit_cannot_be_read_without_the_token(fake_llm, server, client, raw, token):
    """A listener with no token, or a wrong one, receives nothing; one with it receives."""
    thief = raw(server.pub_endpoint, token, kind=zmq.SUB)
    owner = raw(server.pub_endpoint, TOKEN, kind=zmq.SUB)
    for listener in (thief, owner):
        listener.socket.subscribe(b"")
    await until(lambda: owner.socket.poll(0))
    request = await client.request("fast", HI)
    await request.response
    await until(lambda: owner.socket.poll(0))
    assert not thief.socket.poll(100)


async def test_a_client_without_the_right_may_not_follow_the_audit(serve, server_config, raw):
    """A named client reads others' prompts only with `monitor = true`."""
    server_config["server"]["tokens"] = {"eve": {"token": OTHER_TOKEN}}
    server = await serve(server_config)
    eve = raw(server.pub_endpoint, OTHER_TOKEN, kind=zmq.SUB)
    eve.socket.subscribe(b"")
    assert not eve.socket.poll(300)
    asking = raw(server.endpoint, OTHER_TOKEN)
    await asking.hello()
    asking.send("page", "p", wire.Page(0))
    header, body = await asking.receive()
    assert header.op == "refused"
    assert "may not read the audit" in wire.decode(body, wire.Refusal).reason


# Posing


async def test_a_server_that_does_not_know_the_token_learns_nothing(fake_llm):
    """Whoever answers must prove the token before a prompt leaves; a false proof is refused."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    router.curve_server, router.curve_secretkey = True, SERVER_SECRET
    port = router.bind_to_random_port("tcp://127.0.0.1")
    client = LLMZmqClient(f"tcp://127.0.0.1:{port}", TOKEN, timing=QUICK)
    try:
        async with client:
            request = await client.request("fast", HI)
            await until(lambda: router.poll(0))
            route, *said = router.recv_multipart()
            assert b"secret prompt" not in b"".join(said)
            welcome = wire.Welcome(bytes(16), "s", "b", "default", 10**6, 10, "resend")
            header = wire.encode(wire.Header(wire.VERSION, "welcome"))
            router.send_multipart([route, header, wire.encode(welcome)])
            response = await request.response
        assert "does not know the token" in response.error_text
        assert "wrong server" in response.error_text
        assert not router.poll(50)
    finally:
        context.destroy(linger=0)


async def test_published_rows_that_are_not_the_servers_are_not_believed(server):
    """Rows published by somebody without the token are counted and left out."""
    from aitoolman._service.follower import AuditFollower

    context = zmq.Context()
    false = context.socket(zmq.PUB)
    false.linger = 0
    false.curve_server, false.curve_secretkey = True, SERVER_SECRET
    port = false.bind_to_random_port("tcp://127.0.0.1")
    try:
        async with AuditFollower(f"tcp://127.0.0.1:{port}", keys=token_keys(TOKEN)) as follower:
            beat = wire.encode(wire.Beat("ledger", 5))
            header = wire.encode(wire.Header(wire.VERSION, "beat"))

            def speak():
                false.send_multipart([header, beat, wire.encode({"x": bytes(16)})])
                return follower.unproven

            await until(speak)
            assert follower.beat is None
    finally:
        context.destroy(linger=0)


async def test_a_second_client_cannot_take_a_routing_id_over(fake_llm, server, raw):
    """Whoever comes second under an id gets nothing, and the first keeps its answers."""
    fake_llm.script(Reply("for alice", delay=0.3))
    alice = raw(server.endpoint, routing_id=b"alice")
    await alice.hello()
    alice.send("request", "r1", packed())
    await until(lambda: server.requests.running)
    eve = raw(server.endpoint, routing_id=b"alice")
    eve.send("hello", body=wire.Hello(b"c"))
    header, body = await alice.receive()
    assert (header.op, header.id) == ("answer", "r1")
    assert wire.decode(body, wire.WireResponse).response_text == "for alice"
    assert await eve.receive(0.2) is None


async def test_a_late_answer_does_not_go_to_whoever_took_the_place(fake_llm, serve, raw):
    """Another client under a departed one's routing id gets nothing of what that one asked."""
    server = await serve(lease=0.5, grace=0.5)
    fake_llm.script(Reply("for alice", delay=0.4))
    alice = raw(server.endpoint, routing_id=b"alice")
    await alice.hello()
    alice.send("request", "r1", packed())
    await until(lambda: server.requests.running)
    alice.close()
    eve = raw(server.endpoint, routing_id=b"alice")
    await eve.hello()
    assert await eve.receive(0.8) is None


async def test_routing_ids_of_the_client_are_random_and_secret(fake_llm, serve, server_config):
    """They are long, differ between connections, and stand in no audit row."""
    server = await serve()
    async with (
        LLMZmqClient(server.endpoint, TOKEN) as one,
        LLMZmqClient(server.endpoint, TOKEN) as two,
    ):
        for client in (one, two):
            await (await client.request("fast", HI)).response
        routes = list(server.reception.routes)
        rows = msgspec.json.encode((await server.audit.page(0, 100)).events)
    assert len(routes) == 2
    for route in routes:
        assert len(route) >= 16
        assert route.hex().encode() not in rows
    for session in server.reception.sessions:
        assert session.encode() not in rows


async def test_a_client_cannot_cancel_anothers_request(fake_llm, server, raw):
    """Request ids of others mean nothing, with the same token or another."""
    fake_llm.script(Reply("x", hang=True))
    alice, eve = raw(server.endpoint), raw(server.endpoint)
    await alice.hello()
    await eve.hello()
    alice.send("request", "r1", packed())
    await fake_llm.reaches(lambda f: f.open_requests == 1)
    eve.send("cancel", "r1")
    eve.send("ping")
    header, _ = await eve.receive()
    assert header.op == "pong"
    assert len(server.requests.running) == 1
    alice.send("cancel", "r1")
    header, _ = await alice.receive()
    assert (header.op, header.id) == ("answer", "r1")


async def test_a_session_is_for_the_client_it_was_given_to(serve, server_config, raw):
    """Neither an invented session nor another client's is taken up; one's own is."""
    server_config["server"]["tokens"] = {"eve": {"token": OTHER_TOKEN}}
    server = await serve(server_config)
    alice = await raw(server.endpoint).hello()
    assert (await raw(server.endpoint, OTHER_TOKEN).hello(alice.session)).session != alice.session
    assert (await raw(server.endpoint).hello("0" * 64)).session != "0" * 64
    assert (await raw(server.endpoint).hello(alice.session)).session == alice.session


async def test_without_hello_nothing_is_served(server, raw):
    """A request on a connection that has no session is told to say hello."""
    client = raw(server.endpoint)
    client.send("request", "r1", packed())
    header, _ = await client.receive()
    assert (header.op, header.id) == ("stale", "r1")
    assert not server.requests.running


# Refusals


async def refusal(endpoint, token):
    async with LLMZmqClient(endpoint, token) as client:
        started = time.monotonic()
        response = await (await client.request("fast", HI)).response
        assert time.monotonic() - started < 3  # a second, on a quiet machine
        assert response.finish_reason == "error: request"
        with pytest.raises(LLMApiRequestError):
            await client.describe("fast")
        return response.error_text


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_a_wrong_token_is_told_so(serve, server_config, tmp_path, transport):
    """The sentence names both possibilities, as they cannot be told apart; the audit has a row."""
    if transport == "ipc":
        server_config["server"]["zmq_router_rpc"] = f"ipc://{tmp_path}/r"
    server = await serve(server_config)
    text = await refusal(server.endpoint, OTHER_TOKEN)
    assert "the token is wrong, or this is the wrong server" in text
    rows = (await server.audit.page(0, 100)).events
    assert any("unknown token" in event.values.get("error", "") for event in rows)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_a_client_without_a_token_is_told_to_give_one(
    serve, server_config, tmp_path, transport
):
    """A plain client at an encrypted server gets a sentence, not silence."""
    if transport == "ipc":
        server_config["server"]["zmq_router_rpc"] = f"ipc://{tmp_path}/r"
    server = await serve(server_config)
    assert "wants a token" in await refusal(server.endpoint, None)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_a_token_for_a_server_without_one_is_told_so(
    serve, server_config, tmp_path, transport
):
    """An encrypting client at a plain server gets a sentence, too."""
    if transport == "ipc":
        server_config["server"]["zmq_router_rpc"] = f"ipc://{tmp_path}/r"
    del server_config["server"]["zmq_auth_token"]
    server = await serve(server_config)
    assert "has no token" in await refusal(server.endpoint, TOKEN)


async def test_something_that_is_no_server_is_told_so():
    """A web server at the address is named as what it is not."""

    async def answer(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n" * 3)
        await writer.drain()
        writer.close()

    web = await asyncio.start_server(answer, "127.0.0.1", 0)
    endpoint = f"tcp://127.0.0.1:{web.sockets[0].getsockname()[1]}"
    assert "is no aitoolman server" in await refusal(endpoint, None)
    web.close()


async def test_another_version_of_the_protocol_is_told_so(server, raw):
    """The server names both versions."""
    client = raw(server.endpoint)
    client.send("hello", body=wire.Hello(b"c"), version=99)
    header, body = await client.receive()
    assert header.op == "refused"
    assert "99" in wire.decode(body, wire.Refusal).reason


# Tokens


async def test_a_client_may_use_its_models_only(fake_llm, serve, server_config):
    """`[server.tokens.NAME] models` holds for calls, descriptions and previews."""
    server_config["api"]["slow"] = server_config["api"]["fast"]
    server_config["server"]["tokens"] = {"bob": {"token": OTHER_TOKEN, "models": ["slow"]}}
    server = await serve(server_config)
    async with LLMZmqClient(server.endpoint, OTHER_TOKEN) as client:
        assert (await (await client.request("slow", HI)).response).finish_reason == "stop"
        response = await (await client.request("fast", HI)).response
        assert "'bob' may not use the model 'fast'; allowed: slow" in response.error_text
        for question in (client.describe("fast"), client.preview("fast", HI)):
            with pytest.raises(LLMApiRequestError, match="may not use"):
                await question
    rows = (await server.audit.page(0, 100)).events
    assert {e.values["client"].partition("#")[0] for e in rows if "client" in e.values} == {"bob"}


async def test_the_token_can_come_from_the_environment(fake_llm, server, monkeypatch):
    """AITOOLMAN_TOKEN stands in for an argument that is not given."""
    monkeypatch.setenv("AITOOLMAN_TOKEN", TOKEN)
    async with LLMZmqClient(server.endpoint) as client:
        assert (await (await client.request("fast", HI)).response).finish_reason == "stop"


def test_short_tokens_warn_and_very_short_ones_are_errors(server_config):
    """Under 8 characters nothing starts; the token itself is never shown."""
    assert check_token("abcdefg", "k")[0] is not None
    assert check_token("abcdefgh", "k") == (None, check_token("abcdefgh", "k")[1])
    assert "might be guessed" in check_token("abcdefgh", "k")[1]
    assert "might be guessed" in check_token("a" * 30, "k")[1]
    assert check_token(new_token(), "k") == (None, None)
    server_config["server"]["zmq_auth_token"] = "hunter2"
    with pytest.raises(LLMConfigError, match="at least 8") as caught:
        LLMServer(server_config)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(LLMConfigError, match="at least 8"):
        LLMZmqClient("tcp://localhost:1", "hunter2")


def test_one_token_for_two_clients_is_an_error(server_config):
    """Who asks must be known."""
    server_config["server"]["tokens"] = {"bob": {"token": TOKEN}}
    with pytest.raises(LLMConfigError, match="same token") as caught:
        LLMServer(server_config)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("key", ["zmq_router_rpc", "zmq_pub_event"])
def test_an_open_network_address_needs_an_explicit_switch(server_config, key):
    """Without a token only this machine can be served, unless `insecure` says otherwise."""
    server_config["server"][key] = "tcp://*:*"
    LLMServer(server_config)
    del server_config["server"]["zmq_auth_token"]
    with pytest.raises(LLMConfigError, match=f"server.{key}.*insecure = true"):
        LLMServer(server_config)
    server_config["server"]["insecure"] = True
    LLMServer(server_config)


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("tcp://127.0.0.1:5555", True),
        ("tcp://[::1]:5555", True),
        ("tcp://localhost:5555", True),
        ("ipc:///tmp/x", True),
        ("tcp://*:5555", False),
        ("tcp://0.0.0.0:5555", False),
        ("tcp://eth0:5555", False),
        ("tcp://10.0.0.1:5555", False),
        ("tcp://localhost.evil.example:5555", False),
    ],
)
def test_local_addresses_are_told_from_others(endpoint, local):
    """Names that are not certainly of this machine count as the network."""
    assert is_local(endpoint) is local


def test_a_server_needs_its_address(server_config):
    """The error names the key."""
    del server_config["server"]["zmq_router_rpc"]
    with pytest.raises(LLMConfigError, match=r"server\.zmq_router_rpc"):
        LLMServer(server_config)


def test_keys_are_those_of_zeromq():
    """Our text form of keys is ZeroMQ's, and a token's keys fit together."""
    raw_key = os.urandom(32)
    assert z85(raw_key) == z85_encode(raw_key)
    keys = token_keys(TOKEN)
    assert zmq.curve_public(keys.secret) == keys.public
    assert keys == token_keys(TOKEN)
    assert keys.public != token_keys(OTHER_TOKEN).public
    assert keys.secret.decode() not in repr(keys)


def test_no_token_shows_in_a_repr(server_config):
    """Client and guests show names, not secrets."""
    server = LLMServer(server_config)
    shown = repr(LLMZmqClient("tcp://localhost:1", TOKEN)) + repr(server.guests.by_name)
    assert TOKEN not in shown + repr(server)
    assert token_keys(TOKEN).secret.decode() not in shown
