"""A batch's client: with a ledger where it has none; and its work on the client's own loop."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .._datamodel import LLMApplicationError
from .._loops import running_loop
from .._transport.client import LLMClient

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Coroutine

    from .._datamodel import (
        LLMProviderRequest,
        Message,
        ModelDescription,
        RequestPreview,
        TextSink,
    )

__all__ = ["at_home", "ledger_for", "with_ledger"]

T = TypeVar("T")

END_SECONDS = 5.0
"""How long a cancelled batch waits for the other loop to end its requests."""


class _Borrowed(LLMClient):
    """Another's client, which is used and never closed."""

    def __init__(self, client: LLMClient) -> None:
        self._client = client
        self.home = getattr(client, "home", None) or running_loop()

    def __repr__(self) -> str:
        return repr(self._client)

    async def request(
        self,
        model_name: str,
        messages: list[Message],
        tools: dict[str, dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        stream: bool = False,
        context_id: str | None = None,
        output_channel: TextSink | None = None,
        reasoning_channel: TextSink | None = None,
    ) -> LLMProviderRequest:
        return await self._client.request(
            model_name, messages, tools, options, stream, context_id, output_channel,
            reasoning_channel,
        )  # fmt: skip

    async def cancel(self, request_id: str) -> None:
        await self._client.cancel(request_id)

    async def cancel_all(self, context_id: str | None = None) -> None:
        await self._client.cancel_all(context_id)

    async def audit_event(self, context_id: str, event_type: str, **kwargs: Any) -> None:
        await self._client.audit_event(context_id, event_type, **kwargs)

    async def describe(self, model_name: str) -> ModelDescription:
        return await self._client.describe(model_name)

    async def preview(self, *request: Any) -> RequestPreview:
        return await self._client.preview(*request)

    def redact(self, text: str) -> str:
        return self._client.redact(text)


def ledger_for(client: LLMClient, ledger: str | os.PathLike[str] | None) -> Path | None:
    """Where a batch puts a ledger around `client`; None where it has one, or none is wanted.

    Args:
        client: The application's client.
        ledger: A path, ``"off"``, or None: the client's own, else one beside its configuration.

    Raises:
        LLMApplicationError: ``"off"``, and the client has a ledger of its own.
    """
    own = client.ledger_mode != "off"
    if ledger is None:
        return None if own else _beside(client)
    if ledger != "off":
        return Path(ledger).expanduser().absolute()
    if own:
        raise LLMApplicationError("ledger='off': the client itself keeps a ledger; plan without")
    return None


def _beside(client: LLMClient) -> Path:
    from .._ledger.schema import default_path

    file = getattr(getattr(client, "config", None), "file", None)
    return default_path(Path(file) if file else None).absolute()


@contextlib.asynccontextmanager
async def with_ledger(client: LLMClient, path: Path | None) -> AsyncIterator[LLMClient]:
    """`client` behind a ledger at `path` for a while; itself where `path` is None."""
    if path is None:
        yield client
        return
    from .._ledger.client import LLMLedgerClient

    wrapped = LLMLedgerClient(_Borrowed(client), path, "read_write")
    home = getattr(client, "home", None)
    await _on_loop(home, wrapped.__aenter__)
    try:
        yield wrapped
    finally:
        await wrapped.close()


async def at_home(client: LLMClient, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `make()` on the loop that `client` lives on; cancelled, it waits until that has ended."""
    return await _on_loop(getattr(client, "home", None), make)


async def _on_loop(
    home: asyncio.AbstractEventLoop | None, make: Callable[[], Coroutine[Any, Any, T]]
) -> T:
    if home is None or home is running_loop() or not home.is_running():
        return await make()
    visit = _Visit(home, make)
    try:
        await asyncio.shield(visit.ended)
    except asyncio.CancelledError:
        visit.cancel()
        await asyncio.wait({visit.ended}, timeout=END_SECONDS)
        raise
    task: asyncio.Task[T] = visit.ended.result()
    return task.result()


class _Visit:
    """A coroutine on another loop; `ended` is on this one and holds the finished task."""

    def __init__(
        self, home: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        self._home, self._make = home, make
        self._here = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self.ended: asyncio.Future[asyncio.Task[Any]] = self._here.create_future()
        home.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        self._task = self._home.create_task(self._make())
        self._task.add_done_callback(self._tell)

    def _tell(self, task: asyncio.Task[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop that waited is closed
            self._here.call_soon_threadsafe(self._end, task)

    def _end(self, task: asyncio.Task[Any]) -> None:
        if not self.ended.done():
            self.ended.set_result(task)

    def cancel(self) -> None:
        self._home.call_soon_threadsafe(lambda: self._task and self._task.cancel())
