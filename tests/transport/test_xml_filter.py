"""XML filters: what is a tag, where its text goes, and that cuts in the stream change nothing."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aitoolman import BaseXmlTagFilter, TextFragmentChannel, XmlTagToChannelFilter
from aitoolman._transport import open_writer
from aitoolman._transport.xml_scanner import MAX_TAG

TAGS = ["status", "answer", "s"]


class Recorder(BaseXmlTagFilter):
    """Writes down (tag, text) and (tag, None)."""

    def __init__(self, tags=TAGS):
        super().__init__(tags)
        self.log = []

    async def on_text(self, tag, fragment):
        assert fragment
        self.log.append((tag, fragment))

    async def on_end(self, tag):
        self.log.append((tag, None))

    def joined(self):
        """The log with neighbouring text of one tag joined: what does not depend on cuts."""
        out = []
        for tag, text in self.log:
            if out and text is not None and out[-1][0] == tag and out[-1][1] is not None:
                out[-1] = (tag, out[-1][1] + text)
            else:
                out.append((tag, text))
        return out


def filtered(pieces, tags=TAGS):
    """What a message in these pieces becomes, the final (None, None) left out."""

    async def main():
        recorder = Recorder(tags)
        for piece in pieces:
            await recorder.write(piece)
        await recorder.write(None)
        return recorder.joined()

    log = asyncio.run(main())
    assert log[-1] == (None, None)
    return log[:-1]


CASES = {
    "plain": ("hello", [(None, "hello")]),
    "one tag": ("<s>x</s>", [("s", "x"), ("s", None)]),
    "text around": ("a<s>x</s>b", [(None, "a"), ("s", "x"), ("s", None), (None, "b")]),
    "two tags": (
        "<status>x</status>\n<answer>y</answer>",
        [("status", "x"), ("status", None), (None, "\n"), ("answer", "y"), ("answer", None)],
    ),
    "prefix of another name": (
        "<s>x</s><status>y</status>",
        [("s", "x"), ("s", None), ("status", "y"), ("status", None)],
    ),
    "attributes": ("<s a=\"1\" b='2' c>x</s>", [("s", "x"), ("s", None)]),
    "> in a quoted value": ("<s a='>' b=\"x>y\">x</s>", [("s", "x"), ("s", None)]),
    "other quote in a value": ('<s a="it\'s">x</s>', [("s", "x"), ("s", None)]),
    "space around =": ("<s a = '>' >x</s>", [("s", "x"), ("s", None)]),
    "lone apostrophe": ("<s don't>x</s>", [("s", "x"), ("s", None)]),
    "unquoted value": ("<s a=1>x</s>", [("s", "x"), ("s", None)]),
    "line ends in a tag": ("<s\n a='1'\r\n>x</s\n>", [("s", "x"), ("s", None)]),
    "space before the name": ("< s>x</s>", [(None, "< s>x</s>")]),
    "space after the slash": ("<s>x</ s></s>", [("s", "x</ s>"), ("s", None)]),
    "unknown tag": ("<b>x</b>", [(None, "<b>x</b>")]),
    "longer name": ("<sx>x</sx>", [(None, "<sx>x</sx>")]),
    "other case": ("<S>x</S>", [(None, "<S>x</S>")]),
    "markup inside": (
        "<s><b>x</b> & <answer>y</answer></s>",
        [("s", "<b>x</b> & <answer>y</answer>"), ("s", None)],
    ),
    "nested same tag": ("<s>x<s>y</s>z</s>", [("s", "x<s>y"), ("s", None), (None, "z</s>")]),
    "empty": ("<s></s>", [("s", None)]),
    "self-closing": (
        "a<s/>b<s />c<s a='1'/>",
        [(None, "a"), ("s", None), (None, "b"), ("s", None), (None, "c"), ("s", None)],
    ),
    "slash in an attribute": ("<s a='/'>x</s>", [("s", "x"), ("s", None)]),
    "stray end tag": ("x</s>y", [(None, "x</s>y")]),
    "end tag with attributes": ("<s>x</s a='1'></s>", [("s", "x</s a='1'>"), ("s", None)]),
    "unclosed": ("<s>x", [("s", "x"), ("s", None)]),
    "half an end tag": ("<s>x</s", [("s", "x</s"), ("s", None)]),
    "half a tag": ("x<stat", [(None, "x<stat")]),
    "half a tag with attributes": ("<s a='b", [(None, "<s a='b")]),
    "lone <": ("a < b <", [(None, "a < b <")]),
    "two <": ("<<s>x<</s>", [(None, "<"), ("s", "x<"), ("s", None)]),
    "tag cut by a tag": ("<s a='<s>x</s>", [(None, "<s a='"), ("s", "x"), ("s", None)]),
    "entities": ("<s>&lt;&amp;</s>&gt;", [("s", "&lt;&amp;"), ("s", None), (None, "&gt;")]),
    "CDATA": ("<s><![CDATA[</s>]]>", [("s", "<![CDATA["), ("s", None), (None, "]]>")]),
    "comment": ("<!-- <s>x</s> -->", [(None, "<!-- "), ("s", "x"), ("s", None), (None, " -->")]),
    "unicode": ("é<s>日本🙂</s>ß", [(None, "é"), ("s", "日本🙂"), ("s", None), (None, "ß")]),
    "no-break space is no space": ("<s\xa0>x", [(None, "<s\xa0>x")]),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_what_is_a_tag_and_where_its_text_goes(text, expected):
    """Whole, character by character, and cut at each single place."""
    assert filtered([text]) == expected
    assert filtered(list(text)) == expected
    for cut in range(1, len(text)):
        assert filtered([text[:cut], text[cut:]]) == expected, cut


PARTS = st.sampled_from(
    ["<", ">", "/", "</", "<s", "<s>", "</s>", "<status", "<status>", "</status>", "<answer>",
     "</answer >", "s", "st", "=", "'", '"', " ", "\n", " a='>' ", ' b="/"', "/>", "x", "é", "&lt;"]
)  # fmt: skip


@given(st.lists(PARTS, max_size=25).map("".join), st.data())
@settings(max_examples=200)
@example("<s a='</s>'>x</s>", None)
def test_cuts_change_nothing(text, data):
    """Any text, cut anywhere and everywhere, comes out the same as in one piece."""
    whole = filtered([text])
    assert filtered(list(text)) == whole
    if data is not None and text:
        cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert filtered(pieces) == whole
    for cut in range(len(text)):
        assert filtered([text[:cut], text[cut:]]) == whole


@given(st.lists(PARTS, max_size=25).map("".join))
def test_without_known_tags_all_text_passes_unchanged(text):
    """Nothing is swallowed, reordered or decoded."""
    assert "".join(piece for _, piece in filtered(list(text), tags=[])) == text


@given(st.lists(PARTS, max_size=25).map("".join))
def test_only_recognized_tags_disappear(text):
    """What comes out is the text less whole tags: every piece stands in it, in order."""
    position = 0
    for _, piece in filtered(list(text)):
        if piece is not None:
            position = text.index(piece, position) + len(piece)


@pytest.mark.parametrize("size", [MAX_TAG - 1, MAX_TAG, MAX_TAG + 1])
def test_a_tag_has_a_longest_length(size):
    """Up to MAX_TAG characters it is a tag, above it is text, however it arrives."""
    tag = "<s a='" + "x" * (size - 8) + "'>"
    assert len(tag) == size
    expected = [("s", "y"), ("s", None)] if size <= MAX_TAG else [(None, tag + "y</s>")]
    assert filtered([tag + "y</s>"]) == expected
    assert filtered(list(tag + "y</s>")) == expected
    assert filtered([tag[:4000], tag[4000:] + "y</s>"]) == expected


async def test_content_streams_as_it_arrives():
    """Each piece is passed on at once; only a possible beginning of the end tag is kept back."""
    recorder = Recorder()
    seen = []
    for piece in ["<answer>", "one ", "two", " <", "b> </ans", "wers> ", "</answer", ">"]:
        await recorder.write(piece)
        seen.append(recorder.log[:])
        recorder.log.clear()
    assert seen == [
        [], [("answer", "one ")], [("answer", "two")], [("answer", " ")], [("answer", "<b> ")],
        [("answer", "</answers> ")], [], [("answer", None)],
    ]  # fmt: skip


async def test_other_text_streams_as_it_arrives():
    """A `<` that begins no known tag is let go as soon as that is clear."""
    recorder = Recorder()
    await recorder.write("1 <")
    assert recorder.log == [(None, "1 ")]
    await recorder.write("2")
    assert recorder.log == [(None, "1 "), (None, "<2")]


HOSTILE = {
    "<": "<" * 200_000,
    "half a tag": "<status " + "a" * 200_000,
    "half a value": "<status a='" + ">" * 200_000,
    "tag after half a tag": "<status a='" * 20_000,
    "half an end tag": "<status>" + "</status     " * 20_000,
    "space in an end tag": "<status></status" + " " * 200_000,
    "tags": "<s>x</s>" * 20_000,
}


@pytest.mark.parametrize("size", [1, 1_000_000], ids=["by character", "at once"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_text_is_read_once_and_hardly_held_back(text, size):
    """Little is held at any time, and all of it comes through (quadratic work would time out)."""
    recorder = Recorder()
    for start in range(0, len(text), size):
        await recorder.write(text[start : start + size])
    scanner = recorder._scanner
    assert len(scanner._held) < 100
    assert scanner._step in (scanner._outside, scanner._inside) or scanner._size <= MAX_TAG
    await recorder.write(None)
    assert recorder.log[-1] == (None, None)


async def test_the_next_message_starts_clean():
    """An unclosed tag ends with its message, a half one becomes text; nothing leaks over."""
    recorder = Recorder()
    for piece in ["<s>x</", None, "s>", None, "<s a='", None, "'>y", None]:
        await recorder.write(piece)
    assert recorder.joined() == [
        ("s", "x</"), ("s", None), (None, None),
        (None, "s>"), (None, None),
        (None, "<s a='"), (None, None),
        (None, "'>y"), (None, None),
    ]  # fmt: skip


async def test_an_error_in_ending_a_tag_still_ends_the_message():
    """Both ends are told, then the error travels on."""

    class Broken(Recorder):
        async def on_end(self, tag):
            await super().on_end(tag)
            if tag is not None:
                raise OSError("full")

    recorder = Broken()
    await recorder.write("<s>x")
    with pytest.raises(OSError, match="full"):
        await recorder.write(None)
    assert recorder.log == [("s", "x"), ("s", None), (None, None)]
    await recorder.write("clean")
    assert recorder.log[-1] == (None, "clean")


@pytest.mark.parametrize("name", ["", "<s>", "a b", "a/", "a=b", 3, None])
def test_a_name_that_no_tag_can_have_is_refused(name):
    """The error shows it and says what to give."""
    with pytest.raises(ValueError, match="without <>"):
        Recorder([name])


@pytest.mark.parametrize("name", ["a.b", "a-b", "ns:a", "日本", "a+(b"])
def test_any_other_name_will_do(name):
    """Dots, dashes, colons, other scripts; nothing in a name has a special meaning."""
    assert filtered(list(f"<{name}>x</{name}>"), [name]) == [(name, "x"), (name, None)]


async def test_only_text_is_filtered():
    """Bytes are a mistake that is named."""
    with pytest.raises(TypeError, match="not bytes"):
        await Recorder().write(b"x")


# -- to channels


def to_channels():
    made = {name: TextFragmentChannel() for name in ("default", "status", "answer")}
    xml = XmlTagToChannelFilter(
        made["default"], {"status": made["status"], "answer": made["answer"]}
    )
    return xml, made


def read_all(channel):
    channel.complete()

    async def main():
        return [item async for item in channel]

    return main()


async def test_each_tag_goes_to_its_channel():
    """None follows each closing tag there, and the message's end in the default channel."""
    xml, made = to_channels()
    for piece in ["Hi <stat", "us>working</status><status>d", "one</status><answer>42", None]:
        await xml.write(piece)
    assert await read_all(made["status"]) == ["working", None, "d", "one", None]
    assert await read_all(made["answer"]) == ["42", None]
    assert await read_all(made["default"]) == ["Hi ", None]


