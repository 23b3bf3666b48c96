"""A client whose answers wait for the test, and short words for what tests do with ledgers."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aitoolman import LLMProviderRequest, LLMScriptedClient, Message, ScriptedReply
from aitoolman._datamodel import CallInfo, LLMProviderResponse, use_call
from aitoolman._ledger.claims import claims_path
from aitoolman._ledger.reader import Ledger
from aitoolman._transport.client import LLMClient


class Sink:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.got: list[str | None] = []
        self.news = asyncio.Event()

    async def write(self, message: str | None) -> None:
        self.got.append(message)
        self.news.set()

    @property
    def text(self) -> str:
        return "".join(m for m in self.got if m is not None)

    async def holds(self, text: str) -> None:
        while text not in self.text:
            self.news.clear()
            await self.news.wait()


class Gated(LLMScriptedClient):
    """Streams one fragment for each step of the test; the text says which request it was."""

    def __init__(self) -> None:
        super().__init__("")
        self.cancelled: list[str] = []
        self.arrived = asyncio.Event()
        self._steps: list[asyncio.Queue[Any]] = []

    async def request(self, *args: Any, **kwargs: Any) -> LLMProviderRequest:
        request = LLMProviderRequest("gated", kwargs.get("context_id"), f"g{len(self.requests)}",
                                     kwargs["model_name"], kwargs["messages"])  # fmt: skip
        self.requests.append(request)
        steps: asyncio.Queue[Any] = asyncio.Queue()
        self._steps.append(steps)
        task = asyncio.ensure_future(self._play(request, steps, kwargs["output_channel"]))
        request.response.add_done_callback(lambda _: task.cancel())
        self.arrived.set()
        return request

    async def _play(self, request: LLMProviderRequest, steps: Any, sink: Any) -> None:
        text, reason = "", "stop"
        while (step := await steps.get()) is not None:
            if step == "cancelled":
                reason = "cancelled"
                break
            if isinstance(step, Exception):
                request.response.set_exception(step)
                return
            text += step
            if sink is not None:
                await sink.write(step)
        if sink is not None:
            await sink.write(None)
        if not request.response.done():
            request.response.set_result(
                LLMProviderResponse("gated", None, request.request_id, "m", True,
                                    response_text=text, finish_reason=reason, prompt_tokens=3)
            )  # fmt: skip

    async def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)
        self.step("cancelled", int(request_id[1:]))

    def step(self, what: Any, number: int = 0) -> None:
        self._steps[number].put_nowait(what)

    async def sent(self, count: int = 1) -> None:
        while len(self.requests) < count:
            self.arrived.clear()
            await self.arrived.wait()


class Echo(LLMScriptedClient):
    """Answers each request with its number and its last message."""

    def __init__(self, **reply: Any) -> None:
        super().__init__(lambda request: ScriptedReply(f"{len(self.requests)}: {said(request)}",
                                                       **reply))  # fmt: skip


def said(request: LLMProviderRequest) -> str:
    return request.messages[-1].content or ""


def user(text: str, **fields: Any) -> list[Message]:
    return [Message("user", text, **fields)]


async def start(
    client: LLMClient,
    text: str = "hi",
    *,
    model: str = "m",
    stream: bool = False,
    sample: int = 0,
    fresh: bool = False,
    sink: Any = None,
    thoughts: Any = None,
    messages: list[Message] | None = None,
    **kwargs: Any,
) -> LLMProviderRequest:
    with use_call(CallInfo("test", sample, fresh)):
        return await client.request(
            model_name=model,
            messages=messages if messages is not None else user(text),
            stream=stream,
            output_channel=sink,
            reasoning_channel=thoughts,
            **kwargs,
        )


async def ask(client: LLMClient, text: str = "hi", **kwargs: Any) -> LLMProviderResponse:
    return await (await start(client, text, **kwargs)).response


async def ask_gated(client: LLMClient, inner: Gated, text: str = "hi") -> None:
    """A first call through a client whose answers wait, from question to answer."""
    request = await start(client, text)
    await inner.sent()
    inner.step(None)
    await request.response


def ledger_in(folder: Path) -> Ledger:
    return Ledger(folder / "ledger.db")


def counts(path: Path) -> dict[str, int]:
    with Ledger(path).opened() as db:
        found = {table: rows_in(db, table) for table in ("answers", "calls", "media")}
    claims = claims_path(path)
    if not claims.exists():
        return found | {"claims": 0}
    with contextlib.closing(sqlite3.connect(claims)) as db:
        return found | {"claims": rows_in(db, "claims")}


def rows_in(db: sqlite3.Connection, table: str) -> int:
    return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a state."""
    while not condition():  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.001)
