"""A kernel with the extension loaded and a scripted vendor behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..fake_llm import FakeLLM
from .kernels import Kernel

CANARY = "sk-canary-0123456789abcdef"

PROMPTS = """
[module_default]
model = "fast"

[module.summary]
description = "One sentence"
template.system = "Be brief."
template.user = "Summarise: {{ text }}"

[module.translate]
template.user = "{{ text }} in {{ language }}"

[module.fixed]
template.user = "Say something."
"""


def write_project(folder: Path, fake: FakeLLM, *, parallel: int = 10) -> None:
    """A provider and a prompt file for the scripted vendor, with a key that must never show."""
    (folder / "llm.toml").write_text(
        f"""
[default]
parallel = {parallel}
max_retries = 0
timeout = 20

[api.fast]
url = "{fake.openai_url}"
model = "fast-1"
api_key = "${{CANARY_KEY}}"

[api.slow]
url = "{fake.openai_url}"
model = "slow-1"
api_key = "${{CANARY_KEY}}"

[model_alias]
"Good-Model" = "slow"
"""
    )
    (folder / "prompts.toml").write_text(PROMPTS)


SETUP = """
%reset -f
%load_ext aitoolman
import asyncio, aitoolman
from aitoolman._loops import background
app = %llm_config llm.toml prompts.toml
"""


@pytest.fixture(scope="session")
def _kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kernel, Path]]:
    folder = tmp_path_factory.mktemp("kernel")
    with Kernel(folder, env={"CANARY_KEY": CANARY}) as kernel:
        yield kernel, folder


@pytest.fixture
def kernel(_kernel: tuple[Kernel, Path], fake_llm: FakeLLM) -> Iterator[Kernel]:
    """One kernel for all tests, configured anew for each; no cell of it may show the key."""
    running, folder = _kernel
    running.cells.clear()
    write_project(folder, fake_llm)
    running.run(
        "%unload_ext aitoolman\nfrom aitoolman._notebook import extension\n"
        "extension._sessions.clear()"
    )
    running.run(SETUP)
    yield running
    for cell in running.cells.values():
        assert CANARY not in cell.everything


@pytest.fixture
def folder(_kernel: tuple[Kernel, Path]) -> Path:
    """The working directory of `kernel`."""
    return _kernel[1]


NewKernel = Callable[..., Kernel]


@pytest.fixture
def new_kernel(tmp_path: Path, fake_llm: FakeLLM) -> Iterator[NewKernel]:
    """``new_kernel(parallel=, env=, python=)`` starts a kernel; no cell may show the key."""
    started: list[Kernel] = []

    def start(
        *, parallel: int = 10, env: dict[str, str] | None = None, setup: bool = True, **options: Any
    ) -> Kernel:
        write_project(tmp_path, fake_llm, parallel=parallel)
        made = Kernel(tmp_path, env={"CANARY_KEY": CANARY, **(env or {})}, **options)
        started.append(made)
        if setup:
            made.run(SETUP)
        return made

    yield start
    for one in started:
        one.__exit__()
    for one in started:
        for cell in one.cells.values():
            assert CANARY not in cell.everything
