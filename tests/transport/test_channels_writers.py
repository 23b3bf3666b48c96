"""`open_writer`: one message at a time, into channels, filters and a user's own sinks."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref

import pytest

from aitoolman import LLMApplicationError, TextFragmentChannel
from aitoolman._transport import MessageWriter, floors, open_writer

from .test_channels import until


class Sink:
    """A user's own sink: keeps what it gets, may be slow, may fail."""

    def __init__(self):
        self.got = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails_on = None

    async def write(self, message):
        await self.gate.wait()
        if self.fails_on is not None and message == self.fails_on:
            raise OSError("disk full")
        self.got.append(message)


@pytest.fixture(autouse=True)
def no_line_is_left():
    """Whatever a test did, no sink is remembered afterwards."""
    yield
    gc.collect()
    assert not floors._lines


def test_a_text_channel_gives_a_writer_of_its_own():
    """No buffer outside is needed where the channel itself keeps messages apart."""
    assert isinstance(open_writer(TextFragmentChannel()), MessageWriter)


async def test_a_channel_subclass_with_its_own_write_sees_everything():
    """Overriding `write` is a way to send text elsewhere, so it is not bypassed."""

    class Shouting(TextFragmentChannel):
        async def write(self, message):
            await super().write(message and message.upper())

    channel = Shouting()
    writer = open_writer(channel)
    await writer.write("loud")
    await writer.write(None)
    assert await channel.read_whole_message() == "LOUD"


async def test_one_writer_writes_straight_through():
    """Text is in the sink when `write` returns."""
    sink = Sink()
    writer = open_writer(sink)
    await writer.write("a")
    assert sink.got == ["a"]
    await writer.write(None)
    await writer.write("late")
    await writer.write(None)
    assert sink.got == ["a", None]


async def test_two_calls_never_mix_their_messages():
    """The second's text waits in its writer; its end waits for its turn."""
    sink = Sink()
    a, b = open_writer(sink), open_writer(sink)
    await a.write("a1")
    await b.write("b1")
    await a.write("a2")
    await b.write("b2")
    ending = asyncio.create_task(b.write(None))
    await asyncio.sleep(0)
    assert sink.got == ["a1", "a2"]
    await a.write(None)
    await ending
    assert sink.got == ["a1", "a2", None, "b1", "b2", None]


async def test_a_writer_that_has_got_the_floor_empties_its_buffer_first():
    """Order within a message is kept."""
    sink = Sink()
    a, b = open_writer(sink), open_writer(sink)
    await a.write("a")
    await b.write("b1")
    await a.write(None)
    await b.write("b2")
    assert sink.got == ["a", None, "b1", "b2"]
    await b.write(None)


async def test_a_bare_end_reaches_the_sink():
    """A call without text ends its message too."""
    sink = Sink()
    await open_writer(sink).write(None)
    assert sink.got == [None]


async def test_a_failing_sink_fails_the_call_that_wrote_and_no_other():
    """The error names the sink and keeps the cause; the next message comes through."""
    sink = Sink()
    sink.fails_on = "bad"
    a, b = open_writer(sink), open_writer(sink)
    with pytest.raises(LLMApplicationError, match=r"output sink Sink failed.*disk full") as caught:
        await a.write("bad")
    assert isinstance(caught.value.__cause__, OSError)
    await b.write("good")
    await a.write(None)
    await b.write(None)
    assert sink.got == [None, "good", None]


async def test_a_sink_that_fails_on_buffered_text_fails_the_call_it_came_from():
    """The buffer is emptied in its own call; the sink's message is ended all the same."""
    sink = Sink()
    sink.fails_on = "bad"
    a, b = open_writer(sink), open_writer(sink)
    await a.write("a")
    await b.write("bad")
    ending = asyncio.create_task(b.write(None))
    await asyncio.sleep(0)
    await a.write(None)
    with pytest.raises(LLMApplicationError, match="disk full"):
        await ending
    assert sink.got == ["a", None, None]


async def test_a_slow_sink_holds_up_only_the_call_that_has_the_floor():
    """The others' text is taken at once."""
    sink = Sink()
    sink.gate.clear()
    a, b = open_writer(sink), open_writer(sink)
    slow = asyncio.create_task(a.write("a"))
    await asyncio.sleep(0)
    await b.write("b")
    assert not slow.done()
    sink.gate.set()
    await slow
    await a.write(None)
    await b.write(None)
    assert sink.got == ["a", None, "b", None]


