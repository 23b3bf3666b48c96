"""What the manager's tests share: a manager, requests, sinks that remember, a clock that stands."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from aitoolman import CallInfo, LLMProviderRequest, LLMProviderResponse, Message
from aitoolman._provider.manager import LLMProviderManager

from ..fake_llm import FakeLLM
from ..virtual_clock import VirtualClock


class Sink:
    """A channel that remembers what it got."""

    def __init__(self) -> None:
        self.got: list[str | None] = []

    async def write(self, message: str | None) -> None:
        self.got.append(message)

    @property
    def text(self) -> str:
        return "".join(piece for piece in self.got if piece is not None)


class Desk:
    """A manager, and short ways to ask it."""

    def __init__(self, manager: LLMProviderManager, clock: VirtualClock | None) -> None:
        self.manager = manager
        self.clock = clock
        self._numbers = itertools.count(1)

    def request(self, text: str = "hello", model: str = "m", **fields: Any) -> LLMProviderRequest:
        source = fields.pop("source", None)
        given = {
            "client_id": "client",
            "context_id": "context",
            "request_id": f"r{next(self._numbers)}",
            "model_name": model,
            "messages": [Message("user", text)],
            "call": CallInfo(source),
        }
        return LLMProviderRequest(**(given | fields))

    def start(self, *args: Any, **fields: Any) -> LLMProviderRequest:
        request = self.request(*args, **fields)
        self.manager.process_request(request)
        return request

    async def ask(self, *args: Any, **fields: Any) -> LLMProviderResponse:
        return await self.start(*args, **fields).response


MakeDesk = Callable[..., Desk]


@pytest.fixture
async def make_desk(fake_llm: FakeLLM) -> AsyncIterator[MakeDesk]:
    """``make_desk(clock=, entries={name: keys}, aliases={}, **keys_of_m)``; closed at the end."""
    managers: list[LLMProviderManager] = []

    def make(
        clock: VirtualClock | None = None,
        entries: dict[str, dict[str, Any]] | None = None,
        aliases: dict[str, Any] | None = None,
        **keys: Any,
    ) -> Desk:
        base = {"url": fake_llm.openai_url, "model": "vendor-1", "parallel": 10, "timeout": 5}
        wanted = entries if entries is not None else {"m": {}}
        config = {
            "api": {name: base | keys | own for name, own in wanted.items()},
            "model_alias": aliases or {},
        }
        manager = LLMProviderManager(config, clock=clock, jitter=lambda: 0.0)
        managers.append(manager)
        return Desk(manager, clock)

    yield make
    for manager in managers:
        await manager.close()
        assert not manager._jobs
        assert all(e.limits.in_use == 0 for e in manager._endpoints.values()), "a slot is lost"


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def make_sink() -> Callable[[], Sink]:
    return Sink
