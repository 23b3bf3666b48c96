"""The adaptive limit finds what a vendor takes, follows it, and is not fooled."""

from __future__ import annotations

import asyncio
import heapq
import random
import statistics

import pytest

from aitoolman._provider.adaptive import AdaptiveLimit

from ..fake_llm import Reply
from ..virtual_clock import settle, until


async def load(desk, fake_llm, capacity, answers, ceiling):
    """The limit at each of so many answers from a server that refuses above `capacity`."""
    fake_llm.capacity = capacity
    fake_llm.script(lambda seen: Reply("ok", delay=0.02))
    limits, rows = [], iter(range(answers))

    async def worker():
        for _ in rows:
            response = await desk.ask()
            assert response.finish_reason == "stop", response.error_text
            limits.append((await desk.manager.describe("m")).limits["parallel"])

    await asyncio.gather(*[worker() for _ in range(2 * ceiling)])
    return limits


@pytest.mark.parametrize("headers", [{}, {"retry-after": "0.05"}], ids=["bare", "retry-after"])
async def test_it_finds_a_hidden_capacity_and_follows_it(make_desk, fake_llm, headers):
    """Within 10 % (median over the last 100 answers) of 12, then of 5, then of 12 again."""
    fake_llm.capacity_headers = headers
    desk = make_desk(parallel=24, retry_duration=0.02, max_retries=8)
    for capacity, answers in ((12, 300), (5, 200), (12, 500)):
        limits = await load(desk, fake_llm, capacity, answers, 24)
        assert abs(statistics.median(limits[-100:]) - capacity) <= capacity / 10


async def test_it_can_be_switched_off(make_desk, fake_llm):
    """``adaptive = false`` keeps the limit where the configuration put it."""
    desk = make_desk(parallel=8, retry_duration=0.005, max_retries=50, adaptive=False)
    limits = await load(desk, fake_llm, 4, 60, 8)
    assert set(limits) == {8}


async def test_a_burst_of_refusals_is_one_lesson(make_desk, fake_llm):
    """Twelve refused at once leave the limit at what the server took, not at nothing."""
    fake_llm.capacity = 4
    fake_llm.script(lambda seen: Reply(hang=True))
    desk = make_desk(parallel=16, retry_duration=30, max_retries=1)
    for _ in range(16):
        desk.start()
    await fake_llm.reaches(lambda server: server.requests_seen == 16)
    limits = desk.manager._endpoints["m"].limits
    await until(lambda: limits.in_force["parallel"] <= 4)
    await settle()
    assert limits.in_force["parallel"] == 4


# Latency, in a simulation: requests of a saturating caller, answered after `latency`


def simulate(ceiling, answers, latency, *, stream=True, size=lambda rng: 100, seed=0):
    rng, limit = random.Random(seed), AdaptiveLimit(ceiling)
    now, number, history, heap = 0.0, 0, [], []
    while len(history) < answers:
        while len(heap) < limit.limit:
            number += 1
            tokens = size(rng)
            took = latency(rng, len(heap) + 1, tokens, len(history))
            heapq.heappush(heap, (now + took, number, now, tokens))
        now, finished, sent, tokens = heapq.heappop(heap)
        limit.answered(finished, len(heap) + 1, now - sent, stream, tokens)
        history.append(limit.limit)
    return history


@pytest.mark.parametrize("spread", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_noisy_latency_does_not_lower_it(spread, seed):
    """Vendors whose answers take now one second, now five, are not overloaded."""
    history = simulate(20, 3000, lambda rng, *_: rng.lognormvariate(0, spread), seed=seed)
    assert statistics.median(history) == 20
    assert min(history) >= 15


def test_long_answers_among_short_ones_do_not_lower_it():
    """Whole answers from one to three thousand tokens, each taking its time per token."""
    history = simulate(
        20,
        3000,
        lambda rng, busy, tokens, _: rng.lognormvariate(0, 0.2) * tokens / 100,
        stream=False,
        size=lambda rng: int(10 ** rng.uniform(0, 3.5)),
    )
    assert min(history) == 20


@pytest.mark.parametrize("now_takes", [5, 2])
def test_rising_latency_lowers_it(now_takes):
    """A server that gets slower in proportion, once it takes less at a time, is asked less."""

    def latency(rng, busy, tokens, done):
        takes = 20 if done < 500 else now_takes
        return rng.lognormvariate(0, 0.1) * max(1, busy / takes)

    history = simulate(20, 2000, latency)
    assert min(history[:500]) == 20
    assert statistics.median(history[-500:]) <= 3 * now_takes


def test_it_never_leaves_its_bounds():
    """At least one, at most the ceiling, whatever comes."""
    rng, limit = random.Random(1), AdaptiveLimit(7)
    for number in range(5000):
        if rng.random() < 0.3:
            limit.refused(number, number + rng.randrange(5), rng.randrange(-1, 9))
        else:
            limit.answered(number, rng.randrange(9), 10 ** rng.uniform(-9, 9), False, -3)
        assert 1 <= limit.limit <= 7
