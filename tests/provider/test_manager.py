"""The manager's promises: one answer per request, times, callbacks, cancelling, closing."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from aitoolman import FinishReason, LLMProviderManager

from ..fake_llm import Call, Gate, Reply
from ..virtual_clock import VirtualClock, settle, until


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_with_its_text_counts_and_times(make_desk, fake_llm, sink, stream):
    """Text, tokens, cost, times and one attempt; streamed it comes fragment by fragment."""
    fake_llm.script(Reply(chunks=["Hel", "lo ", "you"], usage={"prompt": 10, "completion": 5}))
    desk = make_desk(price={"input": 1.0, "output": 2.0})
    before = time.time()
    response = await desk.ask(stream=stream, output_channel=sink)
    assert sink.got == (["Hel", "lo ", "you", None] if stream else ["Hello you", None])
    assert (response.response_text, response.finish_reason) == ("Hello you", "stop")
    assert (response.prompt_tokens, response.completion_tokens) == (10, 5)
    assert response.cost == pytest.approx(20e-6)
    assert before <= response.start_time <= time.time()
    assert response.queue_length == 0
    assert response.queue_time >= 0
    assert response.total_response_time > 0
    assert (response.time_to_first_token is not None) == stream
    [attempt] = response.attempts
    assert (attempt.model_name, attempt.outcome, attempt.status) == ("m", "ok", 200)


async def test_reasoning_goes_to_its_own_channel(make_desk, fake_llm, make_sink):
    """Reasoning first, ended when the answer begins."""
    fake_llm.script(Reply("Four.", reasoning="two and two"))
    text, thought = make_sink(), make_sink()
    response = await make_desk().ask(stream=True, output_channel=text, reasoning_channel=thought)
    assert (thought.text, text.text) == ("two and two", "Four.")
    assert (thought.got[-1], text.got[-1]) == (None, None)
    assert response.response_reasoning == "two and two"


async def test_a_queue_shows_in_length_and_time(make_desk, fake_llm):
    """Waiting for a slot is queue time, not response time."""
    gate = Gate()
    fake_llm.script(lambda seen: Reply(gate=gate))
    clock = VirtualClock()
    desk = make_desk(clock, parallel=1, timeout=1000)
    requests = [desk.start() for _ in range(3)]
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    await clock.advance(10)
    gate.open()
    responses = [await request.response for request in requests]
    assert [r.queue_length for r in responses] == [0, 0, 1]
    assert [r.queue_time for r in responses] == [0, 10, 10]
    assert [r.total_response_time for r in responses] == [10, 0, 0]
    assert fake_llm.max_concurrent == 1


async def test_never_more_than_parallel_are_at_the_server(make_desk, fake_llm):
    """Fifty requests, three at a time."""
    desk = make_desk(parallel=3)
    responses = await asyncio.gather(*[desk.ask() for _ in range(50)])
    assert {r.finish_reason for r in responses} == {"stop"}
    assert fake_llm.max_concurrent <= 3
    assert fake_llm.max_connections <= 3


async def test_an_interactive_call_is_not_behind_a_batch(make_desk, fake_llm):
    """Sources take turns at the server, too."""
    gate = Gate()
    fake_llm.script(lambda seen: Reply(gate=gate))
    desk = make_desk(parallel=1)
    batch = [desk.start(f"row {n}", source="batch") for n in range(10)]
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    lone = desk.start("interactive", context_id="someone")
    await settle()
    gate.open()
    await asyncio.gather(*[r.response for r in [*batch, lone]])
    order = [seen.last_text for seen in fake_llm.requests]
    assert order.index("interactive") == 2


# One answer and one callback, whatever happens


@pytest.mark.parametrize(
    "outcome", ["good", "refused", "unknown model", "cancelled", "no loop turn"]
)
async def test_the_callback_is_awaited_once_after_the_answer(make_desk, fake_llm, outcome):
    """Whatever the outcome; and its own failure harms nobody."""
    fake_llm.script(
        Reply(status=400) if outcome == "refused" else Reply(hang=outcome == "cancelled")
    )
    desk, called = make_desk(), []

    async def callback(request):
        called.append(request.response.result().finish_reason)
        raise RuntimeError("the callback's own mistake")

    request = desk.request(model="nope" if outcome == "unknown model" else "m")
    started = desk.manager.process_request(request, callback)
    assert started.request is request
    if outcome == "cancelled":
        await fake_llm.reaches(lambda server: server.open_requests == 1)
    if outcome in ("cancelled", "no loop turn"):
        await desk.manager.cancel_request(request.request_id)
    await started.task
    assert called == [request.response.result().finish_reason]
    expected = {"good": "stop", "cancelled": "cancelled", "no loop turn": "cancelled"}
    assert called == [expected.get(outcome, "error: request")]


async def test_a_callback_that_fails_is_logged_without_secrets(make_desk, fake_llm, caplog):
    """The log says what failed, and masks the key that was in the error."""
    desk = make_desk(api_key="sk-canary-0123456789")

    async def callback(request):
        raise RuntimeError("sk-canary-0123456789 was here")

    await desk.manager.process_request(desk.request(), callback).task
    assert "the callback's" not in caplog.text
    assert "RuntimeError: *** was here" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"model": "slow"}, "there is no model 'slow'"),
        ({"model": "dangling"}, "names 'gone'"),
        ({"options": {"x": object()}}, "cannot be built"),
        ({"text": "half \ud800 a pair"}, ""),
        ({"tools": {"bad name!": {}}}, "bad name!"),
    ],
    ids=["unknown", "dangling", "no JSON", "surrogate", "tool"],
)
async def test_a_request_that_cannot_be_sent_is_an_answer(make_desk, fake_llm, fields, text):
    """Not an exception: one clear sentence with the status of a failed request."""
    desk = make_desk(aliases={"dangling": "gone"})
    response = await desk.ask(**fields)
    assert response.finish_reason == "error: request"
    assert text in response.error_text
    assert fake_llm.requests_seen == 0


async def test_the_same_id_twice_is_refused_while_it_runs(make_desk, fake_llm):
    """The second one gets an answer that says so; the first one is untouched; later it is fine."""
    fake_llm.script(lambda seen: Reply("ok", hang=True))
    desk = make_desk()
    first = desk.start(request_id="same")
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    second = await desk.ask(request_id="same")
    assert "'same' is under way already" in second.error_text
    fake_llm.release()
    assert (await first.response).finish_reason == "stop"
    fake_llm.script("fine")
    assert (await desk.ask(request_id="same")).response_text == "fine"


async def test_what_is_passed_in_is_not_changed(make_desk, fake_llm):
    """Configuration, messages, options: all as before."""
    desk = make_desk()
    request = desk.request(options={"temperature": 0}, stream=True)
    messages, options = list(request.messages), dict(request.options)
    desk.manager.process_request(request)
    await request.response
    assert (request.messages, request.options, request.tools) == (messages, options, {})


async def test_a_sink_that_raises_ends_the_request(make_desk, fake_llm):
    """The status says that the caller's channel failed; the connection is closed."""

    class Broken:
        async def write(self, message):
            raise OSError("disk full")

    fake_llm.script(Reply("word " * 50, chunk_delay=0.01))
    for stream in (True, False):
        response = await make_desk().ask(stream=stream, output_channel=Broken())
        assert response.finish_reason == FinishReason.error_app.value
        assert "the output channel failed: OSError: disk full" in response.error_text


