"""The vendors' quirks as data. docs/dialects.md is generated from this table."""

from __future__ import annotations

from typing import Any

from .dialect import Dialect, Fact

__all__ = ["DIALECTS"]

_FOREIGN_TO_OPENAI = (
    "top_k", "min_p", "repetition_penalty", "enable_thinking", "thinking", "thinking_budget",
    "chat_template_kwargs", "num_ctx", "reasoning", "include_reasoning",
)  # fmt: skip


def _dialect(name: str, *hosts: str, format: str = "openai", **facts: Fact) -> Dialect:  # noqa: A002
    values: dict[str, Any] = {key: fact.value for key, fact in facts.items()}
    return Dialect(name=name, format=format, hosts=hosts, evidence=facts, **values)  # type: ignore[arg-type]


_ALL = (
    _dialect("generic"),
    _dialect(
        "openai",
        "api.openai.com",
        "openai.azure.com",
        reasoning_out=Fact("", "https://platform.openai.com/docs/api-reference/chat/create"),
        send_reasoning=Fact("must_not", "TypeWhisper/typewhisper-win#343"),
        think_tags=Fact("off", "https://platform.openai.com/docs/guides/reasoning"),
        tool_index=Fact("given", "https://platform.openai.com/docs/guides/function-calling"),
        max_tokens_field=Fact(
            "max_completion_tokens", "https://platform.openai.com/docs/api-reference/chat/create"
        ),
        refused_fields=Fact(_FOREIGN_TO_OPENAI, "TypeWhisper/typewhisper-win#343"),
        system_roles=Fact(
            ("system", "developer"), "https://platform.openai.com/docs/api-reference/chat/create"
        ),
        message_extras=Fact((), "https://platform.openai.com/docs/api-reference/chat/streaming"),
        media_types=Fact(
            ("image", "audio", "document"),
            "https://platform.openai.com/docs/api-reference/chat/create",
        ),
    ),
    _dialect(
        "anthropic",
        "api.anthropic.com",
        format="anthropic",
        reasoning_in=Fact(
            ("thinking",), "https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking"
        ),
        reasoning_out=Fact(
            "thinking", "https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking"
        ),
        send_reasoning=Fact("may", "RooCodeInc/Roo-Code#10351, NousResearch/hermes-agent#24107"),
        signed_thinking=Fact(
            True, "https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking"
        ),
        think_tags=Fact(
            "off", "https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking"
        ),
        tool_index=Fact("given", "https://docs.anthropic.com/en/docs/build-with-claude/streaming"),
        stream_usage=Fact(False, "https://docs.anthropic.com/en/docs/build-with-claude/streaming"),
        max_tokens_field=Fact("max_tokens", "https://docs.anthropic.com/en/api/messages"),
        default_max_tokens=Fact(4096, "https://docs.anthropic.com/en/api/messages"),
    ),
    _dialect("anthropic-compatible", format="anthropic"),
    _dialect("deepseek", "api.deepseek.com"),
    _dialect("openrouter", "openrouter.ai"),
    _dialect("ollama", ":11434"),
    _dialect("vllm"),
    _dialect("llamacpp"),
    _dialect("gemini", "generativelanguage.googleapis.com"),
    _dialect("qwen", "dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"),
    _dialect("doubao", "volces.com"),
    _dialect("mistral", "api.mistral.ai"),
    _dialect("groq", "api.groq.com"),
)

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in _ALL}
"""Every dialect by name. ``generic`` stands for an unknown OpenAI-compatible endpoint."""
