"""Text channels: messages, writers, what is held back and what is forgotten."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman import LLMApplicationError, TextFragmentChannel
from aitoolman._transport import MessageWriter

from .test_channels import until, waiting


def drain(channel):
    """Everything that can be read now, without waiting."""
    return [item for _ in range(channel._backlog()) for item in channel._take_batch(1)]


def messages(channel):
    """The finished messages that can be read now, joined."""
    text = "".join("\0" if item is None else item for item in drain(channel))
    return text.split("\0")[:-1]


async def test_a_whole_message_is_its_fragments_joined():
    """None ends a message, and the next one begins."""
    channel = TextFragmentChannel()
    for item in ["one ", "message", None, "two", None]:
        await channel.write(item)
    assert await channel.read_whole_message() == "one message"
    assert await channel.read_whole_message() == "two"


async def test_a_whole_message_is_waited_for_to_its_end():
    """Fragments alone do not end the wait."""
    channel = TextFragmentChannel()
    reader = asyncio.create_task(channel.read_whole_message())
    await waiting(channel)
    await channel.write("a")
    await channel.write("b")
    assert channel.statistics().waiting_readers == 1
    await channel.write(None)
    assert await reader == "ab"


async def test_a_cancelled_read_of_a_whole_message_loses_no_text():
    """A timeout in mid-message leaves the message for the next reader."""
    channel = TextFragmentChannel()
    channel.write_nowait("first ")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(channel.read_whole_message(), 0.001)
    channel.write_nowait("second")
    channel.write_nowait(None)
    assert await channel.read_whole_message() == "first second"


async def test_two_readers_of_whole_messages_get_one_each():
    """No reader gets half of another's message."""
    channel = TextFragmentChannel()
    readers = [asyncio.create_task(channel.read_whole_message()) for _ in range(2)]
    await waiting(channel, 2)
    for item in ["a", "a", None, "b", "b", None]:
        channel.write_nowait(item)
        await asyncio.sleep(0)
    assert sorted(await asyncio.gather(*readers)) == ["aa", "bb"]


async def test_the_rest_of_a_begun_message_can_be_read_whole():
    """`read` and `read_whole_message` mix."""
    channel = TextFragmentChannel()
    for item in ["a", "b", "c", None]:
        channel.write_nowait(item)
    assert await channel.read() == "a"
    assert await channel.read_whole_message() == "bc"
    assert channel.statistics()[:1] + channel.statistics()[3:] == (0, 0, 0, 0)


async def test_a_message_without_text_is_an_empty_one():
    """A bare None is a message too: a call that failed before its first token."""
    channel = TextFragmentChannel()
    await channel.write(None)
    assert await channel.read_whole_message() == ""


async def test_at_eof_an_unfinished_message_is_returned_as_it_is():
    """Then EOFError, also from `read_whole_message`."""
    channel = TextFragmentChannel()
    await channel.write("unfinished")
    await channel.write_complete()
    assert await channel.read_whole_message() == "unfinished"
    for _ in range(2):
        with pytest.raises(EOFError):
            await channel.read_whole_message()


async def test_eof_after_a_fragment_already_read_is_eof_for_whole_messages_too():
    """No empty message is made up out of a message that was read to its last fragment."""
    channel = TextFragmentChannel()
    await channel.write("x")
    assert await channel.read() == "x"
    await channel.write_complete()
    with pytest.raises(EOFError):
        await channel.read_whole_message()


async def test_eof_ends_a_wait_for_a_whole_message():
    """A reader in mid-message gets what there is."""
    channel = TextFragmentChannel()
    reader = asyncio.create_task(channel.read_whole_message())
    await waiting(channel)
    channel.write_nowait("half")
    channel.complete()
    assert await reader == "half"


