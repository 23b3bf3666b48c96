"""Streams as they really end: dropped, silent, unfinished, in error, or fine in odd ways."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from ..fake_llm import Gate, Reply
from ..virtual_clock import VirtualClock, settle, until


def delta(text=None, finish=None, **extra):
    choice = {"index": 0, "delta": {} if text is None else {"content": text}}
    choice["finish_reason"] = finish
    return b"data: " + json.dumps({"choices": [choice], **extra}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


@pytest.fixture
def ask(make_desk, fake_llm, sink):
    """``await ask(reply, **keys of the entry)``: the response of a streamed request."""

    async def ask(reply, **keys):
        fake_llm.script(reply)
        desk = make_desk(**({"max_retries": 0} | keys))
        return await desk.ask(stream=True, output_channel=sink)

    return ask


async def test_a_stream_without_a_finish_reason_is_an_error(ask, sink):
    """Never ``stop``: the partial text stays, and the text says what is missing."""
    for pieces in ([delta("par"), delta("tial")], [delta("par"), delta("tial"), DONE]):
        response = await ask(Reply(raw_stream=pieces))
        assert response.finish_reason == "error: request"
        assert response.response_text == "partial"
        assert "ended before the answer was finished" in response.error_text
    assert sink.got == ["par", "tial", None] * 2


async def test_a_missing_done_after_the_finish_reason_is_fine(ask):
    """Some vendors just close; what came after a finish reason and then broke is whole, too."""
    whole = [delta("all"), delta(finish="stop")]
    for reply in (Reply(raw_stream=whole), Reply(chunks=["all"], drop_after=3)):
        response = await ask(reply)
        assert (response.finish_reason, response.response_text) == ("stop", "all")
        assert response.error_text is None


async def test_the_usage_after_the_finish_reason_counts(ask):
    """The last chunk has no choices, and the counts."""
    usage = {"usage": {"prompt_tokens": 7, "completion_tokens": 2}}
    tail = b"data: " + json.dumps({"choices": [], **usage}).encode() + b"\n\n"
    response = await ask(Reply(raw_stream=[delta("x"), delta(finish="stop"), tail, DONE]))
    assert (response.prompt_tokens, response.completion_tokens) == (7, 2)


async def test_a_dropped_stream_keeps_its_text(ask, sink):
    """A lost connection is an error with what came before it."""
    response = await ask(Reply(chunks=["one ", "two ", "three"], drop_after=3, reset=True))
    assert response.finish_reason == "error: request"
    assert response.response_text == "one two "
    assert sink.got == ["one ", "two ", None]
    assert "127.0.0.1" in response.error_text


async def test_an_error_object_in_the_stream_keeps_the_text(ask):
    """OpenRouter's error in a 200 stream is no empty success."""
    reply = Reply(
        chunks=["half"], stream_error={"error": {"message": "upstream died", "code": 502}}
    )
    response = await ask(reply)
    assert response.finish_reason == "error: request"
    assert response.response_text == "half"
    assert "upstream died" in response.error_text


async def test_an_event_that_is_no_json_is_a_format_error(ask):
    """The answer came, but could not be understood."""
    response = await ask(Reply(raw_stream=[delta("half"), b"data: {nonsense}\n\n"]))
    assert response.finish_reason == "error: format"
    assert response.response_text == "half"


@pytest.mark.parametrize(
    "noise",
    [
        b": OPENROUTER PROCESSING\n\n",
        b"data: : keepalive\n\n",
        b"data:\n\n",
        b"\n\n",
        b"event: x\n\n",
    ],
)
async def test_keep_alives_are_no_text(ask, sink, noise):
    """Comments, empty data, foreign events: nothing of them arrives."""
    pieces = [noise, delta("a"), noise, delta("b"), noise, delta(finish="stop"), noise, DONE]
    response = await ask(Reply(raw_stream=pieces))
    assert (response.response_text, response.finish_reason) == ("ab", "stop")
    assert sink.got == ["a", "b", None]


async def test_bytes_cut_anywhere_and_crlf_make_no_difference(ask):
    """Each byte in a write of its own, with CR LF line ends, and characters of several bytes."""
    stream = b"".join([delta("日本"), delta("é😀"), delta(finish="stop"), DONE])
    pieces = [bytes([byte]) for byte in stream.replace(b"\n", b"\r\n")]
    response = await ask(Reply(raw_stream=pieces))
    assert (response.response_text, response.finish_reason) == ("日本é😀", "stop")


