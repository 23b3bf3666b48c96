"""Servers in the test's own process, and clients of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from aitoolman._service.limits import Limits
from aitoolman._service.link import Timing
from aitoolman._service.server import LLMServer
from aitoolman.zmqclient import LLMZmqClient

TOKEN = "a-token-for-all-of-these-tests"
OTHER_TOKEN = "another-token-for-these-tests"

QUICK = Timing(ping=0.1, silence=0.6, gone=1.5, hello=1.0, retry=(0.02, 0.1))
"""For tests that wait until something is given up."""


class Sink:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.got: list[str | None] = []

    async def write(self, message: str | None) -> None:
        self.got.append(message)

    @property
    def text(self) -> str:
        return "".join(item for item in self.got if item)


@pytest.fixture
def server_config(provider_config: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The scripted vendor behind a server on a free port, with a token. Change it freely."""
    return provider_config | {
        "server": {
            "zmq_router_rpc": "tcp://127.0.0.1:*",
            "zmq_pub_event": "tcp://127.0.0.1:*",
            "zmq_auth_token": TOKEN,
        },
        "ledger": {"path": str(tmp_path / "audit.db")},
    }


@pytest.fixture
async def serve(server_config: dict[str, Any]) -> AsyncIterator[Callable[..., Any]]:
    """``await serve(config=None, **limits)`` starts a server that ends with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(config: dict[str, Any] | None = None, **limits: Any) -> LLMServer:
            server = LLMServer(config or server_config, Limits(**{"tick": 0.05} | limits))
            await server.start()
            stack.push_async_callback(server.close, 0)
            return server

        yield start


@pytest.fixture
async def server(serve: Callable[..., Any]) -> LLMServer:
    """A running server."""
    return await serve()  # type: ignore[no-any-return]


@pytest.fixture
async def client(server: LLMServer) -> AsyncIterator[LLMZmqClient]:
    """A client of `server`."""
    async with LLMZmqClient(server.endpoint, TOKEN) as client:
        yield client


async def until(condition: Callable[[], Any], timeout: float = 5.0) -> None:
    """Wait for a state."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - conditions of any kind
            await asyncio.sleep(0.005)
