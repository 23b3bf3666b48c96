"""Retries, waits and their record, proved by what the server saw on a virtual clock."""

from __future__ import annotations

import asyncio

import pytest

from aitoolman._provider.retry import backoff

from ..fake_llm import Reply
from ..virtual_clock import VirtualClock, settle


@pytest.fixture
def clock():
    return VirtualClock(jump=True)


def timed(fake_llm, clock, replies):
    """Script `replies`; the list that comes back fills with the times of arrival, from 0."""
    times, script = [], iter(replies)

    def answer(seen):
        times.append(round(clock.now - 1000, 3))
        return next(script)

    fake_llm.script(answer)
    return times


async def test_failures_that_may_pass_are_retried_with_growing_waits(make_desk, fake_llm, clock):
    """5xx, 408, 409: 0.5 s, then times 1.5; each attempt is on record with its wait."""
    times = timed(
        fake_llm, clock, [Reply(status=500), Reply(status=408), Reply(status=409), "there"]
    )
    response = await make_desk(clock).ask()
    assert response.response_text == "there"
    assert times == [0, 0.5, 1.25, 2.375]
    assert [(a.outcome, a.status, a.wait) for a in response.attempts] == [
        ("retry", 500, 0.5),
        ("retry", 408, 0.75),
        ("retry", 409, 1.125),
        ("ok", 200, 0),
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after-ms": "2500"}, 2.5),
        ({"Retry-After": "Fri, 15 Jan 2027 08:00:20 GMT"}, 20),
        ({"Retry-After": "0"}, 0.5),
        ({}, 0.5),
    ],
    ids=["seconds", "milliseconds", "date", "zero", "none"],
)
async def test_what_the_vendor_asks_for_is_the_least_wait(
    make_desk, fake_llm, clock, headers, wait, stream
):
    """Retry-After in each of its forms is a floor under the backoff, streamed or not."""
    times = timed(fake_llm, clock, [Reply(status=429, headers=headers), "there"])
    response = await make_desk(clock).ask(stream=stream)
    assert response.response_text == "there"
    assert times == [0, wait]
    assert response.attempts[0].outcome == "wait"


async def test_a_wait_beyond_max_wait_stops_and_says_until_when(make_desk, fake_llm, clock):
    """Nobody sleeps for hours on a header: the answer names the time of day."""
    times = timed(fake_llm, clock, [Reply(status=429, headers={"Retry-After": "3600"})] * 2)
    response = await make_desk(clock).ask()
    assert times == [0]
    assert clock.sleeps == []
    assert response.finish_reason == "error: request"
    assert "wait until 09:00:00 UTC (3,600 s)" in response.error_text
    assert "`max_wait` = 120 s" in response.error_text


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
async def test_what_can_never_work_is_asked_once(make_desk, fake_llm, clock, status):
    """A wrong key or an impossible request is not repeated."""
    fake_llm.script(Reply(status=status))
    response = await make_desk(clock).ask()
    assert fake_llm.requests_seen == 1
    assert response.finish_reason == "error: request"
    assert [a.outcome for a in response.attempts] == ["stop"]
    assert ("check `api_key`" in response.error_text) == (status == 401)


async def test_exhausted_quota_is_no_reason_to_wait(make_desk, fake_llm, clock):
    """A 429 that says insufficient_quota stops at once."""
    fake_llm.script(
        Reply(status=429, error="You are out of money", error_code="insufficient_quota")
    )
    response = await make_desk(clock).ask()
    assert fake_llm.requests_seen == 1
    assert "insufficient_quota" in response.error_text


async def test_a_refusal_by_moderation_is_content_filter(make_desk, fake_llm, clock):
    """A 400 of the content policy is told apart from a bad request."""
    fake_llm.script(Reply(status=400, error="No.", error_code="content_policy_violation"))
    response = await make_desk(clock).ask()
    assert response.finish_reason == "content_filter"
    assert response.error_text == "m: HTTP 400: No (content_policy_violation)"


