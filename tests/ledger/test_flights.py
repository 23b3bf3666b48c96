"""Identical requests in flight: sent once, each caller for itself."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

from aitoolman import (
    LLMError,
    LLMLedgerClient,
    LLMProviderRequest,
    LLMScriptedClient,
    Message,
    ScriptedReply,
)
from aitoolman._ledger import engine as engine_module
from aitoolman._ledger.reader import Ledger

from .helpers import Echo, Gated, Sink, ask, ask_gated, counts, start, until


async def test_callers_of_one_question_share_one_request(path, nothing_left):
    """Five equal calls at once are sent once; each has its own id, one of them paid."""
    inner = Echo()
    async with LLMLedgerClient(inner, path) as client:
        responses = await asyncio.gather(*[ask(client) for _ in range(5)])
    assert len(inner.requests) == 1
    assert sorted(r.from_ledger for r in responses) == [False, True, True, True, True]
    assert len({r.request_id for r in responses}) == 5
    rows = Ledger(path).calls()
    assert sorted(r.from_ledger for r in rows) == [0, 1, 1, 1, 1]
    assert {r.answer for r in rows} == {1}


async def test_a_late_caller_gets_the_earlier_fragments_first(path):
    """Boarding in the middle of a stream loses nothing."""
    inner, early, late = Gated(), Sink(), Sink()
    async with LLMLedgerClient(inner, path) as client:
        one = await start(client, stream=True, sink=early)
        await inner.sent()
        inner.step("a ")
        await early.holds("a ")
        two = await start(client, stream=True, sink=late)
        await late.holds("a ")
        inner.step("b")
        inner.step(None)
        await asyncio.gather(one.response, two.response)
    assert early.got == late.got == ["a ", "b", None]
    assert len(inner.requests) == 1


@pytest.mark.parametrize("how", ["future", "id", "task"])
@pytest.mark.parametrize("who", ["first", "second"])
async def test_one_of_two_leaves_and_the_other_gets_everything(path, how, who, nothing_left):
    """Cancelling one joined caller, in any way, leaves the other its fragments and its answer."""
    inner, sinks = Gated(), [Sink(), Sink()]
    async with LLMLedgerClient(inner, path) as client:
        requests = [await start(client, stream=True, sink=sink) for sink in sinks]
        await inner.sent()
        inner.step("a ")
        for sink in sinks:
            await sink.holds("a ")
        leaving = 0 if who == "first" else 1
        await _cancel(client, requests[leaving], how)
        inner.step("b")
        inner.step(None)
        response = await requests[1 - leaving].response
        assert (response.response_text, response.from_ledger) == ("a b", False)
        assert sinks[1 - leaving].got == ["a ", "b", None]
        assert sinks[leaving].got == ["a ", None]
        assert not inner.cancelled
        rows = Ledger(path).calls()
    assert sorted(r.status for r in rows) == ["cancelled", "stop"]
    stop = next(r for r in rows if r.status == "stop")
    assert stop.request_id == requests[1 - leaving].request_id


async def aboard(client, inner, count):
    """Calls without sinks that share one request, which was sent."""
    requests = [await start(client) for _ in range(count)]
    await inner.sent()
    flights = client._engine._flights
    await until(lambda: [len(f.passengers) for f in flights.values()] == [count])
    return requests


@pytest.mark.parametrize("how", ["future", "id", "task"])
@pytest.mark.parametrize("who", ["first", "second"])
async def test_one_of_two_plain_callers_leaves_at_once_and_the_other_is_answered(
    path, how, who, nothing_left
):
    """Without sinks, too: the one that leaves does not wait, the request goes on for the other."""
    inner = Gated()
    async with LLMLedgerClient(inner, path) as client:
        requests = await aboard(client, inner, 2)
        leaving = 0 if who == "first" else 1
        await _cancel(client, requests[leaving], how, text="")
        inner.step("a")
        inner.step(None)
        response = await requests[1 - leaving].response
        assert (response.response_text, response.from_ledger) == ("a", False)
        assert not inner.cancelled
        rows = Ledger(path).calls()
    assert sorted(r.status for r in rows) == ["cancelled", "stop"]
    stop = next(r for r in rows if r.status == "stop")
    assert stop.request_id == requests[1 - leaving].request_id
    assert counts(path)["claims"] == 0


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 0, 2)])
async def test_when_all_plain_callers_have_left_the_request_ends(path, order, nothing_left):
    """In whichever order they go: the request below is cancelled once, each call is one row."""
    inner = Gated()
    async with LLMLedgerClient(inner, path) as client:
        requests = await aboard(client, inner, 3)
        for number in order:
            assert not inner.cancelled
            requests[number].response.cancel()
            await asyncio.sleep(0)
        await until(lambda: not client._engine._tasks)
        assert inner.cancelled == ["g0"]
    rows = Ledger(path).calls()
    assert sorted(r.request_id for r in rows) == sorted(r.request_id for r in requests)
    assert {r.status for r in rows} == {"cancelled"}
    assert counts(path) == {"answers": 0, "calls": 3, "claims": 0, "media": 0}


class Asks(Gated):
    """Does not know its models, and can be slow to say so: a name is asked for each time."""

    go: asyncio.Event | None = None

    async def describe(self, name):
        if self.go is not None:
            await self.go.wait()
        raise LLMError("no such model")


async def test_leaving_in_the_turn_in_which_it_boards_harms_nobody(path):
    """The first caller's future is cancelled just before it flies the request of both."""
    inner = Asks()
    async with LLMLedgerClient(inner, path) as client:
        await ask_gated(client, inner)
        inner.go = asyncio.Event()
        first, second = await start(client), await start(client)
        for _ in range(5):
            await asyncio.sleep(0)
        first.response.cancel()
        inner.go.set()
        await inner.sent(2)
        for _ in range(10):
            await asyncio.sleep(0)
        answered = 1
        async with asyncio.timeout(5):
            while not second.response.done():
                while answered < len(inner.requests):
                    inner.step("fine", answered)
                    inner.step(None, answered)
                    answered += 1
                await asyncio.sleep(0.001)
        assert (await second.response).finish_reason == "stop"


