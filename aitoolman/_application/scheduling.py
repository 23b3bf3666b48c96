"""How tasks get to run: waits that ask for them, slots that bound them, cycles that are refused."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .tasks import Task

__all__ = ["Node", "Slots", "Wait", "path_between"]


class Node:
    """A task's place in the graph of its workflow.

    A task that chooses a `next_task` hands its place to it: those after it wait for the end of the
    chain. So a node is *settled* when its task and everything that follows in sequence has ended.
    """

    __slots__ = (
        "asking",
        "children",
        "job",
        "missing",
        "number",
        "parents",
        "predecessors",
        "settled",
        "slot",
        "tail",
        "task",
        "waiting_for",
    )

    def __init__(self, task: Task, number: int) -> None:
        self.task = task
        self.number = number
        """Counts the nodes of a workflow; ready tasks start in this order."""
        self.parents: list[Node] = []
        self.children: list[Node] = []
        self.predecessors: list[Node] = []
        """Nodes that handed their place to this one by `next_task`."""
        self.tail: Node = self
        """Who ended the chain that starts here; meaningful once settled."""
        self.settled = False
        self.missing = 0
        """How many parents are not settled yet."""
        self.asking: set[Wait] = set()
        """The waits that this node is needed for."""
        self.waiting_for: list[Wait] = []
        """The waits that this node's own code is in, while it runs."""
        self.job: asyncio.Task[None] | None = None
        self.slot = False
        """True while the node holds one of the slots that bound parallel work."""

    def depends_on(self) -> Iterator[Node]:
        """Everything that has to settle before this node can."""
        yield from self.parents
        if self.tail is not self:
            yield self.tail
        for wait in self.waiting_for:
            yield from wait.targets


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
    """Somebody waits for some nodes; what has to run for that is `needed`."""

    __slots__ = ("done", "needed", "open", "targets")

    def __init__(self, targets: list[Node]) -> None:
        self.targets = targets
        self.needed: list[Node] = []
        self.open = 0
        """How many of `needed` are not settled."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def add(self, node: Node) -> None:
        self.needed.append(node)
        node.asking.add(self)
        self.open += 1

    def settle_one(self) -> None:
        self.open -= 1
        if self.open == 0:
            self.finish()

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Slots:
    """Bounds how many tasks work at the same time; a task that only waits holds no slot."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._used = 0
        self._starting: deque[Callable[[], bool]] = deque()
        self._returning: deque[asyncio.Future[None]] = deque()

    def start(self, launch: Callable[[], bool]) -> None:
        """Call `launch` when there is a slot; it returns False where it has nothing to start."""
        self._starting.append(launch)
        self._hand_out()

    def release(self) -> None:
        """Give a slot back."""
        self._used -= 1
        self._hand_out()

    async def regain(self) -> None:
        """Wait for a slot again, before those who have not started yet."""
        if self._free():
            self._used += 1
            return
        future = asyncio.get_running_loop().create_future()
        self._returning.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release()
            raise

    def _free(self) -> bool:
        return self.limit is None or self._used < self.limit

    def _hand_out(self) -> None:
        while self._free() and self._returning:
            future = self._returning.popleft()
            if not future.done():
                self._used += 1
                future.set_result(None)
        while self._free() and self._starting:
            self._used += 1
            if not self._starting.popleft()():
                self._used -= 1
