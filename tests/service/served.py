"""The suites of other folders once more, with only what makes the client changed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aitoolman import LLMProviderRequest, RequestTask, load_config
from aitoolman._provider.manager import LLMProviderManager
from aitoolman._service.link import Timing
from aitoolman._service.remote import RemoteEngine
from aitoolman._service.security import token_keys
from aitoolman._service.server import LLMServer
from aitoolman.zmqclient import LLMZmqClient

from ..provider.conftest import Desk
from .conftest import TOKEN

__all__ = ["ServedClient", "rerun", "served_desk", "served_project"]

_numbers = itertools.count()
_loop: asyncio.AbstractEventLoop | None = None


def server_loop() -> asyncio.AbstractEventLoop:
    """A loop of the servers' own, in a thread that ends with the run."""
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()
        threading.Thread(target=_loop.run_forever, name="servers", daemon=True).start()
    return _loop


class SteadyServer(LLMServer):
    """Waits without jitter, on a clock of the test's where it has one."""

    clock: Any = None

    def _make_manager(self) -> LLMProviderManager:
        return LLMProviderManager(
            self.config, may_send=self._may_send, clock=self.clock, jitter=lambda: 0.0
        )


def serving(config: dict[str, Any], folder: str) -> SteadyServer:
    """A server of the configuration at an address of its own, not started."""
    server = {"zmq_router_rpc": f"ipc://{folder}/r{next(_numbers)}", "zmq_auth_token": TOKEN}
    own = {key: value for key, value in config.items() if key != "ledger"}
    return SteadyServer(own | {"server": server, "ledger": {"path": f"{folder}/audit.db"}})


class ServedClient(LLMZmqClient):
    """Made like a local client, and works through a server of its own."""

    def __init__(self, config: dict[str, Any], **options: Any) -> None:
        self._folder = tempfile.mkdtemp()
        self._server = serving(config, self._folder)
        asyncio.run_coroutine_threadsafe(self._server.start(), server_loop()).result(10)
        self.config = self._server.config
        super().__init__(self._server.endpoint, TOKEN)

    async def close(self) -> None:
        await super().close()
        ending = asyncio.run_coroutine_threadsafe(self._server.close(0), server_loop())
        await asyncio.wrap_future(ending)
        shutil.rmtree(self._folder, ignore_errors=True)


class ServedManager:
    """Has the methods of a provider manager, with a server between."""

    def __init__(self, config: dict[str, Any], clock: Any = None) -> None:
        self._folder = tempfile.mkdtemp()
        self.server = serving(config, self._folder)
        self.server.clock = clock
        self._started: asyncio.Task[None] | None = None
        self._engine: RemoteEngine | None = None
        self._waiting: list[asyncio.Task[None]] = []

    def _open(self) -> RemoteEngine:
        """The server is started beside the first request, as the client waits for it anyway."""
        if self._engine is None:
            self._started = asyncio.get_running_loop().create_task(self.server.start())
            path = str(self.server.table["zmq_router_rpc"])
            self._engine = RemoteEngine([path], token_keys(TOKEN), Timing(retry=(0.01, 0.05)))
        return self._engine

    def process_request(self, request: LLMProviderRequest, callback: Any = None) -> RequestTask:
        self._open().submit(request)
        self._ended = asyncio.ensure_future(asyncio.wait([request.response]))
        if callback is not None:
            self._waiting.append(asyncio.ensure_future(self._call_back(request, callback)))
        return RequestTask(request, self._ended)  # type: ignore[arg-type]

    async def preview(
        self, model: str, messages: Any, tools: Any = None, options: Any = None, stream: Any = False
    ) -> Any:
        return await self._open().preview(model, messages, tools, options, stream)

    def under_way(self) -> list[Any]:
        return list(self._open()._calls)

    @property
    def _endpoints(self) -> Any:
        return self.server.manager._endpoints

    @property
    def _running(self) -> list[Any]:
        return self.under_way()

    async def _call_back(self, request: LLMProviderRequest, callback: Any) -> None:
        await asyncio.wait([request.response])
        with contextlib.suppress(RuntimeError):  # a mistake of the test's, on purpose
            await callback(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._open(), name)

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.close()
        if self._started is not None:
            await self._started
            await self.server.close(0)
            manager = self.server.manager
            assert not manager._jobs
            assert all(e.limits.in_use == 0 for e in manager._endpoints.values()), "a slot is lost"
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
async def served_desk(fake_llm: Any) -> Any:
    """The provider suite's `make_desk`, its manager behind a server."""
    managers: list[ServedManager] = []

    def make(clock: Any = None, entries: Any = None, aliases: Any = None, **keys: Any) -> Desk:
        base = {"url": fake_llm.openai_url, "model": "vendor-1", "parallel": 10, "timeout": 5}
        wanted = entries if entries is not None else {"m": {}}
        config = {
            "api": {name: base | keys | own for name, own in wanted.items()},
            "model_alias": aliases or {},
        }
        managers.append(ServedManager(config, clock))
        return Desk(managers[-1], clock)  # type: ignore[arg-type]

    yield make
    for manager in managers:
        await manager.close()


