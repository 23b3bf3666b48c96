"""Server-sent events come out the same however their bytes are cut."""

from __future__ import annotations

import itertools
import time

import httpx_sse
import pytest
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from hypothesis import given
from hypothesis import strategies as st

from aitoolman._provider import sse
from aitoolman._provider.errors import TransportError
from aitoolman._provider.sse import EventSplitter


def seen(event: httpx_sse.ServerSentEvent) -> tuple:
    return event.event, event.data, event.id, event.retry


def split(blocks: list[bytes]) -> list[tuple]:
    splitter = EventSplitter()
    return [seen(event) for block in blocks for event in splitter.feed(block)]


def reference(data: bytes) -> list[tuple]:
    """What httpx-sse makes of it, a byte order mark taken off as the standard says."""
    lines, events = SSELineDecoder(), SSEDecoder()
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    decoded = [events.decode(line) for line in lines.decode(text)] if text else []
    # The line decoder keeps a last CR back, which has ended its line all the same.
    if text.endswith("\r"):
        decoded += [events.decode(line) for line in lines.flush()]
    # It also gives events without data, which by the standard are none.
    return [seen(event) for event in decoded if event is not None and event.data]


line = st.one_of(
    st.sampled_from(
        ["", "", "data: {}", "data: {}", "data:x", "data", ": ping", "event: error", "id: 7", "id",
         "retry: 5", "retry: x", "other: 1", "data:  two", ":", "data: a:b"]
    ),
    st.text("daté: \x00xé😀", max_size=8),
)  # fmt: skip
ends = st.sampled_from(["\n", "\r\n", "\r"])
streams = st.builds(
    lambda bom, lines, end: (b"\xef\xbb\xbf" if bom else b"") + end.join([*lines, ""]).encode(),
    st.booleans(),
    st.lists(line, max_size=12),
    ends,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(marks)]


@given(streams, st.lists(st.integers(0, 200), max_size=8))
def test_any_cut_of_a_stream_gives_what_httpx_sse_gives(data, places):
    """Events don't depend on the blocks they came in, and mean what httpx-sse says."""
    assert split(cut(data, places)) == reference(data)


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_any_bytes_give_the_same_events_cut_or_whole(data, places):
    """Not even garbage makes the cut matter, or raises."""
    assert split(cut(data, places)) == split([data])


def test_a_character_cut_in_two_arrives_whole():
    """UTF-8 is decoded after the blocks were joined."""
    data = 'data: {"text": "日本"}\n\n'.encode()
    for place in range(len(data)):
        assert split([data[:place], data[place:]])[0][1] == '{"text": "日本"}'


def test_an_id_stays_with_the_events_after_it():
    """An id, once named, is the last id of all later events, and the fast way knows."""
    assert [e[2] for e in split([b"data: a\n\nid: 1\ndata: b\n\ndata: c\n\n"])] == ["", "1", "1"]


def test_the_last_event_counts_without_its_blank_line_but_not_cut_within_a_line():
    """A server that forgets the last line end loses nothing; half a line is no event."""
    for tail, expected in ((b"data: [DONE]\n", ["[DONE]"]), (b"data: [DO", [])):
        splitter = EventSplitter()
        assert splitter.feed(tail) == []
        assert [event.data for event in splitter.flush()] == expected


def test_an_endless_event_is_an_error(monkeypatch):
    """A stream without line ends does not fill the memory."""
    monkeypatch.setattr(sse, "MAX_EVENT", 1000)
    splitter = EventSplitter()
    for _ in range(10):
        assert splitter.feed(b"x" * 100) == []
    with pytest.raises(TransportError, match="larger than"):
        splitter.feed(b"x")


def test_blank_lines_are_skipped_in_one_step():
    """Sixteen million of them hold nobody up, and what follows is read as ever."""
    splitter = EventSplitter()
    start = time.process_time()
    for _ in range(64):
        assert splitter.feed(b"\n" * 2**18) == []
    assert time.process_time() - start < 2
    assert [seen(event) for event in splitter.feed(b"data: x\n\n")] == [("message", "x", "", None)]
