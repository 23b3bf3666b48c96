"""The local client: its home loop, calls from other loops and threads, and its end."""

from __future__ import annotations

import asyncio
import gc
import random
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import aitoolman
from aitoolman import LLMApplication, LLMLocalClient, TextFragmentChannel
from aitoolman._loops import background, run_sync
from tests.vendors.reply import Reply

PROMPTS = {
    "module_default": {"model": "fast"},
    "module": {"ask": {"template": {"user": "{{question}}"}}},
}
MESSAGES = [aitoolman.Message(role="user", content="Hello there")]


def app_for(client) -> LLMApplication:
    return LLMApplication(client, PROMPTS)


@pytest.fixture
def run_code(run_script, tmp_path):
    """Run Python text as a script of its own."""

    def run(code):
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        return run_script(path)

    return run


def in_other_loop(make):
    """The result of a coroutine run by a loop of its own, in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result(timeout=15)


async def test_async_with_makes_the_running_loop_the_home(provider_config):
    """Inside `async with`, requests run on the loop that entered."""
    async with LLMLocalClient(provider_config) as client:
        assert client.home is asyncio.get_running_loop()
        assert (await app_for(client)["ask"](question="hi")).data == "hi"


async def test_client_without_async_with_lives_on_the_background_loop(provider_config):
    """A client that was never entered works, on the library's own loop."""
    client = LLMLocalClient(provider_config)
    assert client.home is None
    assert (await app_for(client)["ask"](question="hi")).data == "hi"
    assert client.home is background.running
    await client.close()


async def test_stream_reaches_another_loop_in_order(fake_llm, provider_config):
    """Fragments and reasoning of a forwarded call arrive whole, in order, each message ended."""
    words = [f"w{n} " for n in range(300)]
    fake_llm.script(Reply(reasoning="because so", chunks=words))
    client = LLMLocalClient(provider_config)
    app = app_for(client)
    result = await app["ask"](question="hi", _stream=True)
    assert result.data == "".join(words)
    assert await app.channels["reasoning"].read_whole_message() == "because so"
    assert await app.channels["stdout"].read_whole_message() == "".join(words)
    await client.close()


async def test_two_loops_share_one_limit(fake_llm, provider_config):
    """`parallel` holds once per client, whoever calls."""
    provider_config["api"]["fast"]["parallel"] = 2
    fake_llm.script(lambda request: Reply(text="ok", delay=0.02))
    async with LLMLocalClient(provider_config) as client:

        async def ten():
            return await asyncio.gather(*(app_for(client)["ask"](question="x") for _ in range(10)))

        here, there = await asyncio.gather(ten(), asyncio.to_thread(in_other_loop, ten))
    assert all(r.status is aitoolman.FinishReason.stop for r in [*here, *there])
    assert fake_llm.max_concurrent == 2


