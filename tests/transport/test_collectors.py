"""Collectors: who speaks when, what is announced, and how listening ends."""

from __future__ import annotations

import asyncio
import io
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman import (
    Channel,
    ChannelCollector,
    DefaultTextChannelCollector,
    LLMApplicationError,
    TextFragmentChannel,
)

from .test_channels import until


class Recorder(ChannelCollector):
    """Writes down what it is told: ("start" | "end" | "eof", name) or (name, text)."""

    def __init__(self, channels, pause=None):
        super().__init__(channels)
        self.log = []
        if pause is not None:
            self.pause = pause

    async def on_channel_start(self, channel_name):
        self.log.append(("start", channel_name))

    async def on_channel_read(self, channel_name, message):
        self.log.append((channel_name, message))

    async def on_channel_end(self, channel_name):
        self.log.append(("end", channel_name))

    async def on_channel_eof(self, channel_name):
        self.log.append(("eof", channel_name))

    def text(self, name):
        return "".join(item for who, item in self.log if who == name)


def channels(names="ab"):
    return {name: TextFragmentChannel() for name in names}


def say(channel, *items):
    for item in items:
        channel.write_nowait(item)


async def all_waiting(both):
    await until(lambda: all(c.statistics().waiting_readers for c in both.values()))


async def test_one_message_is_announced_read_and_ended():
    """Start at the first text, end at None, EOF last; then listening returns."""
    both = channels("a")
    say(both["a"], "x", "y", None)
    both["a"].complete()
    recorder = Recorder(both)
    await recorder.start_listening()
    assert recorder.log == [("start", "a"), ("a", "x"), ("a", "y"), ("end", "a"), ("eof", "a")]


async def test_listening_returns_when_all_channels_are_at_eof():
    """Not before, and each EOF is told once, after which that channel is silent."""
    both = channels()
    recorder = Recorder(both)
    task = asyncio.create_task(recorder.start_listening())
    await all_waiting(both)
    both["a"].complete()
    await until(lambda: recorder.log == [("eof", "a")])
    say(both["b"], "x", None)
    await until(lambda: ("end", "b") in recorder.log)
    assert not task.done()
    await both["b"].write_complete()
    await task
    assert recorder.log == [("eof", "a"), ("start", "b"), ("b", "x"), ("end", "b"), ("eof", "b")]


async def test_no_channels_at_all_is_the_end_at_once():
    """There is nothing to wait for."""
    await Recorder({}).start_listening()


async def test_a_message_without_text_is_not_announced():
    """A bare None says nothing, alone or between messages."""
    both = channels("a")
    say(both["a"], None, "x", None, None)
    both["a"].complete()
    recorder = Recorder(both)
    await recorder.start_listening()
    assert recorder.log == [("start", "a"), ("a", "x"), ("end", "a"), ("eof", "a")]


async def test_eof_ends_a_message_that_has_no_end():
    """An end is announced at EOF too, once."""
    both = channels("a")
    say(both["a"], "half")
    both["a"].complete()
    recorder = Recorder(both)
    await recorder.start_listening()
    assert recorder.log == [("start", "a"), ("a", "half"), ("end", "a"), ("eof", "a")]


async def test_two_busy_channels_are_not_chopped_into_scraps():
    """Token by token from both at once: one has the floor until its message ends."""
    both = channels()
    recorder = Recorder(both, pause=60)
    task = asyncio.create_task(recorder.start_listening())
    await all_waiting(both)
    for number in range(50):
        say(both["a"], f"a{number} ")
        say(both["b"], f"b{number} ")
        await asyncio.sleep(0)
    say(both["a"], None)
    say(both["b"], None)
    recorder.close()
    await task
    assert [entry for entry in recorder.log if entry[0] in ("start", "end")] == [
        ("start", "a"), ("end", "a"), ("start", "b"), ("end", "b"),
    ]  # fmt: skip
    assert recorder.text("a") == "".join(f"a{n} " for n in range(50))
    assert recorder.text("b") == "".join(f"b{n} " for n in range(50))