async def test_two_tags_may_share_a_channel_with_each_other_and_the_default():
    """Their messages follow one another as they stand in the text."""
    one = TextFragmentChannel()
    xml = XmlTagToChannelFilter(one, {"a": one, "b": one})
    await xml.write("x<a>1</a><b>2</b>y")
    await xml.write(None)
    assert await read_all(one) == ["x", "1", None, "2", None, "y", None]


async def test_two_filters_never_mix_messages_in_a_shared_channel():
    """Each call may have a filter of its own over the application's channels."""
    made = {name: TextFragmentChannel() for name in ("default", "s")}
    first, second = (XmlTagToChannelFilter(made["default"], {"s": made["s"]}) for _ in range(2))
    for piece in ["<s>on", "e", "</s>", None]:
        for number, xml in enumerate([first, second]):
            await xml.write(piece and piece.replace("on", f"{number}."))
    assert await read_all(made["s"]) == ["0.", "e", None, "1.", "e", None]


async def test_two_calls_through_one_filter_are_taken_one_after_the_other():
    """The second call's text waits outside, so the scanner sees whole messages."""
    xml, made = to_channels()
    a, b = open_writer(xml), open_writer(xml)
    await a.write("<answer>A")
    await b.write("<answer>B")
    await a.write("a</answer>")
    await b.write("b</answer>")
    await a.write(None)
    await b.write(None)
    items = await read_all(made["answer"])
    assert "".join(item or "|" for item in items) == "Aa|Bb|"


async def test_a_users_own_sink_may_stand_behind_a_tag():
    """Anything with `async write`."""

    class Sink:
        def __init__(self):
            self.got = []

        async def write(self, message):
            self.got.append(message)

    sink = Sink()
    xml = XmlTagToChannelFilter(TextFragmentChannel(), {"s": sink})
    await xml.write("<s>x</s>")
    assert sink.got == ["x", None]
