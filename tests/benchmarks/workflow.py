"""``python -m tests.benchmarks.workflow``: microseconds per trivial task, 10,000 in each shape.

The aim is below 100 us each, building and the record of every step included.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

from aitoolman import LLMScriptedClient, LLMWorkflow, Task

COUNT = 10_000


def trivial(index: int) -> Task:
    task = Task({"i": index})
    task.set_func(_same)
    return task


async def _same(i: int) -> int:
    return i


def fan(workflow: LLMWorkflow) -> Task:
    """All tasks before one."""
    end = Task()
    end.set_func(lambda **_: None)
    for index in range(COUNT):
        workflow.add_task(trivial(index), end)
    return end


def line(workflow: LLMWorkflow) -> Task:
    """One after the other."""
    tasks = [trivial(index) for index in range(COUNT)]
    for one, other in itertools.pairwise(tasks):
        workflow.add_task(one, other)
    return tasks[-1]


def layers(workflow: LLMWorkflow) -> Task:
    """100 layers of 100, each task after three of the layer before."""
    rows = [[trivial(index) for index in range(100)] for _ in range(COUNT // 100)]
    for row, below in itertools.pairwise(rows):
        for index, task in enumerate(below):
            for parent in (index, (index + 1) % 100, (index + 7) % 100):
                workflow.add_task(row[parent], task)
    end = Task()
    end.set_func(lambda **_: None)
    for task in rows[-1]:
        workflow.add_task(task, end)
    return end


def sequence(workflow: LLMWorkflow) -> Task:
    """Each task chooses the next."""

    class Step(Task):
        async def run(self, i: int) -> int:
            if i < COUNT:
                self.next_task = Step({"i": i + 1})
            return i

    return Step({"i": 1})


async def measure(shape: Callable[[LLMWorkflow], Task], *, history: bool) -> float:
    """Microseconds per task, the best of three."""
    best = float("inf")
    for _ in range(3):
        workflow = LLMWorkflow(LLMScriptedClient("unused"), history=history)
        started = time.perf_counter()
        await workflow.wait_tasks(shape(workflow))
        best = min(best, time.perf_counter() - started)
    return best / COUNT * 1e6


def main() -> None:
    print(f"{'us per task':14}{'with history':>14}{'without':>10}")
    for shape in (fan, line, layers, sequence):
        kept = asyncio.run(measure(shape, history=True))
        flat = asyncio.run(measure(shape, history=False))
        print(f"{shape.__name__:14}{kept:14.1f}{flat:10.1f}")


if __name__ == "__main__":
    main()