async def test_max_retries_counts_waits_and_retries_together(make_desk, fake_llm, clock):
    """With two retries a 429 and a 500 leave no third."""
    replies = [Reply(status=429), Reply(status=500), Reply(status=503), "never"]
    times = timed(fake_llm, clock, replies)
    response = await make_desk(clock, max_retries=2).ask()
    assert len(times) == 3
    assert [a.outcome for a in response.attempts] == ["wait", "retry", "retry"]
    assert "(after 3 attempts)" in response.error_text
    assert response.attempts[-1].wait == 0


async def test_dropped_connections_are_retried(make_desk, fake_llm, clock):
    """Before the status line, within the body, with a reset."""
    drops = [
        Reply("x", drop_after=-1),
        Reply("x", drop_after=0),
        Reply("x", drop_after=-1, reset=True),
    ]
    fake_llm.script([*drops, "there"])
    response = await make_desk(clock).ask()
    assert response.response_text == "there"
    assert [a.outcome for a in response.attempts] == ["retry", "retry", "retry", "ok"]


async def test_a_stream_is_retried_only_before_its_first_fragment(make_desk, fake_llm, clock, sink):
    """Nothing was shown: again. Something was: the partial text and an error."""
    fake_llm.script(
        [Reply("never seen", drop_after=1), Reply(chunks=["par", "tial"], drop_after=2)]
    )
    response = await make_desk(clock).ask(stream=True, output_channel=sink)
    assert fake_llm.requests_seen == 2
    assert sink.got == ["par", None]
    assert (response.finish_reason, response.response_text) == ("error: request", "par")
    assert [a.outcome for a in response.attempts] == ["retry", "stop"]


async def test_an_error_inside_a_stream_is_classed_like_any_other(make_desk, fake_llm, clock, sink):
    """An overload that comes as an event before any text is waited out."""
    overloaded = {"error": {"message": "Overloaded", "type": "overloaded_error"}}
    fake_llm.script([Reply("", stream_error=overloaded), "there"])
    response = await make_desk(clock).ask(stream=True, output_channel=sink)
    assert sink.got == ["there", None]
    first = response.attempts[0]
    assert (first.outcome, first.vendor_code, first.status) == ("wait", "overloaded_error", 200)
    assert "Overloaded" in first.reason


async def test_nothing_of_a_failed_attempt_is_left_in_the_answer(make_desk, fake_llm, clock):
    """Text, tool calls, counts and reasons of a failed attempt are gone; its cost is not."""
    first = Reply(finish="error", usage={"prompt": 1000, "completion": 1000})
    fake_llm.script([first, Reply("good", usage={"prompt": 10, "completion": 1})])
    price = {"input": 1.0, "output": 1.0}
    response = await make_desk(clock, price=price).ask()
    assert (response.response_text, response.finish_reason) == ("good", "stop")
    assert (response.error_text, response.prompt_tokens) == (None, 10)
    assert [a.prompt_tokens for a in response.attempts] == [1000, 10]
    assert response.cost == pytest.approx((2000 + 11) / 1e6)


async def test_a_refused_attempt_costs_nothing_a_broken_one_an_unknown_sum(
    make_desk, fake_llm, clock
):
    """Unknown stays unknown: a vendor bills what it wrote before the connection broke."""
    price = {"input": 1.0, "output": 1.0}
    fake_llm.script([Reply(status=429), Reply(usage={"prompt": 1, "completion": 1}, text="a")])
    assert (await make_desk(clock, price=price).ask()).cost == pytest.approx(2e-6)
    fake_llm.script([Reply("x", drop_after=0), Reply("a")])
    assert (await make_desk(clock, price=price).ask()).cost is None


async def test_a_waiting_attempt_holds_no_slot_and_keeps_its_place(make_desk, fake_llm):
    """Others go on while one waits; when its wait is over it is ahead of those that came later."""
    clock = VirtualClock()
    failed = []

    def answer(seen):
        if seen.last_text == "first" and not failed:
            failed.append(seen)
            return Reply(status=500)
        return Reply(hang=seen.last_text == "second")

    fake_llm.script(answer)
    desk = make_desk(clock, parallel=1)
    first = desk.start("first")
    second, third, fourth = (desk.start(name) for name in ("second", "third", "fourth"))
    await clock.slept()
    await fake_llm.reaches(lambda server: server.open_requests == 1)
    await clock.advance(0.5)
    fake_llm.release()
    await asyncio.gather(*[r.response for r in (first, second, third, fourth)])
    order = [seen.last_text for seen in fake_llm.requests]
    assert order == ["first", "second", "first", "third", "fourth"]


