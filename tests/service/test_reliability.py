"""Nothing hangs, nothing is paid twice, nobody slows others: leases, restarts, queues."""

from __future__ import annotations

import asyncio
import functools
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import zmq

from aitoolman import LLMConfigError, Message
from aitoolman._service.follower import AuditFollower
from aitoolman._service.security import token_keys
from aitoolman._service.server import LLMServer
from aitoolman._service.sessions import Session
from aitoolman._transport import wire
from aitoolman.zmqclient import LLMZmqClient

from ..fake_llm import Gate, Reply
from .conftest import QUICK, TOKEN, Sink, until
from .processes import ROOT, ServerProcess, audit_problems
from .test_security import RawClient, packed

HI = [Message("user", "hi")]


@pytest.fixture
def process(fake_llm, tmp_path):
    """A server in a process of its own."""
    server = ServerProcess(tmp_path / "server", fake_llm.openai_url).start()
    yield server
    server.kill()


@pytest.fixture
def raw(server):
    client = RawClient(server.endpoint)
    yield client
    client.close()


async def ask(client, text="hi", **options):
    request = await client.request("fast", [Message("user", text)], **options)
    return await request.response


# Idempotence


async def test_a_request_that_comes_twice_is_sent_once(fake_llm, server, raw):
    """The second arrival joins the first while that runs, and gets its answer afterwards."""
    gate = Gate()
    fake_llm.script(lambda request: Reply("once", gate=gate))
    await raw.hello()
    raw.send("request", "r1", packed())
    await fake_llm.reaches(lambda f: f.open_requests == 1)
    raw.send("request", "r1", packed())
    gate.open()
    first, _ = await raw.receive()
    raw.send("request", "r1", packed())
    second, body = await raw.receive()
    assert (first.op, second.op, first.id, second.id) == ("answer", "answer", "r1", "r1")
    assert wire.decode(body, wire.WireResponse).response_text == "once"
    assert len(fake_llm.requests) == 1


async def test_a_client_that_comes_back_goes_on_where_it_was(fake_llm, server):
    """A connection that is cut in the middle of a stream costs no fragment and doubles none."""
    gate = Gate()
    pieces = [f"{n} " for n in range(20)]
    fake_llm.script(Reply("".join(pieces), chunks=pieces, gate=gate, pause_at=10))
    async with LLMZmqClient(server.endpoint, TOKEN, timing=QUICK) as client:
        sink = Sink()
        request = await client.request("fast", HI, stream=True, output_channel=sink)
        await until(lambda: len(sink.got) >= 8)
        client._engine.links[0]._drop()
        gate.open()
        response = await request.response
    assert sink.text == response.response_text == "".join(pieces)
    assert sink.got.count(None) == 1
    assert len(fake_llm.requests) == 1


async def test_finished_answers_wait_for_latecomers_within_bounds(fake_llm, server, raw):
    """They are kept by size and age, the oldest going first."""
    from aitoolman._service.answers import FinishedAnswers

    kept = FinishedAnswers(max_bytes=100, keep_seconds=0.05)
    for n in range(20):
        kept.add("s", str(n), b"x" * 10)
    assert (len(kept), kept.size) == (10, 100)
    assert kept.get("s", "9") is None
    assert kept.get("s", "19") == b"x" * 10
    assert kept.get("t", "19") is None
    await asyncio.sleep(0.06)
    kept.forget_old()
    assert (len(kept), kept.size, kept._by_session) == (0, 0, {})


# Restarts


async def test_a_killed_server_that_comes_back_answers_everything(fake_llm, process):
    """20 requests in flight at a SIGKILL: each ends once, sent twice at most, audit whole."""
    gate = Gate()
    fake_llm.script(lambda request: Reply(request.last_text, gate=gate))
    async with LLMZmqClient(process.endpoint, TOKEN) as client:
        calls = [asyncio.create_task(ask(client, f"n{n}")) for n in range(20)]
        await fake_llm.reaches(lambda f: f.open_requests == 10)
        await until(lambda: sum(row["kind"] == "request" for row in process.rows()) == 20)
        process.kill()
        gate.open()
        await asyncio.to_thread(process.start)
        answers = [await call for call in calls]
    assert [answer.response_text for answer in answers] == [f"n{n}" for n in range(20)]
    texts = [request.last_text for request in fake_llm.requests]
    assert len(texts) <= 30
    assert all(texts.count(f"n{n}") <= 2 for n in range(20))
    process.terminate()
    rows = process.rows()
    assert not audit_problems(rows)
    assert sum(row["kind"] == "cut" for row in rows) == 20


