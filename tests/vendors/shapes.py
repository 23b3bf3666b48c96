"""How OpenAI-like vendors differ from OpenAI, as data. Each entry names where it was seen.

``#`` numbers are GitHub issues; "unproved" marks what no page or issue was found for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["OPENAI_KEYS", "SHAPES", "Shape"]

# platform.openai.com/docs/api-reference/chat/create
OPENAI_KEYS = frozenset(
    """messages model audio frequency_penalty function_call functions logit_bias logprobs
    max_completion_tokens max_tokens metadata modalities n parallel_tool_calls prediction
    presence_penalty prompt_cache_key prompt_cache_retention reasoning_effort
    response_format safety_identifier seed service_tier stop store stream stream_options
    temperature tool_choice tools top_logprobs top_p user verbosity web_search_options""".split()
)
MESSAGE_KEYS = frozenset(
    """role content name tool_calls tool_call_id refusal audio function_call""".split()
)
# docs.mistral.ai/api: /v1/chat/completions
MISTRAL_KEYS = frozenset(
    """messages model frequency_penalty max_tokens metadata n parallel_tool_calls prediction
    presence_penalty prompt_mode random_seed reasoning_effort response_format safe_prompt
    stop stream temperature tool_choice tools top_p prefix""".split()
)


@dataclass(frozen=True)
class Shape:
    """One dialect, as its server speaks and listens."""

    name: str

    # What it says
    reasoning: str = "reasoning_content"
    """The field of reasoning; ``"<think>"``: it stays in the text; ``"parts"``: thinking parts in
    the content."""
    reasoning_details: bool = False
    tool_index: bool | None = True
    """False: tool-call deltas come without ``index``; None: it is 0 for all of them."""
    tool_ids: str = "once"
    """``"once"``, ``"repeat"`` (in each delta) or ``"none"``."""
    whole_calls: bool = False
    """True: a call comes in one delta."""
    usage: str = "own_chunk"
    """Where a stream's usage stands: ``"own_chunk"`` (empty choices), ``"last_chunk"`` (with the
    finish reason), ``"every_chunk"`` or ``"x_groq"``."""
    usage_unasked: bool = False
    """True: it comes without ``stream_options.include_usage``."""
    tool_finish: str = "tool_calls"
    nulls: bool = False
    """True: null where a list is promised, and fields that are not used."""
    done: bool = True
    comment: bytes = b""
    """Written before the first event and between events."""
    signature_field: bool = False
    """True: calls carry ``extra_content.google.thought_signature``, wanted back."""

    # What it refuses
    known_keys: frozenset[str] | None = None
    message_keys: frozenset[str] | None = None
    unknown_style: str = "openai"
    refuses_empty_tools: bool = False
    reasoning_back: str = "may"
    """``"must"``: 400 where an assistant turn lacks it; ``"never"``: 400 where one has it."""
    max_tokens_field: str | None = None
    """The only one it takes."""
    thinking_needs_stream: bool = False
    tool_id: str = ".*"
    """What the id of a tool call must match."""
    text_only: bool = False


_OPENAI = Shape(
    "openai",
    known_keys=OPENAI_KEYS,  # "Unknown parameter: 'reasoning'", open-responses-server#41
    message_keys=MESSAGE_KEYS,  # unproved for keys inside messages
    refuses_empty_tools=True,
    reasoning_back="never",
    tool_id=".{1,40}",  # autogen#6377, vercel/ai#5171
)

SHAPES = {
    shape.name: shape
    for shape in (
        _OPENAI,
        # reasoning models of OpenAI: 'max_tokens' is not supported with this model
        replace(_OPENAI, name="openai-reasoning", max_tokens_field="max_completion_tokens"),
        # api-docs.deepseek.com/guides/thinking_mode; hermes-agent#15353, continue#10193
        # rikkahub#1433: unknown variant `image_url`
        Shape(
            "deepseek",
            reasoning_back="must",
            usage="last_chunk",
            usage_unasked=True,
            nulls=True,
            text_only=True,
        ),
        # openrouter.ai/docs: comments, reasoning_details; openai-python#2722
        Shape(
            "openrouter",
            reasoning="reasoning",
            reasoning_details=True,
            comment=b": OPENROUTER PROCESSING\n\n",
            usage="own_chunk",
            usage_unasked=True,
            nulls=True,
        ),
        # ollama#15457 (index 0 for every call), docs.ollama.com/openai; the finish reason of tool
        # calls was "stop" in older servers (unproved)
        Shape(
            "ollama",
            reasoning="reasoning",
            whole_calls=True,
            tool_finish="stop",
            tool_index=None,
        ),
        # vllm#27755 (reasoning_content renamed), null lists in answers
        Shape("vllm", reasoning="reasoning", nulls=True),
        Shape("vllm-old", reasoning="reasoning_content", nulls=True),
        # tools/server/README.md of llama.cpp: reasoning_content, timings beside usage
        Shape("llamacpp", nulls=False),
        # servers that leave reasoning in the text: DeepSeek-R1#342
        Shape("think", reasoning="<think>"),
        # openai-python#2806 (no index), OpenMAIC#1556 (signature wanted back)
        Shape(
            "gemini",
            tool_index=False,
            whole_calls=True,
            usage="every_chunk",
            usage_unasked=True,
            signature_field=True,
            known_keys=OPENAI_KEYS | {"extra_body", "google"},
            unknown_style="gemini",
        ),
        # claude-code-router#948 (thinking needs a stream), earendil-works/pi#4926 (empty tools)
        Shape("qwen", tool_ids="repeat", refuses_empty_tools=True, thinking_needs_stream=True),
        # volcengine Ark: OpenAI-like with `thinking: {type}`, MaiBot#1044
        Shape("doubao", usage="own_chunk"),
        # crush#1590 (extra_forbidden), php-mistral#76, anon-kode#53 (stream_options), opencode#1680
        # (ids of nine letters and digits), spring-ai#5020 (thinking parts in the content);
        # docs.mistral.ai: whole calls, usage last
        Shape(
            "mistral",
            reasoning="parts",
            tool_id="[a-zA-Z0-9]{9}",
            whole_calls=True,
            usage="last_chunk",
            usage_unasked=True,
            known_keys=MISTRAL_KEYS,
            message_keys=MESSAGE_KEYS | {"prefix"},
            unknown_style="mistral",
            reasoning_back="never",
            refuses_empty_tools=True,
        ),
        # jan#8136 (reasoning_content unsupported); console.groq.com/docs: x_groq.usage, reasoning
        Shape(
            "groq",
            reasoning="reasoning",
            whole_calls=True,
            usage="x_groq",
            usage_unasked=True,
            known_keys=OPENAI_KEYS | {"reasoning_format", "include_reasoning"},
            message_keys=MESSAGE_KEYS | {"reasoning"},
            unknown_style="groq",
        ),
    )
}
