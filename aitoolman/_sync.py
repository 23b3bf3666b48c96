"""`.sync`: the same names on the same object, waiting instead of awaiting."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any

from ._loops import background, run_sync, running_loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Sync", "call_user_function", "on_background_loop"]


class Sync:
    """An object's synchronous face, for code that does not await.

    What the object returns at once is returned at once; what it would have to be awaited for runs
    on the library's background loop, and the call returns when it is done. Subscripts, attributes
    and ``with`` work as on the object itself.

    Args:
        target: The object.
        client: The client behind it; its ``home`` tells which loop must not wait for itself.
    """

    __slots__ = ("_client", "_target")

    def __init__(self, target: Any, client: Any = None) -> None:
        self._target = target
        self._client = client

    def __repr__(self) -> str:
        return f"{self._target!r}.sync"

    def __dir__(self) -> list[str]:
        return dir(self._target)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        return self._waiting(value) if inspect.isroutine(value) else value

    def __getitem__(self, key: Any) -> Sync:
        return Sync(self._target[key], self._client)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._wait(self._target(*args, **kwargs))

    def __enter__(self) -> Any:
        """What ``async with`` would give: the object itself, to be passed on."""
        return self._wait(self._target.__aenter__())

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        return self._wait(self._target.__aexit__(exc_type, exc, traceback))

    def _waiting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wait(*args: Any, **kwargs: Any) -> Any:
            return self._wait(function(*args, **kwargs))

        return wait

    def _wait(self, outcome: Any) -> Any:
        if not inspect.iscoroutine(outcome):
            return outcome
        return run_sync(outcome, home=getattr(self._client, "home", None))


def on_background_loop() -> bool:
    """True in a coroutine that runs on the library's background loop."""
    here = running_loop()
    return here is not None and here is background.running


async def call_user_function(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """The result of a user's function, sync or async.

    On the background loop a sync function runs in a worker thread: it may take its time there, and
    may itself wait for a synchronous call.
    """
    if on_background_loop() and not inspect.iscoroutinefunction(function):
        outcome = await asyncio.to_thread(function, *args, **kwargs)
    else:
        outcome = function(*args, **kwargs)
    return await outcome if inspect.isawaitable(outcome) else outcome
