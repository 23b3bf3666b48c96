"""The bound on tasks that work at the same time; a task that only waits holds no slot."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .scheduling import Node

__all__ = ["Slots"]


class Slots:
    """Hands out slots to nodes: first to those that come back from waiting, then to new ones.

    A slot belongs to the node, not to one of the coroutines in its task's code: while any of them
    waits for other tasks, the node holds none.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._used = 0
        self._starting: deque[tuple[Node, Callable[[Node], bool]]] = deque()
        self._returning: deque[Node] = deque()

    def start(self, node: Node, launch: Callable[[Node], bool]) -> None:
        """Call `launch` with a slot taken; it returns False where there is nothing to start."""
        self._starting.append((node, launch))
        self._hand_out()

    def release(self, node: Node) -> None:
        """Give the node's slot back, if it has one."""
        if node.slot:
            node.slot = False
            self._used -= 1
            self._hand_out()

    async def regain(self, node: Node) -> None:
        """Wait for a slot again, before those who have not started yet."""
        if node.slot:
            return
        if self._free():
            self._take(node)
            return
        future = asyncio.get_running_loop().create_future()
        if not node.returning:
            self._returning.append(node)
        node.returning.append(future)
        try:
            await future
        finally:
            if future in node.returning:
                node.returning.remove(future)

    def _free(self) -> bool:
        return self.limit is None or self._used < self.limit

    def _take(self, node: Node) -> None:
        node.slot = True
        self._used += 1

    def _hand_out(self) -> None:
        while self._free() and self._returning:
            self._let_return(self._returning.popleft())
        while self._free() and self._starting:
            node, launch = self._starting.popleft()
            if launch(node):
                self._take(node)

    def _let_return(self, node: Node) -> None:
        """Wake all that wait in a node's code; it takes no slot where it waits again by now."""
        woken, node.returning = node.returning, []
        if woken and not node.slot and not node.waiting_for:
            self._take(node)
        for future in woken:
            if not future.done():
                future.set_result(None)
