"""The pictures of docs/workflow.md: ``python -m tests.pictures`` draws them anew."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aitoolman import LLMModuleRequest, LLMScriptedClient, LLMTask, LLMWorkflow, Task
from aitoolman._workflow.graph import Graph, graph_of
from aitoolman._workflow.picture import svg

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
PROMPTS = {"module": {"review": {"model": "small", "template": {"user": "{{ text }}"}}}}


def named(name: str, output: object = None) -> Task:
    """A task that does nothing but be there."""
    task = Task()
    task.set_func(lambda **_: output)
    task.task_name = name
    return task


def workflow() -> LLMWorkflow:
    return LLMWorkflow(LLMScriptedClient("no"), PROMPTS)


async def sequence() -> Graph:
    flow = workflow()
    review = LLMTask(LLMModuleRequest("review", {"text": "The moon is made of cheese."}))
    review.task_name, review.next_task = "Review", named("Reject")
    await flow.run(review)
    return graph_of(flow)


async def dag() -> Graph:
    flow = workflow()
    fetch, total, best, report = map(named, ["Fetch", "Total", "Best", "Report"])
    for parent, child in [(fetch, total), (fetch, best), (total, report), (best, report)]:
        flow.add_task(parent, child)
    await flow.wait_tasks(report)
    return graph_of(flow)


class Folder(Task):
    async def run(self, parts: list[list[object]]) -> None:
        below = [Folder({"parts": part}) for part in parts]
        await self.workflow.wait_tasks(*below)


TREE = [[[], []], []]


async def dynamic() -> Graph:
    flow = workflow()
    await flow.run(Folder({"parts": TREE}))
    return graph_of(flow)


async def stepping() -> Graph:
    flow = workflow()
    async with flow.debug(Folder({"parts": TREE})) as run:
        for _ in range(3):
            await run.step()
        return graph_of(flow)


def drawn() -> dict[str, str]:
    """File name and content of each picture."""
    return {
        f"workflow-{make.__name__}.svg": svg(_timed(asyncio.run(make()))) + "\n"
        for make in (sequence, dag, dynamic, stepping)
    }


def _timed(graph: Graph) -> Graph:
    """With durations that are the same every time."""
    seconds = [0.31, 0.012, 1.24, 0.08, 0.9, 2.6, 0.4]
    places = [
        place if place.seconds is None else place._replace(seconds=seconds[index % len(seconds)])
        for index, place in enumerate(graph.places)
    ]
    return graph._replace(places=places)


if __name__ == "__main__":
    for name, content in drawn().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