async def test_empty_fragments_are_left_out():
    """They are neither read nor do they begin a message."""
    channel = TextFragmentChannel()
    writer = channel.open_message()
    writer.write_nowait("")
    channel.write_nowait("")
    channel.write_nowait("x")
    channel.write_nowait(None)
    assert drain(channel) == ["x", None]
    assert channel.statistics().unread_messages == 0


@pytest.mark.parametrize("wrong", [b"bytes", 3, ["x"]])
def test_what_is_no_text_is_a_type_error_that_says_so(wrong):
    """It is raised to whoever writes it, and the channel stays as it was."""
    channel = TextFragmentChannel()
    for write in (channel.write_nowait, channel.open_message().write_nowait):
        with pytest.raises(TypeError, match=f"strings.*not {type(wrong).__name__}"):
            write(wrong)
    assert channel.statistics().unread_messages == 0


# -- one message at a time


async def test_a_second_writer_is_held_back_until_the_first_ends():
    """Two calls that stream at once are read one after the other."""
    channel = TextFragmentChannel()
    a, b = channel.open_message(), channel.open_message()
    for number in range(3):
        await a.write(f"a{number}")
        await b.write(f"b{number}")
    await b.write(None)
    assert drain(channel) == ["a0", "a1", "a2"]
    await a.write("a3")
    await a.write(None)
    assert drain(channel) == ["a3", None, "b0", "b1", "b2", None]


async def test_the_floor_goes_on_in_order_of_first_write():
    """Opening a writer claims nothing; writing does."""
    channel = TextFragmentChannel()
    late, early, middle = (channel.open_message() for _ in range(3))
    for writer, text in ((early, "1"), (middle, "2"), (late, "3")):
        writer.write_nowait(text)
    for writer in (late, middle, early):
        writer.close()
    assert messages(channel) == ["1", "2", "3"]


async def test_a_writer_that_has_got_the_floor_streams_through():
    """After the first has ended, the second's new fragments arrive as they are written."""
    channel = TextFragmentChannel()
    a, b = channel.open_message(), channel.open_message()
    a.write_nowait("a")
    b.write_nowait("b")
    assert await channel.read() == "a"
    reader = asyncio.create_task(channel.read())
    await waiting(channel)
    a.close()
    assert await reader is None
    assert await channel.read() == "b"
    reader = asyncio.create_task(channel.read())
    await waiting(channel)
    b.write_nowait("more")
    assert await reader == "more"
    b.close()


async def test_a_plain_write_is_the_anonymous_writer():
    """It waits for its turn like any other, and others wait for its None."""
    channel = TextFragmentChannel()
    writer = channel.open_message()
    writer.write_nowait("w")
    channel.write_nowait("plain")
    writer.close()
    writer = channel.open_message()
    writer.write_nowait("w2")
    channel.write_nowait(None)
    writer.close()
    assert messages(channel) == ["w", "plain", "w2"]


async def test_after_its_none_a_writer_ignores_everything():
    """One None per call, however often an end is said."""
    channel = TextFragmentChannel()
    writer = channel.open_message()
    await writer.write("x")
    await writer.write(None)
    await writer.write("late")
    await writer.write(None)
    writer.close()
    writer.close()
    assert drain(channel) == ["x", None]
    assert "ended" in repr(writer)


async def test_a_writer_dropped_unfinished_ends_its_message():
    """A forgotten writer does not block the channel, and gives no warning."""
    channel = TextFragmentChannel()
    writer = channel.open_message()
    writer.write_nowait("lost")
    channel.write_nowait("next")
    channel.write_nowait(None)
    del writer
    gc.collect()
    assert messages(channel) == ["lost", "next"]


async def test_a_writer_dropped_before_it_wrote_leaves_no_message():
    """Nothing was begun, so nothing ends."""
    channel = TextFragmentChannel()
    channel.open_message()
    gc.collect()
    assert channel.statistics().unread_messages == 0