async def test_an_answer_that_was_written_is_not_paid_again(fake_llm, process):
    """The server dies after its answer was written: its client gets that one from the ledger."""
    client = RawClient(process.endpoint)
    session = (await client.hello()).session
    client.send("request", "r1", packed())
    await client.receive()
    client.close()
    process.kill()
    await asyncio.to_thread(process.start)
    again = RawClient(process.endpoint)
    assert (await again.hello(session)).session == session
    body = packed()
    body.again = True
    again.send("request", "r1", body)
    header, answer = await again.receive()
    assert header.op == "answer"
    assert wire.decode(answer, wire.WireResponse).response_text == "hi"
    assert len(fake_llm.requests) == 1
    again.close()


async def test_a_stream_that_a_restart_breaks_says_so(fake_llm, process):
    """Text that was passed on is not mixed with another answer's: the call fails, text kept."""
    fake_llm.script(Reply("one two", chunks=["one ", "two"], hang=True, pause_at=2))
    async with LLMZmqClient(process.endpoint, TOKEN) as client:
        sink = Sink()
        request = await client.request("fast", HI, stream=True, output_channel=sink)
        await until(lambda: sink.got)
        process.kill()
        await asyncio.to_thread(process.start)
        response = await request.response
    assert response.finish_reason == "error: request"
    assert "middle of this answer" in response.error_text
    assert response.response_text == "one "
    assert sink.got == ["one ", None]


async def test_a_server_can_be_told_not_to_repeat(fake_llm, tmp_path):
    """`on_server_restart = "fail"`: what was under way fails, and the vendor is not asked again."""
    fake_llm.script(Reply("x", hang=True))
    process = ServerProcess(
        tmp_path / "server", fake_llm.openai_url, server='on_server_restart = "fail"'
    ).start()
    try:
        async with LLMZmqClient(process.endpoint, TOKEN) as client:
            request = await client.request("fast", HI)
            await fake_llm.reaches(lambda f: f.open_requests == 1)
            process.kill()
            await asyncio.to_thread(process.start)
            response = await request.response
            assert 'on_server_restart = "fail"' in response.error_text
        assert len(fake_llm.requests) == 1
    finally:
        process.kill()


async def test_a_server_gone_for_good_is_an_error_in_time(fake_llm, process):
    """Outstanding and new requests end with a sentence; nothing hangs."""
    fake_llm.script(Reply("x", hang=True))
    async with LLMZmqClient(process.endpoint, TOKEN, timing=QUICK) as client:
        requests = [await client.request("fast", HI) for _ in range(5)]
        await fake_llm.reaches(lambda f: f.open_requests == 5)
        process.kill()
        requests.append(await client.request("fast", HI))
        for request in requests:
            response = await request.response
            assert "no server answers" in response.error_text


async def test_a_frozen_server_is_an_error_in_time(fake_llm, process):
    """A server that stands still, its connection open, is given up as well."""
    async with LLMZmqClient(process.endpoint, TOKEN, timing=QUICK) as client:
        await ask(client)
        process.signal(signal.SIGSTOP)
        response = await ask(client)
        assert "no server answers" in response.error_text
        process.signal(signal.SIGCONT)
        await until(lambda: client._engine.links[0].ready is False)
        assert (await ask(client)).finish_reason == "stop"


@pytest.mark.timeout(40)
async def test_a_thawed_server_drops_what_was_in_line(fake_llm, process):
    """Queued requests of a server frozen past its lease never reach the vendor."""
    fake_llm.script(lambda request: Reply("x", delay=1.0))
    async with LLMZmqClient(process.endpoint, TOKEN, timing=QUICK) as client:
        requests = [await client.request("fast", [Message("user", f"n{n}")]) for n in range(30)]
        await fake_llm.reaches(lambda f: f.open_requests == 10)
        process.signal(signal.SIGSTOP)
        for request in requests:
            await request.response
        await asyncio.sleep(3)
        process.signal(signal.SIGCONT)
    async with LLMZmqClient(process.endpoint, TOKEN) as other:
        assert (await ask(other, "afterwards")).finish_reason == "stop"
    assert len(fake_llm.requests) == 11
    process.terminate()
    assert not audit_problems(process.rows())