async def test_a_call_cancelled_while_it_waits_for_its_turn_blocks_nobody():
    """What it had to say is said by whoever comes next, so its message is not torn."""
    sink = Sink()
    a, b, c = (open_writer(sink) for _ in range(3))
    await a.write("a")
    await b.write("b")
    await c.write("c")
    ending = asyncio.create_task(b.write(None))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.wait([ending])
    assert ending.cancelled()
    await a.write(None)
    await c.write(None)
    assert sink.got == ["a", None, "b", None, "c", None]


async def test_a_call_cancelled_in_the_sink_leaves_its_end_to_the_next_message():
    """The next message starts clean even where nobody else was writing."""
    sink = Sink()
    a = open_writer(sink)
    await a.write("a")
    a_buffer = a._part.buffer
    sink.gate.clear()
    slow = asyncio.create_task(a.write("slow"))
    await asyncio.sleep(0)
    ending = asyncio.create_task(a.write(None))
    await until(lambda: list(a_buffer) == [None])
    ending.cancel()
    slow.cancel()
    await asyncio.wait([slow, ending])
    sink.gate.set()
    b = open_writer(sink)
    await b.write("b")
    await b.write(None)
    assert sink.got == ["a", None, "b", None]


async def test_a_dropped_writer_blocks_nobody():
    """Its message is ended before the next begins."""
    sink = Sink()
    a, b = open_writer(sink), open_writer(sink)
    await a.write("a")
    await b.write("b")
    ending = asyncio.create_task(b.write(None))
    await asyncio.sleep(0)
    del a
    gc.collect()
    await ending
    assert sink.got == ["a", None, "b", None]


async def test_a_writer_dropped_alone_leaves_its_end_to_the_next_message():
    """Without keeping the sink alive for that."""
    sink = Sink()
    a = open_writer(sink)
    await a.write("a")
    del a
    gc.collect()
    b = open_writer(sink)
    await b.write("b")
    await b.write(None)
    assert sink.got == ["a", None, "b", None]
    await open_writer(sink).write("c")
    gc.collect()
    gone = weakref.ref(sink)
    del sink, b
    gc.collect()
    assert gone() is None


async def test_a_rest_that_fails_is_logged_not_raised(caplog):
    """Nobody is left to tell but the log."""
    sink = Sink()
    sink.fails_on = "bad"
    a, b, c = (open_writer(sink) for _ in range(3))
    await a.write("a")
    await b.write("bad")
    await c.write("c")
    del b
    gc.collect()
    await a.write(None)
    with caplog.at_level(logging.WARNING, "aitoolman.channel"):
        await c.write(None)
    assert "abandoned" in caplog.text
    assert sink.got == ["a", None, "c", None]


async def test_fifty_calls_to_one_sink_arrive_as_fifty_whole_messages():
    """Whatever their timing, some of them cancelled."""
    sink = Sink()

    async def call(number):
        writer = open_writer(sink)
        for part in range(4):
            await writer.write(f"{number}.{part} ")
            await asyncio.sleep(0)
        await writer.write(None)

    tasks = [asyncio.create_task(call(n)) for n in range(50)]
    await until(lambda: None in sink.got)
    for task in tasks[10::10]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    gc.collect()
    last = open_writer(sink)
    await last.write("end")
    await last.write(None)
    text = "".join("\n" if item is None else item for item in sink.got).splitlines()
    assert text[-1] == "end"
    for line in text[:-1]:
        number = line.split(".")[0]
        assert "".join(f"{number}.{part} " for part in range(4)).startswith(line)


async def test_sinks_without_weak_references_work_too():
    """Nothing is asked of a sink but `write`."""

    class Bare:
        __slots__ = ("got",)

        def __init__(self):
            self.got = []

        async def write(self, message):
            self.got.append(message)

    sink = Bare()
    writer = open_writer(sink)
    await writer.write("x")
    await writer.write(None)
    assert sink.got == ["x", None]


async def test_unhashable_and_equal_sinks_are_told_apart():
    """A sink is known by its identity."""

    class Equal(Sink):
        __hash__ = None

        def __eq__(self, other):
            return True

    one, two = Equal(), Equal()
    a, b = open_writer(one), open_writer(two)
    await a.write("a")
    await b.write("b")
    assert (one.got, two.got) == (["a"], ["b"])
    await a.write(None)
    await b.write(None)