async def test_a_json_answer_to_a_stream_request_is_understood(ask, sink):
    """Some proxies ignore ``stream``: the text comes as one fragment."""
    choice = {"message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}
    response = await ask(Reply(raw_body=json.dumps({"choices": [choice]}).encode()))
    assert (response.finish_reason, sink.got) == ("stop", ["whole", None])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_web_page_is_a_format_error_that_doubts_the_url(make_desk, fake_llm, stream):
    """A login page with status 200 is not an answer."""
    page = b"<html><title>Sign in</title></html>"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=x\r\nContent-Length: {len(page)}"
    fake_llm.script(Reply(raw_http=[head.encode() + b"\r\n\r\n" + page]))
    response = await make_desk(max_retries=0).ask(stream=stream)
    assert response.finish_reason == "error: format"
    assert "no JSON (text/html)" in response.error_text
    assert "`url`" in response.error_text


# Silence


async def test_silence_before_the_first_fragment_ends_the_attempt(make_desk, fake_llm):
    """After `timeout` the exchange is closed and the attempt is retried."""
    clock = VirtualClock()
    fake_llm.script([Reply(hang=True), Reply("fine", hang=True)])
    desk = make_desk(clock, timeout=100, max_retries=1)
    request = desk.start(stream=True)
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    await clock.advance(99.9)
    assert fake_llm.closed_early == 0
    await clock.advance(0.1)
    await fake_llm.reaches(lambda server: server.closed_early == 1)
    await clock.slept()
    await clock.advance(1)
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    fake_llm.release()
    response = await request.response
    assert response.finish_reason == "stop"
    assert "silent for 100 s" in response.attempts[0].reason


async def test_each_fragment_gives_a_stream_new_time(make_desk, fake_llm):
    """Ninety seconds between fragments are fine with a timeout of 100, again and again."""
    clock = VirtualClock()
    gates = [Gate(), Gate()]
    reading = asyncio.Event()

    class Bell:
        async def write(self, message):
            reading.set()

    async def answer(seen):
        await gates[0].wait()
        return Reply(chunks=["a", "b", "c"], gate=gates[1], pause_at=2)

    fake_llm.script(answer)
    desk = make_desk(clock, timeout=100, max_retries=0)
    request = desk.start(stream=True, output_channel=Bell())
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    await clock.advance(90)
    gates[0].open()
    await reading.wait()
    await settle()
    await clock.advance(90)
    gates[1].open()
    assert (await request.response).finish_reason == "stop"


async def test_silence_after_a_fragment_keeps_the_text(make_desk, fake_llm, sink):
    """The partial text with an error, and no second attempt."""
    clock = VirtualClock()
    fake_llm.script(Reply(chunks=["par", "tial"], hang=True, pause_at=2))
    desk = make_desk(clock, timeout=100, max_retries=3)
    request = desk.start(stream=True, output_channel=sink)
    await until(lambda: sink.got)
    await settle()
    await clock.advance(100)
    response = await request.response
    assert (response.finish_reason, response.response_text) == ("error: request", "par")
    assert len(response.attempts) == 1


async def test_keep_alives_are_no_sign_of_life(make_desk, fake_llm):
    """A proxy that comments for ever does not hold the request for ever."""
    clock = VirtualClock()

    def endless():
        while True:
            yield b": processing\n\n"

    fake_llm.script(Reply(raw_stream=endless(), chunk_delay=0.002))
    desk = make_desk(clock, timeout=100, max_retries=0)
    request = desk.start(stream=True)
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    for _ in range(30):
        await clock.advance(10)
        await asyncio.sleep(0.005)
        if request.response.done():
            break
    response = await request.response
    assert "silent for 100 s" in response.error_text


async def test_a_whole_answer_must_come_within_the_timeout(make_desk, fake_llm):
    """Not streamed, the timeout counts from sending to the last byte."""
    clock = VirtualClock()
    fake_llm.script(Reply(hang=True))
    desk = make_desk(clock, timeout=100, max_retries=0)
    request = desk.start()
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    await clock.advance(100)
    response = await request.response
    assert "no whole answer within 100 s" in response.error_text
    assert response.finish_reason == "error: request"


async def test_time_in_line_does_not_count(make_desk, fake_llm):
    """A request that waits longer for its slot than `timeout` is sent all the same."""
    clock = VirtualClock()
    gate = Gate()
    fake_llm.script([Reply(chunks=["a"], gate=gate), "b"])
    desk = make_desk(clock, parallel=1, timeout=100, max_retries=0)
    first, second = desk.start(), desk.start()
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    await clock.advance(99)
    gate.open()
    await first.response
    assert (await second.response).finish_reason == "stop"
    assert (await second.response).queue_time == pytest.approx(99)


async def test_a_slow_reader_is_not_a_silent_vendor(make_desk, fake_llm):
    """Time that the caller's own channel takes is not the vendor's."""
    clock = VirtualClock()
    entered, leave = asyncio.Event(), asyncio.Event()

    class Slow:
        async def write(self, message):
            entered.set()
            await leave.wait()

    fake_llm.script(Reply(chunks=["a", "b"]))
    desk = make_desk(clock, timeout=100, max_retries=0)
    request = desk.start(stream=True, output_channel=Slow())
    await entered.wait()
    await clock.advance(1000)
    leave.set()
    response = await request.response
    assert (response.finish_reason, response.response_text) == ("stop", "ab")


async def test_a_vendor_that_never_closes_after_its_end_is_left(make_desk, fake_llm):
    """After ``[DONE]`` the answer is there; the open connection is not waited for."""
    pieces = [delta("a"), delta(finish="stop"), DONE, b": still here\n\n"]
    fake_llm.script(Reply(raw_stream=pieces, hang=True, pause_at=3))
    response = await make_desk().ask(stream=True)
    assert response.response_text == "a"
    fake_llm.release()


async def test_the_connection_is_used_again_after_a_stream(make_desk, fake_llm):
    """A stream read to its end costs no new connection."""
    desk = make_desk()
    for _ in range(5):
        assert (await desk.ask(stream=True)).finish_reason == "stop"
    assert fake_llm.connections_made == 1


async def test_whatever_bytes_come_there_is_one_answer(make_desk, fake_llm, make_sink, caplog):
    """A good stream or body, cut, repeated and sprinkled with noise a hundred times over."""
    rng = random.Random(7)
    good = b"".join([delta("one "), delta("two"), delta(finish="stop"), DONE])
    nasty = [
        b"\x00",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'"',
        b"\n\n",
        b"data: ",
        b"1e999",
        b"{" * 999,
    ]
    desk = make_desk(max_retries=0, adaptive=False)
    for _ in range(100):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            place = rng.randrange(len(data))
            data[place : place + rng.randrange(3) * 7] = rng.choice(nasty)
        stream = rng.random() < 0.7
        fake_llm.script(Reply(raw_stream=[bytes(data)]) if stream else Reply(raw_body=bytes(data)))
        sink = make_sink()
        response = await desk.ask(stream=stream, output_channel=sink)
        assert response.status.value == response.finish_reason != "error", response.error_text
        assert sink.got.count(None) == 1
        assert response.response_text == sink.text or response.error_text
    assert caplog.text == ""


@pytest.mark.parametrize("values", [{"content": 5}, {"content": [{"type": "text"}]}, 5, None, []])
async def test_types_that_no_vendor_promised_are_no_crash(ask, values):
    """Wherever JSON is of another shape than promised, the answer is a format error or empty."""
    event = b"data: " + json.dumps({"choices": [{"delta": values}]}).encode() + b"\n\n"
    response = await ask(Reply(raw_stream=[event, delta(finish="stop"), DONE]))
    assert response.finish_reason in ("error: format", "stop")


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropics_format_goes_the_same_way(make_desk, fake_llm, sink, stream):
    """Another format, the same manager: text, reasoning, counts, overloads inside a stream."""
    overload = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    first = Reply("", stream_error=overload) if stream else Reply(status=529)
    fake_llm.script([first, Reply("answer", reasoning="thought")])
    desk = make_desk(
        VirtualClock(jump=True), url=fake_llm.anthropic_url, type="anthropic", api_key="k-123456"
    )
    response = await desk.ask(stream=stream, output_channel=sink)
    assert (response.response_text, response.finish_reason) == ("answer", "stop")
    assert response.response_reasoning == "thought"
    assert [a.outcome for a in response.attempts] == ["wait", "ok"]
    assert response.prompt_tokens > 0
