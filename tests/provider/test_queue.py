"""The fair queue: order, turns, budgets, and nothing lost when waiters leave."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aitoolman._provider.limits import ModelLimits
from aitoolman._provider.queue import FairQueue, Gate, Ticket

from ..virtual_clock import VirtualClock, settle


async def through(gate: Gate, ticket: Ticket, order: list, name: object) -> None:
    await gate.acquire(ticket)
    order.append(name)
    await settle()
    gate.release()


async def test_one_source_is_served_in_the_order_of_asking():
    """FIFO within a source."""
    gate, order = Gate(1), []
    await asyncio.gather(*[through(gate, Ticket("a"), order, n) for n in range(20)])
    assert order == list(range(20))


async def test_sources_take_turns():
    """A batch of many rows does not stand before an interactive call."""
    gate, order = Gate(1), []
    batch = [through(gate, Ticket("batch"), order, f"b{n}") for n in range(6)]
    lone = [through(gate, Ticket(name), order, name) for name in ("x", "y")]
    await asyncio.gather(*batch, *lone)
    assert order == ["b0", "b1", "x", "y", "b2", "b3", "b4", "b5"]


async def test_a_ticket_that_comes_back_is_ahead_of_later_ones():
    """A retry keeps its place."""
    gate, order = Gate(1), []
    early, later = Ticket("a"), [Ticket("a") for _ in range(3)]
    await gate.acquire(later[0])
    tasks = [asyncio.create_task(through(gate, t, order, t.number)) for t in [*later[1:], early]]
    await settle()
    gate.release()
    await asyncio.gather(*tasks)
    assert order == [early.number, later[1].number, later[2].number]


async def test_a_waiter_cancelled_at_the_moment_of_its_turn_passes_the_slot_on():
    """A slot given to a task that is being cancelled is not lost."""
    gate = Gate(1)
    await gate.acquire(Ticket())
    first, second = (asyncio.create_task(gate.acquire(Ticket())) for _ in range(2))
    await settle()
    gate.release()
    first.cancel()
    await second
    assert (gate.in_use, len(gate.queue)) == (1, 0)


def test_a_source_that_left_leaves_nothing_behind():
    """A hundred thousand sources that came and went cost no memory."""
    queue = FairQueue()
    for n in range(100_000):
        ticket = Ticket(f"source-{n}")
        queue.push(ticket)
        queue.discard(ticket) if n % 2 else queue.pop(queue.head())
    assert not queue._lanes
    assert len(queue) == 0


def test_tickets_that_leave_the_middle_of_a_long_line_are_forgotten():
    """Thousands of cancelled waiters behind one that stays don't pile up."""
    queue = FairQueue()
    queue.push(Ticket())
    for _ in range(10_000):
        ticket = Ticket()
        queue.push(ticket)
        queue.discard(ticket)
    gc.collect()
    assert len(queue._lanes[None].heap) < 50


