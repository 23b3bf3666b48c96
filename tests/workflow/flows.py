"""Workflows for tests: a client that answers at once, tasks that do little."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from aitoolman import LLMScriptedClient, LLMWorkflow, Task

PROMPTS = {
    "module": {
        "ask": {"model": "fast", "template": {"user": "{{ text }}"}},
        "both": {"model": "fast", "template": {"user": "{{ a }} and {{ b }}"}},
        "maybe": {
            "model": "fast",
            "template": {"user": "{{ a }}{% if b is defined %} {{ b }}{% endif %}"},
        },
    }
}


def flow(replies: Any = "ok", **options: Any) -> LLMWorkflow:
    """A workflow over a scripted client."""
    return LLMWorkflow(LLMScriptedClient(replies), PROMPTS, **options)


def does(function: Callable[..., Any], input_data: Any = None, name: str | None = None) -> Task:
    """A task that runs `function`, called by its name."""
    task = Task(input_data)
    task.set_func(function)
    task.task_name = name or function.__name__.strip("<>")
    return task


def gives(value: Any, name: str = "gives") -> Task:
    """A task whose output is `value`."""
    return does(lambda: value, name=name)


def sent(workflow: LLMWorkflow) -> list[str | None]:
    """The last message of each request, in order."""
    client = workflow.client
    assert isinstance(client, LLMScriptedClient)
    return [request.messages[-1].content for request in client.requests]


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a state of something that tells nobody of its changes."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a server's state has no event here
            await asyncio.sleep(0.001)


def chain(workflow: LLMWorkflow, *tasks: Task) -> None:
    """An edge from each task to the one after it."""
    for one, other in itertools.pairwise(tasks):
        workflow.add_task(one, other)
