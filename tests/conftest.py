"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from aitoolman._loops import background

from .fake_llm import FakeLLM

# How long an example takes is the machine's affair; every test has its own bound in seconds.
hypothesis.settings.register_profile("aitoolman", deadline=None)
hypothesis.settings.load_profile("aitoolman")

ROOT = Path(__file__).resolve().parent.parent
HOME_VARIABLES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")


@pytest.fixture(scope="session")
def _fake_server() -> Iterator[FakeLLM]:
    server = FakeLLM().start()
    yield server
    server.stop()


@pytest.fixture
def fake_llm(_fake_server: FakeLLM) -> Iterator[FakeLLM]:
    """The scripted vendor, clean; a script of the test's that raised fails the test."""
    _fake_server.reset()
    yield _fake_server
    assert not _fake_server.errors, "a script failed:\n" + "\n".join(_fake_server.errors)
    _fake_server.reset()


@pytest.fixture
def provider_config(fake_llm: FakeLLM) -> dict[str, Any]:
    """A provider configuration whose model ``fast`` is the scripted vendor. Change it freely."""
    return {
        "default": {"timeout": 5, "parallel": 10, "max_retries": 0},
        "api": {"fast": {"url": fake_llm.openai_url, "model": "fast-1", "api_key": "sk-test-key"}},
        "model_alias": {"default": "fast"},
    }


@pytest.fixture(autouse=True)
def _no_keys_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and settings of whoever runs the tests don't reach them."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL")) or name.startswith("AITOOLMAN_"):
            monkeypatch.delenv(name)


@pytest.fixture
def isolated_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, for this process and the ones it starts."""
    home = tmp_path / "home"
    home.mkdir()
    for name in HOME_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """Fails the test when it leaves a task, or a thread besides the one background loop's."""
    threads = set(threading.enumerate())
    tasks = asyncio.all_tasks()
    old = await _background_tasks()
    yield
    await _until(lambda: asyncio.all_tasks() <= tasks | {_current()}, "tasks left on the loop")
    end = time.monotonic() + 3
    while left := await _background_tasks() - old:
        assert time.monotonic() < end, f"tasks left on the background loop: {left}"
        await asyncio.sleep(0.01)
    await _until(lambda: not _library_threads() - threads, "threads left")


def _current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _library_threads() -> set[threading.Thread]:
    """Threads of the library, the background loop's apart."""
    ours = (t for t in threading.enumerate() if t.name.startswith("aitoolman"))
    return {t for t in ours if t.name != "aitoolman-loop"}


async def _background_tasks() -> set[asyncio.Task[Any]]:
    loop = background.running
    if loop is None or loop.is_closed():
        return set()

    async def others() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - {_current()}

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(others(), loop))


async def _until(condition: Callable[[], bool], what: str, timeout: float = 3.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        shown = [repr(t) for t in asyncio.all_tasks() if t is not _current()]
        assert time.monotonic() < end, f"{what}: {shown + [t.name for t in _library_threads()]}"
        await asyncio.sleep(0.01)


RunScript = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_script(tmp_path: Path) -> RunScript:
    """``run_script(path, *arguments, cwd=, env=, timeout=)`` runs a Python file in its own process.

    It gives the completed process with its text output; a warning there is an error, too.
    """

    def run(
        path: str | Path,
        *arguments: str,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 15,
    ) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
        return subprocess.run(
            [sys.executable, "-W", "error", str(path), *arguments],
            cwd=cwd or tmp_path,
            env={**os.environ, "PYTHONPATH": paths, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