async def test_a_call_that_reaches_a_closing_client_is_cancelled(path):
    """It was on its way from another loop: no request, no row, and no thread comes back to life."""
    inner = Gated()
    client = LLMLedgerClient(inner, path)
    async with client:
        await ask_gated(client, inner)
        engine = client._engine
    late = LLMProviderRequest("c", None, "late", "m", [Message("user", "late")])
    engine.submit(late)
    assert (await late.response).finish_reason == "cancelled"
    assert len(inner.requests) == 1
    assert len(Ledger(path).calls()) == 1


async def _cancel(client, request, how, text="a "):
    if how == "id":
        await client.cancel(request.request_id)
        response = await request.response
        assert response.finish_reason == "cancelled"
        assert response.response_text == text
        return
    if how == "future":
        request.response.cancel()
    else:
        task = asyncio.ensure_future(_wait(request))
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request.response
    await asyncio.sleep(0.01)


async def _wait(request):
    return await request.response


@pytest.mark.parametrize("how", ["future", "id", "task"])
async def test_the_last_one_to_leave_ends_the_request(path, how, nothing_left):
    """Nobody is left: the request below is cancelled, and recorded with what it told."""
    inner, sink = Gated(), Sink()
    async with LLMLedgerClient(inner, path) as client:
        request = await start(client, stream=True, sink=sink)
        await inner.sent()
        inner.step("a ")
        await sink.holds("a ")
        await _cancel(client, request, how)
    assert inner.cancelled == ["g0"]
    rows = Ledger(path).calls()
    assert [(r.status, r.prompt_tokens) for r in rows] == [("cancelled", 3)]
    assert counts(path)["answers"] == counts(path)["claims"] == 0
    assert sink.got == ["a ", None]


async def test_a_new_caller_does_not_board_a_request_that_is_being_cancelled(path):
    """After the last one left, the same question is asked again."""
    inner = Gated()
    async with LLMLedgerClient(inner, path) as client:
        first = await start(client)
        await inner.sent()
        first.response.cancel()
        await until(lambda: not client._engine._flights)
        second = await start(client)
        await inner.sent(2)
        inner.step("fine", 1)
        inner.step(None, 1)
        assert (await second.response).response_text == "fine"


