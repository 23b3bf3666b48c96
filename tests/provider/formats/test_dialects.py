"""The dialect table: recognized, overridden, documented."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aitoolman import LLMConfigError
from aitoolman._provider.formats import DIALECTS, make_format
from aitoolman._provider.formats.dialect import Fact, quirk_doc, quirk_names
from aitoolman._provider.formats.dialects import dialect_problems

from .dialect_table import PAGE, render


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1/chat/completions", "openai"),
        ("https://me.openai.azure.com/openai/deployments/x/chat/completions", "openai"),
        ("https://api.deepseek.com/chat/completions", "deepseek"),
        ("https://openrouter.ai/api/v1/chat/completions", "openrouter"),
        ("http://localhost:11434/v1/chat/completions", "ollama"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "gemini"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions", "qwen"),
        ("https://ark.cn-beijing.volces.com/api/v3/chat/completions", "doubao"),
        ("https://api.mistral.ai/v1/chat/completions", "mistral"),
        ("https://API.groq.com/openai/v1/chat/completions", "groq"),
        ("http://127.0.0.1:8000/v1/chat/completions", "generic"),
        ("https://evil-api.openai.com.example.org/v1", "generic"),
        ("https://notopenrouter.ai/v1", "generic"),
        ("http://[broken", "generic"),
        ("", "generic"),
        (None, "generic"),
    ],
)
def test_a_dialect_is_recognized_by_its_host(url: str | None, name: str) -> None:
    """Hosts with their subdomains, Ollama by its port; all else is generic."""
    assert make_format("openai", {"model": "m", "url": url}).dialect.name == name  # type: ignore[attr-defined]


def test_a_dialect_is_recognized_by_its_type_or_named() -> None:
    """`type` says it for the embedded model and Anthropic; `dialect` wins over the host."""

    def name(kind: str, **config: Any) -> str:
        found: str = make_format(kind, {"model": "m", **config}).dialect.name  # type: ignore[attr-defined]
        return found

    assert name("llamacpp") == "llamacpp"
    assert name("anthropic", url="http://127.0.0.1:1/v1/messages") == "anthropic"
    assert name("openai", url="https://api.groq.com/x", dialect="vllm") == "vllm"


def test_quirks_override_key_by_key() -> None:
    """One quirk changes, the others stay the dialect's."""
    config = {"dialect": "deepseek", "quirks": {"send_reasoning": "may"}}
    dialect = make_format("openai", config).dialect  # type: ignore[attr-defined]
    assert dialect.send_reasoning == "may"
    assert dialect.max_tokens_field == "max_tokens"
    assert (dialect.name, dialect.hosts) == ("deepseek", ("api.deepseek.com",))


@pytest.mark.parametrize(
    ("config", "key", "words"),
    [
        ({"dialect": "depseek"}, "dialect", "unknown dialect 'depseek'; did you mean 'deepseek'"),
        ({"dialect": "anthropic"}, "dialect", "is a dialect of type 'anthropic'"),
        ({"quirks": {"send_reasonin": "may"}}, "quirks.send_reasonin", "mean 'send_reasoning'"),
        ({"quirks": {"send_reasoning": "maybe"}}, "quirks.send_reasoning", "`must_not`"),
        ({"quirks": {"reasoning_in": "reasoning"}}, "quirks.reasoning_in", "Expected `array`"),
        ({"quirks": {"stream_usage": 3}}, "quirks.stream_usage", "Expected `bool`"),
        ({"quirks": {"tool_id_pattern": 3}}, "quirks.tool_id_pattern", "Expected `str`"),
        ({"quirks": {"tool_id_pattern": "["}}, "quirks.tool_id_pattern", "regular expression"),
    ],
)
def test_a_wrong_dialect_or_quirk_is_a_configuration_error(
    config: dict[str, Any], key: str, words: str
) -> None:
    """The error names the key, what is wrong, and what is near."""
    with pytest.raises(LLMConfigError) as caught:
        make_format("openai", {"model": "m", **config})
    assert caught.value.problems[0].key == key
    assert words in caught.value.problems[0].message


def test_all_mistakes_are_found_before_anything_is_sent() -> None:
    """A client's construction can ask for every mistake of an entry at once."""
    config = {"quirks": {"send_reasoning": "maybe", "think_tag": "off", "stream_usage": True}}
    found = [problem.key for problem in dialect_problems(config)]
    assert found == ["quirks.send_reasoning", "quirks.think_tag"]
    assert dialect_problems({"type": "llamacpp", "quirks": {"stream_usage": False}}) == []
    assert dialect_problems({"type": "of-ones-own", "dialect": "anything"}) == []


def test_all_the_vendors_asked_for_are_there() -> None:
    """The table has a row for each."""
    assert set(DIALECTS) >= {
        "openai", "anthropic", "deepseek", "openrouter", "ollama", "vllm", "llamacpp", "gemini",
        "qwen", "doubao", "mistral", "groq", "generic",
    }  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda d: d.name)
def test_every_value_that_differs_has_its_source(dialect: Any) -> None:
    """No quirk without a page, an issue or the word unproved; values are of the right type."""
    defaults = DIALECTS["generic"]
    for name in quirk_names():
        fact = dialect.evidence.get(name)
        assert fact is not None or getattr(dialect, name) == getattr(defaults, name)
        assert fact is None or (isinstance(fact, Fact) and fact.source)
    msgspec.convert(msgspec.to_builtins({k: getattr(dialect, k) for k in quirk_names()}), dict)


def test_every_quirk_is_explained() -> None:
    """Each field of a dialect has its sentence."""
    fields = {f.name for f in msgspec.structs.fields(DIALECTS["generic"])}
    assert fields - {"name", "format", "hosts", "evidence"} == set(quirk_names())
    assert all(len(quirk_doc(name)) > 20 for name in quirk_names())


def test_the_page_is_up_to_date() -> None:
    """docs/dialects.md is what the data says (`python -m tests.provider.formats.dialect_table`)."""
    assert PAGE.read_text(encoding="utf-8") == render()
