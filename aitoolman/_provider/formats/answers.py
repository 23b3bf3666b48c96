"""What answers of all vendors share: finish reasons, token counts, leaves of JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from ..._datamodel import FinishReason, LLMResponseFormatError
from ..._secrets import shorten

if TYPE_CHECKING:
    from ..._datamodel import LLMProviderResponse

__all__ = [
    "append_reasoning",
    "append_text",
    "apply_openai_usage",
    "count",
    "decode_json",
    "encode_json",
    "finish_word",
    "parse_arguments",
    "set_finish",
    "text_of",
]

_FINISH = {
    "stop": "stop", "end_turn": "stop", "stop_sequence": "stop", "eos": "stop", "eos_token": "stop",
    "complete": "stop", "completed": "stop", "end": "stop",
    "length": "length", "max_tokens": "length", "model_length": "length",
    "max_output_tokens": "length", "model_context_window_exceeded": "length",
    "tool_calls": "tool_calls", "tool_call": "tool_calls", "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter", "refusal": "content_filter", "safety": "content_filter",
    "sensitive": "content_filter", "recitation": "content_filter",
    "content_filtered": "content_filter", "prohibited_content": "content_filter",
    "blocklist": "content_filter", "spii": "content_filter",
    "error": "error", "insufficient_system_resource": "error", "abort": "error",
}  # fmt: skip


def finish_word(word: Any) -> str | None:
    """The `FinishReason` value for a vendor's word; None while the answer is not finished."""
    if word is None or word in ("", "null", "None"):
        return None
    return _FINISH.get(word.lower(), "unknown") if isinstance(word, str) else "unknown"


def set_finish(response: LLMProviderResponse, finish: str, word: Any) -> None:
    """Write the end into the response; a failure, or a word nobody knows, quotes the vendor."""
    response.finish_reason = finish
    if finish == FinishReason.error.value:
        response.error_text = f"the vendor ended the answer with {word!r}"
    elif finish == FinishReason.unknown.value:
        response.error_text = (
            "the vendor gave no reason for the answer's end"
            if word in (None, "", "null", "None")
            else f"the vendor ended the answer with {shorten(repr(word), 100)}, a reason not known"
        )


def count(value: Any) -> int | None:
    """A token count, or None for what is no count."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value < 1e15 else None


def apply_openai_usage(
    response: LLMProviderResponse, usage: Any, *, hidden_reasoning: bool = False
) -> None:
    """Take over the counts of a ``usage`` object; what it does not say stays as it was."""
    if not isinstance(usage, dict):
        return
    details = _table(usage, "completion_tokens_details")
    cached = _table(usage, "prompt_tokens_details").get("cached_tokens")
    if cached is None:
        cached = usage.get("prompt_cache_hit_tokens", usage.get("cached_tokens"))
    reasoning = count(details.get("reasoning_tokens", usage.get("reasoning_tokens")))
    prompt, total = count(usage.get("prompt_tokens")), count(usage.get("total_tokens"))
    completion = count(usage.get("completion_tokens"))
    completion, reasoning = _with_reasoning(prompt, completion, reasoning, total, hidden_reasoning)
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    _set(response, "prompt_tokens", prompt)
    _set(response, "completion_tokens", completion)
    _set(response, "cached_tokens", count(cached))
    _set(response, "reasoning_tokens", reasoning)
    _set(response, "total_tokens", total)


def _with_reasoning(
    prompt: int | None,
    completion: int | None,
    reasoning: int | None,
    total: int | None,
    hidden: bool,
) -> tuple[int | None, int | None]:
    """Completion tokens with the reasoning that some vendors count in the total alone."""
    if prompt is None or completion is None or total is None:
        return completion, reasoning
    missing = total - prompt - completion
    if missing > 0 and (hidden or missing == reasoning):
        return completion + missing, missing if reasoning is None else reasoning
    return completion, reasoning


def _table(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _set(response: LLMProviderResponse, name: str, value: int | None) -> None:
    if value is not None:
        setattr(response, name, value)


def append_text(response: LLMProviderResponse, text: str) -> None:
    """Append to ``response.response_text`` in constant time.

    The attribute lets go of the string first, so that CPython can grow it in place; ``+=`` on an
    attribute copies the whole text for every token.
    """
    whole = response.response_text
    response.response_text = ""
    whole += text
    response.response_text = whole


def append_reasoning(response: LLMProviderResponse, text: str) -> None:
    """The same for ``response.response_reasoning``."""
    whole = response.response_reasoning
    response.response_reasoning = ""
    whole += text
    response.response_reasoning = whole


def encode_json(value: Any) -> str:
    """Compact JSON text.

    Raises:
        LLMResponseFormatError: Nested too deeply, as only a hostile vendor does it.
    """
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError as exc:
        raise LLMResponseFormatError("the answer is nested too deeply") from exc


def decode_json(text: str) -> Any:
    """Any JSON, also with what strict readers refuse: NaN, lone surrogates (they become U+FFFD).

    Raises:
        ValueError: No JSON, or nested too deeply.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    except ValueError:
        pass
    try:
        return _clean(json.loads(text))
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_clean(v) for v in value]
    if isinstance(value, dict):
        return {_clean(k): _clean(v) for k, v in value.items()}
    return value


def parse_arguments(text: str) -> dict[str, Any] | None:
    """Tool arguments as a dict; None where the text is no JSON object. No text means none."""
    if not text.strip():
        return {}
    try:
        value = decode_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def text_of(value: Any, where: str) -> str:
    """A text leaf: a string, or nothing.

    Raises:
        LLMResponseFormatError: Neither a string nor null.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise LLMResponseFormatError(f"{where} is {type(value).__name__}, not text")
