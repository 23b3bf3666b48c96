"""LLMWorkflow: tasks in sequence, as a DAG, or both at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from .._datamodel import (
    LLMModuleRequest,
    LLMWorkflowError,
    TaskDependencyError,
    current_call,
)
from .app import LLMApplication
from .call import run_call
from .dataflow import bind_inputs
from .history import History, WorkflowHistory
from .scheduling import Node, Slots, Wait, path_between
from .tasks import Task, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._datamodel import LLMDirectRequest, LLMModuleResult
    from .._transport.client import LLMClient
    from .call import Call
    from .modules import ModuleSet

__all__ = ["LLMWorkflow", "WorkflowObserver", "running_task"]

_running: ContextVar[Node | None] = ContextVar("aitoolman_running_task", default=None)


class WorkflowObserver(Protocol):
    """Hears of everything that happens in a workflow, in order, on its loop."""

    def task_added(self, task: Task) -> None: ...

    def task_started(self, task: Task, inputs: Mapping[str, Any]) -> None: ...

    def task_called(self, task: Task, call: Call, result: LLMModuleResult) -> None: ...

    def task_waits(self, task: Task, targets: Sequence[Task]) -> None: ...

    def task_ended(self, task: Task, reason: str) -> None:
        """`reason`: who chose `next_task`, empty where there is none."""


class LLMWorkflow(LLMApplication):
    """An application whose steps are tasks.

    In sequence: `run` follows each task's `next_task`. As a DAG: `add_task` draws edges and
    `wait_tasks` runs what is needed. Both can be mixed, and tasks may add tasks and wait for them
    while they run. Nothing runs that nobody waits for.

    Args:
        client: Carries the requests.
        config_dict: The prompt configuration.
        processors: Post-processors by name.
        channels: Channels by name.
        context_id: Names this workflow in requests and audit records; random unless given.
        max_parallel_tasks: The most tasks that work at the same time; waiting is not work.
        history: Keep a record of every step.

    Raises:
        LLMConfigError: The configuration has mistakes; all of them are in the message.
        ValueError: `max_parallel_tasks` is below 1.
    """

    def __init__(
        self,
        client: LLMClient,
        config_dict: Mapping[str, Any] | ModuleSet | None = None,
        processors: Mapping[str, Callable[[str], Any]] | None = None,
        channels: Mapping[str, Any] | None = None,
        context_id: str | None = None,
        *,
        source: str | None = None,
        max_parallel_tasks: int | None = None,
        history: bool = True,
    ) -> None:
        super().__init__(client, config_dict, processors, channels, context_id, source=source)
        if max_parallel_tasks is not None and max_parallel_tasks < 1:
            raise ValueError(f"max_parallel_tasks must be at least 1, not {max_parallel_tasks}")
        self.max_parallel_tasks = max_parallel_tasks
        self._nodes: dict[Task, Node] = {}
        self._slots = Slots(max_parallel_tasks)
        self.history: History = History()
        """Every step that ended, in order; empty where it was switched off."""
        self._observers: list[WorkflowObserver] = []
        if history:
            self.history = recorder = WorkflowHistory()
            self._observers.append(recorder)
        self._gate: Callable[[Node], bool] | None = None
        self._samples: Counter[bytes] = Counter()
        self._failures: list[Task] = []

    # Building

    def add_task(self, task: Task, next_task: Task | None = None) -> None:
        """Put `task` into the workflow, to run before `next_task`; nothing is started.

        Adding a task or an edge again changes nothing.

        Args:
            task: The task to add.
            next_task: A task that runs after it and gets its output.

        Raises:
            LLMWorkflowError: A task belongs to another workflow, the edge would close a cycle, or
                `next_task` has already started.
        """
        if next_task is None:
            self._node(task)
            return
        self._check_new_edge(task, next_task)
        parent, child = self._node(task), self._node(next_task)
        if parent in child.parents:
            return
        child.parents.append(parent)
        parent.children.append(child)
        if not parent.settled:
            child.missing += 1
            for wait in list(child.asking):
                self._demand([parent], wait)
        elif not _succeeded(parent):
            self._settle_all([child], TaskStatus.DEPENDENCY_FAILED)

    def parents(self, task: Task) -> list[Task]:
        """The tasks that run before `task`, in the order they were added."""
        node = self._nodes.get(task)
        return [parent.task for parent in node.parents] if node else []

    def _last_of(self, task: Task) -> Task:
        return self._nodes[task].tail.task

    @property
    def tasks(self) -> list[Task]:
        """All tasks of this workflow, in the order they came."""
        return list(self._nodes)

    def _node(self, task: Task) -> Node:
        node = self._nodes.get(task)
        if node is not None:
            return node
        if not isinstance(task, Task):
            raise LLMWorkflowError(f"a workflow takes tasks, not a {type(task).__name__}")
        if task.workflow is not None and task.workflow is not self:
            raise LLMWorkflowError(f"{task!r} already belongs to another workflow; clone() it")
        task.workflow = self
        node = self._nodes[task] = Node(task, len(self._nodes))
        if task.status is TaskStatus.INIT:
            task.status = TaskStatus.WAITING
        for observer in self._observers:
            observer.task_added(task)
        return node

    def _check_new_edge(self, task: Task, next_task: Task) -> None:
        child = self._nodes.get(next_task)
        if task is next_task:
            raise LLMWorkflowError(f"{task!r} cannot run before itself")
        parent = self._nodes.get(task)
        if child is not None and parent is not None and parent in child.parents:
            return
        if next_task.status not in (TaskStatus.INIT, TaskStatus.WAITING):
            raise LLMWorkflowError(f"{next_task!r} has already started: no task can come before it")
        if parent is None or child is None or not _is_needed(child):
            return
        path = path_between([parent], child)
        if path is not None:
            names = " -> ".join(repr(node.task) for node in [parent, *path])
            raise LLMWorkflowError(f"this edge would close a cycle: {names}")

    # Running

    async def run(self, start_task: Task) -> Task:
        """Run `start_task` and what follows it in sequence; returns the last task.

        Raises:
            TaskDependencyError: A task failed; all that failed are in ``failed_tasks``.
            LLMWorkflowError: The task belongs to another workflow.
        """
        await self.wait_tasks(start_task)
        return self._nodes[start_task].tail.task

    async def wait_tasks(self, *tasks: Task, timeout: float | None = None) -> None:
        """Run `tasks` and all that they depend on, and wait until every one of them has ended.

        Args:
            tasks: What to wait for; unknown ones are added. Finished ones do not run again.
            timeout: Seconds.

        Raises:
            TaskDependencyError: One of them failed, itself or through another; all tasks that
                failed are in ``failed_tasks``.
            asyncio.TimeoutError: Time is up. What ran for these tasks alone has been cancelled.
            LLMWorkflowError: A task belongs to another workflow, or would wait for itself.
        """
        targets = list(dict.fromkeys(self._node(task) for task in tasks))
        waiter = _running.get()
        if waiter is not None and waiter.task.workflow is not self:
            waiter = None
        if waiter is not None:
            self._check_wait(waiter, targets)
        wait = Wait(targets)
        self._demand(targets, wait)
        if wait.open:
            async with asyncio.timeout(timeout):
                await self._await(wait, waiter)
        self._raise_failures(targets)

    def _check_wait(self, waiter: Node, targets: list[Node]) -> None:
        path = path_between([t for t in targets if not t.settled], waiter)
        if path is not None:
            names = " -> ".join(repr(node.task) for node in [*reversed(path)])
            raise LLMWorkflowError(f"{waiter.task!r} would wait for itself: {names}")

    async def _await(self, wait: Wait, waiter: Node | None) -> None:
        try:
            if waiter is None:
                await wait.done
            else:
                await self._await_inside(wait, waiter)
        except BaseException:
            await self._abandon(wait)
            raise

    async def _await_inside(self, wait: Wait, waiter: Node) -> None:
        """Wait in a task's own code: meanwhile the task holds no slot."""
        waiter.waiting_for.append(wait)
        if waiter.slot:
            waiter.slot = False
            self._slots.release()
        for observer in self._observers:
            observer.task_waits(waiter.task, [node.task for node in wait.targets])
        try:
            await wait.done
        finally:
            waiter.waiting_for.remove(wait)
        if not waiter.slot and not waiter.waiting_for:
            await self._slots.regain()
            waiter.slot = True

    async def _abandon(self, wait: Wait) -> None:
        """Nobody waits any more: cancel what ran for this wait alone, and see it end."""
        jobs = []
        for node in wait.needed:
            node.asking.discard(wait)
            if not node.asking and node.job is not None and not node.settled:
                node.job.cancel()
                jobs.append(node.job)
        if jobs:
            await asyncio.wait(jobs)

    def _demand(self, nodes: list[Node], wait: Wait) -> None:
        """Ask for nodes and all that has to run before them; start those that are ready."""
        todo, fresh = list(nodes), []
        while todo:
            node = todo.pop()
            if node.settled or wait in node.asking:
                continue
            wait.add(node)
            fresh.append(node)
            todo += node.parents
            if node.tail is not node:
                todo.append(node.tail)
        for node in sorted(fresh, key=lambda node: node.number):
            self._start_if_ready(node)

    def _start_if_ready(self, node: Node) -> None:
        if node.missing or not node.asking or node.job is not None:
            return
        if node.task.status is not TaskStatus.WAITING:
            return
        if self._gate is None or self._gate(node):
            self._slots.start(lambda: self._launch(node))

    def _launch(self, node: Node) -> bool:
        """Start a node's job; False where it is not wanted any more."""
        if node.job is not None or node.missing or not node.asking:
            return False
        if node.task.status is not TaskStatus.WAITING:
            return False
        node.slot = True
        node.job = asyncio.get_running_loop().create_task(self._execute(node))
        return True

    async def _execute(self, node: Node) -> None:
        task = node.task
        _running.set(node)
        try:
            inputs = bind_inputs(self, task)
            task.status = TaskStatus.RUNNING
            for observer in self._observers:
                observer.task_started(task, inputs)
            task.output_data = await task._perform(inputs)
            self._follow(node)
        except asyncio.CancelledError as exc:
            self._fail(node, exc)
        except Exception as exc:  # noqa: BLE001 - a task's code may raise anything
            self._fail(node, exc)
        finally:
            if node.slot:
                node.slot = False
                self._slots.release()

    # Ending

    def _follow(self, node: Node) -> None:
        """A task is done: go on in sequence where it says so, else its place is settled."""
        task, successor = node.task, node.task.next_task
        if successor is None:
            task.status = TaskStatus.COMPLETED
            self._tell_end(task, "")
            self._settle_all([node], TaskStatus.COMPLETED)
            return
        follower = self._successor_node(node, successor)
        task.status = TaskStatus.COMPLETED
        self._tell_end(task, task.chosen_by)
        node.tail = follower
        follower.predecessors.append(node)
        for wait in list(node.asking):
            self._demand([follower], wait)

    def _successor_node(self, node: Node, successor: Task) -> Node:
        follower = self._node(successor)
        if successor.status not in (TaskStatus.INIT, TaskStatus.WAITING):
            raise LLMWorkflowError(
                f"{node.task!r} chose {successor!r} as next_task, which has already started;"
                " a task runs once, so make a new one or clone() it"
            )
        path = path_between([follower], node)
        if path is not None:
            raise LLMWorkflowError(
                f"{node.task!r} chose {successor!r} as next_task, which waits for it already"
            )
        return follower

    def _fail(self, node: Node, exc: BaseException) -> None:
        node.task.status = TaskStatus.FAILED
        node.task.error = exc
        self._failures.append(node.task)
        self._tell_end(node.task, "")
        self._settle_all([node], TaskStatus.FAILED)

    def _settle_all(self, nodes: list[Node], status: TaskStatus) -> None:
        """Settle nodes and all that follows from it: chains end, children start or fall."""
        todo = [(node, status) for node in nodes]
        ready = []
        while todo:
            node, outcome = todo.pop()
            if node.settled:
                continue
            node.settled = True
            if outcome is TaskStatus.DEPENDENCY_FAILED:
                node.task.status = outcome
                self._tell_end(node.task, "")
            for wait in node.asking:
                wait.settle_one()
            for earlier in node.predecessors:
                earlier.tail = node.tail
                todo.append((earlier, TaskStatus.COMPLETED))
            good = _succeeded(node)
            for child in node.children:
                child.missing -= 1
                if not good:
                    todo.append((child, TaskStatus.DEPENDENCY_FAILED))
                elif not child.missing:
                    ready.append(child)
        for child in ready:
            self._start_if_ready(child)

    def _tell_end(self, task: Task, reason: str) -> None:
        for observer in self._observers:
            observer.task_ended(task, reason)

    def _raise_failures(self, targets: list[Node]) -> None:
        if all(_succeeded(node) for node in targets):
            return
        failed = self._failed_behind(targets)
        lines = [f"{t.task_name} ({t.task_id}): {_cause(t.error)}" for t in failed]
        count = "1 task" if len(failed) == 1 else f"{len(failed)} tasks"
        error = TaskDependencyError(f"{count} failed: " + "; ".join(lines), failed)
        causes = [task.error for task in failed if isinstance(task.error, Exception)]
        if len(causes) > 1:
            raise error from ExceptionGroup("the tasks' errors", causes)
        raise error from (failed[0].error if failed else None)

    def _failed_behind(self, targets: list[Node]) -> list[Task]:
        """All tasks that failed themselves, before or inside `targets`, in order of failing."""
        seen: set[Node] = set()
        found: set[Task] = set()
        todo = list(targets)
        while todo:
            node = todo.pop()
            if node in seen:
                continue
            seen.add(node)
            todo += node.parents
            if node.tail is not node:
                todo.append(node.tail)
            if node.task.status is TaskStatus.FAILED:
                found.add(node.task)
                if isinstance(node.task.error, TaskDependencyError):
                    found.update(node.task.error.failed_tasks)
        return [task for task in self._failures if task in found]

    # Calls of tasks

    async def _call_for(
        self, task: Task, request: LLMModuleRequest | LLMDirectRequest
    ) -> LLMModuleResult:
        """A task's call of a model, told to the observers."""
        call = await self._prepared(request)
        call = self._numbered(call)
        result = await run_call(self._caller(), call)
        for observer in self._observers:
            observer.task_called(task, call, result)
        return result

    def _numbered(self, call: Call) -> Call:
        """The n-th identical request of a workflow asks for sample n, so that a re-run agrees."""
        if call.sample is not None or current_call().sample:
            return call
        from .._ledger.fingerprint import canonical_request, fingerprint

        direct = call.request
        with contextlib.suppress(OSError):  # an unreadable media file is told by the call itself
            canonical = canonical_request(direct.messages, direct.tools, direct.options)
            key = fingerprint(direct.model_name, canonical, 0)
            sample = self._samples[key]
            self._samples[key] += 1
            return call._replace(sample=sample)
        return call


def running_task() -> Task | None:
    """The task whose code this is, None outside of tasks."""
    node = _running.get()
    return node.task if node is not None else None


def _is_needed(node: Node) -> bool:
    """True where some other node might depend on `node`."""
    return bool(node.children or node.predecessors or node.asking)


def _succeeded(node: Node) -> bool:
    return node.settled and node.tail.task.status is TaskStatus.COMPLETED


def _cause(error: BaseException | None) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return f"{type(error).__name__}: {error}"
