"""Formats by name: built in, registered, installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aitoolman import LLMConfigError
from aitoolman._provider.formats import (
    AnthropicFormat,
    LLMFormatStrategy,
    OpenAICompatibleFormat,
    find_format,
    format_names,
    make_format,
    register_format,
)
from aitoolman._provider.formats.registry import _registered


class Mine(OpenAICompatibleFormat):
    name = "mine"


@pytest.fixture
def mine() -> Any:
    register_format("mine", Mine)
    yield
    del _registered["mine"]


def test_the_built_in_formats() -> None:
    """Each word in `type` has its class."""
    assert type(make_format("openai", {})) is OpenAICompatibleFormat
    assert type(make_format("llamacpp", {})) is OpenAICompatibleFormat
    assert type(make_format("anthropic", {})) is AnthropicFormat
    assert {"openai", "anthropic", "llamacpp"} <= set(format_names())


def test_a_registered_format_is_found(mine: None) -> None:
    """A strategy of one's own is made with the configuration."""
    made = make_format("mine", {"model": "m"})
    assert isinstance(made, Mine)
    assert made.config["model"] == "m"
    assert "mine" in format_names()


def test_an_unknown_format_names_the_near_ones() -> None:
    """The error is the configuration's, and says what was meant."""
    with pytest.raises(LLMConfigError, match=r"unknown format 'openia'; did you mean 'openai'"):
        make_format("openia", {})
    assert find_format("") is None


def test_an_installed_package_brings_a_format(tmp_path: Path) -> None:
    """The entry-point group `aitoolman.formats` is asked for an unknown name."""
    (tmp_path / "martian_format.py").write_text(
        "from aitoolman import OpenAICompatibleFormat\n"
        "class Martian(OpenAICompatibleFormat):\n    name = 'martian'\n"
    )
    info = tmp_path / "martian-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: martian\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[aitoolman.formats]\nmartian = martian_format:Martian\n"
    )
    code = (
        "from aitoolman._provider.formats import make_format, format_names\n"
        "print(make_format('martian', {'model': 'm'}).name, 'martian' in format_names())"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{root}"},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.stdout.split() == ["martian", "True"], done.stderr


def test_the_base_class_needs_seven_methods_only() -> None:
    """Everything else has a default, so that a small strategy works."""

    class Small(LLMFormatStrategy):
        def serialize_tool_description(self, tools_configs: Any) -> Any: ...
        def parse_tool_calls(self, tool_calls: Any) -> Any: ...
        def serialize_message(self, message: Any) -> Any: ...
        def make_request_body(self, request: Any) -> Any:
            return {"x": 1}

        def parse_batch_response(self, response: Any, response_data: Any) -> None: ...
        def parse_stream_event(self, response: Any, event: Any) -> Any: ...

    small = Small({"api_key": "k"})
    assert small.make_request(None) == ({"x": 1}, [])  # type: ignore[arg-type]
    assert small.request_headers() == {"Authorization": "Bearer k"}
    assert small.parse_error(400, "no").message == "no"


def test_importing_the_formats_is_cheap() -> None:
    """No HTTP library comes with them."""
    code = (
        "import sys, aitoolman._provider.formats as f; f.make_format('openai', {});"
        "f.make_format('anthropic', {});"
        "print([m for m in ('aiohttp', 'httpx', 'httpx_sse', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True,
        cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