async def test_a_writer_dropped_while_the_channel_is_busy_ends_as_soon_as_it_is_not():
    """The finalizer never waits for the lock; a reader about to wait does its work."""
    channel = TextFragmentChannel()
    writer = channel.open_message()
    writer.write_nowait("a")
    with channel._lock:
        del writer
        gc.collect()
    assert drain(channel) == ["a"]
    assert await channel.read() is None


async def test_eof_ends_open_messages_and_their_writers():
    """What was held back is read; ends afterwards are ignored, text is an error."""
    channel = TextFragmentChannel()
    a, b = channel.open_message(), channel.open_message()
    a.write_nowait("a")
    b.write_nowait("b")
    channel.complete()
    assert [item async for item in channel] == ["a", None, "b"]
    a.close()
    with pytest.raises(LLMApplicationError, match="complete"):
        b.write_nowait("more")
    b.close()


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.one_of(st.none(), st.text("xyz", min_size=1, max_size=3))),
        max_size=60,
    ),
    st.lists(st.booleans(), max_size=60),
)
def test_however_writers_interleave_each_message_stays_whole(writes, reads):
    """Messages arrive whole, in the order they began, with reads mixed in anywhere."""
    channel = TextFragmentChannel()
    writers: dict[int, MessageWriter] = {}
    texts: list[list[str]] = []
    of_writer: dict[int, list[str]] = {}
    got = []
    reads = iter(reads)
    for who, fragment in writes:
        if who not in writers:
            writers[who] = channel.open_message()
            of_writer[who] = []
            texts.append(of_writer[who])
        writers[who].write_nowait(fragment)
        if fragment is None:
            del writers[who]
        else:
            of_writer[who].append(fragment)
        if next(reads, False):
            got += channel._take_batch(1)
    for writer in list(writers.values()):
        writer.close()
    got += drain(channel)
    assert got == [item for text in texts for item in [*text, None]]
    assert channel.statistics()[3:] == (0, 0, 0)


def test_writers_in_threads_never_mix_messages():
    """Eight threads, twenty messages each: every message arrives whole."""
    channel = TextFragmentChannel()

    def write(name):
        for number in range(20):
            writer = channel.open_message()
            for _ in range(5):
                writer.write_nowait(f"{name}.{number} ")
            writer.close()

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"{name}.{number} " * 5 for name in range(8) for number in range(20)}
    assert set(messages(channel)) == expected


# -- the bound on unread text


def write_message(channel, text):
    channel.write_nowait(text)
    channel.write_nowait(None)


def test_up_to_the_limit_everything_is_kept():
    """Exactly the limit still fits."""
    channel = TextFragmentChannel(limit=10)
    write_message(channel, "aaaaa")
    write_message(channel, "bbbbb")
    assert channel.statistics().forgotten_messages == 0
    assert messages(channel) == ["aaaaa", "bbbbb"]


def test_beyond_the_limit_the_oldest_finished_messages_are_forgotten_whole():
    """The newest stay, and what is kept fits the limit."""
    channel = TextFragmentChannel(limit=10)
    for letter in "abcde":
        channel.write_nowait(letter * 2)
        channel.write_nowait(letter * 2)
        channel.write_nowait(None)
    stats = channel.statistics()
    assert (stats.forgotten_messages, stats.unread_characters) == (3, 8)
    assert messages(channel) == ["dddd", "eeee"]


def test_the_message_being_written_is_kept_whole():
    """However long it gets; older ones make room."""
    channel = TextFragmentChannel(limit=10)
    write_message(channel, "old")
    for _ in range(100):
        channel.write_nowait("x")
    channel.write_nowait(None)
    assert messages(channel) == ["x" * 100]


async def test_the_message_being_read_is_kept_whole():
    """A slow reader gets its message to the end; younger finished ones are forgotten."""
    channel = TextFragmentChannel(limit=10)
    for item in ["a", "aaaa", None]:
        channel.write_nowait(item)
    assert await channel.read() == "a"
    for letter in "bcd":
        write_message(channel, letter * 5)
    assert messages(channel) == ["aaaa", "ddddd"]
    assert channel.statistics().forgotten_messages == 2


