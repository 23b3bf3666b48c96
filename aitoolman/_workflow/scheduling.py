"""What the engine knows of tasks: their places in the graph, and who waits for which of them."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from .tasks import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .stepper import Stepper
    from .tasks import Task

__all__ = ["Given", "Node", "Wait", "current_node", "path_between", "running_node"]


class Given(NamedTuple):
    """An output that a fork puts in place of running the step."""

    output: Any
    result: Any = None
    """The model's answer that the step had; its ``data`` is replaced."""
    next_task: Task | None = None
    """What a plain task chose in the run that was forked."""
    chosen_by: str = "next_task"


class Node:
    """A task's place in the graph of its workflow.

    A task that chooses a `next_task` hands its place to it: those after it wait for the end of the
    chain. So a node is *settled* when its task and everything that follows in sequence has ended.
    """

    __slots__ = (
        "added_by",
        "asking",
        "before",
        "calls",
        "children",
        "failed_at",
        "follower",
        "given",
        "inside",
        "job",
        "missing",
        "number",
        "parents",
        "predecessors",
        "returning",
        "samples",
        "settled",
        "slot",
        "stepper",
        "tail",
        "taken_back",
        "task",
        "waiters",
        "waiting_for",
    )

    def __init__(self, task: Task, number: int, added_by: Node | None = None) -> None:
        self.task = task
        self.number = number
        """Counts the nodes of a workflow; ready tasks start in this order."""
        self.added_by = added_by
        """The node whose code brought this one into the workflow, by adding or choosing it."""
        self.inside = added_by
        """The same, but what is chosen as next task stands beside the node that chose it."""
        self.parents: dict[Node, None] = {}
        self.children: list[Node] = []
        self.follower: Node | None = None
        """What its task chose to go on with."""
        self.predecessors: list[Node] = []
        """Nodes whose follower this is."""
        self.tail: Node = self
        """Who ended the chain that starts here; meaningful once settled."""
        self.settled = False
        self.failed_at = 0
        """Counts the failures of this process; 0 where the task did not fail itself."""
        self.missing = 0
        """How many parents are not settled yet."""
        self.asking: dict[Wait, None] = {}
        """The waits that this node is needed for, in order."""
        self.waiters: list[Node] = []
        """The nodes whose code waited for this one."""

        # While it runs
        self.job: asyncio.Task[None] | None = None
        self.waiting_for: list[Wait] = []
        """The waits that its own code is in."""
        self.calls = 0
        """How many calls of models are open in its code."""
        self.slot = False
        """True while it holds one of the slots that bound parallel work."""
        self.returning: list[asyncio.Future[None]] = []
        """What its code waits on to get a slot again."""
        self.stepper: Stepper | None = None
        """Who steps it; None where it runs freely."""
        self.taken_back = False
        """True while its interrupted step is being undone."""

        # For forks
        self.before: dict[str, Any] | None = None
        """The task's attributes as they were before it ran."""
        self.samples: list[tuple[int, int]] = []
        """Key and sample number of its calls."""
        self.given: Given | None = None

    @property
    def idle(self) -> bool:
        """True where its code does nothing but wait for other tasks."""
        return bool(self.waiting_for) and not self.calls

    @property
    def succeeded(self) -> bool:
        return self.settled and self.tail.task.status is TaskStatus.COMPLETED

    def depends_on(self) -> Iterator[Node]:
        """Everything that has to settle before this node can."""
        yield from self.parents
        if self.follower is not None:
            yield self.follower
        for wait in self.waiting_for:
            yield from wait.targets

    def output_for(self, child: Node | None = None) -> Any:
        """What a task after this one gets: the last output of the sequence that starts here.

        Where `child` itself is part of that sequence: the last one before it.
        """
        if child is None or not child.predecessors:
            return self.tail.task.output_data
        node = self
        while node.follower is not None and node.follower is not child:
            node = node.follower
        return node.task.output_data

    def forget_graph(self) -> None:
        """Let go of other nodes, so that nothing keeps tasks alive that nobody can reach."""
        self.parents, self.children, self.predecessors = {}, [], []
        self.waiters, self.added_by, self.inside, self.before = [], None, None, None


current_node: contextvars.ContextVar[Node | None] = contextvars.ContextVar(
    "aitoolman_current_node", default=None
)


def running_node() -> Node | None:
    """The node whose code this is, None outside of tasks and after its task has ended."""
    node = current_node.get()
    return node if node is not None and node.job is not None else None


def path_between(start: Iterable[Node], goal: Node) -> list[Node] | None:
    """A way from one of `start` to `goal` along dependencies, or None."""
    came_from: dict[Node, Node | None] = dict.fromkeys(start)
    todo = deque(came_from)
    while todo:
        node = todo.popleft()
        if node is goal:
            return list(_walk_back(came_from, node))
        for other in node.depends_on():
            if not other.settled and other not in came_from:
                came_from[other] = node
                todo.append(other)
    return None


def _walk_back(came_from: dict[Node, Node | None], node: Node | None) -> Iterator[Node]:
    while node is not None:
        yield node
        node = came_from[node]


class Wait:
    """Somebody waits for some nodes; what has to run for that is `needed`.

    Args:
        targets: What is waited for.
        waiter: The node whose code waits; None where it is no task's code.
        stepper: Who steps what runs for this wait; None lets it run freely.
    """

    __slots__ = ("_done", "context", "needed", "stepper", "targets", "waiter")

    def __init__(
        self,
        targets: list[Node],
        waiter: Node | None = None,
        stepper: Stepper | None = None,
    ) -> None:
        self.targets = targets
        self.waiter = waiter
        self.stepper = stepper
        self.context = contextvars.copy_context()
        """What tasks that run for this wait see of context variables."""
        self.needed: dict[Node, None] = {}
        """Nodes that are not settled."""
        self._done: asyncio.Future[None] | None = None

    def add(self, node: Node) -> None:
        self.needed[node] = None
        node.asking[self] = None
        if self.waiter is not None and self.waiter not in node.waiters[-1:]:
            node.waiters.append(self.waiter)

    def settle(self, node: Node) -> None:
        self.needed.pop(node, None)
        if not self.needed and self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def wait(self) -> None:
        """Return when all that is needed has settled."""
        if self.needed:
            self._done = asyncio.get_running_loop().create_future()
            await self._done