async def test_a_channel_that_pauses_gives_the_floor_to_one_that_waits():
    """It is ended when it loses the floor, started when it gets it back."""
    both = channels()
    recorder = Recorder(both, pause=0.01)
    task = asyncio.create_task(recorder.start_listening())
    await all_waiting(both)
    say(both["a"], "a1")
    await until(lambda: ("a", "a1") in recorder.log)
    say(both["b"], "b1", None)
    await until(lambda: ("end", "b") in recorder.log)
    say(both["a"], "a2", None)
    recorder.close()
    await task
    assert recorder.log == [
        ("start", "a"), ("a", "a1"), ("end", "a"),
        ("start", "b"), ("b", "b1"), ("end", "b"),
        ("start", "a"), ("a", "a2"), ("end", "a"),
    ]  # fmt: skip


async def test_an_end_without_text_after_losing_the_floor_is_not_announced_again():
    """The end was told when the floor was lost."""
    both = channels()
    recorder = Recorder(both, pause=0.01)
    task = asyncio.create_task(recorder.start_listening())
    await all_waiting(both)
    say(both["a"], "a1")
    await until(lambda: ("a", "a1") in recorder.log)
    say(both["b"], "b1")
    await until(lambda: ("b", "b1") in recorder.log)
    say(both["a"], None)
    both["a"].complete()
    await until(lambda: ("eof", "a") in recorder.log)
    recorder.close()
    await task
    assert recorder.log == [
        ("start", "a"), ("a", "a1"), ("end", "a"),
        ("start", "b"), ("b", "b1"), ("eof", "a"), ("end", "b"),
    ]  # fmt: skip


async def test_a_pause_with_nobody_waiting_keeps_the_floor():
    """No end and no second start, however long the silence."""
    both = channels()
    recorder = Recorder(both, pause=0)
    task = asyncio.create_task(recorder.start_listening())
    await all_waiting(both)
    for part in "xyz":
        say(both["a"], part)
        await until(lambda part=part: ("a", part) in recorder.log)
        await all_waiting(both)
    recorder.close()
    await task
    assert recorder.log == [("start", "a"), *[("a", p) for p in "xyz"], ("end", "a")]


async def test_waiting_messages_come_in_the_order_in_which_they_began():
    """Reasoning, answer, reasoning, answer: as it was written, whatever the order of labels."""
    both = channels(["answer", "reasoning"])
    for number in "12":
        say(both["reasoning"], "r" + number, None)
        say(both["answer"], "a" + number, None)
    recorder = Recorder(both)
    recorder.close()
    await recorder.start_listening()
    assert [item for who, item in recorder.log if who in both] == ["r1", "a1", "r2", "a2"]


async def test_close_before_start_delivers_what_was_written_and_returns():
    """No text is lost where the collector's task never got a turn."""
    both = channels()
    recorder = Recorder(both)
    task = asyncio.create_task(recorder.start_listening())
    say(both["a"], "last ", "fragment")
    recorder.close()
    recorder.close()
    await task
    assert recorder.log == [("start", "a"), ("a", "last "), ("a", "fragment"), ("end", "a")]


async def test_close_with_a_writer_that_never_stops_returns():
    """What is written after `close` is left in the channel."""
    both = channels("a")
    recorder = Recorder(both)
    task = asyncio.create_task(recorder.start_listening())

    async def write_for_ever():
        while True:
            say(both["a"], "x" * 10)
            await asyncio.sleep(0)

    writer = asyncio.create_task(write_for_ever())
    await until(lambda: len(recorder.log) > 10)
    recorder.close()
    await task
    writer.cancel()
    await asyncio.wait([writer])
    assert recorder.log[-1] == ("end", "a")


async def test_close_from_another_thread_loses_nothing():
    """A writer thread writes, then closes: all of it is delivered."""
    for _ in range(30):
        both = channels()
        recorder = Recorder(both)
        task = asyncio.create_task(recorder.start_listening())

        def work(both=both, recorder=recorder):
            for number in range(100):
                say(both["a"], str(number))
                say(both["b"], str(number))
            recorder.close()

        thread = threading.Thread(target=work)
        thread.start()
        await task
        thread.join()
        expected = "".join(map(str, range(100)))
        assert (recorder.text("a"), recorder.text("b")) == (expected, expected)


