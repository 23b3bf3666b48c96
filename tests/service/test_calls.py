"""What a client of a server gets is what a local client gets."""

from __future__ import annotations

import asyncio

import pytest

from aitoolman import (
    LLMApiRequestError,
    LLMApplicationError,
    LLMLocalClient,
    MediaContent,
    Message,
)
from aitoolman._datamodel import CallInfo, use_call
from aitoolman._service.follower import AuditFollower
from aitoolman._service.security import token_keys
from aitoolman.zmqclient import LLMZmqClient

from ..fake_llm import Call, Reply
from .conftest import QUICK, TOKEN, Sink, until

HI = [Message("user", "hi")]


async def ask(client, messages=HI, model="fast", **options):
    request = await client.request(model, messages, **options)
    return await request.response


async def test_an_answer_comes_back_whole(fake_llm, client):
    """Text, reasoning, tool calls, tokens, times and attempts arrive as the server had them."""
    fake_llm.script(Reply("so", reasoning="hm", tool_calls=[Call("look", {"a": 1})]))
    response = await ask(client)
    assert response.response_text == "so"
    assert response.response_reasoning == "hm"
    assert response.finish_reason == "tool_calls"
    assert response.response_tool_calls[0].arguments == {"a": 1}
    assert response.response_message.tool_calls == response.response_tool_calls
    assert response.attempts[0].outcome == "ok"
    assert response.total_tokens
    assert response.client_id == client.client_id
    assert response.total_response_time > 0


async def test_local_and_remote_answers_are_equal(fake_llm, client, provider_config):
    """Every field but ids and times is the same in process and through the service."""
    fake_llm.script(lambda request: Reply("so it is", reasoning="hm"))
    async with LLMLocalClient(provider_config) as local:
        ours, theirs = await ask(local), await ask(client)
    differing = {name for name in vars(ours) if getattr(ours, name) != getattr(theirs, name)}
    times = {"start_time", "queue_time", "total_response_time", "time_to_first_token", "attempts"}
    assert differing <= times | {"client_id", "request_id", "exchange"}


async def test_fragments_arrive_as_the_vendor_sent_them(fake_llm, client):
    """A stream keeps its fragments, ends each message once, and reasoning before text."""
    fake_llm.script(
        Reply("abc", chunks=["a", "b", "c"], reasoning="xy", reasoning_chunks=["x", "y"])
    )
    text, reasoning = Sink(), Sink()
    response = await ask(client, stream=True, output_channel=text, reasoning_channel=reasoning)
    assert (text.text, text.got[-1], text.got.count(None)) == ("abc", None, 1)
    assert (reasoning.text, reasoning.got.count(None)) == ("xy", 1)
    assert response.response_text == "abc"


async def test_an_answer_that_is_not_streamed_is_one_fragment(fake_llm, client):
    """As with a local client, the text is written whole."""
    fake_llm.script(Reply("whole"))
    sink = Sink()
    await ask(client, output_channel=sink)
    assert sink.got == ["whole", None]


async def test_the_vendors_failure_is_the_answer(fake_llm, client):
    """Status, reason and attempts of a failed call arrive; the vendor's address does not."""
    fake_llm.script(Reply(status=401, error="no such key"))
    response = await ask(client)
    assert response.finish_reason == "error: request"
    assert "401" in response.error_text or "no such key" in response.error_text
    assert str(fake_llm.port) not in repr(response)
    assert str(fake_llm.port) not in str(response.attempts)


async def test_an_unknown_model_is_an_answer_with_near_names(client):
    """The server's own sentence arrives."""
    response = await ask(client, model="fats")
    assert response.finish_reason == "error: request"
    assert "'fast'" in response.error_text


async def test_cancel_ends_the_exchange_with_the_text_so_far(fake_llm, client):
    """The vendor's connection is closed, and the answer says cancelled."""
    fake_llm.script(Reply("one two", chunks=["one ", "two"], hang=True, pause_at=2))
    sink = Sink()
    request = await client.request("fast", HI, stream=True, output_channel=sink)
    await until(lambda: sink.got)
    await client.cancel(request.request_id)
    response = await request.response
    assert response.finish_reason == "cancelled"
    assert response.response_text == "one "
    assert sink.got == ["one ", None]
    await fake_llm.reaches(lambda f: f.closed_early == 1)


async def test_a_cancelled_caller_ends_the_request_at_the_vendor(fake_llm, client):
    """Cancelling whoever awaits travels through the server."""
    fake_llm.script(Reply("x", hang=True))
    request = await client.request("fast", HI)
    await fake_llm.reaches(lambda f: f.open_requests == 1)
    request.response.cancel()
    await fake_llm.reaches(lambda f: f.closed_early == 1)