async def test_cancelled_before_it_began_to_run(path, nothing_left):
    """A call that is cancelled at once ends, sends nothing, and is a row."""
    inner = Gated()
    async with LLMLedgerClient(inner, path) as client:
        request = await start(client)
        await client.cancel(request.request_id)
        assert (await request.response).finish_reason == "cancelled"
        gone = await start(client)
        gone.response.cancel()
        await client.cancel_all()
    assert not inner.requests
    assert [r.status for r in Ledger(path).calls()] == ["cancelled", "cancelled"]


async def test_closing_after_somebody_cancelled_every_task_of_the_loop(path):
    """Tasks that ended before they began are not waited for."""
    inner = Gated()
    client = LLMLedgerClient(inner, path)
    async with client:
        await ask_gated(client, inner)
        await start(client, "new")
        me = asyncio.current_task()
        for task in asyncio.all_tasks() - {me}:
            task.cancel()
        async with asyncio.timeout(5):
            await client.close()


async def test_cancel_all_of_a_context_ends_it_and_what_is_below(path):
    """`cancel_all("a")` ends `a` and `a/1`, not `ab`."""
    inner = Gated()
    async with LLMLedgerClient(inner, path) as client:
        contexts = ("a", "a/1", "ab")
        requests = [await start(client, c, context_id=c) for c in contexts]
        await inner.sent(3)
        await client.cancel_all("a")
        inner.step(None, 2)
        reasons = [(await r.response).finish_reason for r in requests]
    assert reasons == ["cancelled", "cancelled", "stop"]


async def test_closing_ends_calls_in_flight(path, nothing_left):
    """`close` with calls under way: each caller gets its answer, nothing is left."""
    inner = Gated()
    client = LLMLedgerClient(inner, path)
    async with client:
        requests = [await start(client, str(n % 3)) for n in range(9)]
        await inner.sent(3)
    assert {(await r.response).finish_reason for r in requests} == {"cancelled"}
    assert counts(path)["claims"] == 0
    with pytest.raises(RuntimeError, match="closed"):
        await ask(client)


async def test_a_sink_that_raises_harms_only_its_caller(path):
    """One caller's broken channel is that caller's failure; the answer is kept."""

    class Broken(Sink):
        async def write(self, message):
            raise OSError("no paper")

    inner = LLMScriptedClient("one two")
    async with LLMLedgerClient(inner, path) as client:
        sinks = [Broken(), Sink()]
        both = [await start(client, stream=True, sink=s) for s in sinks]
        bad, good = [await r.response for r in both]
        assert (bad.finish_reason, good.finish_reason) == ("error: application", "stop")
        assert "no paper" in bad.error_text
        assert sinks[1].text == "one two"
        assert (await ask(client)).from_ledger
        again = await ask(client, stream=True, sink=Broken())
        assert again.finish_reason == "error: application"


async def test_a_sink_that_never_returns_holds_up_nobody(path, nothing_left, monkeypatch):
    """A slow caller has its own pace, and closing waits for it only so long."""
    monkeypatch.setattr(engine_module, "CLOSE_SECONDS", 0.05)

    class Stuck(Sink):
        async def write(self, message):
            await asyncio.Event().wait()

    inner, quick = LLMScriptedClient("one two"), Sink()
    async with LLMLedgerClient(inner, path) as client:
        stuck = await start(client, stream=True, sink=Stuck())
        other = await start(client, stream=True, sink=quick)
        assert (await other.response).response_text == "one two"
        stuck.response.cancel()


async def test_what_the_client_below_raises_reaches_every_caller(path, nothing_left):
    """An exception travels to all who wait; later the question is asked again."""
    inner = Gated()
    async with LLMLedgerClient(inner, path) as client:
        requests = [await start(client) for _ in range(2)]
        await inner.sent()
        inner.step(ZeroDivisionError("oh"))
        for request in requests:
            with pytest.raises(ZeroDivisionError, match="oh"):
                await request.response
        again = await start(client)
        await inner.sent(2)
        inner.step(None, 1)
        assert (await again.response).finish_reason == "stop"
    assert [r.status for r in Ledger(path).calls()] == ["error", "error", "stop"]
    assert counts(path)["claims"] == 0