async def test_listening_can_be_started_again_after_it_returned():
    """A second run goes on where the first stopped; an EOF is not told twice."""
    both = channels()
    recorder = Recorder(both)
    both["b"].complete()
    for part in ("one", "two"):
        task = asyncio.create_task(recorder.start_listening())
        await until(lambda: both["a"].statistics().waiting_readers)
        say(both["a"], part, None)
        recorder.close()
        await task
    assert recorder.log == [
        ("eof", "b"),
        ("start", "a"), ("a", "one"), ("end", "a"),
        ("start", "a"), ("a", "two"), ("end", "a"),
    ]  # fmt: skip


async def test_cancelled_listening_leaves_no_waiter_and_no_text_behind():
    """The cancellation travels on; another run delivers the rest."""
    both = channels()
    recorder = Recorder(both)
    task = asyncio.create_task(recorder.start_listening())
    await all_waiting(both)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [c.statistics().waiting_readers for c in both.values()] == [0, 0]
    say(both["a"], "later")
    recorder.close()
    await recorder.start_listening()
    assert recorder.text("a") == "later"


async def test_cancelled_in_the_middle_of_a_batch_the_rest_is_kept():
    """What was read but not told is told by the next run."""
    both = channels("a")
    gate = asyncio.Event()

    class Slow(Recorder):
        async def on_channel_read(self, channel_name, message):
            await super().on_channel_read(channel_name, message)
            await gate.wait()

    recorder = Slow(both)
    say(both["a"], *"abc", None)
    task = asyncio.create_task(recorder.start_listening())
    await until(lambda: recorder.log)
    task.cancel()
    await asyncio.wait([task])
    gate.set()
    recorder.close()
    await recorder.start_listening()
    assert recorder.text("a") == "abc"


async def test_two_runs_at_once_are_refused():
    """The second says so; the first goes on."""
    both = channels("a")
    recorder = Recorder(both)
    task = asyncio.create_task(recorder.start_listening())
    await all_waiting(both)
    with pytest.raises(LLMApplicationError, match="listening already"):
        await recorder.start_listening()
    both["a"].complete()
    await task


async def test_an_error_in_a_hook_ends_the_listening_and_is_raised():
    """Nothing waits any more afterwards."""
    both = channels()

    class Broken(Recorder):
        async def on_channel_read(self, channel_name, message):
            raise OSError("no paper")

    task = asyncio.create_task(Broken(both).start_listening())
    await all_waiting(both)
    say(both["a"], "x")
    with pytest.raises(OSError, match="no paper"):
        await task
    assert not both["b"].statistics().waiting_readers


async def test_a_plain_channel_can_be_collected_too():
    """Its items are told one by one; None pauses it like the end of a message."""
    plain = Channel()
    for item in (1, 2, None, {"three": 3}):
        plain.write_nowait(item)
    plain.complete()
    recorder = Recorder({"p": plain})
    await recorder.start_listening()
    assert [item for who, item in recorder.log if who == "p"] == [1, 2, {"three": 3}]


async def test_other_tasks_run_while_much_text_is_told():
    """A long backlog does not hold the loop."""
    both = channels("a")
    say(both["a"], *["x"] * 5_000)
    both["a"].complete()
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    await Recorder(both).start_listening()
    counter.cancel()
    await asyncio.wait([counter])
    assert turns > 10


def test_what_is_no_channel_is_refused_by_its_label():
    """The message names label and type."""
    with pytest.raises(TypeError, match=r"channels\['out'\].*not a list"):
        Recorder({"out": []})


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.sampled_from("xyz"))),
        max_size=50,
    ),
    st.lists(st.integers(0, 2), max_size=50),
)
def test_whatever_is_written_events_are_well_formed_and_complete(writes, turns):
    """Start and end alternate, text comes between them, order within a channel is kept."""

    async def main():
        three = channels("abc")
        recorder = Recorder(three, pause=0)
        task = asyncio.create_task(recorder.start_listening())
        gaps = iter(turns)
        for name, fragment in writes:
            say(three[name], fragment)
            for _ in range(next(gaps, 0)):
                await asyncio.sleep(0)
        for channel in three.values():
            channel.complete()
        await task
        return recorder

    recorder = asyncio.run(main())
    speaking = None
    ended = set()
    for what, name in recorder.log:
        if what == "start":
            assert speaking is None
            assert name not in ended
            speaking = name
        elif what == "end":
            assert speaking == name
            speaking = None
        elif what == "eof":
            assert name not in ended
            assert speaking != name
            ended.add(name)
        else:
            assert speaking == what
    assert speaking is None
    assert ended == set("abc")
    for name in "abc":
        assert recorder.text(name) == "".join(t for n, t in writes if n == name and t)


