"""What vendors' headers say about waiting and about what is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman._provider.limits import ModelLimits
from aitoolman._provider.queue import Ticket
from aitoolman._provider.rates import Remaining, read_remaining, retry_after, seconds_until

from ..virtual_clock import VirtualClock

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1), ("6m0s", 360), ("120ms", 0.12), ("1m30.5s", 90.5), ("1h2m3s", 3723),
        ("2m59.56s", 179.56), ("0", 0), ("17", 17), ("0.5", 0.5), (" 12 ", 12),
        ("2027-01-15T08:00:30Z", 30), ("2027-01-15T08:00:30+00:00", 30),
        ("2027-01-15T08:00:30", 30),
        ("2020-01-01T00:00:00Z", 0), ("Fri, 15 Jan 2027 08:01:00 GMT", 60),
        ("1800000040", 40), ("1800000040000", 40), ("1d", 86400),
        ("", None), ("soon", None), ("-3", None), ("nan", None), ("inf", None), ("1x", None),
        ("s" * 10_000, None), ("99999-01-01", None),
    ],
)  # fmt: skip
def test_every_way_to_write_a_time(text, seconds):
    """Numbers, durations, both kinds of date, Unix time; nonsense is nothing."""
    found = seconds_until(text, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


@given(st.text(max_size=80))
def test_no_header_raises(text):
    """A hostile header is at worst ignored, and never a negative or endless wait."""
    headers = {"Retry-After": text, "retry-after-ms": text}
    for found in (seconds_until(text, NOW), retry_after(headers, NOW)):
        assert found is None or 0 <= found < float("inf")


def test_retry_after_in_milliseconds_wins():
    """OpenAI sends both; the finer one counts."""
    assert retry_after({"retry-after-ms": "250", "Retry-After": "1"}, NOW) == 0.25
    assert retry_after({"Retry-After": "7"}, NOW) == 7
    assert retry_after({}, NOW) is None


def test_remaining_is_read_from_openai_and_anthropic():
    """Both families of headers, requests and tokens."""
    openai = {
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "6m0s",
        "x-ratelimit-remaining-tokens": "1000",
        "x-ratelimit-reset-tokens": "120ms",
    }
    assert read_remaining(openai, NOW) == Remaining((3, 360), (1000, 0.12))
    anthropic = {
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:10Z",
    }
    assert read_remaining(anthropic, NOW) == Remaining((0, 10), None)
    assert read_remaining({"x-ratelimit-remaining-requests": "3"}, NOW) == Remaining()


async def test_what_a_vendor_says_is_left_is_shared_by_all_that_wait():
    """Two left means two more are sent; the rest wait for the reset."""
    clock = VirtualClock()
    limits = ModelLimits(clock, 10)
    grant = await limits.enter(Ticket())
    limits.observe(grant, Remaining(requests=(2, 30)))
    assert [limits.ready_in(Ticket())] == [0.0]
    for _ in range(2):
        await limits.enter(Ticket())
    assert limits.ready_in(Ticket()) == 30
    clock.now += 30
    assert limits.ready_in(Ticket()) == 0.0


async def test_an_answer_that_was_overtaken_teaches_nothing_old():
    """The later request's headers stay in force when an earlier one's answer comes after it."""
    clock = VirtualClock()
    limits = ModelLimits(clock, 10)
    first, second = await limits.enter(Ticket()), await limits.enter(Ticket())
    limits.observe(second, Remaining(requests=(0, 30)))
    limits.observe(first, Remaining(requests=(50, 30)))
    assert limits.ready_in(Ticket()) == 30


async def test_a_learned_wait_beyond_max_wait_is_left_to_the_vendor():
    """Nobody sits in line for a day because of a header; the vendor's own 429 says so instead."""
    clock = VirtualClock()
    limits = ModelLimits(clock, 10, max_wait=120)
    grant = await limits.enter(Ticket())
    limits.observe(grant, Remaining(requests=(0, 86400)))
    assert limits.ready_in(Ticket()) == 0.0