async def test_sigterm_lets_requests_finish(fake_llm, process):
    """A graceful stop: what runs is answered, the process ends with 0, and nothing is cut."""
    gate = Gate()
    fake_llm.script(lambda request: Reply("done", gate=gate))
    async with LLMZmqClient(process.endpoint, TOKEN, timing=QUICK) as client:
        request = await client.request("fast", HI)
        await fake_llm.reaches(lambda f: f.open_requests == 1)
        ended = asyncio.create_task(asyncio.to_thread(process.terminate))
        await until(lambda: "stopping" in (process.folder / "log").read_text())
        gate.open()
        assert (await request.response).response_text == "done"
        assert await ended == 0
    rows = process.rows()
    assert [row["kind"] for row in rows] == ["start", "request", "call"]


def test_two_servers_do_not_share_a_ledger(fake_llm, process):
    """The second one refuses to start and says which key to change."""
    done = subprocess.run(
        [sys.executable, "-m", "aitoolman", "server"],
        cwd=process.folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=15,
    )  # fmt: skip
    assert done.returncode == 1
    assert "in use by another server" in done.stderr
    assert "ledger.path" in done.stderr


# Leases


async def test_a_dead_clients_requests_are_cancelled_after_its_lease(fake_llm, serve, tmp_path):
    """A client killed with 7 requests under way: all 7 end at the vendor, and leave no session."""
    server = await serve(lease=1.0, grace=0.5)
    fake_llm.script(Reply("x", hang=True))
    code = f"""
import asyncio
from aitoolman import Message
from aitoolman.zmqclient import LLMZmqClient
async def main():
    async with LLMZmqClient({server.endpoint!r}, {TOKEN!r}) as client:
        for _ in range(7):
            await client.request("fast", [Message("user", "hi")])
        await asyncio.sleep(60)
asyncio.run(main())
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)  # noqa: ASYNC220
    try:
        await fake_llm.reaches(lambda f: f.open_requests == 7, timeout=15)
    finally:
        child.kill()
        child.wait()
    await fake_llm.reaches(lambda f: f.closed_early == 7)
    await until(
        lambda: (
            not server.requests.running
            and not server.reception.sessions
            and not server.reception.routes
        )
    )


async def test_a_client_that_leaves_is_forgotten_at_once(fake_llm, server):
    """Closing a client cancels its requests and ends its session."""
    fake_llm.script(Reply("x", hang=True))
    async with LLMZmqClient(server.endpoint, TOKEN) as client:
        await client.request("fast", HI)
        await fake_llm.reaches(lambda f: f.open_requests == 1)
    await fake_llm.reaches(lambda f: f.closed_early == 1)
    await until(lambda: not server.reception.sessions and not server.requests.running)


async def test_a_client_that_stood_still_past_its_lease_starts_afresh(fake_llm, serve):
    """Its session was ended; its next request gets a new one without the caller noticing."""
    server = await serve(lease=0.3, grace=0.3)
    client = LLMZmqClient(server.endpoint, TOKEN)
    await ask(client)
    client.home.call_soon_threadsafe(time.sleep, 0.8)
    await until(lambda: not server.reception.sessions)
    assert (await ask(client)).finish_reason == "stop"
    await client.close()


async def test_a_blocked_client_gets_its_answer_after_all(fake_llm, serve):
    """Work that was cancelled with the lease is asked for again when the client wakes up."""
    server = await serve(lease=0.3, grace=0.3)
    gate = Gate()
    fake_llm.script(lambda request: Reply("x", gate=gate))
    client = LLMZmqClient(server.endpoint, TOKEN)
    request = await client.request("fast", HI)
    await fake_llm.reaches(lambda f: f.open_requests == 1)
    client.home.call_soon_threadsafe(time.sleep, 0.8)
    await fake_llm.reaches(lambda f: f.closed_early == 1)
    gate.open()
    assert (await request.response).response_text == "x"
    await client.close()


# Queues


async def test_a_full_server_says_busy_with_its_queue_length(fake_llm, serve):
    """The client asks again for a while, then fails with the number in line."""
    server = await serve(max_total=2)
    gate = Gate()
    fake_llm.script(lambda request: Reply("x", gate=gate))
    async with (
        LLMZmqClient(server.endpoint, TOKEN, timing=QUICK._replace(gone=0.5)) as hasty,
        LLMZmqClient(server.endpoint, TOKEN) as patient,
    ):
        held = [asyncio.create_task(ask(patient)) for _ in range(2)]
        await fake_llm.reaches(lambda f: f.open_requests == 2)
        waiting = asyncio.create_task(ask(patient))
        response = await ask(hasty)
        assert "is full: 2 requests are in line" in response.error_text
        gate.open()
        for call in [*held, waiting]:
            assert (await call).finish_reason == "stop"


async def test_a_client_keeps_back_what_a_session_may_not_have(fake_llm, serve):
    """More requests than a session may have under way wait at the client, none is refused."""
    server = await serve(max_requests=3)
    seen = []
    fake_llm.script(lambda request: (seen.append(len(server.requests.running)), Reply("x"))[1])
    async with LLMZmqClient(server.endpoint, TOKEN) as client:
        answers = await asyncio.gather(*(ask(client) for _ in range(30)))
    assert {answer.finish_reason for answer in answers} == {"stop"}
    assert max(seen) <= 3


async def test_a_slow_client_is_cut_off_and_slows_nobody(fake_llm, serve, monkeypatch):
    """One that stops reading is cut when its queue is full; another's calls go on meanwhile."""
    monkeypatch.setattr("aitoolman._service.sessions.MAX_QUEUE_BYTES", 300_000)
    server = await serve()
    text = "x" * 30_000
    fake_llm.script(lambda request: Reply(text))
    async with LLMZmqClient(server.endpoint, TOKEN) as other:
        slow = RawClient(server.endpoint, rcvhwm=1)
        try:
            await slow.hello()
            (session,) = server.reception.sessions.values()
            for n in range(900):
                slow.send("request", f"r{n}", packed())
            assert (await ask(other)).response_text == text
            await until(lambda: session.name not in server.reception.sessions, timeout=15)
            assert (await ask(other)).response_text == text
        finally:
            slow.close()


