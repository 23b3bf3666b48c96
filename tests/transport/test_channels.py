"""Plain channels and what all channels share: order, waiting, EOF, threads, cancellation."""

from __future__ import annotations

import asyncio
import gc
import random
import threading

import pytest

from aitoolman import Channel, LLMApplicationError, TextFragmentChannel

KINDS = [Channel, TextFragmentChannel]


async def until(condition):
    """Let other tasks run until `condition` holds."""
    while not condition():  # noqa: ASYNC110 - any condition at all
        await asyncio.sleep(0)


async def waiting(channel, count=1):
    await until(lambda: channel.statistics().waiting_readers == count)


@pytest.mark.parametrize("kind", KINDS)
async def test_items_come_out_in_the_order_they_went_in(kind):
    """A channel is first in, first out."""
    channel = kind()
    for item in "abc":
        await channel.write(item)
    assert [await channel.read() for _ in "abc"] == ["a", "b", "c"]


async def test_a_plain_channel_carries_any_object_and_keeps_everything():
    """Nothing is interpreted or forgotten: None, empty strings and a million items included."""
    channel = Channel()
    items = [None, "", 0, {"x": 1}, *range(20_000)]
    for item in items:
        channel.write_nowait(item)
    await channel.write_complete()
    assert [item async for item in channel] == items


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reader_waits_for_the_next_item(kind):
    """A read on an empty channel returns when something is written."""
    channel = kind()
    reader = asyncio.create_task(channel.read())
    await waiting(channel)
    channel.write_nowait("late")
    assert await reader == "late"
    assert channel.statistics().waiting_readers == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_each_item_goes_to_one_reader(kind):
    """Several readers share the items, none is read twice or lost."""
    channel = kind()
    readers = [asyncio.create_task(channel.read()) for _ in range(5)]
    await waiting(channel, 5)
    for item in "abcde":
        channel.write_nowait(item)
    assert sorted(await asyncio.gather(*readers)) == list("abcde")


@pytest.mark.parametrize("kind", KINDS)
async def test_after_eof_what_is_left_is_read_then_eoferror_for_ever(kind):
    """EOF loses nothing, and every later read says so again."""
    channel = kind()
    await channel.write("last")
    await channel.write_complete()
    assert await channel.read() == "last"
    for _ in range(3):
        with pytest.raises(EOFError):
            await channel.read()


@pytest.mark.parametrize("kind", KINDS)
async def test_eof_wakes_all_waiting_readers(kind):
    """Nobody waits for what will never come."""
    channel = kind()
    readers = [asyncio.create_task(channel.read()) for _ in range(3)]
    await waiting(channel, 3)
    channel.complete()
    outcomes = await asyncio.gather(*readers, return_exceptions=True)
    assert [type(o) for o in outcomes] == [EOFError] * 3


@pytest.mark.parametrize("kind", KINDS)
async def test_writing_after_eof_is_a_clear_error_and_completing_again_is_fine(kind):
    """The message names what ended the channel."""
    channel = kind()
    channel.complete()
    channel.complete()
    with pytest.raises(LLMApplicationError, match="write_complete"):
        await channel.write("more")


