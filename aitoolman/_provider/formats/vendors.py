"""The vendors' quirks as data. docs/dialects.md is generated from this table."""

from __future__ import annotations

from typing import Any

from .dialect import Dialect, Fact

__all__ = ["DIALECTS"]

_OPENAI = "https://platform.openai.com/docs/api-reference/chat/create"
_ANTHROPIC = "https://platform.claude.com/docs/en/api/messages"
_THINKING = "https://platform.claude.com/docs/en/build-with-claude/extended-thinking"
_DEEPSEEK = "https://api-docs.deepseek.com/api/create-chat-completion"
_MISTRAL = "https://docs.mistral.ai/api/endpoint/chat"
_GROQ = "https://console.groq.com/docs/reasoning"
_QWEN = "https://www.alibabacloud.com/help/en/model-studio/deep-thinking"
_OPENROUTER = "https://openrouter.ai/docs/use-cases/reasoning-tokens"

# What other vendors add to the request, and a strict one refuses as unknown.
_OTHERS_FIELDS = (
    "top_k", "min_p", "repetition_penalty", "enable_thinking", "thinking", "thinking_budget",
    "chat_template_kwargs", "num_ctx", "include_reasoning",
)  # fmt: skip


def _dialect(name: str, *hosts: str, kind: str = "openai", **facts: Fact) -> Dialect:
    values: dict[str, Any] = {key: fact.value for key, fact in facts.items()}
    return Dialect(name=name, format=kind, hosts=hosts, evidence=facts, **values)  # type: ignore[arg-type]


