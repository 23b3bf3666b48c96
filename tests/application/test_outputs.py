"""Where text goes: channels by name, sinks given directly, one end per call and channel."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman._application.app import LLMApplication
from aitoolman._datamodel import FinishReason, LLMDirectRequest, LLMUnknownNameError, Message
from aitoolman._transport.channels import TextFragmentChannel
from aitoolman._transport.xml_filter import XmlTagToChannelFilter

from .doubles import BrokenSink, Sink, Worker, module

HELLO = [Message("user", "Hello")]


async def writes(reply, *, shared=False, **options):
    """What reaches the output and the reasoning sink of one call."""
    out, thoughts = Sink(), Sink()
    app = LLMApplication(Worker(reply), module(**options))
    await app["m"](text="x", _output_channel=out, _reasoning_channel=out if shared else thoughts)
    return out.writes, thoughts.writes


async def test_an_answer_that_is_not_streamed_is_one_fragment_and_its_end():
    """The application writes what its client did not."""
    reply = {"response_text": "Hello", "response_reasoning": "Hm"}
    assert await writes(reply) == (["Hello", None], ["Hm", None])


async def test_streamed_fragments_pass_through_and_end_once():
    """Nothing is written twice."""
    reply = {"response_text": "Hello", "fragments": ["Hel", "lo"], "thoughts": ["H", "m"]}
    assert await writes(reply) == (["Hel", "lo", None], ["H", "m", None])


async def test_a_client_that_ends_its_messages_itself_adds_no_second_end():
    """None comes once per call and channel, whoever writes it."""
    reply = {"response_text": "Hi", "fragments": ["Hi", None, None], "thoughts": ["m", None]}
    assert await writes(reply) == (["Hi", None], ["m", None])


async def test_one_channel_for_both_gets_one_end():
    """Reasoning, then text, then None."""
    reply = {"response_text": "Hi", "response_reasoning": "Hm"}
    assert (await writes(reply, shared=True))[0] == ["Hm", "Hi", None]
    streamed = {"response_text": "Hi", "thoughts": ["Hm"], "fragments": ["Hi", None]}
    assert (await writes(streamed, shared=True))[0] == ["Hm", "Hi", None]


async def test_reasoning_ends_when_the_first_answer_text_comes():
    """Later reasoning is in the result, not in the channel."""
    log = []

    class Named(Sink):
        def __init__(self, name):
            self.name = name

        async def write(self, message):
            log.append((self.name, message))

    class Late(Worker):
        async def _answer(self, request, reply):
            await request.reasoning_channel.write("first")
            await request.output_channel.write("text")
            await request.reasoning_channel.write("late")
            await super()._answer(request, {"response_text": "text"})

    app = LLMApplication(Late(), module())
    await app["m"](text="x", _output_channel=Named("out"), _reasoning_channel=Named("think"))
    assert log == [("think", "first"), ("think", None), ("out", "text"), ("out", None)]


async def test_empty_fragments_are_not_written():
    """A message without text is its end alone."""
    reply = {"response_text": "", "fragments": ["", ""], "thoughts": [""]}
    assert await writes(reply) == ([None], [None])
    assert await writes({"response_text": ""}) == ([None], [None])


@pytest.mark.parametrize(
    "reply",
    [
        {"finish_reason": "error: request", "error_text": "HTTP 500"},
        {"finish_reason": "length", "response_text": ""},
        OSError("no route"),
    ],
    ids=["error", "length", "raised"],
)
async def test_a_failed_call_ends_its_messages_too(reply):
    """A reader never waits for an end that does not come."""
    assert await writes(reply) == ([None], [None])


async def test_a_cancelled_call_ends_its_messages_once():
    """What was streamed stays, then None; a late fragment is dropped."""
    out, thoughts = Sink(), Sink()
    worker = Worker({"fragments": ["Hel"], "thoughts": ["Hm"]}, gate=asyncio.Event())
    app = LLMApplication(worker, module())
    call = asyncio.ensure_future(
        app["m"](text="x", _output_channel=out, _reasoning_channel=thoughts)
    )
    await worker.started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await worker.last.output_channel.write("late")
    await worker.last.output_channel.write(None)
    assert (out.writes, thoughts.writes) == (["Hel", None], ["Hm", None])


@given(st.lists(st.sampled_from(["text", "thought", "end", "end thought"]), max_size=8))
async def test_whatever_a_client_writes_each_sink_gets_one_end_at_the_end(steps):
    """Property: one None per sink, last, in every order of writes."""

    class Wild(Worker):
        async def _answer(self, request, reply):
            for step in steps:
                sink = request.reasoning_channel if "thought" in step else request.output_channel
                await sink.write(None if "end" in step else step)
            await super()._answer(request, "answer")

    out, thoughts = Sink(), Sink()
    app = LLMApplication(Wild(), module())
    await app["m"](text="x", _output_channel=out, _reasoning_channel=thoughts)
    for got in (out.writes, thoughts.writes):
        assert got.count(None) == 1
        assert got[-1] is None


async def test_each_format_retry_is_a_message_of_its_own():
    """Two answers, two messages."""
    out = Sink()
    config = module(post_processor="parse_json", format_retries=1)
    app = LLMApplication(Worker("no", "{}"), config)
    result = await app["m"](text="x", _output_channel=out)
    assert result.data == {}
    assert out.writes == ["no", None, "{}", None]


async def test_the_default_channels_are_stdout_and_reasoning():
    """A module that names no channel writes to these."""
    reply = {"response_text": "Hello", "response_reasoning": "Hm"}
    app = LLMApplication(Worker(reply), module())
    await app["m"](text="x")
    assert await app.channels["stdout"].read_whole_message() == "Hello"
    assert await app.channels["reasoning"].read_whole_message() == "Hm"


async def test_channel_names_resolve_at_call_time():
    """A channel named in the configuration may be added later, or replaced."""
    first, second = Sink(), Sink()
    app = LLMApplication(Worker(), module(output_channel="page", reasoning_channel=""))
    with pytest.raises(LLMUnknownNameError, match="no channel 'page'"):
        await app["m"](text="x")
    app.add_channel("page", first)
    await app["m"](text="x")
    app.channels["page"] = second
    await app["m"](text="x")
    assert first.writes == second.writes == ["ok", None]


async def test_an_empty_text_switches_an_inherited_channel_off():
    """In the configuration and in a request."""
    worker = Worker()
    app = LLMApplication(worker, module(output_channel="", reasoning_channel=""))
    await app["m"](text="x")
    assert worker.last.output_channel is worker.last.reasoning_channel is None


async def test_a_direct_request_names_its_channels():
    """Names of the application's channels, or sinks."""
    app = LLMApplication(Worker())
    await app.call(LLMDirectRequest("m", HELLO, output_channel="stdout"))
    assert await app.channels["stdout"].read_whole_message() == "ok"


