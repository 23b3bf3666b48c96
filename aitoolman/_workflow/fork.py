"""Forks: a second workflow that shares what came before a step, and goes on from there.

What comes after the step runs again: its children, what it chose next, and every task that waited
for it. What such tasks brought into the workflow themselves is left out, since they will bring it
again. All other tasks that completed are shared: their twins have the outputs that the record kept.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .._datamodel import LLMModuleRequest, LLMWorkflowError
from .lookup import find_node
from .samples import SampleNumbers
from .scheduling import Given, Node
from .snapshots import duplicate, is_whole, snapshot
from .tasks import LLMTask, Task, TaskStatus, take_arguments

if TYPE_CHECKING:
    from .debug import DebugRun
    from .steps import StepRecord
    from .workflow import LLMWorkflow

__all__ = ["Change", "fork_run"]

T = TypeVar("T", bound=Task)


class Change(NamedTuple):
    """What a fork does otherwise."""

    input_data: Any = None
    output_data: Any = ...
    task: Task | None = None

    @property
    def any(self) -> bool:
        changed = self.input_data is not None or self.task is not None
        return changed or self.gives_output

    @property
    def gives_output(self) -> bool:
        return self.output_data is not ...


def fork_run(run: DebugRun, step: StepRecord | int | Task | str, change: Change) -> DebugRun:
    """A new run, paused before a step of `run`; see `DebugRun.fork`."""
    from .debug import DebugRun

    node = find_node(run.workflow, step)
    _check(change)
    chosen = node.follower if change.gives_output and not isinstance(node.task, LLMTask) else None
    again = _Again(run.workflow, node, chosen)
    start = again.start_of(node)
    if change.any and start is not node:
        raise LLMWorkflowError(
            f"{node.task!r} is made anew by {start.task!r}, which waited for it; change that one"
        )
    twins = _Twins(run.workflow, again)
    twins.apply(node, change, chosen)
    targets = [twins.nodes.get(t, twins.nodes[start]) for t in run._targets]
    return DebugRun(twins.workflow, targets, parent=run, start=twins.nodes[start])


def _check(change: Change) -> None:
    if change.gives_output and (change.task is not None or change.input_data is not None):
        raise LLMWorkflowError("a step whose output is given does not run: change nothing else")
    if change.task is not None and change.task.status is not TaskStatus.INIT:
        raise LLMWorkflowError(f"{change.task!r} has run or belongs to a workflow; clone() it")


class _Again:
    """Which nodes run again in a fork, and which of those are left out.

    Args:
        workflow: The workflow that is forked.
        node: Where.
        keep: A node to keep although a task that runs again brought it in.
    """

    def __init__(self, workflow: LLMWorkflow, node: Node, keep: Node | None) -> None:
        self._keep = keep
        self.nodes: set[Node] = set()
        self.left_out: set[Node] = set()
        self._passed: set[Node] = set()
        self._brought: dict[Node, list[Node]] = {}
        for other in workflow._engine.nodes:
            if other.added_by is not None:
                self._brought.setdefault(other.added_by, []).append(other)
        unfinished = [
            other
            for other in workflow._engine.nodes
            if other.task.status is not TaskStatus.COMPLETED
        ]
        self._spread([node, *unfinished, *([keep] if keep else [])])

    def start_of(self, node: Node) -> Node:
        """The node itself, or the outermost one that will bring it again."""
        while node in self.left_out:
            assert node.added_by is not None
            node = node.added_by
        return node

    def _spread(self, todo: list[Node]) -> None:
        while todo:
            node = todo.pop()
            if node not in self.nodes:
                self.nodes.add(node)
                todo += self._depending_on(node)
                todo += self._leave_out(node)

    def _leave_out(self, node: Node) -> list[Node]:
        """What `node` brought goes; whoever chose any of that has to choose again."""
        gone = [other for other in self._brought.get(node, []) if other is not self._keep]
        self.left_out.update(gone)
        return gone + [earlier for other in gone for earlier in other.predecessors]

    def _depending_on(self, node: Node) -> list[Node]:
        """Those that need the outcome of this node's place, which earlier ones have handed on."""
        found, places = [], [node]
        while places:
            place = places.pop()
            if place not in self._passed:
                self._passed.add(place)
                found += [*place.children, *place.waiters]
                places += place.predecessors
        return found