async def test_streamed_and_whole_callers_share(path):
    """Streaming does not change the question; each gets its text its way."""
    inner, thoughts, stream, whole = LLMScriptedClient(
        ScriptedReply("one two", reasoning="hm so", delay=0.01)
    ), Sink(), Sink(), Sink()  # fmt: skip
    async with LLMLedgerClient(inner, path) as client:
        await asyncio.gather(
            ask(client, stream=True, sink=stream, thoughts=thoughts), ask(client, sink=whole)
        )
        assert thoughts.got == ["hm", " so", None]
        assert stream.got == ["one", " two", None]
        assert whole.got == ["one two", None]
        kept = Sink()
        await ask(client, stream=True, sink=kept)
        assert kept.got == stream.got
    assert len(inner.requests) == 1


async def test_callers_on_other_loops_share(path, nothing_left):
    """Threads with loops of their own join the same request."""
    inner, results = Gated(), []
    async with LLMLedgerClient(inner, path) as client:
        mine = await start(client)

        def other() -> None:
            results.append(asyncio.run(ask(client)))

        thread = threading.Thread(target=other)
        thread.start()
        await inner.sent()
        await until(lambda: len(client._engine._calls) == 2)
        inner.step("x")
        inner.step(None)
        await mine.response
        await asyncio.to_thread(thread.join)
    assert results[0].response_text == "x"
    assert len(inner.requests) == 1


async def test_two_clients_on_one_file_share_through_claims(path, nothing_left):
    """What another client asks for is waited for, and found."""
    one, two = Gated(), Gated()
    async with LLMLedgerClient(one, path) as first, LLMLedgerClient(two, path) as second:
        asking = await start(first)
        await one.sent()
        waiting = await start(second, stream=True, sink=(sink := Sink()))
        one.step("x")
        one.step(None)
        assert not (await asking.response).from_ledger
        response = await waiting.response
        assert (response.from_ledger, response.response_text) == (True, "x")
        assert sink.text == "x"
    assert not two.requests


async def test_a_waiting_caller_can_leave(path, nothing_left):
    """Cancelled while another client asks: nothing is sent and nothing waits on."""
    one, two = Gated(), Gated()
    async with LLMLedgerClient(one, path) as first, LLMLedgerClient(two, path) as second:
        await start(first)
        await one.sent()
        waiting = await start(second)
        await until(lambda: second._engine._flights)
        await second.cancel(waiting.request_id)
        assert (await waiting.response).finish_reason == "cancelled"
        assert not second._engine._flights
    assert not two.requests


async def test_when_the_other_client_fails_the_question_is_asked_here(path):
    """An error is never reused: the claim goes on to whoever waits."""
    one, two = Gated(), Gated()
    async with LLMLedgerClient(one, path) as first, LLMLedgerClient(two, path) as second:
        asking = await start(first)
        await one.sent()
        waiting = await start(second)
        one.step(ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            await asking.response
        await two.sent()
        two.step(None)
        assert not (await waiting.response).from_ledger


@pytest.mark.parametrize("seed", range(3))
async def test_random_cancels_leave_nothing_over(path, seed, nothing_left):
    """300 calls of few questions, many cancelled at random moments: every one ends, none stays."""
    dice = random.Random(seed)

    async def answer(request):
        await asyncio.sleep(dice.random() / 200)
        return ScriptedReply(" ".join("abcdef"), delay=dice.random() / 500)

    inner = LLMScriptedClient(answer)
    sinks, cut = {n: Sink() for n in range(300) if dice.random() < 0.5}, 0
    async with LLMLedgerClient(inner, path) as client:

        async def one(number: int) -> str:
            nonlocal cut
            text = str(dice.randrange(40))
            sink = sinks.get(number)
            request = await start(client, text, stream=dice.random() < 0.5, sink=sink)
            chance = dice.random()
            await asyncio.sleep(dice.random() / 100)
            if chance < 0.3:
                await client.cancel(request.request_id)
            elif chance < 0.6:
                request.response.cancel()
            try:
                return (await request.response).finish_reason
            except asyncio.CancelledError:
                cut += 1
                return "cancelled"

        reasons = await asyncio.gather(*[one(n) for n in range(300)])
        engine = client._engine
        await until(lambda: not engine._calls)
        assert not engine._flights
        assert set(reasons) <= {"stop", "cancelled"}
        await until(lambda: not engine._tasks)
        assert not engine._claims._held
    assert all(s.got.count(None) == 1 and s.got[-1] is None for s in sinks.values())
    assert counts(path)["claims"] == 0
    assert counts(path)["calls"] == 300
    assert cut