async def test_a_bug_in_a_format_is_an_answer(make_desk, fake_llm, caplog, monkeypatch):
    """What nobody foresaw gives the status ``error`` and a record with the traceback."""
    desk = make_desk()

    def broken(*args):
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr(desk.manager, "_find", broken)
    response = await desk.ask()
    assert (response.finish_reason, response.error_text) == (
        "error",
        "ZeroDivisionError: nobody foresaw this",
    )
    assert "Traceback" in caplog.text


# Cancelling


@pytest.mark.parametrize("stream", [False, True])
async def test_cancel_closes_the_exchange_and_frees_the_slot_at_once(
    make_desk, fake_llm, sink, stream
):
    """The server sees the connection go; the next one gets the slot; partial text is kept."""
    fake_llm.script(
        [Reply(chunks=["par", "tial"], hang=True, pause_at=2 if stream else None), "next"]
    )
    desk = make_desk(parallel=1)
    request = desk.start(stream=stream, output_channel=sink)
    await fake_llm.reaches(
        lambda server: server.requests and server.requests[0].pieces >= 2 * stream
    )
    waiting = desk.start()
    await until(lambda: sink.got or not stream)
    await desk.manager.cancel_request(request.request_id)
    response = await request.response
    assert response.finish_reason == "cancelled"
    assert request.is_cancelled
    assert sink.got[-1] is None
    assert response.response_text == sink.text
    assert [a.outcome for a in response.attempts] == ["cancelled"]
    assert (await waiting.response).response_text == "next"
    await fake_llm.reaches(lambda server: server.closed_early == 1)