async def test_cancel_all_ends_a_context_and_those_below(fake_llm, client):
    """Other contexts go on."""
    fake_llm.script(Reply("x", hang=True))
    requests = [
        await client.request("fast", HI, context_id=context) for context in ("a", "a/1", "ab", None)
    ]
    await fake_llm.reaches(lambda f: f.open_requests == 4)
    await client.cancel_all("a")
    assert (await requests[0].response).finish_reason == "cancelled"
    assert (await requests[1].response).finish_reason == "cancelled"
    assert not requests[2].response.done()
    assert not requests[3].response.done()
    await client.cancel_all()
    for request in requests[2:]:
        assert (await request.response).finish_reason == "cancelled"


async def test_describe_and_preview_show_no_address(fake_llm, client, provider_config):
    """Digest, limits, body and tokens come from the server; URL and headers stay there."""
    description = await client.describe("default")
    async with LLMLocalClient(provider_config) as local:
        assert description == await local.describe("default")
    preview = await client.preview("fast", HI, options={"max_tokens": 5})
    assert preview.body["max_tokens"] == 5
    assert preview.messages == HI
    assert preview.prompt_tokens > 0
    assert (preview.url, preview.headers) == (None, None)
    assert str(fake_llm.port) not in repr(preview) + repr(description)


async def test_questions_about_what_does_not_exist_raise(client):
    """An unknown model is the same error as with a local client."""
    with pytest.raises(LLMApiRequestError, match="nix"):
        await client.describe("nix")
    with pytest.raises(LLMApiRequestError, match="nix"):
        await client.preview("nix", HI)


async def test_files_are_read_by_the_client(fake_llm, client, tmp_path):
    """A file named in a message travels as bytes; the name does not."""
    picture = tmp_path / "p.png"
    picture.write_bytes(b"\x89PNG picture")
    message = Message("user", "see", MediaContent("image", filename=str(picture)))
    assert (await ask(client, [message])).finish_reason == "stop"
    raw = fake_llm.requests[-1].raw
    assert b"data:image/png;base64" in raw
    assert b"p.png" not in raw


async def test_a_missing_file_is_an_answer(client):
    """A file that cannot be read ends the call with a sentence, and nothing is sent."""
    message = Message("user", "see", MediaContent("image", filename="/nowhere/p.png"))
    response = await ask(client, [message])
    assert response.finish_reason == "error: application"
    assert "/nowhere/p.png" in response.error_text


async def test_options_cannot_redirect_a_request(fake_llm, client):
    """Options that look like addresses or headers are body fields for the vendor, nothing else."""
    fake_llm.strict = False
    options = {"url": "http://127.0.0.1:1/", "headers": {"Authorization": "mine"}, "api_key": "k"}
    assert (await ask(client, options=options)).finish_reason == "stop"
    seen = fake_llm.requests[-1]
    assert seen.headers["authorization"] == "Bearer sk-test-key"
    assert seen.body["url"] == options["url"]


async def test_what_has_no_bytes_is_an_error_of_the_caller(client):
    """An option that cannot travel ends the call with a sentence."""
    response = await ask(client, options={"x": object()})
    assert response.finish_reason == "error: application"
    assert "cannot be sent" in response.error_text


async def test_lone_surrogates_do_not_break_the_wire(fake_llm, client):
    """Text that a cut stream left behind still gets an answer."""
    response = await ask(client, [Message("user", "a\ud800b")])
    assert response.finish_reason == "stop"


async def test_too_large_a_request_is_refused_before_sending(serve, server_config):
    """The client knows the server's limit and names both sizes."""
    server = await serve(max_bytes=10_000)
    async with LLMZmqClient(server.endpoint, TOKEN) as client:
        response = await ask(client, [Message("user", "x" * 20_000)])
        assert response.finish_reason == "error: application"
        assert "10,000" in response.error_text
        assert (await ask(client)).finish_reason == "stop"


async def test_a_broken_sink_ends_its_own_call_only(fake_llm, client):
    """An exception in the caller's channel is an application error, and ends the request."""

    class Broken:
        async def write(self, message):
            raise OSError("full")

    fake_llm.script([Reply("one two", chunks=["one ", "two"], hang=True, pause_at=2)])
    response = await ask(client, stream=True, output_channel=Broken())
    assert response.finish_reason == "error: application"
    assert "OSError: full" in response.error_text
    await fake_llm.reaches(lambda f: f.closed_early == 1)
    assert (await ask(client)).finish_reason == "stop"


