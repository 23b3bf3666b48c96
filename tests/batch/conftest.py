"""An application over the scripted vendor, in a folder of its own."""

from __future__ import annotations

import contextlib

import pytest

import aitoolman


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Ledgers land in the test's own folder."""
    monkeypatch.chdir(tmp_path)


PROMPTS = {
    "module": {
        "ask": {"model": "fast", "template": {"user": "Q: {{ text }}"}},
        "two": {"model": "fast", "template": {"user": "{{ greeting }} {{ name }}"}},
        "parts": {
            "model": "fast",
            "post_processor": "parse_json",
            "template": {"user": "{{ text }}"},
        },
    }
}


@pytest.fixture
def make_app(provider_config):
    """``async with make_app(processors=..., prompts=..., parallel=..., price=...) as app``."""

    @contextlib.asynccontextmanager
    async def make(*, processors=None, prompts=PROMPTS, price=None, **default):
        config = {**provider_config, "default": {**provider_config["default"], **default}}
        if price:
            config["api"] = {"fast": {**config["api"]["fast"], "price": price}}
        async with aitoolman.LLMLocalClient(config) as client:
            yield aitoolman.LLMApplication(client, prompts, processors)

    return make