async def test_cancelling_the_awaiting_task_ends_the_request(make_desk, fake_llm, sink):
    """The future is cancelled with its awaiter, and the exchange with the future."""
    fake_llm.script(Reply(hang=True))
    desk = make_desk()
    request = desk.start(output_channel=sink)
    awaiting = asyncio.ensure_future(request.response)
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    awaiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await awaiting
    await fake_llm.reaches(lambda server: server.closed_early == 1)
    assert sink.got == [None]
    assert request.is_cancelled


async def test_a_request_cancelled_in_line_never_reaches_the_server(make_desk, fake_llm):
    """It leaves the queue, and those behind it move up."""
    gate = Gate()
    fake_llm.script(lambda seen: Reply(gate=gate))
    desk = make_desk(parallel=1)
    requests = [desk.start(f"text {n}") for n in range(3)]
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    await desk.manager.cancel_request(requests[1].request_id)
    response = await requests[1].response
    assert (response.finish_reason, response.attempts) == ("cancelled", [])
    gate.open()
    await requests[2].response
    assert [seen.last_text for seen in fake_llm.requests] == ["text 0", "text 2"]


async def test_cancel_all_knows_clients_contexts_and_those_below(make_desk, fake_llm):
    """``a`` ends ``a`` and ``a/1``, not ``ab``, and nobody else's."""
    fake_llm.script(lambda seen: Reply(hang=True))
    desk = make_desk(parallel=20)
    contexts = ["a", "a/1", "a/1/2", "ab", "b", None]
    mine = {c: desk.start(context_id=c) for c in contexts}
    other = desk.start(client_id="another", context_id="a")
    await fake_llm.reaches(lambda server: server.open_requests == 7)
    await desk.manager.cancel_all_requests("client", "a")
    ended = [c for c in contexts if (await settle()) or mine[c].response.done()]
    assert ended == ["a", "a/1", "a/1/2"]
    await desk.manager.cancel_all_requests("client")
    assert (await mine[None].response).finish_reason == "cancelled"
    assert not other.response.done()
    fake_llm.release()
    assert (await other.response).finish_reason == "stop"


async def test_cancelling_the_task_itself_answers_and_travels_on(make_desk, fake_llm):
    """A loop that shuts down cancels tasks: the answer is set all the same."""
    fake_llm.script(Reply(hang=True))
    desk = make_desk()
    for reached in (False, True):
        started = desk.manager.process_request(desk.request())
        if reached:
            await fake_llm.reaches(lambda server: server.open_requests == 1)
        started.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await started.task
        assert started.request.response.result().finish_reason == "cancelled"


async def test_cancelling_again_or_too_late_is_fine(make_desk, fake_llm):
    """Unknown, ended and twice cancelled requests are ignored."""
    fake_llm.script(lambda seen: Reply(hang=True))
    desk = make_desk()
    await desk.manager.cancel_request("unknown")
    request = desk.start()
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    for _ in range(3):
        await desk.manager.cancel_request(request.request_id)
    assert (await request.response).finish_reason == "cancelled"
    await desk.manager.cancel_request(request.request_id)
    await desk.manager.cancel_all_requests("client")


async def test_a_request_cancelled_before_it_was_given_is_answered(make_desk, fake_llm):
    """Both ways to say so: the flag, and the future."""
    desk = make_desk()
    flagged = desk.request(is_cancelled=True)
    desk.manager.process_request(flagged)
    assert (await flagged.response).finish_reason == "cancelled"
    called = []

    async def callback(request):
        called.append(request)

    dropped = desk.request()
    dropped.response.cancel()
    await desk.manager.process_request(dropped, callback).task
    assert called == [dropped]
    assert fake_llm.requests_seen == 0


# The end


async def test_close_ends_everything(make_desk, fake_llm, nothing_left):
    """Running and waiting requests get their answer, connections close, later ones are refused."""
    fake_llm.script(lambda seen: Reply(hang=True))
    desk = make_desk(parallel=2)
    requests = [desk.start() for _ in range(5)]
    await fake_llm.reaches(lambda server: server.open_requests == 2)
    await desk.manager.close()
    assert {(await r.response).finish_reason for r in requests} == {"cancelled"}
    await fake_llm.reaches(lambda server: server.open_connections == 0)
    assert "closed" in (await desk.ask()).error_text
    await desk.manager.close()


async def test_close_does_not_wait_for_ever_for_a_callback(make_desk, fake_llm, monkeypatch):
    """A callback that hangs is given some time, then cancelled."""
    monkeypatch.setattr("aitoolman._provider.manager.CLOSE_SECONDS", 0.05)
    desk = make_desk()
    started = desk.manager.process_request(desk.request(), lambda request: asyncio.Event().wait())
    await started.request.response
    await desk.manager.close()
    assert started.task.cancelled()