def test_fragments_for_a_slow_client_are_merged():
    """What waits for a client that does not read is few, large pieces of the same text."""

    class Full:
        def send(self, frames):
            raise zmq.Again

    loop = asyncio.new_event_loop()
    try:
        from aitoolman._service.calls import Call
        from aitoolman._service.security import Guest

        session = Session("s", Guest("g", None, None, True), Full(), lambda: None)
        session.route = b"route"
        call = Call(session, "r", packed(stream=True), 1, loop)

        async def stream():
            for n in range(1_000):
                await call.request.output_channel.write(f"{n} ")
                call.flush()

        loop.run_until_complete(stream())
        assert call.pending_bytes == len("".join(f"{n} " for n in range(1_000)))
        _, body = call.pack_pieces()
        assert len(wire.decode(body, wire.Pieces).pieces) == 1
        assert len(session._queue) == 1
    finally:
        loop.close()


@pytest.mark.parametrize(
    "count", [1_000, pytest.param(50_000, marks=[pytest.mark.long, pytest.mark.timeout(120)])]
)
async def test_a_batch_does_not_starve_an_interactive_client(
    fake_llm, serve, provider_config, count
):
    """With thousands of rows in line, another client's call is among the next to be sent."""
    provider_config["default"]["parallel"] = 2
    order = []
    gate = Gate()
    fake_llm.script(lambda r: (order.append(r.last_text), Reply("x", gate=gate))[1])
    server = await serve()
    async with (
        LLMZmqClient(server.endpoint, TOKEN) as batch,
        LLMZmqClient(server.endpoint, TOKEN) as person,
    ):
        rows = [
            asyncio.create_task(ask(batch, "row", context_id=f"batch/{n}")) for n in range(count)
        ]
        in_line = min(count, server.limits.max_requests)  # the client keeps the others back
        await until(lambda: len(server.requests.running) == in_line, timeout=60)
        question = asyncio.create_task(ask(person, "question"))
        await until(lambda: len(server.requests.running) == in_line + 1, timeout=60)
        gate.open()
        await question
        assert order.index("question") <= 4
        await batch.cancel_all()
        await asyncio.gather(*rows)


# Several servers


@pytest.fixture
async def pair(serve, server_config, tmp_path):
    """Two servers with one vendor."""
    other = server_config | {"ledger": {"path": str(tmp_path / "other.db")}}
    return [await serve(), await serve(other)]


