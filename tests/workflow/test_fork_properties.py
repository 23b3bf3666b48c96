"""Random forks of random workflows: nothing that is shared runs again, and all ends well."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from aitoolman import Task, TaskStatus
from aitoolman._workflow.lookup import find_node

from .flows import flow
from .test_properties import plans

STARTED: list[str] = []
"""Ids of the tasks that began, in order."""


class Calm(Task):
    """Does what its plan says; gives its deed and depth, so that any run gives the same."""

    async def run(self, deed, depth=0, **_):
        STARTED.append(self.task_id)
        await asyncio.sleep(0)
        if deed == "fail" and not depth:
            raise ValueError("planned")
        if deed == "next" and depth < 2:
            self.next_task = Calm({"deed": deed, "depth": depth + 1})
        if deed.startswith("adds") and depth < 2:
            below = [Calm({"deed": deed, "depth": depth + 1}) for _ in range(2)]
            self.workflow.add_task(*below)
            if "waits" in deed:
                await self.workflow.wait_tasks(below[1])
        return {f"{deed} {self.input_data.get('index')}": depth}


@settings(max_examples=50, deadline=None)
@given(plans(), st.integers(0, 80), st.data())
def test_any_fork_runs_only_what_it_does_not_share(plan, steps, data):
    """Finished, failed or half-way; the parent is left as it was."""
    asyncio.run(_fork(plan, steps, data))


async def _fork(plan, steps, data):
    workflow = flow()
    tasks = [Calm({"deed": step.deed, "index": index}) for index, step in enumerate(plan)]
    for index, step in enumerate(plan):
        workflow.add_task(tasks[index])
        for parent in step.parents:
            workflow.add_task(tasks[parent], tasks[index])
    run = workflow.debug(*tasks)
    for _ in range(steps):
        if run.ready:
            await run.step()
    before = [(t.task_id, t.status, t.output_data) for t in workflow.tasks]
    which = data.draw(st.sampled_from(workflow.tasks))
    fork = run.fork(which)
    shared = {record.task_id for record in fork.history}
    assert which.task_id not in shared
    node = find_node(workflow, which)
    # What was added and nobody waits for runs neither here nor there.
    if which.status is not TaskStatus.WAITING or (node.asking and node.missing == 0):
        assert fork.ready
    STARTED.clear()
    await asyncio.gather(fork.finish(), return_exceptions=True)
    assert not shared & set(STARTED)
    assert len(STARTED) == len(set(STARTED))
    assert [(t.task_id, t.status, t.output_data) for t in workflow.tasks] == before
    await run.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    again = await _free(plan)
    ended = [(fork.task(task).status, fork.task(task).output_data) for task in tasks]
    assert ended == [(task.status, task.output_data) for task in again]


async def _free(plan):
    """The tasks of the plan after a run without steps."""
    free = flow()
    again = [Calm({"deed": step.deed, "index": index}) for index, step in enumerate(plan)]
    for index, step in enumerate(plan):
        free.add_task(again[index])
        for parent in step.parents:
            free.add_task(again[parent], again[index])
    await asyncio.gather(free.wait_tasks(*again), return_exceptions=True)
    return again


@settings(max_examples=50, deadline=None)
@given(plans(), st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=30), st.data())
def test_interrupts_at_any_moment_cost_nothing_but_a_repetition(plan, interrupts, data):
    """Steps and finishes are cut at random; going on ends as a run that nobody disturbed."""
    limit = data.draw(st.sampled_from([None, 1, 3]))
    asyncio.run(_interrupt(plan, interrupts, limit))


async def _interrupt(plan, interrupts, limit):
    workflow = flow(max_parallel_tasks=limit)
    tasks = [Calm({"deed": step.deed, "index": index}) for index, step in enumerate(plan)]
    for index, step in enumerate(plan):
        workflow.add_task(tasks[index])
        for parent in step.parents:
            workflow.add_task(tasks[parent], tasks[index])
    run = workflow.debug(*tasks)
    for at_once, moments in interrupts:
        if not run.ready:
            break
        going = asyncio.create_task(run.finish() if at_once else run.step())
        for _ in range(moments):
            await asyncio.sleep(0)
        going.cancel()
        await asyncio.wait([going])
        assert run.ready or run.done
    await asyncio.gather(run.finish(), return_exceptions=True)
    assert run.done
    ended = [(task.status, task.output_data) for task in tasks]
    assert ended == [(task.status, task.output_data) for task in await _free(plan)]
    assert asyncio.all_tasks() == {asyncio.current_task()}