def test_a_manager_is_made_without_a_loop_and_works_on_the_next(fake_llm, provider_config):
    """No loop is needed to make one; ``async with`` closes it."""
    manager = LLMProviderManager(provider_config)

    async def main():
        from aitoolman import LLMProviderRequest, Message

        async with manager:
            request = LLMProviderRequest("c", None, "r", "fast", [Message("user", "hi")])
            manager.process_request(request)
            return (await request.response).response_text

    assert asyncio.run(main()) == "hi"


async def test_debug_records_show_what_went_over_the_wire(make_desk, fake_llm, caplog):
    """Both directions, the key masked, long media cut short; off, nothing is written."""
    from aitoolman import MediaContent, Message

    image = MediaContent("image", data=b"\x89PNG" + bytes(3000), mime_type="image/png")
    messages = [Message("user", "look", media_content=image)]
    desk = make_desk(api_key="sk-canary-0123456789")
    await desk.ask(messages=messages)
    assert caplog.text == ""
    fake_llm.script(Reply("echo sk-canary-0123456789", reasoning="why"))
    with caplog.at_level(logging.DEBUG, "aitoolman.provider"):
        response = await desk.ask(messages=messages)
    assert '"text":"look"' in caplog.text
    assert "echo ***" in caplog.text
    assert "canary" not in caplog.text
    assert len(caplog.text) < 3000
    assert len(response.exchange.request_body) > 4000


@pytest.mark.parametrize("shape", ["openai", "anthropic"])
@pytest.mark.parametrize("place", ["text", "reasoning", "tool call"])
async def test_a_key_told_in_two_events_is_in_no_debug_record(
    make_desk, fake_llm, caplog, shape, place
):
    """Wherever it is cut, neither half is written; that there was a key is."""
    secret = "canary-QxZvWkJyPqRs"
    entry = {"url": getattr(fake_llm, f"{shape}_url"), "type": shape, "api_key": secret}
    desk = make_desk(entries={"m": entry})
    with caplog.at_level(logging.DEBUG, "aitoolman"):
        for cut in range(1, len(secret)):
            pieces = [f"you: {secret[:cut]}", f"{secret[cut:]} ok"]
            fake_llm.script(_in_pieces(place, pieces))
            caplog.clear()
            response = await desk.ask(stream=True)
            assert response.finish_reason in ("stop", "tool_calls")
            halves = [half for half in (secret[:cut], secret[cut:]) if len(half) >= 4]
            assert "you: ***" in caplog.text
            assert not [half for half in halves if half in caplog.text]


def _in_pieces(place, pieces):
    if place == "text":
        return Reply("".join(pieces), chunks=pieces)
    if place == "reasoning":
        return Reply("fine", reasoning="".join(pieces), reasoning_chunks=pieces)
    # The server cuts arguments every five characters: what comes before moves the cut.
    return Reply("", tool_calls=[Call("look", {"at": "x" * len(pieces[0]) + "".join(pieces)})])


async def test_half_a_key_at_the_end_of_a_stream_cut_off_is_in_no_debug_record(
    make_desk, fake_llm, caplog
):
    """It is found by no search for the key, so that last word is left out."""
    desk = make_desk(api_key="canary-QxZvWkJyPqRs", max_retries=0)
    fake_llm.script(
        Reply("see canary-QxZv and", chunks=["see ", "canary-QxZv", " and"], drop_after=2)
    )
    with caplog.at_level(logging.DEBUG, "aitoolman"):
        await desk.ask(stream=True)
    assert "see ..." in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("stream", [False, True])
async def test_the_exchange_holds_what_was_sent_and_what_came(make_desk, fake_llm, stream):
    """The last exact request and response, secrets masked wherever they stand."""
    secret = "sk-canary-0123456789"
    fake_llm.script([Reply(status=500, error=f"you sent {secret}"), Reply("fine")])
    desk = make_desk(api_key=secret, retry_duration=0.001, max_retries=1, headers={"X-Team": "abc"})
    response = await desk.ask(stream=stream)
    exchange = response.exchange
    assert exchange.url == fake_llm.openai_url
    assert exchange.request_body.encode() == fake_llm.requests[1].raw
    assert exchange.request_headers["Authorization"] == "***"
    assert fake_llm.requests[1].headers["authorization"] == f"Bearer {secret}"
    assert exchange.status == 200
    assert ("data: [DONE]" in exchange.response_body) == stream
    assert secret not in f"{response!r}{response.attempts}{response.error_text}{exchange}"
    assert "***" in response.attempts[0].reason
