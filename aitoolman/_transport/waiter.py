"""One reader's wait, which any thread may end."""

from __future__ import annotations

import asyncio

__all__ = ["Waiter"]


class Waiter:
    """Made and awaited on one loop, woken from anywhere. Awaited once; waking again is fine."""

    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    async def wait(self) -> None:
        """Return when woken."""
        await self._future

    def wake(self) -> bool:
        """End the wait; False where its loop is closed, so that nobody waits any more."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._finish()
            return True
        try:
            self._loop.call_soon_threadsafe(self._finish)
        except RuntimeError:
            return False
        return True

    def _finish(self) -> None:
        if not self._future.done():
            self._future.set_result(None)