async def test_cancelled_caller_on_another_loop_ends_the_request(fake_llm, provider_config):
    """Cancelling the awaiting task of a forwarded call closes the exchange at the server."""
    fake_llm.script(Reply(hang=True))
    client = LLMLocalClient(provider_config)
    task = asyncio.create_task(app_for(client)["ask"](question="x"))
    await fake_llm.reaches(lambda s: s.open_requests == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await fake_llm.reaches(lambda s: s.open_requests == 0)
    await client.close()


async def test_cancel_by_id_and_by_context_from_another_loop(fake_llm, provider_config):
    """`cancel` and `cancel_all` reach requests on the home loop; their answers say so."""
    fake_llm.script(lambda request: Reply(hang=True))
    client = LLMLocalClient(provider_config)
    one = await client.request("fast", MESSAGES, context_id="a/1")
    two = await client.request("fast", MESSAGES, context_id="b")
    await client.cancel(one.request_id)
    assert (await one.response).finish_reason == "cancelled"
    assert not two.response.done()
    await client.cancel_all("b")
    assert (await two.response).finish_reason == "cancelled"
    await client.close()


async def test_request_of_a_closed_client_says_so(provider_config):
    """After `close` a request is an error that names the remedy; closing again is fine."""
    client = LLMLocalClient(provider_config)
    await client.close()
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.request("fast", MESSAGES)
    async with client:
        assert (await app_for(client)["ask"](question="again")).data == "again"


async def test_close_ends_calls_in_flight_with_an_answer(fake_llm, provider_config):
    """Whoever waits when the client is closed gets `cancelled`, on any loop."""
    fake_llm.script(lambda request: Reply(hang=True))
    client = LLMLocalClient(provider_config)
    request = await client.request("fast", MESSAGES)
    await fake_llm.reaches(lambda s: s.open_requests == 1)
    await client.close()
    assert (await request.response).finish_reason == "cancelled"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the first loop's sockets were abandoned
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_client_whose_loop_has_closed_starts_afresh(provider_config):
    """A client that was entered on a loop that is gone works on the next one."""
    client = LLMLocalClient(provider_config)

    async def enter_and_leave_open():
        await client.__aenter__()
        return (await app_for(client)["ask"](question="one")).data

    async def again():
        result = await app_for(client)["ask"](question="two")
        await client.close()
        return result.data

    assert asyncio.run(enter_and_leave_open()) == "one"
    gc.collect()
    assert asyncio.run(again()) == "two"
    gc.collect()


def test_sync_call_without_a_loop(provider_config):
    """`app.sync` answers code that does not await."""
    client = LLMLocalClient(provider_config)
    assert app_for(client).sync["ask"](question="plain").data == "plain"
    client.sync.close()


async def test_sync_call_on_the_home_loop_says_await(provider_config):
    """A synchronous call from the loop that the client lives on is refused, not a deadlock."""
    async with LLMLocalClient(provider_config) as client:
        with pytest.raises(RuntimeError, match="await"):
            app_for(client).sync["ask"](question="x")


async def test_sync_call_on_another_loop_works(provider_config):
    """In a running loop that is not the home (a notebook cell), `.sync` works."""
    client = LLMLocalClient(provider_config)
    assert app_for(client).sync["ask"](question="cell").data == "cell"
    await client.close()


def test_failing_sink_on_another_loop_fails_its_call_alone(fake_llm, provider_config):
    """A sink that raises makes its own call `error: application`; the client goes on."""

    class Broken:
        async def write(self, message):
            raise OSError("no space")

    async def main():
        client = LLMLocalClient(provider_config)
        app = app_for(client)
        bad = await app["ask"](question="a b c", _stream=True, _output_channel=Broken())
        good = await app["ask"](question="fine")
        await client.close()
        return bad, good

    bad, good = asyncio.run(main())
    assert bad.status is aitoolman.FinishReason.error_app
    assert "no space" in bad.error_text
    assert good.data == "fine"


def test_forgotten_client_closes_its_connections(fake_llm, provider_config):
    """A client that is dropped without `close` leaves no connection open."""
    client = LLMLocalClient(provider_config)
    app_for(client).sync["ask"](question="x")
    assert fake_llm.open_connections
    del client
    gc.collect()
    fake_llm.wait_for(lambda s: s.open_connections == 0)


def test_interpreter_ends_quietly_with_a_client_in_use(provider_config, run_code):
    """A script that never closes its client ends without warnings, calls in flight included."""
    done = run_code(
        f"""
        import asyncio, aitoolman
        client = aitoolman.LLMLocalClient({provider_config!r})
        app = aitoolman.LLMApplication(client, {PROMPTS!r})
        print(app.sync["ask"](question="x").data)
        async def leave_one_running():
            await client.request("fast", [aitoolman.Message(role="user", content="y")])
        asyncio.run(leave_one_running())
        """
    )
    assert done.stdout.strip() == "x"
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.timeout(60)
async def test_storm_from_two_loops_leaves_nothing(fake_llm, provider_config, nothing_left):
    """1,000 calls from two loops, some failing, some cancelled: all end, nothing is left over,
    and the server never saw more than `parallel` at once."""
    provider_config["api"]["fast"] |= {"parallel": 8, "adaptive": False}
    provider_config["default"] = {"max_retries": 0}
    chance = random.Random(7)

    def reply(request):
        draw = chance.random()
        if draw < 0.1:
            return Reply(status=400, error="bad request")
        if draw < 0.2:
            return Reply(chunks=["a "] * 20, drop_after=5)
        return Reply(chunks=["word "] * 5, delay=0.002 * chance.random())

    fake_llm.script(reply)
    ended = []

    async def one(client, number):
        fate = random.Random(number)
        app = app_for(client)
        task = asyncio.create_task(app["ask"](question="x", _stream=number % 2 == 0))
        if fate.random() < 0.3:
            await asyncio.sleep(fate.random() * 0.2)
            if fate.random() < 0.5:
                task.cancel()
            else:
                await client.cancel_all(app.context_id)
        try:
            ended.append((await task).status.value)
        except asyncio.CancelledError:
            ended.append("cancelled by its task")

    async def half(client, numbers):
        async with asyncio.TaskGroup() as group:
            for number in numbers:
                group.create_task(one(client, number))

    async with LLMLocalClient(provider_config) as client:
        other = asyncio.to_thread(in_other_loop, lambda: half(client, range(500)))
        await asyncio.gather(other, half(client, range(500, 1000)))
        assert len(ended) == 1000
        assert {"stop", "error: request", "cancelled"} <= set(ended)
        await fake_llm.reaches(lambda s: s.open_requests == 0)
        stats = client._engine
        assert not stats._jobs
    assert fake_llm.max_concurrent <= 8
    await fake_llm.reaches(lambda s: s.open_connections == 0)
    gc.collect()


def test_calls_from_many_threads(provider_config):
    """Synchronous calls from several threads at once all come back with their own answer."""
    client = LLMLocalClient(provider_config)
    app = app_for(client)
    results = {}

    def work(n):
        results[n] = app.sync["ask"](question=f"q{n}").data

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(10)
    assert results == {n: f"q{n}" for n in range(20)}
    client.sync.close()


async def test_channel_given_directly_is_written_from_another_loop(provider_config):
    """A client used directly writes to the caller's channel and ends the message once."""
    client = LLMLocalClient(provider_config)
    channel = TextFragmentChannel()
    request = await client.request("fast", MESSAGES, stream=True, output_channel=channel)
    assert await channel.read_whole_message() == "Hello there"
    assert (await request.response).response_text == "Hello there"
    await client.close()


def test_run_sync_hands_on_errors_and_results():
    """What the coroutine raises or returns comes back to the waiting thread."""

    async def fails():
        raise ValueError("told to the caller")

    async def works():
        return 42

    with pytest.raises(ValueError, match="told"):
        run_sync(fails())
    assert run_sync(works()) == 42


def test_interrupt_of_a_sync_call_ends_its_request(fake_llm, provider_config, run_code):
    """Ctrl-C while a synchronous call waits ends the request and raises KeyboardInterrupt."""
    fake_llm.script(Reply(hang=True))
    done = run_code(
        f"""
        import os, signal, threading, time, urllib.request, json
        import aitoolman
        client = aitoolman.LLMLocalClient({provider_config!r})
        app = aitoolman.LLMApplication(client, {PROMPTS!r})

        def interrupt():
            while json.load(urllib.request.urlopen({fake_llm.url!r} + "/_fake/stats", b"null"))[
                    "open_requests"] < 1:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        try:
            app.sync["ask"](question="x")
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert done.stdout.strip() == "interrupted"
    assert done.stderr == ""
    fake_llm.wait_for(lambda s: s.requests[0].closed_early)