# -- the console


async def printed(both, collector=None):
    collector = collector or DefaultTextChannelCollector(both)
    collector.close()
    await collector.start_listening()


async def test_text_is_printed_under_its_channels_name(capsys):
    """A name stands where another channel begins to speak; each message ends its line."""
    both = channels(["Reasoning", "Answer"])
    say(both["Reasoning"], "hm", "m", None)
    say(both["Answer"], "4", "2", None, "and\n", None)
    say(both["Reasoning"], "done", None)
    await printed(both)
    assert capsys.readouterr().out == (
        "[Reasoning]\nhmm\n\n[Answer]\n42\nand\n\n[Reasoning]\ndone\n"
    )


class Terminal(io.StringIO):
    """Counts writes and flushes; may be a terminal, may know only ASCII."""

    def __init__(self, *, tty=False, ascii_only=False):
        super().__init__()
        self.writes = self.flushes = 0
        self.tty, self.ascii_only = tty, ascii_only

    encoding = property(lambda self: "ascii" if self.ascii_only else "utf-8")

    def isatty(self):
        return self.tty

    def write(self, text):
        self.writes += 1
        text.encode(self.encoding)
        return super().write(text)

    def flush(self):
        self.flushes += 1


async def test_what_is_there_together_is_written_and_flushed_together(monkeypatch):
    """200 fragments, a handful of writes; nothing stays in a buffer."""
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    both = channels("a")
    say(both["a"], *["token "] * 200, None)
    await printed(both)
    assert out.getvalue() == "[a]\n" + "token " * 200 + "\n"
    assert out.writes <= 3
    assert out.flushes >= 1


async def test_text_shows_as_it_comes(monkeypatch):
    """A fragment is on the screen before the next one is written."""
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    both = channels("a")
    collector = DefaultTextChannelCollector(both)
    task = asyncio.create_task(collector.start_listening())
    await all_waiting(both)
    for number, part in enumerate(["one", "two"], start=1):
        say(both["a"], part)
        await until(lambda part=part: out.getvalue().endswith(part))
        assert out.flushes == number
    collector.close()
    await task


async def test_a_console_that_lacks_a_character_shows_its_escape(monkeypatch):
    """Output goes on where stdout is ASCII, and with half a surrogate pair in the text."""
    out = Terminal(ascii_only=True)
    monkeypatch.setattr("sys.stdout", out)
    both = channels("a")
    say(both["a"], "né \ud800", None)
    await printed(both)
    assert out.getvalue() == "[a]\nn\\xe9 \\ud800\n"


async def test_control_characters_do_not_reach_a_terminal(monkeypatch):
    """A model cannot move the cursor or set the window's title; tabs and line ends stay."""
    out = Terminal(tty=True)
    monkeypatch.setattr("sys.stdout", out)
    both = channels("a")
    say(both["a"], "\x1b]0;title\x07\x9b2J ok\t\r\n", None)
    await printed(both)
    assert out.getvalue() == "[a]\n\u241b]0;title\u2407\ufffd2J ok\t\r\n"


async def test_after_a_cancelled_run_the_next_begins_on_a_new_line(capsys):
    """A line cut short is ended before anything else is printed."""
    both = channels()
    collector = DefaultTextChannelCollector(both)
    task = asyncio.create_task(collector.start_listening())
    await all_waiting(both)
    say(both["a"], "cut")
    await until(lambda: both["a"].statistics().waiting_readers)
    task.cancel()
    await asyncio.wait([task])
    say(both["b"], "next", None)
    await printed(both, collector)
    assert capsys.readouterr().out == "[a]\ncut\n\n[b]\nnext\n"
