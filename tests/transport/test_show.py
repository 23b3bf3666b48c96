"""`show`: everything written in a block is shown when the block is left."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from aitoolman import Channel, TextFragmentChannel, show
from aitoolman._loops import background
from aitoolman._transport import set_show_factory

from .test_channels import until
from .test_collectors import Recorder


@pytest.fixture
def recorders():
    """Everything shown meanwhile goes to recorders, listed here."""
    made = []

    def factory(channels):
        made.append(Recorder(channels))
        return made[-1]

    set_show_factory(factory)
    yield made
    set_show_factory(None)


def an_app():
    """Something with an application's channels."""
    return SimpleNamespace(
        channels={
            "stdin": Channel(),
            "stdout": TextFragmentChannel(),
            "reasoning": TextFragmentChannel(),
            "extra": TextFragmentChannel(),
            "numbers": Channel(),
        }
    )


async def test_an_applications_text_is_printed(capsys):
    """Console, each channel under its name, all of it before the block is left."""
    app = an_app()
    async with show(app):
        await app.channels["reasoning"].write("thinking")
        await app.channels["reasoning"].write(None)
        await app.channels["stdout"].write("the answer")
    assert capsys.readouterr().out == "[reasoning]\nthinking\n\n[stdout]\nthe answer\n"


async def test_text_channels_of_an_application_are_shown_and_stdin_is_not(recorders):
    """Added text channels too; channels of other things are the user's own business."""
    async with show(an_app()) as collector:
        assert list(collector.channels) == ["stdout", "reasoning", "extra"]
    assert recorders == [collector]


async def test_what_nobody_read_of_earlier_calls_is_not_shown(recorders):
    """Only what the block writes; a message that is still being written is part of that."""
    app = an_app()
    for text in ("old", None):
        app.channels["stdout"].write_nowait(text)
    app.channels["reasoning"].write_nowait("still thi")
    async with show(app):
        for text in ("nking", None):
            app.channels["reasoning"].write_nowait(text)
        app.channels["stdout"].write_nowait("new")
    assert recorders[0].text("stdout") == "new"
    assert recorders[0].text("reasoning") == "still thinking"


async def test_channels_given_by_label_are_shown_with_what_is_in_them(recorders):
    """As a collector shows them."""
    channel = TextFragmentChannel()
    channel.write_nowait("before")
    channel.write_nowait(None)
    async with show({"Answer": channel}):
        channel.write_nowait("x")
    assert recorders[0].text("Answer") == "beforex"


async def test_channels_by_label_are_shown_as_given(recorders):
    """A dict, as for a collector."""
    channel = TextFragmentChannel()
    async with show({"Answer": channel}):
        channel.write_nowait("x")
    assert recorders[0].text("Answer") == "x"


async def test_text_is_shown_while_the_block_runs(recorders):
    """Not only at its end."""
    channel = TextFragmentChannel()
    async with show({"a": channel}):
        channel.write_nowait("now")
        await until(lambda: recorders[0].text("a") == "now")


async def test_an_exception_in_the_block_shows_everything_first_and_travels_on(recorders):
    """The text that led up to it is what one wants to see."""
    channel = TextFragmentChannel()
    with pytest.raises(ValueError, match="mine"):  # noqa: PT012
        async with show({"a": channel}):
            channel.write_nowait("last words")
            raise ValueError("mine")
    assert recorders[0].text("a") == "last words"


async def test_a_cancelled_block_shows_everything_and_stays_cancelled(recorders):
    """The cancellation is not swallowed."""
    channel = TextFragmentChannel()

    async def block():
        async with show({"a": channel}):
            channel.write_nowait("partial")
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await until(lambda: channel.statistics().unread or recorders)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorders[0].text("a") == "partial"


async def test_cancelled_while_the_rest_is_shown_nothing_is_left_running():
    """A second cancellation ends a slow display."""

    class Stuck(Recorder):
        async def on_channel_read(self, channel_name, message):
            await asyncio.Event().wait()

    set_show_factory(Stuck)
    try:
        shown = show({"a": TextFragmentChannel()})
    finally:
        set_show_factory(None)

    async def block():
        async with shown as collector:
            collector.channels["a"].write_nowait("x")

    task = asyncio.create_task(block())
    await until(lambda: shown.collector._floor is not None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shown._task.cancelled()


async def test_a_display_that_fails_is_reported_at_the_end_of_the_block():
    """Unless the block failed itself: its own error matters more."""

    class Broken(Recorder):
        async def on_channel_read(self, channel_name, message):
            raise OSError("no paper")

    set_show_factory(Broken)
    try:
        for expected, match in ((OSError, "no paper"), (ValueError, "mine")):
            channel = TextFragmentChannel()
            with pytest.raises(expected, match=match):  # noqa: PT012
                async with show({"a": channel}):
                    channel.write_nowait("x")
                    if expected is ValueError:
                        raise ValueError("mine")
    finally:
        set_show_factory(None)


def test_plain_with_shows_from_the_background_loop(capsys):
    """No loop is needed in a script; everything is printed when the block is left."""
    app = an_app()
    with show(app):
        app.channels["stdout"].write_nowait("sync")
    assert capsys.readouterr().out == "[stdout]\nsync\n"


def test_plain_with_shows_everything_when_its_block_fails(capsys):
    """And the exception travels on."""
    channel = TextFragmentChannel()
    with pytest.raises(KeyboardInterrupt), show({"a": channel}):  # noqa: PT012
        channel.write_nowait("before")
        raise KeyboardInterrupt
    assert capsys.readouterr().out == "[a]\nbefore\n"


def test_plain_with_on_the_background_loop_says_to_use_async_with():
    """It would wait for itself for ever."""

    async def inside():
        with show({"a": TextFragmentChannel()}):
            pass

    future = asyncio.run_coroutine_threadsafe(inside(), background.loop)
    with pytest.raises(RuntimeError, match="async with"):
        future.result()


@pytest.mark.parametrize("source", [None, 3, TextFragmentChannel(), SimpleNamespace(channels=1)])
def test_what_cannot_be_shown_is_named(source):
    """The error says what `show` takes."""
    with pytest.raises(TypeError, match="an application or channels by label, not a"):
        show(source)