def test_text_held_back_counts_and_finished_messages_held_back_can_be_forgotten():
    """A stuck first writer does not let the others pile up."""
    channel = TextFragmentChannel(limit=10)
    stuck = channel.open_message()
    stuck.write_nowait("stuck")
    for letter in "bcd":
        write_message(channel, letter * 4)
    assert channel.statistics().unread_characters == 9
    stuck.close()
    assert messages(channel) == ["stuck", "dddd"]


def test_messages_without_text_do_not_pile_up():
    """A million failed calls that nobody reads about stay within the bound."""
    channel = TextFragmentChannel(limit=100)
    for _ in range(1_000):
        channel.write_nowait(None)
    stats = channel.statistics()
    assert stats.unread_messages <= 101
    assert (stats.unread_messages + stats.forgotten_messages, stats.unread_characters) == (1_000, 0)


def test_forgetting_warns_once(caplog):
    """One record on aitoolman.channel per channel, without any of the text."""
    channel = TextFragmentChannel(limit=10)
    with caplog.at_level(logging.WARNING, "aitoolman.channel"):
        for _ in range(50):
            write_message(channel, "secret")
    assert len(caplog.records) == 1
    assert "10 characters" in caplog.text
    assert "secret" not in caplog.text


def test_a_channel_that_is_read_forgets_nothing(caplog):
    """The bound is on unread text, not on traffic."""
    channel = TextFragmentChannel(limit=10)
    for _ in range(100):
        write_message(channel, "12345678")
        assert messages(channel) == ["12345678"]
    assert channel.statistics().forgotten_messages == 0
    assert not caplog.records


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit):
    """The error says what the number means."""
    with pytest.raises(ValueError, match="number of characters"):
        TextFragmentChannel(limit=limit)


@given(
    st.lists(
        st.tuples(st.sampled_from("ABr"), st.one_of(st.none(), st.integers(1, 9))),
        max_size=80,
    )
)
def test_whatever_happens_counts_are_right_and_kept_messages_are_whole(steps):
    """Against a plain model: each message is read whole or forgotten whole, none twice."""
    channel = TextFragmentChannel(limit=20)
    writers: dict[str, MessageWriter] = {}
    written: dict[str, str] = {}
    sent, got = [], []
    serial = 0
    for who, size in steps:
        if who == "r":
            got += channel._take_batch(size or 1)
            continue
        if who not in writers:
            writers[who] = channel.open_message()
            serial += 1
            written[who] = f"<{serial}>"
            writers[who].write_nowait(written[who])
        if size is None:
            writers.pop(who).close()
            sent.append(written.pop(who))
        else:
            writers[who].write_nowait("x" * size)
            written[who] += "x" * size
    for who in list(writers):
        writers.pop(who).close()
        sent.append(written.pop(who))
    forgotten = channel.statistics().forgotten_messages
    got += drain(channel)
    received = "".join("\0" if item is None else item for item in got).split("\0")[:-1]
    assert set(received) <= set(sent)
    assert len(set(received)) == len(received) == len(sent) - forgotten
    assert channel.statistics() == (0, 0, False, 0, 0, forgotten)
    assert channel._forgettable == channel._empty == 0


async def test_a_reader_waiting_behind_a_stuck_writer_gets_its_end():
    """Reading goes on from one message to the next without a gap."""
    channel = TextFragmentChannel()
    stuck = channel.open_message()
    stuck.write_nowait("s")
    write_message(channel, "next")
    whole = asyncio.create_task(channel.read_whole_message())
    await waiting(channel)
    stuck.close()
    assert await whole == "s"
    await until(lambda: channel.statistics().unread == 2)
    assert await channel.read_whole_message() == "next"