@pytest.mark.parametrize("when", ["all", "end"])
async def test_a_cancel_gets_its_answer_though_the_sink_hangs(fake_llm, client, when, nothing_left):
    """A sink that never returns holds neither the answer nor the client's end."""
    hanging = asyncio.Event()

    class Stubborn:
        async def write(self, message):
            if when == "all" or message is None:
                hanging.set()
                await asyncio.Event().wait()

    request = await client.request("fast", HI, output_channel=Stubborn())
    await hanging.wait()
    await client.cancel(request.request_id)
    response = await asyncio.wait_for(request.response, 3)
    assert response.finish_reason == "cancelled"
    assert not client._engine._calls
    other = await client.request("fast", HI, output_channel=Stubborn())
    await asyncio.sleep(0.05)
    other.response.cancel()
    await until(lambda: not client._engine._calls and not client._engine._tasks)


async def test_calls_from_another_loop_are_forwarded(fake_llm, server):
    """A client used without `async with` works from any loop, as a local one does."""
    fake_llm.script(Reply("abc", chunks=["a", "b", "c"]))
    client = LLMZmqClient(server.endpoint, TOKEN)
    sink = Sink()
    response = await ask(client, stream=True, output_channel=sink)
    assert (response.response_text, sink.text) == ("abc", "abc")
    await client.close()


async def test_call_info_travels(fake_llm, server, client):
    """Source and sample reach the server, and its audit."""
    with use_call(CallInfo("batch-7", 3)):
        await ask(client)
    rows = (await server.audit.page(0, 100)).events
    row = next(event.values for event in rows if event.values["kind"] == "call")
    assert (row["source"], row["sample"]) == ("batch-7", 3)


async def test_a_thousand_calls_leave_nothing(fake_llm, server, client, nothing_left):
    """Calls that end well, fail and are cancelled leave no call, slot or question behind."""
    fake_llm.script(lambda r: Reply("x") if r.number % 3 else Reply(status=400, error="no"))

    async def one(n):
        request = await client.request("fast", HI, stream=n % 2 == 0)
        if n % 5 == 0:
            await asyncio.sleep(0)
            request.response.cancel()
            return
        await request.response

    await asyncio.gather(*(one(n) for n in range(1000)))
    engine = client._engine
    await until(lambda: not server.requests.running)
    assert not engine._calls
    assert not engine._waiting
    assert [link.outstanding for link in engine.links] == [0]
    assert all(not session.calls for session in server.reception.sessions.values())
    await client.close()


async def test_a_closed_client_says_so(server):
    """Requests after close are an error that tells what to do."""
    client = LLMZmqClient(server.endpoint, TOKEN)
    async with client:
        await ask(client)
    with pytest.raises(RuntimeError, match="closed"):
        await client.request("fast", HI)


async def test_a_server_that_is_not_there_is_an_error_in_time():
    """Nobody listens: the call ends with a sentence that names the address."""
    async with LLMZmqClient("tcp://127.0.0.1:1", TOKEN, timing=QUICK) as client:
        response = await ask(client)
        assert response.finish_reason == "error: request"
        assert "no server answers at tcp://127.0.0.1:1" in response.error_text
        with pytest.raises(LLMApiRequestError, match="no server"):
            await client.describe("fast")


@pytest.mark.parametrize(
    "endpoint",
    [
        "localhost:5555", "", "tcp://*:5555", "tcp://localhost", "tcp://localhost:0",
        "tcp://localhost:99999", "tcp://localhost:http", "tcp://:5555", "tcp://[::1]",
        "tcp://::1:5555", "ipc://", "inproc://x", "http://localhost:5555", "tcp://good:5555,bad",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(endpoint):
    """A mistyped endpoint is a configuration error at once."""
    with pytest.raises(ValueError, match="router_endpoint"):
        LLMZmqClient(endpoint)


async def test_an_address_of_ipv6_works(fake_llm, serve, server_config):
    """Requests and audit, written in brackets; a refusal has its reason there, too."""
    server_config["server"] |= {"zmq_router_rpc": "tcp://[::1]:*", "zmq_pub_event": "tcp://[::1]:*"}
    server = await serve(server_config)
    async with (
        LLMZmqClient(server.endpoint, TOKEN) as client,
        LLMZmqClient(server.endpoint) as stranger,
        AuditFollower(server.pub_endpoint, keys=token_keys(TOKEN)) as follower,
    ):
        await until(lambda: follower.beat)
        assert (await ask(client)).finish_reason == "stop"
        assert "wants a token" in (await ask(stranger)).error_text
        async for row in follower.rows():
            if row.values["kind"] == "call":
                break


async def test_preview_of_what_cannot_be_built_is_the_callers_error(client):
    """Kinds of errors survive the way."""
    with pytest.raises(LLMApplicationError):
        await client.preview("fast", HI, tools={"bad name!": {"description": "x"}})
