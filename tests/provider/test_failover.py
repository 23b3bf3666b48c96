"""A name that stands for several entries: who is asked, in which order, who answered."""

from __future__ import annotations

import pytest

from ..fake_llm import Reply
from ..virtual_clock import VirtualClock


@pytest.fixture
def clock():
    return VirtualClock(jump=True)


@pytest.fixture
def desk(make_desk, clock):
    """Alias ``any`` for ``a``, ``b``, ``c``, whose vendors' names are theirs."""
    entries = {name: {"model": name, "cooldown": 30} for name in "abc"}
    return make_desk(clock, entries=entries, aliases={"any": ["a", "b", "c"]}, max_retries=2)


def by_model(fake_llm, replies):
    """Script replies by vendor model; the list that comes back fills with the models asked."""
    asked = []

    def answer(seen):
        asked.append(seen.model)
        reply = replies.get(seen.model, "fine")
        return reply.pop(0) if isinstance(reply, list) else reply

    fake_llm.script(answer)
    return asked


async def test_the_first_of_the_list_answers(desk, fake_llm):
    """All is well: the others are not asked, and the result names who answered."""
    asked = by_model(fake_llm, {})
    response = await desk.ask(model="any")
    assert asked == ["a"]
    assert response.model_name == "a"


@pytest.mark.parametrize("status", [429, 500, 401, 404, 400])
async def test_a_failure_moves_on_at_once(desk, fake_llm, clock, status):
    """Whatever its class, another entry is asked without a wait, and the record says why."""
    asked = by_model(fake_llm, {"a": Reply(status=status)})
    response = await desk.ask(model="any")
    assert asked == ["a", "b"]
    assert clock.sleeps == []
    assert (response.model_name, response.finish_reason) == ("b", "stop")
    first, second = response.attempts
    assert (first.model_name, first.status, second.model_name) == ("a", status, "b")
    assert first.reason


async def test_an_entry_in_cooldown_is_passed_over_until_it_is_over(desk, fake_llm, clock):
    """The next request goes to the second at once, and says so; 30 s later the first is back."""
    by_model(fake_llm, {"a": [Reply(status=500), "fine"]})
    await desk.ask(model="any")
    asked = by_model(fake_llm, {})
    response = await desk.ask(model="any")
    assert asked == ["b"]
    assert "'a' was passed over" in response.notes[0]
    clock.now += 30
    assert (await desk.ask(model="any")).model_name == "a"


async def test_all_in_cooldown_are_asked_all_the_same(desk, fake_llm):
    """A cooldown is an order of preference, not a reason to fail."""
    by_model(fake_llm, dict.fromkeys("abc", Reply(status=401)))
    await desk.ask(model="any")
    asked = by_model(fake_llm, {})
    assert (await desk.ask(model="any")).finish_reason == "stop"
    assert asked == ["a"]


async def test_when_all_failed_they_are_asked_again_after_a_wait(desk, fake_llm, clock):
    """Each once, then the one whose wait ends first; retries are counted over all."""
    busy = Reply(status=429, headers={"Retry-After": "9"})
    asked = by_model(fake_llm, {"a": busy, "b": [Reply(status=500), "fine"], "c": busy})
    response = await desk.ask(model="any")
    assert asked == ["a", "b", "c", "b"]
    assert clock.sleeps == [0.5]
    assert response.model_name == "b"


async def test_an_entry_that_can_never_work_is_not_asked_again(desk, fake_llm):
    """Two wrong keys leave one entry, which is retried alone; the text names all three."""
    wrong = Reply(status=401, error="bad key")
    asked = by_model(fake_llm, {"a": wrong, "b": Reply(status=500), "c": wrong})
    response = await desk.ask(model="any")
    assert asked == ["a", "b", "c", "b", "b"]
    assert response.finish_reason == "error: request"
    for part in ("a: HTTP 401", "b: HTTP 500", "c: HTTP 401", "bad key"):
        assert part in response.error_text


async def test_a_missing_key_counts_as_that_entry_failing(make_desk, fake_llm, clock):
    """The other entry answers; the record names variable and entry."""
    entries = {"a": {"api_key": "${NO_SUCH_KEY}"}, "b": {}}
    desk = make_desk(clock, entries=entries, aliases={"any": ["a", "b"]})
    response = await desk.ask(model="any")
    assert response.model_name == "b"
    assert "NO_SUCH_KEY" in response.attempts[0].reason
    alone = await desk.ask(model="a")
    assert "NO_SUCH_KEY" in alone.error_text
    assert alone.finish_reason == "error: request"


async def test_no_failover_after_the_first_fragment(desk, fake_llm, sink):
    """What was shown stays, as an error with the partial text."""
    asked = by_model(fake_llm, {"a": Reply(chunks=["par", "tial"], drop_after=2)})
    response = await desk.ask(model="any", stream=True, output_channel=sink)
    assert asked == ["a"]
    assert (response.response_text, sink.got) == ("par", ["par", None])
    assert response.finish_reason == "error: request"


async def test_a_refusal_of_the_content_is_final(desk, fake_llm):
    """What one vendor's moderation refused is not offered to the next."""
    asked = by_model(fake_llm, {"a": Reply(status=400, error="No.", error_code="content_filter")})
    response = await desk.ask(model="any")
    assert asked == ["a"]
    assert response.finish_reason == "content_filter"


async def test_an_unreachable_entry_is_passed(make_desk, fake_llm, clock):
    """A refused connection is a failure like any other."""
    entries = {"a": {"url": "http://127.0.0.1:9/v1/chat/completions"}, "b": {}}
    desk = make_desk(clock, entries=entries, aliases={"any": ["a", "b"]})
    response = await desk.ask(model="any")
    assert response.model_name == "b"
    assert "127.0.0.1:9 cannot be reached" in response.attempts[0].reason


async def test_prices_are_those_of_who_answered(make_desk, fake_llm, clock):
    """Each attempt is priced by its own entry; an unpriced one makes the sum unknown."""
    priced = {"price": {"input": 1.0, "output": 1.0}}
    by_model(
        fake_llm, {"a": Reply(status=500), "b": Reply("x", usage={"prompt": 5, "completion": 5})}
    )
    entries = {"a": {"model": "a", **priced}, "b": {"model": "b", **priced}}
    desk = make_desk(clock, entries=entries, aliases={"any": ["a", "b"]})
    assert (await desk.ask(model="any")).cost == pytest.approx(10e-6)


async def test_those_in_line_move_on_when_their_vendor_says_not_now(make_desk, fake_llm):
    """A full minute's pause of the first is not waited for while the second is free."""
    clock = VirtualClock()
    busy = Reply(status=429, headers={"Retry-After": "60"})
    asked = by_model(fake_llm, {"a": busy})
    entries = {name: {"model": name, "parallel": 2, "timeout": 1000} for name in "ab"}
    desk = make_desk(clock, entries=entries, aliases={"any": ["a", "b"]})
    requests = [desk.start(model="any") for _ in range(20)]
    responses = [await request.response for request in requests]
    assert {r.model_name for r in responses} == {"b"}
    assert asked.count("a") <= 4
    assert clock.sleeps == []
