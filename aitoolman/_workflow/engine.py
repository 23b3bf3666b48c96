"""The engine of a workflow: starts tasks when they are ready and asked for, and settles them.

Nothing runs that nobody waits for. A wait asks for its targets and for all that they depend on; a
node starts when it is asked for and everything before it has succeeded, settles when its task and
what follows it in sequence has ended, and takes those after it along. All of this happens on one
event loop; only whole steps of it are visible to other code.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Any

from .._application.app import call_runner
from .._datamodel import LLMWorkflowError
from .._loops import running_loop
from .dataflow import bind_inputs
from .scheduling import Node, Wait, current_node, path_between, running_node
from .slots import Slots
from .taskcalls import call_in_task
from .tasks import Task, TaskStatus
from .waiting import await_inside, call_on_loop, check_wait, work_again

if TYPE_CHECKING:
    from collections.abc import Callable

    from .observers import WorkflowObserver
    from .stepper import Stepper
    from .workflow import LLMWorkflow

__all__ = ["Engine"]

_log = logging.getLogger("aitoolman.workflow")
_failures = itertools.count(1)


class Engine:
    """Runs the tasks of one workflow.

    Args:
        workflow: What its tasks belong to.
        limit: The most tasks that work at the same time, None for no bound.
        keeps: Keep what has ended, for pictures and forks.
    """

    def __init__(self, workflow: LLMWorkflow, limit: int | None, keeps: bool) -> None:
        self.workflow = workflow
        self.keeps = keeps
        self.slots = Slots(limit)
        self.observers: list[WorkflowObserver] = []
        self.nodes: dict[Node, None] = {}
        """The places in the graph; only those that have not settled unless `keeps`."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.numbers = itertools.count()
        self._jobs = 0

    def tell(self, event: str, *args: Any) -> None:
        """Call a method of every observer; a broken observer breaks nothing else."""
        for observer in list(self.observers):
            try:
                getattr(observer, event)(*args)
            except Exception:  # noqa: BLE001 - an observer may raise anything
                _log.exception("an observer of the workflow failed at %s", event)

    # The graph

    def node(self, task: Task, added_by: Node | None = None) -> Node:
        """The place of a task, made where it has none.

        Raises:
            LLMWorkflowError: It is no task, has run, or belongs to another workflow.
        """
        if not isinstance(task, Task):
            raise LLMWorkflowError(f"a workflow takes tasks, not a {type(task).__name__}")
        if task._node is not None and task.workflow is self.workflow:
            return task._node
        if task.workflow is not None and task.workflow is not self.workflow:
            raise LLMWorkflowError(f"{task!r} already belongs to another workflow; clone() it")
        if task.status is not TaskStatus.INIT:
            raise LLMWorkflowError(f"{task!r} is the copy of a task that has run; clone() it")
        return self.adopt(Node(task, next(self.numbers), added_by))

    def adopt(self, node: Node) -> Node:
        """Take a new node in."""
        task = node.task
        task.workflow, task._node = self.workflow, node
        self.nodes[node] = None
        if task.status is TaskStatus.INIT:
            task.status = TaskStatus.WAITING
        self.tell("task_added", task)
        return node

    def connect(self, task: Task, next_task: Task) -> None:
        """Draw an edge; the new parent is asked for by whoever asks for the child.

        Raises:
            LLMWorkflowError: See `LLMWorkflow.add_task`.
        """
        self._check_edge(task, next_task)
        added_by = running_node()
        parent, child = self.node(task, added_by), self.node(next_task, added_by)
        if parent in child.parents:
            return
        child.parents[parent] = None
        if not parent.settled:
            parent.children.append(child)
            child.missing += 1
            for wait in list(child.asking):
                self.demand([parent], wait)
        elif not parent.succeeded:
            self._settle([(child, TaskStatus.DEPENDENCY_FAILED)])
        elif self.keeps:
            parent.children.append(child)

    def _check_edge(self, task: Task, next_task: Task) -> None:
        if task is next_task:
            raise LLMWorkflowError(f"{task!r} cannot run before itself")
        parent, child = self._known(task), self._known(next_task)
        if child is not None and parent is not None and parent in child.parents:
            return
        if child is not None and next_task.status is not TaskStatus.WAITING:
            raise LLMWorkflowError(f"{next_task!r} has already started: no task can come before it")
        if parent is None or child is None or parent.settled:
            return
        if child.children or child.predecessors or child.asking or child.waiters:
            path = path_between([parent], child)
            if path is not None:
                names = " -> ".join(repr(node.task) for node in [*path, child])
                raise LLMWorkflowError(f"this edge would close a cycle: {names}")

    def _known(self, task: Task) -> Node | None:
        mine = isinstance(task, Task) and task.workflow is self.workflow
        return task._node if mine else None

    # Waiting

    def on_loop(self, change: Callable[[], Any]) -> None:
        """Make a change to the graph: on the loop that tasks run on, whatever thread this is."""
        if not self._jobs or self.loop is None or running_loop() is self.loop:
            change()
        else:
            call_on_loop(self.loop, change)

    def enter_loop(self) -> None:
        """Run on the loop of the caller from here on.

        Raises:
            LLMWorkflowError: Tasks of this workflow run on another loop.
        """
        loop = asyncio.get_running_loop()
        if self._jobs and loop is not self.loop and self.loop and not self.loop.is_closed():
            raise LLMWorkflowError(
                "tasks of this workflow run on another event loop (.sync uses a loop of its own);"
                " wait for them there"
            )
        self.loop = loop

    async def wait_for(self, targets: list[Node], timeout: float | None) -> None:
        """Run what `targets` need and return when all of it has settled.

        Raises:
            TimeoutError: Time is up; what ran for this wait alone has ended.
            LLMWorkflowError: The caller's own task would wait for itself.
        """
        self.enter_loop()
        waiter = running_node()
        if waiter is not None:
            check_wait(waiter, targets)
        wait = Wait(targets, waiter, waiter.stepper if waiter else None)
        if wait.stepper is not None and wait.stepper.closed:
            raise LLMWorkflowError("the run that stepped this task is closed")
        self.demand(targets, wait)
        if wait.needed:
            try:
                async with asyncio.timeout(None if wait.stepper else timeout):
                    await self._await(wait)
            finally:
                await work_again(waiter)

    async def _await(self, wait: Wait) -> None:
        try:
            if wait.waiter is None:
                await wait.wait()
            else:
                await await_inside(wait, wait.waiter)
        except BaseException:
            await self.abandon(wait)
            raise

    async def abandon(self, wait: Wait) -> None:
        """Nobody waits any more: cancel what ran for this wait alone, and see it end."""
        needed, wait.needed = list(wait.needed), {}
        for node in needed:
            node.asking.pop(wait, None)
        jobs = [node.job for node in needed if not node.asking and node.job is not None]
        for job in jobs:
            job.cancel()
        if jobs:
            await asyncio.wait(jobs)

    def demand(self, nodes: list[Node], wait: Wait) -> None:
        """Ask for nodes and all that has to run before them; start those that are ready."""
        todo, fresh = list(nodes), []
        while todo:
            node = todo.pop()
            if node.settled or wait in node.asking:
                continue
            wait.add(node)
            fresh.append(node)
            todo += node.parents
            if node.follower is not None:
                todo.append(node.follower)
        for node in sorted(fresh, key=_number):
            self.start_if_ready(node)

    # Starting

    def start_if_ready(self, node: Node) -> None:
        """Start a node, or hold it back where it is stepped."""
        if _may_start(node):
            stepper = _stepper_of(node)
            node.stepper = stepper
            if stepper is None or not stepper.hold(node):
                self.slots.start(node, self.launch)

    def launch(self, node: Node) -> bool:
        """Start a node's job; False where it is not wanted any more."""
        if not _may_start(node) or (node.stepper is not None and node.stepper.holds(node)):
            return False
        context = next(iter(node.asking)).context.copy()
        loop = asyncio.get_running_loop()
        # Not by loop.create_task: an eager task factory would run the step inside of this call.
        node.job = asyncio.Task(self._execute(node), loop=loop, context=context)
        node.job.add_done_callback(lambda job: self._job_done(node, job))
        self._jobs += 1
        return True

    async def _execute(self, node: Node) -> None:
        task = node.task
        current_node.set(node)
        call_runner.set(call_in_task)
        try:
            inputs = bind_inputs(self.workflow, node)
            if self.keeps and node.before is None:
                node.before = task._attributes()
            task.status = TaskStatus.RUNNING
            self.tell("task_started", task, inputs)
            if node.given is None:
                task.output_data = await task._perform(inputs)
            else:
                task.output_data = await task._perform_given(node.given)
            self._follow(node)
        except BaseException as exc:
            self._fail(node, exc)
            if not isinstance(exc, (Exception, asyncio.CancelledError)):
                raise

    def _job_done(self, node: Node, job: asyncio.Task[None]) -> None:
        self._jobs -= 1
        if not job.cancelled():
            job.exception()  # a KeyboardInterrupt has been raised to the loop already
        elif node.asking:
            self._fail(node, asyncio.CancelledError())  # cancelled before its first step
        node.job = None
        self.slots.release(node)
        if node.stepper is not None:
            node.stepper.stopped(node)

    # Ending

    def _follow(self, node: Node) -> None:
        """A task is done: go on in sequence where it says so, else its place is settled."""
        task = node.task
        if task.next_task is None:
            task.status = TaskStatus.COMPLETED
            self.tell("task_ended", task, "")
            self._settle([(node, TaskStatus.COMPLETED)])
            return
        follower = self._follower_node(node, task.next_task)
        task.status = TaskStatus.COMPLETED
        self.tell("task_ended", task, task.chosen_by)
        node.follower = node.tail = follower
        follower.predecessors.append(node)
        if node in follower.parents:  # nothing to wait for: it follows this very task
            follower.missing -= 1
        for wait in list(node.asking):
            self.demand([follower], wait)
        self.start_if_ready(follower)

    def _follower_node(self, node: Node, chosen: Task) -> Node:
        follower = self.node(chosen, node)
        if follower.added_by is node and chosen.status is TaskStatus.WAITING:
            follower.inside = node.inside
        if chosen.status is not TaskStatus.WAITING:
            raise LLMWorkflowError(
                f"{node.task!r} chose {chosen!r} as next_task, which has already started;"
                " a task runs once, so make a new one or clone() it"
            )
        others = [parent for parent in follower.parents if parent is not node]
        if path_between([*others, *follower.predecessors], node) is not None:
            raise LLMWorkflowError(
                f"{node.task!r} chose {chosen!r} as next_task, which waits for it already"
            )
        return follower

    def _fail(self, node: Node, exc: BaseException) -> None:
        task = node.task
        if task.status.is_final:
            return
        task.status, task.error = TaskStatus.FAILED, exc
        if node.taken_back and isinstance(exc, asyncio.CancelledError):
            self._take_back(node)
            return
        node.failed_at = next(_failures)
        self.tell("task_ended", task, "")
        self._settle([(node, TaskStatus.FAILED)])

    def _take_back(self, node: Node) -> None:
        """An interrupted step is as if it had not begun, but for its line in the record."""
        self.tell("task_ended", node.task, "interrupted, taken back")
        node.task._restore(node.before)
        node.task.status = TaskStatus.WAITING
        node.before = None
        self.workflow._samples.give_back(node.samples)
        node.samples = []

    def _settle(self, todo: list[tuple[Node, TaskStatus]]) -> None:
        """Settle nodes and all that follows from it: chains end, children start or fall."""
        ready: list[Node] = []
        while todo:
            node, outcome = todo.pop()
            if node.settled:
                continue
            node.settled = True
            if outcome is TaskStatus.DEPENDENCY_FAILED:
                node.task.status = outcome
                self.tell("task_ended", node.task, "")
            todo += self._settled(node, ready)
        for node in sorted(ready, key=_number):
            self.start_if_ready(node)

    def _settled(self, node: Node, ready: list[Node]) -> list[tuple[Node, TaskStatus]]:
        """Tell those who wait for a node; returns what settles next, adds to `ready`."""
        for wait in node.asking:
            wait.settle(node)
        node.asking = {}
        for earlier in node.predecessors:
            earlier.tail = node.tail
        settling = [(earlier, TaskStatus.COMPLETED) for earlier in node.predecessors]
        for child in node.children:
            if child is not node.follower:
                child.missing -= 1
            if not node.succeeded:
                settling.append((child, TaskStatus.DEPENDENCY_FAILED))
            elif not child.missing:
                ready.append(child)
        if not self.keeps:
            self.nodes.pop(node, None)
            if node.succeeded:
                node.forget_graph()
        return settling


def _number(node: Node) -> int:
    return node.number


def _may_start(node: Node) -> bool:
    waiting = node.task.status is TaskStatus.WAITING
    return bool(waiting and not node.missing and node.asking and node.job is None)


def _stepper_of(node: Node) -> Stepper | None:
    """The stepper of the waits that ask for a node; None where one of them lets it run freely."""
    steppers = [wait.stepper for wait in node.asking]
    return None if None in steppers else steppers[0]