async def test_iteration_ends_at_eof():
    """`async for` needs no exception handling."""
    channel = Channel()
    for item in (1, 2, 3):
        channel.write_nowait(item)
    channel.complete()
    assert [item async for item in channel] == [1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_reader_takes_nothing_with_it(kind):
    """Cancelled while waiting, or at the very moment of being woken: the item stays."""
    channel = kind()
    first = asyncio.create_task(channel.read())
    await waiting(channel)
    first.cancel()
    await asyncio.wait([first])
    assert channel.statistics().waiting_readers == 0

    second = asyncio.create_task(channel.read())
    await waiting(channel)
    channel.write_nowait("kept")
    second.cancel()
    await asyncio.wait([second])
    assert second.cancelled()
    assert await channel.read() == "kept"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reader_cancelled_when_woken_passes_its_turn_on(kind):
    """The next waiting reader gets the item that the cancelled one did not take."""
    channel = kind()
    first = asyncio.create_task(channel.read())
    await waiting(channel, 1)
    second = asyncio.create_task(channel.read())
    await waiting(channel, 2)
    channel.write_nowait("x")
    first.cancel()
    assert await second == "x"
    await asyncio.wait([first])


async def test_random_cancellation_loses_and_repeats_nothing():
    """500 items, readers cancelled at random moments: each item is read exactly once."""
    dice = random.Random(7)
    channel = Channel()
    seen = []

    async def read_one():
        seen.append(await channel.read())

    tasks = set()
    for item in range(500):
        for _ in range(dice.randrange(3)):
            tasks.add(asyncio.create_task(read_one()))
        if dice.random() < 0.5:
            await asyncio.sleep(0)
        channel.write_nowait(item)
        for task in dice.sample(sorted(tasks, key=id), min(len(tasks), dice.randrange(2))):
            task.cancel()
            tasks.discard(task)
    channel.complete()
    await asyncio.gather(*tasks, return_exceptions=True)
    seen += [item async for item in channel]
    assert sorted(seen) == list(range(500))


def test_a_channel_needs_no_loop_to_be_made_or_written():
    """Made and filled in plain code, read later on a loop, and then on another one."""
    channel = TextFragmentChannel()
    channel.write_nowait("a")
    channel.write_nowait("b")
    assert asyncio.run(channel.read()) == "a"
    assert asyncio.run(channel.read()) == "b"


async def test_writers_in_threads_reach_a_reader_on_a_loop():
    """Four threads write 2,000 items each; all arrive, each thread's in order."""
    channel = Channel()

    def write(thread):
        for number in range(2_000):
            channel.write_nowait((thread, number))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    got = [await channel.read() for _ in range(8_000)]
    for thread in threads:
        thread.join()
    for name in range(4):
        assert [number for thread, number in got if thread == name] == list(range(2_000))


async def test_readers_on_two_loops_share_one_channel():
    """A reader is woken on its own loop, whoever writes."""
    channel = Channel()
    elsewhere = []

    async def read_all():
        return [item async for item in channel]

    thread = threading.Thread(target=lambda: elsewhere.extend(asyncio.run(read_all())))
    thread.start()
    here = asyncio.create_task(read_all())
    await waiting(channel, 2)
    for item in range(1_000):
        channel.write_nowait(item)
        if item % 50 == 0:
            await asyncio.sleep(0)
    channel.complete()
    mine = await here
    await asyncio.to_thread(thread.join)
    assert sorted(mine + elsewhere) == list(range(1_000))


def test_a_reader_left_on_a_closed_loop_does_not_swallow_a_wake_up():
    """A loop that was closed over a waiting reader is passed over."""
    channel = Channel()
    dead = asyncio.new_event_loop()
    abandoned = dead.create_task(channel.read())
    dead.run_until_complete(asyncio.sleep(0))
    dead.close()

    async def main():
        reader = asyncio.create_task(channel.read())
        await waiting(channel, 2)
        channel.write_nowait("x")
        assert await reader == "x"

    asyncio.run(main())
    abandoned._log_destroy_pending = False
    abandoned.get_coro().close()
    del abandoned
    gc.collect()


def test_repr_shows_counts_and_never_the_text():
    """What is in a channel may be anybody's secret."""
    channel = TextFragmentChannel()
    channel.write_nowait("secret")
    assert "secret" not in repr(channel)
    assert "1 unread" in repr(channel)


def test_statistics_is_a_frozen_snapshot():
    """It cannot be written to, and does not change afterwards."""
    channel = Channel()
    before = channel.statistics()
    channel.write_nowait(1)
    assert (before.unread, channel.statistics().unread) == (0, 1)
    with pytest.raises(AttributeError):
        before.unread = 5
