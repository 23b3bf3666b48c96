"""tests/batch/test_run.py through a server."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import aitoolman

from ..batch.conftest import PROMPTS, _own_folder  # noqa: F401 - a fixture
from .served import ServedClient, rerun

globals().update(rerun("tests.batch.test_run"))


@pytest.fixture
def make_app(provider_config: dict[str, Any]) -> Any:
    """The batch suite's `make_app`, its client a server's."""

    @contextlib.asynccontextmanager
    async def make(*, processors=None, prompts=PROMPTS, price=None, **default):  # type: ignore[no-untyped-def]
        config = {**provider_config, "default": {**provider_config["default"], **default}}
        if price:
            config["api"] = {"fast": {**config["api"]["fast"], "price": price}}
        async with ServedClient(config) as client:
            yield aitoolman.LLMApplication(client, prompts, processors)

    return make