@pytest.mark.parametrize("change", ["grow", "shrink"])
async def test_a_new_capacity_counts_at_once(change):
    """Growth lets waiters in; a smaller capacity interrupts nobody and lets nobody in."""
    gate, order = Gate(2), []
    inside = [Ticket(), Ticket()]
    for ticket in inside:
        await gate.acquire(ticket)
    waiting = [asyncio.create_task(gate.acquire(Ticket())) for _ in range(2)]
    await settle()
    gate.capacity = 4 if change == "grow" else 1
    gate.pump()
    await settle()
    assert gate.in_use == (4 if change == "grow" else 2)
    gate.release()
    await settle()
    assert gate.in_use == (3 if change == "grow" else 1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == []


async def test_requests_per_minute_hold_in_every_window():
    """No sixty seconds see more than `rpm` grants, and none goes later than it must."""
    clock = VirtualClock()
    limits = ModelLimits(clock, 100, rpm=3)
    times: list[float] = []

    async def one():
        await limits.enter(Ticket())
        times.append(clock.now - 1000)
        limits.leave()

    tasks = [asyncio.create_task(one()) for _ in range(8)]
    await settle()
    await clock.advance(20)
    tasks.append(asyncio.create_task(one()))
    await clock.advance(200)
    await asyncio.gather(*tasks)
    assert times == [0, 0, 0, 60, 60, 60, 120, 120, 120]


async def test_tokens_per_minute_count_what_was_really_used():
    """An estimate that was too high gives room back at once; an oversized request still goes."""
    clock = VirtualClock()
    limits = ModelLimits(clock, 100, tpm=1000)
    grant = await limits.enter(Ticket(weight=900))
    second = asyncio.create_task(limits.enter(Ticket(weight=500)))
    await settle()
    assert not second.done()
    limits.correct(grant, 300)
    await settle()
    assert second.done()
    huge = asyncio.create_task(limits.enter(Ticket(weight=5000)))
    await clock.advance(59)
    assert not huge.done()
    await clock.advance(1)
    assert huge.done()


async def test_a_cancelled_head_makes_way_for_a_lighter_ticket():
    """Who waits for tokens does not block the line after it left."""
    clock = VirtualClock()
    limits = ModelLimits(clock, 10, tpm=100)
    await limits.enter(Ticket(weight=60))
    heavy = asyncio.create_task(limits.enter(Ticket(weight=90)))
    light = asyncio.create_task(limits.enter(Ticket(weight=10)))
    await settle()
    assert not light.done()
    heavy.cancel()
    await settle()
    assert light.done()
    limits.close()


class GateMachine(RuleBasedStateMachine):
    """Arrivals, departures, cancels and new capacities in any order lose no slot."""

    @initialize(capacity=st.integers(0, 4))
    def begin(self, capacity):
        self.loop = asyncio.new_event_loop()
        self.gate = Gate(capacity)
        self.tasks: dict[asyncio.Task, Ticket] = {}

    def run(self, turns: int = 4):
        async def turn():
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turn())

    def split(self):
        inside = [t for t in self.tasks if t.done()]
        return inside, [t for t in self.tasks if not t.done()]

    @rule(source=st.sampled_from(["a", "b", "c"]))
    def arrive(self, source):
        ticket = Ticket(source)
        self.tasks[self.loop.create_task(self.gate.acquire(ticket))] = ticket
        self.run()

    @precondition(lambda self: self.split()[0])
    @rule(data=st.data())
    def leave(self, data):
        del self.tasks[data.draw(st.sampled_from(self.split()[0]))]
        self.gate.release()
        self.run()

    @precondition(lambda self: self.split()[1])
    @rule(data=st.data(), at_grant=st.booleans())
    def cancel(self, data, at_grant):
        task = data.draw(st.sampled_from(self.split()[1]))
        if at_grant and self.gate.in_use:
            # Give a slot back in the same turn, so that the grant may meet the cancel.
            inside = self.split()[0][0]
            del self.tasks[inside]
            self.gate.release()
        task.cancel()
        self.run()
        del self.tasks[task]
        assert task.cancelled()

    @rule(capacity=st.integers(0, 5))
    def resize(self, capacity):
        self.gate.capacity = capacity
        self.gate.pump()
        self.run()

    @invariant()
    def counts_agree(self):
        inside, waiting = self.split()
        assert self.gate.in_use == len(inside)
        assert len(self.gate.queue) == len(waiting)
        assert not waiting or self.gate.in_use >= self.gate.capacity

    @invariant()
    def no_one_overtakes_within_a_source(self):
        inside, waiting = self.split()
        for source in "abc":
            first = min((self.tasks[t].number for t in waiting if self.tasks[t].source == source),
                        default=None)  # fmt: skip
            numbers = [self.tasks[t].number for t in inside if self.tasks[t].source == source]
            assert first is None or all(n < first for n in numbers)

    def teardown(self):
        for task in self.split()[1]:
            task.cancel()
        self.run()
        self.loop.close()


GateMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
test_gate_in_any_order_of_events = GateMachine.TestCase


async def test_a_line_that_everybody_left_keeps_no_timer():
    """Waiting for a budget ends with the last who waits."""
    clock = VirtualClock()
    limits = ModelLimits(clock, 10, rpm=1)
    await limits.enter(Ticket())
    waiting = [asyncio.create_task(limits.enter(Ticket())) for _ in range(100)]
    await settle()
    assert clock.timers == 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert clock.timers == 0
