"""Random workflows: whatever happens in them, everything ends and every status is right."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from aitoolman import Task, TaskDependencyError, TaskStatus

from .flows import flow

DEEDS = [
    "ok", "ok", "ok", "slow", "fail", "adds", "adds and waits", "next", "swallows", "feeds",
]  # fmt: skip


class Plan(NamedTuple):
    """One task of a random workflow."""

    deed: str
    parents: list[int]


@st.composite
def plans(draw):
    count = draw(st.integers(1, 60))
    return [
        Plan(
            draw(st.sampled_from(DEEDS)),
            draw(st.lists(st.integers(0, index - 1), max_size=3, unique=True)) if index else [],
        )
        for index in range(count)
    ]


class Actor(Task):
    """Does what its plan says, and notes when."""

    def __init__(self, deed, log, depth=0, peers=()):
        super().__init__({"deed": deed, "depth": depth})
        self.log = log
        self.peers = peers

    async def run(self, deed, depth, **_):
        self.log.append(("start", self))
        await asyncio.sleep(0)
        if deed == "slow":
            await asyncio.sleep(0.002)
        if deed == "fail":
            raise ValueError("planned")
        if deed == "swallows":
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)
        if deed == "next":
            self.next_task = Actor("ok" if depth else "next", self.log, depth + 1)
        if deed == "feeds":
            for peer in [p for p in self.peers if p.status is TaskStatus.WAITING][-2:]:
                self.workflow.add_task(Actor("slow", self.log, depth + 1), peer)
        if deed.startswith("adds") and depth < 3:
            below = [Actor(deed if depth else "ok", self.log, depth + 1) for _ in range(2)]
            self.workflow.add_task(*below)
            if "waits" in deed:
                await self.workflow.wait_tasks(below[1])
        self.log.append(("end", self))
        return {}


@settings(max_examples=60, deadline=None)
@given(
    plans(),
    st.sampled_from([None, 1, 2, 5]),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 30)),
    st.data(),
)
def test_any_dag_ends_with_the_right_statuses(plan, limit, keeps, cancel_after, data):
    """Each task runs at most once and after those before it; nothing stays pending."""
    wanted = data.draw(st.sets(st.integers(0, len(plan) - 1), min_size=1))
    asyncio.run(_play(plan, limit, keeps, cancel_after, wanted))


async def _play(plan, limit, keeps, cancel_after, wanted):
    workflow, log = flow(max_parallel_tasks=limit, history=keeps), []
    tasks = []
    tasks += [Actor(step.deed, log, peers=tasks) for step in plan]
    for index, step in enumerate(plan):
        workflow.add_task(tasks[index])
        for parent in step.parents:
            workflow.add_task(tasks[parent], tasks[index])
    waiting = asyncio.create_task(workflow.wait_tasks(*(tasks[i] for i in wanted)))
    if cancel_after is not None:
        for _ in range(cancel_after):
            await asyncio.sleep(0)
        waiting.cancel()
    outcome = (await asyncio.gather(waiting, return_exceptions=True))[0]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    _check(plan, tasks, log, wanted, outcome)
    if isinstance(outcome, asyncio.CancelledError):
        again = workflow.wait_tasks(*(tasks[i] for i in wanted))
        _check(plan, tasks, log, wanted, (await asyncio.gather(again, return_exceptions=True))[0])


def _check(plan, tasks, log, wanted, outcome):
    starts = [task for event, task in log if event == "start"]
    assert len(starts) == len(set(starts))
    position = {entry: index for index, entry in enumerate(log)}
    for index, step in enumerate(plan):
        task = tasks[index]
        before = [tasks[parent] for parent in step.parents]
        for parent in before if ("start", task) in position else ():
            assert position["end", parent] < position["start", task]
        if task.status is TaskStatus.DEPENDENCY_FAILED:
            assert task not in starts
            assert any(map(_failed, {*before, *task.workflow.parents(task)}))
        if task.status is TaskStatus.COMPLETED:
            assert not any(_failed(parent) for parent in before)
        if task.status is TaskStatus.FAILED:
            assert task.error is not None
        assert task.status is not TaskStatus.RUNNING
    if isinstance(outcome, asyncio.CancelledError):
        return
    assert outcome is None or isinstance(outcome, TaskDependencyError)
    ends = [_end(tasks[i]).status for i in wanted]
    assert all(status.is_final for status in ends)
    assert (outcome is None) == all(status is TaskStatus.COMPLETED for status in ends)
    if outcome is not None:
        assert outcome.failed_tasks
        assert all(task.status is TaskStatus.FAILED for task in outcome.failed_tasks)


def _end(task):
    while task.status is TaskStatus.COMPLETED and task.next_task is not None:
        task = task.next_task
    return task


def _failed(task):
    return _end(task).status in (TaskStatus.FAILED, TaskStatus.DEPENDENCY_FAILED)


@settings(max_examples=60, deadline=None)
@given(plans(), st.lists(st.integers(0, 9), max_size=60), st.sampled_from([None, 1]))
def test_any_dag_can_be_stepped_to_its_end(plan, choices, limit):
    """Steps in any order end in the same statuses as a free run, one task at work at a time."""
    calm = [step._replace(deed=step.deed if step.deed != "swallows" else "ok") for step in plan]
    asyncio.run(_step_through(calm, choices, limit))


async def _step_through(plan, choices, limit):
    statuses = []
    for stepped in (True, False):
        workflow, log = flow(max_parallel_tasks=limit), []
        tasks = [Actor(step.deed, log) for step in plan]
        for index, step in enumerate(plan):
            workflow.add_task(tasks[index])
            for parent in step.parents:
                workflow.add_task(tasks[parent], tasks[index])
        if stepped:
            run, choices = workflow.debug(*tasks), list(choices)
            while run.ready:
                which = choices.pop() % len(run.ready) if choices else 0
                await run.step(run.ready[which])
            assert run.done
        else:
            await asyncio.gather(workflow.wait_tasks(*tasks), return_exceptions=True)
        statuses.append([task.status for task in tasks])
        assert asyncio.all_tasks() == {asyncio.current_task()}
    assert statuses[0] == statuses[1]