def endpoints(servers):
    return ",".join(server.endpoint for server in servers)


async def test_calls_go_to_the_server_with_the_fewest(fake_llm, pair):
    """Ten calls under way are five at each."""
    fake_llm.script(Reply("x", hang=True))
    async with LLMZmqClient(endpoints(pair), TOKEN) as client:
        await client.describe("fast")
        await until(lambda: all(link.ready for link in client._engine.links))
        for _ in range(10):
            await client.request("fast", HI)
        await until(lambda: [len(server.requests.running) for server in pair] == [5, 5])
        await client.cancel_all()
    await until(lambda: not any(server.requests.running for server in pair))


async def test_a_context_stays_with_its_server(fake_llm, pair):
    """Calls of one context meet one server's caches, also when others are less busy."""
    fake_llm.script(Reply("x", hang=True))
    async with LLMZmqClient([server.endpoint for server in pair], TOKEN) as client:
        await client.describe("fast")
        await until(lambda: all(link.ready for link in client._engine.links))
        for _ in range(6):
            await client.request("fast", HI, context_id="talk")
        await until(lambda: sorted(len(server.requests.running) for server in pair) == [0, 6])


async def test_a_cancel_goes_to_the_owner(fake_llm, pair):
    """Each of two calls on two servers can be cancelled by its id."""
    fake_llm.script(Reply("x", hang=True))
    async with LLMZmqClient(endpoints(pair), TOKEN) as client:
        await client.describe("fast")
        await until(lambda: all(link.ready for link in client._engine.links))
        requests = [await client.request("fast", HI) for _ in range(2)]
        await fake_llm.reaches(lambda f: f.open_requests == 2)
        for request in requests:
            await client.cancel(request.request_id)
            assert (await request.response).finish_reason == "cancelled"


async def test_a_lost_servers_calls_go_to_the_other(fake_llm, tmp_path):
    """One of two is killed: all calls are answered, each sent once more at most."""
    gate = Gate()
    fake_llm.script(lambda request: Reply(request.last_text, gate=gate))
    servers = [
        ServerProcess(tmp_path / name, fake_llm.openai_url).start() for name in ("one", "two")
    ]
    try:
        async with LLMZmqClient(endpoints(servers), TOKEN) as client:
            await client.describe("fast")
            await until(lambda: all(link.ready for link in client._engine.links))
            calls = [asyncio.create_task(ask(client, f"n{n}")) for n in range(10)]
            await fake_llm.reaches(lambda f: f.open_requests == 10)
            servers[0].kill()
            await fake_llm.reaches(lambda f: len(f.requests) == 15)
            gate.open()
            assert [(await call).response_text for call in calls] == [f"n{n}" for n in range(10)]
            assert len(fake_llm.requests) == 15
    finally:
        for server in servers:
            server.kill()


async def test_what_a_stopping_server_does_not_finish_goes_to_the_other(fake_llm, pair):
    """A stop that cannot wait any longer hands its calls on."""
    gate = Gate()
    fake_llm.script(lambda request: Reply("done", gate=gate))
    async with LLMZmqClient(endpoints(pair), TOKEN, timing=QUICK) as client:
        await client.describe("fast")
        await until(lambda: all(link.ready for link in client._engine.links))
        call = asyncio.create_task(ask(client))
        await fake_llm.reaches(lambda f: f.open_requests == 1)
        (stopping,) = [server for server in pair if server.requests.running]
        await stopping.close(0)
        await fake_llm.reaches(lambda f: len(f.requests) == 2)
        gate.open()
        assert (await call).response_text == "done"


async def test_a_server_that_refuses_leaves_the_work_to_the_other(fake_llm, server):
    """One of two endpoints is dead from the start: calls go to the living one."""
    async with LLMZmqClient(f"tcp://127.0.0.1:1,{server.endpoint}", TOKEN) as client:
        for _ in range(5):
            assert (await ask(client)).finish_reason == "stop"


# Lifetime


def test_a_client_that_is_never_closed_lets_the_program_end(
    fake_llm, run_script, tmp_path, process
):
    """No warning, no hang at interpreter exit, and the server forgets the client."""
    script = tmp_path / "program.py"
    script.write_text(
        f"""
import aitoolman
client = aitoolman.connect({process.endpoint!r}, token={TOKEN!r})
app = aitoolman.LLMApplication(client)
request = aitoolman.LLMDirectRequest("fast", [aitoolman.Message("user", "hi")])
print(app.sync.call(request).text)
"""
    )
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("hi\n", "")