def rerun(name: str, leave_out: Collection[str] = (), **replaced: Any) -> dict[str, Any]:
    """The tests and fixtures of a module, made anew with some of its names replaced.

    Args:
        name: The module.
        leave_out: Tests of what is in process by its nature.
        replaced: What makes the client.
    """
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    module = ModuleType(f"{name}_served")
    sys.modules[module.__name__] = module  # dataclasses look there for what they are made of
    module.__dict__.update(__package__=spec.parent, __file__=spec.origin)
    exec(compile(Path(spec.origin).read_text(), spec.origin, "exec"), module.__dict__)
    module.__dict__.update(replaced)
    missing = set(leave_out) - set(module.__dict__)
    assert not missing, f"no such tests: {missing}"
    own = {
        key: value
        for key, value in module.__dict__.items()
        if key == "pytestmark"
        or key.startswith("test_")
        or type(value).__name__ == "FixtureFunctionDefinition"
    }
    return {key: value for key, value in own.items() if key not in leave_out}


CLIENT = re.compile(r"aitoolman\.LLMLocalClient\(\w+\)|aitoolman\.connect\([^,()]+")
"""The one line of a program that makes its client, up to what says of its ledger."""


def _served_line(found: re.Match[str], endpoint: str) -> str:
    line = f"aitoolman.connect({endpoint!r}, token={TOKEN!r}"
    return line + ")" if found[0].endswith(")") else line


def served_project(source: Path) -> Any:
    """A fixture `project`: a copy of the programs that connect to a server of their settings."""

    @pytest.fixture
    def project(tmp_path: Path, fake_llm: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("VENDOR_URL", fake_llm.openai_url)
        monkeypatch.setenv("VENDOR_KEY", "sk-example")
        ignore = shutil.ignore_patterns("__pycache__")
        folder = shutil.copytree(source, tmp_path / "project", ignore=ignore)
        server = serving(load_config(folder / "config" / "llm_config.toml"), str(tmp_path))
        asyncio.run_coroutine_threadsafe(server.start(), server_loop()).result(10)
        for program in (folder / "src").glob("*.py"):
            text = program.read_text()
            program.write_text(CLIENT.sub(lambda m: _served_line(m, server.endpoint), text))
            assert server.endpoint in program.read_text() or "connect" not in text, program
        yield folder
        rows = asyncio.run_coroutine_threadsafe(server.audit.page(0, 1_000), server_loop())
        answered = sum(event.values["kind"] == "call" for event in rows.result(10).events)
        assert answered == fake_llm.requests_seen, "the programs did not go through the server"
        asyncio.run_coroutine_threadsafe(server.close(0), server_loop()).result(10)

    return project
