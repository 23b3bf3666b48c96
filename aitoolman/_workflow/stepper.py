"""The gate of a run that is stepped: ready tasks are held back until somebody lets them go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._loops import running_loop
from .tasks import TaskStatus

if TYPE_CHECKING:
    from .engine import Engine
    from .scheduling import Node, Wait

__all__ = ["Stepper"]


class Stepper:
    """Holds the nodes of one run back: before they start, and before they go on after waiting.

    Attributes:
        open: True while everything may run.
        closed: True once the run is over for good.
        wait: What the run is for; set right after construction.
    """

    wait: Wait

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.open = False
        self.closed = False
        self._held: dict[Node, list[asyncio.Future[None]]] = {}
        self._working: dict[Node, None] = {}
        self._watching: dict[Node, asyncio.Future[None]] = {}

    # What the engine asks and tells

    def hold(self, node: Node) -> bool:
        """Keep a ready node back; False where it may start."""
        if self.open:
            self._working[node] = None
            return False
        self._held.setdefault(node, [])
        return True

    def holds(self, node: Node) -> bool:
        return node in self._held

    async def resume(self, node: Node) -> None:
        """Keep a node's code back that has waited for others and could go on."""
        if self.open:
            return
        future = asyncio.get_running_loop().create_future()
        self._held.setdefault(node, []).append(future)
        try:
            await future
        finally:
            self._withdraw(node, future)

    def _withdraw(self, node: Node, future: asyncio.Future[None]) -> None:
        futures = self._held.get(node, [])
        if future in futures:
            futures.remove(future)
            if not futures:
                del self._held[node]

    def stopped(self, node: Node) -> None:
        """A node's job has ended, or its code waits for other tasks."""
        if node.job is None:
            self._working.pop(node, None)
        watching = self._watching.pop(node, None)
        if watching is not None and not watching.done():
            watching.set_result(None)

    # What a run does

    @property
    def ready(self) -> list[Node]:
        """The nodes that can be let go, in the order they came into the workflow."""
        able = [node for node, futures in self._held.items() if futures or _can_start(node)]
        return sorted(able, key=lambda node: node.number)

    async def step(self, node: Node) -> None:
        """Let one node go, until its job ends or its code waits.

        Cancelled meanwhile, the step is taken back: the node is ready again.
        """
        stopped = self._watch(node)
        self._let_go(node)
        try:
            await stopped
        except BaseException:
            await self._interrupt([node])
            raise

    async def finish(self) -> None:
        """Let everything go, until the run's wait is over.

        Cancelled meanwhile, the steps that worked are taken back; what waited keeps waiting.
        """
        self.open = True
        for node in self.ready:
            self._let_go(node)
        try:
            await self.wait.wait()
        except BaseException:
            self.open = False
            await self._interrupt(list(self._working))
            raise
        self.open = False

    def _watch(self, node: Node) -> asyncio.Future[None]:
        future = self._watching[node] = asyncio.get_running_loop().create_future()
        return future

    def _let_go(self, node: Node) -> None:
        futures = self._held.pop(node)
        self._working[node] = None
        for future in futures:
            if not future.done():
                future.set_result(None)
        if not futures:
            self.engine.slots.start(node, self.engine.launch)

    async def _interrupt(self, nodes: list[Node]) -> None:
        """End what these nodes work on, and make them ready again."""
        running = [node for node in nodes if node.job is not None and not node.idle]
        ends = [self._watch(node) for node in running]
        for node in running:
            assert node.job is not None
            node.taken_back = True
            node.job.cancel()
        if ends:
            await asyncio.wait(ends)
        for node in nodes:
            node.taken_back = False
            if node.job is None:
                self._working.pop(node, None)
                self.engine.start_if_ready(node)

    # The end

    async def close(self) -> None:
        """Cancel all that was started, and see it end."""
        self.closed = True
        await self.engine.abandon(self.wait)

    def drop(self) -> None:
        """`close` from anywhere, without waiting: the run was forgotten."""
        self.closed = True
        loop = self.engine.loop
        if loop is None or loop.is_closed() or loop is running_loop():
            self._cancel_jobs()
        else:
            loop.call_soon_threadsafe(self._cancel_jobs)

    def _cancel_jobs(self) -> None:
        needed, self.wait.needed = self.wait.needed, {}
        for node in needed:
            node.asking.pop(self.wait, None)
        for node in list(self._working):
            if node.job is not None and not node.job.get_loop().is_closed():
                node.job.cancel()


def _can_start(node: Node) -> bool:
    waiting = node.task.status is TaskStatus.WAITING and node.job is None
    return bool(waiting and node.asking and not node.missing)