async def test_many_clients_come_and_go_without_traces(fake_llm, server):
    """Fifty clients one after the other leave no session, route, thread or descriptor."""
    import psutil

    me = psutil.Process()
    async with LLMZmqClient(server.endpoint, TOKEN) as client:
        await ask(client)
    await until(lambda: not server.reception.sessions)
    before, threads = me.num_fds(), threading.active_count()
    for _ in range(50):
        async with LLMZmqClient(server.endpoint, TOKEN) as client:
            await ask(client)
    await until(lambda: not server.reception.sessions and not server.reception.routes)
    await until(lambda: me.num_fds() <= before + 3)
    assert threading.active_count() <= threads + 1


async def test_a_port_in_use_is_a_configuration_error(serve, server, server_config, tmp_path):
    """The error names key and address."""
    server_config["server"]["zmq_router_rpc"] = server.endpoint
    server_config["ledger"] = {"path": str(tmp_path / "third.db")}
    with pytest.raises(LLMConfigError, match=r"server\.zmq_router_rpc: tcp://127.*cannot be bound"):
        await LLMServer(server_config).start()


async def test_a_server_ends_while_strangers_stand_at_its_door(serve):
    """Handshakes that are under way when it stops do not keep its sockets: all is let go."""
    for turn in range(20):
        server = await serve()
        host, port = server.endpoint.removeprefix("tcp://").split(":")
        strangers = [socket.create_connection((host, int(port))) for _ in range(10)]
        raws = [RawClient(server.endpoint) for _ in range(3)]
        for n, stranger in enumerate(strangers):
            stranger.sendall((b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(47))[: 10 + 6 * n])
        await asyncio.sleep(0.001 * (turn % 5))
        await server.close(0)
        for stranger in strangers:
            stranger.close()
        await until(lambda s=server: s._context.closed)
        for raw_client in raws:
            raw_client.close()


BUSY_SERVER = """
import sys, zmq
from aitoolman._service.server import _set_up_router
router = zmq.Context().socket(zmq.ROUTER)
_set_up_router(router, 1_000_000)
router.setsockopt(zmq.RCVHWM, 10)
print(router.bind_to_random_port("tcp://127.0.0.1"), flush=True)
sys.stdin.readline()
count = 0
while router.poll(1_000):
    router.recv_multipart()
    count += 1
print(count)
"""
FLOODING_CLIENT = """
import sys, zmq
dealer = zmq.Context().socket(zmq.DEALER)
dealer.setsockopt(zmq.SNDHWM, 0)
dealer.connect("tcp://127.0.0.1:" + sys.argv[1])
for _ in range(50_000):
    dealer.send(bytes(2_000))
print("sent", flush=True)
sys.stdin.readline()
"""


@pytest.mark.long
@pytest.mark.timeout(60)
def test_a_client_that_floods_a_busy_server_and_dies_does_not_end_it():
    """A queue full to the brim with a broken connection behind it: of heartbeats of libzmq's own,
    five seconds apart, one would find the connection broken, and the next would end the process."""
    run = functools.partial(
        subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with run([sys.executable, "-c", BUSY_SERVER]) as server:
        port = server.stdout.readline().strip()
        with run([sys.executable, "-c", FLOODING_CLIENT, port]) as client:
            assert client.stdout.readline() == "sent\n"
            client.kill()
        with pytest.raises(subprocess.TimeoutExpired):  # it lives
            server.wait(12)
        rest, _ = server.communicate("\n")
    assert server.returncode == 0
    assert int(rest) > 0


async def test_no_socket_has_heartbeats_of_zeromq_itself(server, client):
    """See `keep_alive`: they can end the process, on either side."""
    await client.describe("fast")
    [link] = client._engine._links
    async with AuditFollower(server.pub_endpoint, keys=token_keys(TOKEN)) as follower:
        sockets = [*server._sockets, link._port.socket, follower._ports[1].socket]
        assert [s.getsockopt(zmq.HEARTBEAT_IVL) for s in sockets] == [0] * len(sockets)
        assert {s.getsockopt(zmq.TCP_KEEPALIVE) for s in sockets} == {1}