_ALL = (
    _dialect("generic"),
    _dialect(
        "openai",
        "api.openai.com",
        "openai.azure.com",
        reasoning_out=Fact("", _OPENAI),
        send_reasoning=Fact(
            "must_not", "no message field of this kind is documented", proved=False
        ),
        think_tags=Fact("off", "https://platform.openai.com/docs/guides/reasoning"),
        tool_index=Fact("given", "https://platform.openai.com/docs/guides/function-calling"),
        stream_usage=Fact(True, _OPENAI),
        max_tokens_field=Fact("max_completion_tokens", _OPENAI),
        refused_fields=Fact(
            (*_OTHERS_FIELDS, "reasoning"), "TypeWhisper/typewhisper-win#343, " + _OPENAI
        ),
        system_roles=Fact(("system", "developer"), _OPENAI),
        message_extras=Fact((), "https://platform.openai.com/docs/api-reference/chat/streaming"),
        media_types=Fact(("image", "audio", "document"), _OPENAI),
        tool_name_pattern=Fact(r"[a-zA-Z0-9_-]{1,64}", _OPENAI),
        tool_id_pattern=Fact(r".{1,40}", "microsoft/autogen#6377, vercel/ai#5171"),
    ),
    _dialect(
        "anthropic",
        "api.anthropic.com",
        kind="anthropic",
        reasoning_in=Fact(("thinking",), _THINKING),
        reasoning_out=Fact("thinking", _THINKING),
        send_reasoning=Fact("may", "RooCodeInc/Roo-Code#10351, NousResearch/hermes-agent#24107"),
        signed_thinking=Fact(True, _THINKING),
        think_tags=Fact("off", _THINKING),
        tool_index=Fact("given", "https://platform.claude.com/docs/en/build-with-claude/streaming"),
        stream_usage=Fact(False, "https://platform.claude.com/docs/en/build-with-claude/streaming"),
        max_tokens_field=Fact("max_tokens", _ANTHROPIC),
        default_max_tokens=Fact(4096, _ANTHROPIC),
        renamed_fields=Fact({"stop": "stop_sequences"}, _ANTHROPIC),
        refused_fields=Fact(
            (
                "frequency_penalty",
                "presence_penalty",
                "logit_bias",
                "logprobs",
                "top_logprobs",
                "n",
                "seed",
                "response_format",
                "stream_options",
                "reasoning_effort",
                *(name for name in _OTHERS_FIELDS if name not in ("top_k", "thinking")),
            ),
            _ANTHROPIC,
        ),
        message_extras=Fact((), _ANTHROPIC),
        media_types=Fact(("image", "document"), _ANTHROPIC),
        tool_name_pattern=Fact(
            r"[a-zA-Z0-9_-]{1,128}", "modelcontextprotocol/modelcontextprotocol#1345"
        ),
        tool_id_pattern=Fact(r"[a-zA-Z0-9_-]+", "seen as a 400 of the API", proved=False),
    ),
    _dialect(
        "anthropic-compatible",
        kind="anthropic",
        reasoning_in=Fact(("thinking",), "ggml-org/llama.cpp#20120"),
        reasoning_out=Fact("thinking", "ggml-org/llama.cpp#20120"),
        signed_thinking=Fact(False, "ggml-org/llama.cpp#20120, leookun/cursor-byok#276"),
        stream_usage=Fact(False, "https://platform.claude.com/docs/en/build-with-claude/streaming"),
        max_tokens_field=Fact("max_tokens", _ANTHROPIC),
        default_max_tokens=Fact(4096, _ANTHROPIC),
        renamed_fields=Fact({"stop": "stop_sequences"}, _ANTHROPIC),
        message_extras=Fact((), _ANTHROPIC),
        media_types=Fact(("image", "document"), _ANTHROPIC),
        tool_id_pattern=Fact(r"[a-zA-Z0-9_-]+", "as Anthropic", proved=False),
    ),
    _dialect(
        "deepseek",
        "api.deepseek.com",
        reasoning_in=Fact(
            ("reasoning_content", "reasoning"),
            "https://api-docs.deepseek.com/guides/thinking_mode",
        ),
        reasoning_out=Fact(
            "reasoning_content", "https://api-docs.deepseek.com/guides/thinking_mode"
        ),
        send_reasoning=Fact(
            "must", "NousResearch/hermes-agent#15353, continuedev/continue#10193, opencode#24722"
        ),
        think_tags=Fact("leading", "deepseek-ai/DeepSeek-R1#342"),
        stream_usage=Fact(True, _DEEPSEEK),
        max_tokens_field=Fact("max_tokens", _DEEPSEEK),
        null_lists=Fact(("tool_calls",), "seen in answers", proved=False),
        media_types=Fact((), "rikkahub/rikkahub#1433, nextcloud/integration_openai#284"),
    ),
    _dialect(
        "openrouter",
        "openrouter.ai",
        reasoning_in=Fact(("reasoning", "reasoning_content"), _OPENROUTER),
        reasoning_out=Fact("reasoning", _OPENROUTER),
        message_extras=Fact(
            ("reasoning_details", "annotations", "images"),
            _OPENROUTER + ", RooCodeInc/Roo-Code#9506",
        ),
        stream_usage=Fact(True, "https://openrouter.ai/docs/use-cases/usage-accounting"),
        null_lists=Fact(("tool_calls", "choices"), "diegosouzapw/OmniRoute#8210", proved=False),
        tool_id_pattern=Fact(r".{1,40}", "openclaw/openclaw#875"),
    ),
    _dialect(
        "ollama",
        ":11434",
        reasoning_in=Fact(
            ("reasoning", "reasoning_content"), "dirac-run/dirac#227, ollama/ollama#13175"
        ),
        reasoning_out=Fact("reasoning", "as it comes", proved=False),
        think_tags=Fact("leading", "ollama/ollama#9137"),
        tool_index=Fact("guess", "ollama/ollama#7881, ollama/ollama#15457"),
        stream_usage=Fact(True, "https://docs.ollama.com/openai"),
        max_tokens_field=Fact("max_tokens", "https://docs.ollama.com/openai"),
        refused_fields=Fact(("num_ctx",), "ollama/ollama#5902 (ignored without a word)"),
    ),
    _dialect(
        "vllm",
        reasoning_in=Fact(("reasoning", "reasoning_content"), "vllm-project/vllm#27755"),
        reasoning_out=Fact("reasoning", "vllm-project/vllm#38488, opencode#30477"),
        think_tags=Fact("leading", "https://docs.vllm.ai/en/latest/features/reasoning_outputs/"),
        stream_usage=Fact(True, "https://docs.vllm.ai/en/latest/serving/openai_compatible_server"),
        null_lists=Fact(("tool_calls",), "null in answers without calls", proved=False),
        part_options=Fact(("cache_control", "uuid"), "vLLM's multimodal page", proved=False),
    ),
    _dialect(
        "llamacpp",
        reasoning_in=Fact(("reasoning_content", "reasoning"), "openai-php/client#780"),
        reasoning_out=Fact("reasoning_content", "ggml-org/llama.cpp#18994"),
        think_tags=Fact("leading", "ggml-org/llama.cpp#23320 (reasoning_format none)"),
        stream_usage=Fact(True, "ggml-org/llama.cpp:tools/server/README.md"),
    ),
    _dialect(
        "gemini",
        "generativelanguage.googleapis.com",
        send_reasoning=Fact("must_not", "unknown names give 400", proved=False),
        think_tags=Fact("off", "https://ai.google.dev/gemini-api/docs/openai", proved=False),
        tool_index=Fact("guess", "openai/openai-python#2806, openai/openai-python#3178"),
        message_extras=Fact(("extra_content",), "THU-MAIC/OpenMAIC#1556"),
        foreign_call_extra=Fact(
            {
                "extra_content": {
                    "google": {"thought_signature": "skip_thought_signature_validator"}
                }
            },
            "https://ai.google.dev/gemini-api/docs/thought-signatures, "
            "strands-agents/sdk-python#1298",
        ),
        hidden_reasoning_usage=Fact(True, "Clarifai/clarifai-python#978"),
        refused_fields=Fact(
            (*_OTHERS_FIELDS, "reasoning", "logit_bias", "parallel_tool_calls"),
            "unknown names give 400",
            proved=False,
        ),
        stream_usage=Fact(True, "https://ai.google.dev/gemini-api/docs/openai"),
    ),
    _dialect(
        "qwen",
        "dashscope.aliyuncs.com",
        "dashscope-intl.aliyuncs.com",
        "dashscope-us.aliyuncs.com",
        reasoning_in=Fact(("reasoning_content", "reasoning"), _QWEN),
        think_tags=Fact("leading", "open models served elsewhere", proved=False),
        tool_index=Fact("guess", "ids repeated in each delta", proved=False),
        stream_usage=Fact(True, _QWEN),
        stream_only_fields=Fact(
            ("enable_thinking", "thinking_budget"),
            "musistudio/claude-code-router#948, QwenLM/Qwen-Agent#941",
        ),
        part_options=Fact(
            ("cache_control", "fps", "min_pixels", "max_pixels", "total_pixels"),
            "https://www.alibabacloud.com/help/en/model-studio/vision",
            proved=False,
        ),
    ),
    _dialect(
        "doubao",
        "volces.com",
        "bytepluses.com",
        reasoning_in=Fact(
            ("reasoning_content", "reasoning"), "Mai-with-u/MaiBot#1044", proved=False
        ),
        send_reasoning=Fact("may", "neither asked for nor refused", proved=False),
        stream_usage=Fact(True, "https://docs.byteplus.com/en/docs/Byteplus_LAS/Chat_API"),
        max_tokens_field=Fact(
            "any",
            "https://docs.byteplus.com/en/docs/Byteplus_LAS/Chat_API "
            "(max_completion_tokens counts reasoning, max_tokens does not)",
        ),
    ),
    _dialect(
        "mistral",
        "api.mistral.ai",
        reasoning_out=Fact("thinking_part", "spring-projects/spring-ai#5020"),
        send_reasoning=Fact("must_not", "charmbracelet/crush#1590 (other than in raw messages)"),
        think_tags=Fact("off", _MISTRAL, proved=False),
        stream_usage=Fact(False, "dnakov/anon-kode#53"),
        max_tokens_field=Fact("max_tokens", "editor-code-assistant/eca#231"),
        renamed_fields=Fact({"seed": "random_seed"}, _MISTRAL),
        refused_fields=Fact(
            (
                *_OTHERS_FIELDS,
                "reasoning",
                "stream_options",
                "logit_bias",
                "logprobs",
                "top_logprobs",
                "user",
                "service_tier",
                "store",
            ),
            "mistralai/platform-docs-public#7, dnakov/anon-kode#53, " + _MISTRAL,
        ),
        message_extras=Fact((), _MISTRAL),
        tool_id_pattern=Fact(r"[a-zA-Z0-9]{9}", "anomalyco/opencode#1680, karthink/gptel#1203"),
    ),
    _dialect(
        "groq",
        "api.groq.com",
        reasoning_in=Fact(("reasoning", "reasoning_content"), _GROQ),
        reasoning_out=Fact("reasoning", _GROQ),
        send_reasoning=Fact(
            "must_not", "janhq/jan#8136, vercel/ai#8057 (models without reasoning refuse it)"
        ),
        think_tags=Fact("leading", _GROQ + ", SilasMarvin/lsp-ai#114"),
        stream_usage=Fact(True, "https://console.groq.com/docs/api-reference"),
        refused_fields=Fact(
            (
                *(name for name in _OTHERS_FIELDS if name != "include_reasoning"),
                "logit_bias",
                "logprobs",
                "top_logprobs",
            ),
            "https://console.groq.com/docs/openai, musistudio/claude-code-router#1204",
        ),
        message_extras=Fact((), "https://console.groq.com/docs/api-reference"),
    ),
)

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in _ALL}
"""Every dialect by name. ``generic`` stands for an unknown OpenAI-compatible endpoint."""