async def test_cancelling_during_a_wait_ends_it_at_once(make_desk, fake_llm):
    """The answer says cancelled and keeps the record of the attempt before."""
    clock = VirtualClock()
    fake_llm.script(lambda seen: Reply(status=500))
    desk = make_desk(clock)
    request = desk.start()
    await clock.slept()
    await desk.manager.cancel_request(request.request_id)
    response = await request.response
    assert response.finish_reason == "cancelled"
    assert [a.outcome for a in response.attempts] == ["retry"]
    await settle()
    assert clock.timers == 0


async def test_several_refusals_in_a_row_hold_back_the_others(make_desk, fake_llm):
    """When a vendor says not now to all, those in line wait with them: no storm of refusals."""
    clock = VirtualClock()
    fake_llm.script(lambda seen: Reply(status=429, headers={"Retry-After": "10"}))
    desk = make_desk(clock, parallel=4, max_retries=9)
    requests = [desk.start() for _ in range(40)]
    await clock.slept(4)
    await settle()
    assert fake_llm.requests_seen <= 6
    fake_llm.script(lambda seen: "fine")
    for _ in range(30):
        await clock.advance(10)
        await asyncio.sleep(0.005)
    assert {(await r.response).finish_reason for r in requests} == {"stop"}


async def test_rpm_holds_at_the_server(make_desk, fake_llm):
    """No more than two arrive in the first minute, retries included."""
    clock = VirtualClock()
    times = timed(fake_llm, clock, [Reply(status=500)] + ["fine"] * 9)
    desk = make_desk(clock, rpm=2, retry_duration=1, timeout=1000)
    requests = [desk.start() for _ in range(4)]
    await clock.slept()
    await fake_llm.reaches(lambda server: len(times) == 2 and server.open_requests == 0)
    for expected in (4, 5):
        await clock.advance(59)
        assert len(times) < expected
        await clock.advance(1)
        await fake_llm.reaches(lambda server, n=expected: len(times) >= n)
    await asyncio.gather(*[r.response for r in requests])
    assert times == [0, 0, 60, 60, 120]


async def test_rate_headers_are_obeyed(make_desk, fake_llm):
    """With nothing left until the reset, the next request is sent at the reset."""
    clock = VirtualClock()
    times = timed(fake_llm, clock, [Reply("a", headers=left(0, "30s"))] + ["b"] * 3)
    desk = make_desk(clock)
    await desk.ask()
    later = desk.start()
    await clock.advance(29.9)
    assert times == [0]
    await clock.advance(0.1)
    await later.response
    assert times == [0, 30]


def left(requests, reset):
    return {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": str(requests),
        "x-ratelimit-reset-requests": reset,
    }


@pytest.mark.parametrize(
    ("failures", "least"), [(1, 0.5), (2, 0.75), (3, 1.125), (99, 120), (10**6, 120)]
)
def test_the_backoff_grows_to_its_bound(failures, least):
    """0.5 s, times 1.5 each, never beyond `max_wait`, and no overflow."""
    assert backoff(0.5, 1.5, failures, 120) == pytest.approx(least)
    assert backoff(0.5, 1e300, 10**6, 120) == 120


async def test_jitter_only_adds_and_at_most_half(make_desk, fake_llm):
    """With the largest jitter the wait is one and a half times the least."""
    clock = VirtualClock(jump=True)
    times = timed(fake_llm, clock, [Reply(status=500), "there"])
    desk = make_desk(clock)
    desk.manager._tools = desk.manager._tools._replace(jitter=lambda: 1.0)
    await desk.ask()
    assert times == [0, 0.75]
