"""Code that waits for tasks: in another task, or from another thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, Any

from .._datamodel import LLMWorkflowError
from .scheduling import path_between

if TYPE_CHECKING:
    from collections.abc import Callable

    from .scheduling import Node, Wait

__all__ = ["await_inside", "call_on_loop", "check_wait", "work_again"]


def check_wait(waiter: Node, targets: list[Node]) -> None:
    """Refuse a wait that could never end.

    Raises:
        LLMWorkflowError: One of the targets waits for `waiter`; the message names the way.
    """
    path = path_between([t for t in targets if not t.settled], waiter)
    if path is not None:
        names = " -> ".join(repr(node.task) for node in path)
        raise LLMWorkflowError(f"{waiter.task!r} would wait for itself: {names}")


async def await_inside(wait: Wait, waiter: Node) -> None:
    """Wait in a task's own code: meanwhile the task holds no slot.

    The task may belong to another workflow than what it waits for.
    """
    assert waiter.task.workflow is not None
    engine = waiter.task.workflow._engine
    waiter.waiting_for.append(wait)
    engine.slots.release(waiter)
    engine.tell("task_waits", waiter.task, [node.task for node in wait.targets])
    try:
        if waiter.stepper is not None:
            waiter.stepper.stopped(waiter)
        await wait.wait()
        if waiter.stepper is not None:
            await waiter.stepper.resume(waiter)
    finally:
        waiter.waiting_for.remove(wait)
        engine.tell("task_goes_on", waiter.task)


async def work_again(waiter: Node | None) -> None:
    """Get a slot again, unless more of the task's code waits or the task is being cancelled."""
    task = asyncio.current_task()
    if waiter is None or waiter.waiting_for or (task is not None and task.cancelling()):
        return
    assert waiter.task.workflow is not None
    await waiter.task.workflow._engine.slots.regain(waiter)


def call_on_loop(loop: asyncio.AbstractEventLoop, change: Callable[[], Any]) -> None:
    """Call `change` on a loop that runs in another thread, and wait until it is done."""
    done: concurrent.futures.Future[None] = concurrent.futures.Future()
    loop.call_soon_threadsafe(_pass_outcome, change, done)
    done.result()


def _pass_outcome(change: Callable[[], Any], done: concurrent.futures.Future[None]) -> None:
    try:
        change()
    except BaseException as exc:  # noqa: BLE001 - raised where the change was asked for
        done.set_exception(exc)
    else:
        done.set_result(None)
