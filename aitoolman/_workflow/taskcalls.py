"""Calls of models in a task's code: numbered for ledgers, and told to the workflow's observers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._application.call import run_call
from .scheduling import running_node

if TYPE_CHECKING:
    from .._application.call import Call, Caller
    from .._datamodel import LLMModuleResult

__all__ = ["call_in_task"]


async def call_in_task(caller: Caller, call: Call) -> LLMModuleResult:
    """`run_call`, for whatever application; part of a step where a task's code asks for it."""
    node = running_node()
    if node is None or node.task.workflow is None:
        return await run_call(caller, call)
    workflow = node.task.workflow
    numbered = workflow._samples.number(call)
    if numbered is not None:
        node.samples.append(numbered)
        call = call._replace(sample=numbered[1])
    node.calls += 1
    try:
        result = await run_call(caller, call)
    finally:
        node.calls -= 1
    workflow._engine.tell("task_called", node.task, call, result)
    return result