class _Twins:
    """The new workflow with its nodes, each the twin of an old one."""

    def __init__(self, workflow: LLMWorkflow, again: _Again) -> None:
        self._old = workflow
        self._again = again
        self.nodes: dict[Node, Node] = {}
        self._records = {record.task_id: record for record in workflow.history}
        self._loose: dict[int, tuple[Task, Task]] = {}
        kept = [n for n in workflow._engine.nodes if n not in again.left_out]
        done = {node.task.task_id for node in kept if node not in again.nodes}
        self.workflow = _sibling(workflow, done)
        for node in kept:
            self._adopt(node)
        for node in kept:
            self._connect(node)
        self._fill_loose()
        numbers = [pair for node in kept if node not in again.nodes for pair in node.samples]
        self.workflow._samples = SampleNumbers(numbers)

    def _adopt(self, node: Node) -> None:
        twin = Node(copy.copy(node.task), node.number)
        self.nodes[node] = twin
        engine = self.workflow._engine
        engine.adopt(twin)
        engine.numbers = itertools.count(node.number + 1)

    def _connect(self, node: Node) -> None:
        twin = self.nodes[node]
        for name in ("added_by", "inside"):
            other = getattr(node, name)
            setattr(twin, name, self.nodes.get(other))
        twin.parents = dict.fromkeys(self._twins_of(node.parents))
        twin.children = self._twins_of(node.children)
        if node in self._again.nodes:
            self._rewind(node, twin)
        else:
            self._carry_over(node, twin)
        open_parents = [p for p in node.parents if p in self.nodes and not self._stays_settled(p)]
        twin.missing = len(open_parents)

    def _twins_of(self, nodes: Iterable[Node]) -> list[Node]:
        return [self.nodes[node] for node in nodes if node in self.nodes]

    def _rewind(self, node: Node, twin: Node) -> None:
        """A task that runs again is as it was before it ran."""
        task = twin.task
        task._restore(self._mapped(node.before or node.task._attributes()))
        task.status = TaskStatus.WAITING
        if node.given is not None:
            twin.given = node.given._replace(next_task=self._mapped(node.given.next_task))

    def _carry_over(self, node: Node, twin: Node) -> None:
        """A task that is shared has the output that the record kept."""
        twin.before, twin.samples = node.before, list(node.samples)
        twin.waiters = self._twins_of(node.waiters)
        own = {k: v for k, v in vars(twin.task).items() if k not in ("workflow", "_node")}
        vars(twin.task).update(self._mapped(own))
        record = self._records.get(node.task.task_id)
        if record is not None and is_whole(record.output):
            twin.task.output_data = record.output
        twin.settled = self._stays_settled(node)
        if node.follower is not None:
            follower = self.nodes[node.follower]
            twin.follower = twin.tail = follower
            twin.task.next_task = follower.task
            follower.predecessors.append(twin)
            if twin.settled:
                twin.tail = self.nodes[node.tail]

    def _stays_settled(self, node: Node) -> bool:
        return node.settled and not {node, node.tail} & self._again.nodes

    def _mapped(self, value: Any) -> Any:
        """`value` with the old workflow's tasks replaced by their twins."""
        if isinstance(value, Task):
            return self._task(value)
        if isinstance(value, MethodType) and isinstance(value.__self__, Task):
            return MethodType(value.__func__, self._mapped(value.__self__))
        if type(value) in (list, tuple, set):
            return type(value)(map(self._mapped, value))
        if type(value) is dict:
            return {key: self._mapped(item) for key, item in value.items()}
        return value

    def _task(self, task: Task) -> Task:
        """The twin of a task, which is in no workflow where the old one was in none or left out."""
        if task._node is not None and task._node in self.nodes:
            return self.nodes[task._node].task
        if task.workflow not in (None, self._old):
            return task
        if id(task) not in self._loose:
            twin = copy.copy(task)
            twin.status = TaskStatus.INIT
            self._loose[id(task)] = task, twin
        return self._loose[id(task)][1]

    def _fill_loose(self) -> None:
        """Rewind the loose twins; in a loop, since each may refer to more of them."""
        filled = 0
        while filled < len(self._loose):
            for task, twin in list(self._loose.values())[filled:]:
                before = task._node.before if task._node is not None else None
                twin._restore(self._mapped(before or task._attributes()))
                filled += 1

    # The change

    def apply(self, node: Node, change: Change, chosen: Node | None) -> None:
        """Change the step that the fork is about."""
        if not change.any:
            return
        twin = self.nodes[node]
        if change.task is not None:
            self._replace(twin, change.task)
        if change.input_data is not None:
            _change_input(twin.task, change.input_data)
        if change.gives_output:
            result = duplicate(getattr(node.task, "module_result", None))
            follower = self.nodes[chosen].task if chosen is not None else None
            output = snapshot(change.output_data)
            output = output if is_whole(output) else change.output_data
            twin.given = Given(output, result, follower, node.task.chosen_by)

    def _replace(self, twin: Node, task: Task) -> None:
        old = twin.task
        old.workflow = old._node = None
        twin.task, twin.given = task, None
        task.workflow, task._node, task.status = self.workflow, twin, TaskStatus.WAITING


def _sibling(workflow: LLMWorkflow, shared: set[str]) -> LLMWorkflow:
    """A workflow without tasks that shares client, modules, processors, channels and vars."""
    _ = workflow.channels  # made now where they were not, so that both have the same
    sibling = copy.copy(workflow)
    workflow._children = getattr(workflow, "_children", 0) + 1
    sibling.context_id = f"{workflow.context_id}/{workflow._children}"
    completed = [r for r in workflow.history if r.status == TaskStatus.COMPLETED.name]
    sibling._start_over(True, [r for r in completed if r.task_id in shared])
    return sibling


def _change_input(task: Task, change: Any) -> None:
    """Arguments over those the task has, or a request in place of its own."""
    if not isinstance(change, Mapping):
        task.input_data = change
    elif isinstance(task, LLMTask) and not isinstance(task.input_data, LLMModuleRequest):
        raise LLMWorkflowError(f"{task!r} has no template parameters; give it a whole request")
    else:
        take_arguments(task, dict(change))