async def test_a_channel_that_fails_gives_a_status_and_keeps_the_answer():
    """The text that was paid for is not lost with a broken pipe."""
    app = LLMApplication(Worker("ok"), module())
    result = await app["m"](text="x", _output_channel=BrokenSink(), _reasoning_channel="")
    assert result.status is FinishReason.error_app
    assert "the pipe is closed" in result.error_text
    assert result.response_text == "ok"


async def test_a_broken_channel_does_not_hide_the_providers_error():
    """The first cause stands."""
    failed = {"finish_reason": "error: request", "error_text": "HTTP 401"}
    app = LLMApplication(Worker(failed), module())
    result = await app["m"](text="x", _output_channel=BrokenSink())
    assert (result.status, result.error_text) == (FinishReason.error_request, "HTTP 401")


async def test_a_broken_channel_does_not_swallow_a_cancellation():
    """CancelledError travels on whatever the sink does."""
    worker = Worker(gate=asyncio.Event())
    app = LLMApplication(worker, module())
    call = asyncio.ensure_future(app["m"](text="x", _output_channel=BrokenSink()))
    await worker.started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_slow_sink_does_not_hold_a_cancelled_caller():
    """A sink that never takes the end of the message is left behind."""

    class Endless(Sink):
        async def write(self, message):
            await asyncio.get_running_loop().create_future()

    worker = Worker(gate=asyncio.Event())
    app = LLMApplication(worker, module(reasoning_channel=""))
    call = asyncio.ensure_future(app["m"](text="x", _output_channel=Endless()))
    await worker.started.wait()
    call.cancel()
    done, _ = await asyncio.wait({call}, timeout=5)
    assert done
    assert call.cancelled()


async def test_two_calls_to_one_channel_stream_one_after_the_other():
    """The second's fragments wait for the first's end: no word salad."""
    app = LLMApplication(Worker(), module(output_channel="stdout"))
    gates = {name: asyncio.Event() for name in "ab"}
    started = {name: asyncio.Event() for name in "ab"}

    class Slow(Worker):
        async def _answer(self, request, reply):
            name = request.messages[-1].content
            await request.output_channel.write(f"{name}1 ")
            started[name].set()
            await gates[name].wait()
            await request.output_channel.write(f"{name}2")
            await super()._answer(request, {"response_text": "text"})

    app.client = Slow()
    calls = [asyncio.ensure_future(app["m"](text=name)) for name in "ab"]
    await asyncio.gather(*(event.wait() for event in started.values()))
    gates["b"].set()
    await calls[1]
    gates["a"].set()
    await calls[0]
    channel = app.channels["stdout"]
    assert await channel.read_whole_message() == "a1 a2"
    assert await channel.read_whole_message() == "b1 b2"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_xml_filter_can_be_given_as_output_channel(stream):
    """Tagged text goes to its channel, the rest to the default one, each with its end."""
    rest, status = TextFragmentChannel(), TextFragmentChannel()
    text = "Hm. <status>work<ing</status> Done."
    reply = {"response_text": text, "fragments": list(text) if stream else []}
    app = LLMApplication(Worker(reply), module())
    filtered = XmlTagToChannelFilter(rest, {"status": status})
    result = await app["m"](text="x", _output_channel=filtered, _reasoning_channel="")
    assert result.data == text
    assert await status.read_whole_message() == "work<ing"
    assert await rest.read_whole_message() == "Hm.  Done."
