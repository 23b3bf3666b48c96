"""Anthropic's Messages API: what it refuses, its answers, its streams.

Sources: platform.claude.com/docs/en/api/messages (fields), .../api/errors, .../build-with-claude/
extended-thinking (signatures), .../agents-and-tools/tool-use/implement-tool-use (results first).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .openai import Answering
from .reply import Refused

__all__ = ["check", "error_body", "events", "rate_headers", "signature", "whole"]

KEYS = frozenset(
    """model messages max_tokens cache_control container context_management inference_geo
    mcp_servers metadata output_config service_tier stop_sequences stream system temperature
    thinking tool_choice tools top_k top_p""".split()
)
_BLOCK_KEYS = {
    "text": {"text", "citations"},
    "image": {"source"},
    "document": {"source", "title", "context", "citations"},
    "tool_use": {"id", "name", "input", "caller"},
    "tool_result": {"tool_use_id", "content", "is_error"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
}
_SOURCE_KEYS = {
    "base64": {"media_type", "data"},
    "url": {"url"},
    "file": {"file_id"},
    "text": {"media_type", "data"},
    "content": {"content"},
}
_TOOL_NAME = "[a-zA-Z0-9_-]{1,128}"
_CALL_ID = "[a-zA-Z0-9_-]+"
_ASSISTANT_ONLY = {"tool_use", "thinking", "redacted_thinking"}
_USER_ONLY = {"image", "document", "tool_result"}


def signature(thinking: str) -> str:
    """What this server signs a thinking text with; no memory is needed, a restart does no harm."""
    return "Er" + hashlib.sha256(b"fake-anthropic" + thinking.encode()).hexdigest()


# What is refused


def check(body: Any, headers: Mapping[str, str]) -> None:
    """Refuse what the vendor refuses."""
    if "anthropic-version" not in headers:
        raise Refused(400, "anthropic-version: header is required")
    if not isinstance(body, dict):
        raise Refused(400, "The request body is not valid JSON")
    for key in body:
        if key not in KEYS:
            raise Refused(400, f"{key}: Extra inputs are not permitted")
    for key in ("model", "messages", "max_tokens"):
        if key not in body:
            raise Refused(400, f"{key}: Field required")
    _check_options(body)
    _check_tools(body.get("tools"))
    _check_turns(body["messages"])
    for place, message in enumerate(body["messages"]):
        _check_content(place, message)
    _check_results(body["messages"])
    _check_prefill(body["messages"][-1])
    _check_thinking_start(body)


def _check_options(body: dict[str, Any]) -> None:
    limit = body["max_tokens"]
    if type(limit) is not int or limit < 1:
        raise Refused(400, "max_tokens: Input should be greater than or equal to 1")
    system = body.get("system", "")
    if not isinstance(system, (str, list)):
        raise Refused(400, "system: Input should be a valid string")
    if isinstance(system, list) and any(not block.get("text") for block in system):
        raise Refused(400, "system: text content blocks must be non-empty")
    thinking = body.get("thinking") or {}
    if thinking.get("type") == "enabled":
        _check_thinking_options(body, thinking)


def _check_thinking_options(body: dict[str, Any], thinking: dict[str, Any]) -> None:
    budget = thinking.get("budget_tokens", 0)
    if budget < 1024:
        raise Refused(400, "thinking.enabled.budget_tokens: Input should be at least 1024")
    if budget >= body["max_tokens"]:
        raise Refused(400, "`max_tokens` must be greater than `thinking.budget_tokens`.")
    if body.get("temperature", 1) != 1:
        raise Refused(400, "`temperature` may only be set to 1 when thinking is enabled.")


def _check_tools(tools: Any) -> None:
    for place, tool in enumerate(tools or ()):
        if "type" in tool and tool["type"] != "custom":
            continue  # a tool of the vendor's own
        for key in ("name", "input_schema"):
            if key not in tool:
                raise Refused(400, f"tools.{place}.custom.{key}: Field required")
        if not re.fullmatch(_TOOL_NAME, tool["name"]):  # modelcontextprotocol#1345
            raise Refused(
                400, f"tools.{place}.custom.name: String should match pattern '^{_TOOL_NAME}$'"
            )
        if tool["input_schema"].get("type") != "object":
            raise Refused(400, f"tools.{place}.custom.input_schema.type: Field required")
        known = {"name", "description", "input_schema", "type", "cache_control", "strict"}
        for key in tool.keys() - known:
            raise Refused(400, f"tools.{place}.custom.{key}: Extra inputs are not permitted")


def _check_turns(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages: at least one message is required")
    roles = [m.get("role") for m in messages]
    for place, (message, role) in enumerate(zip(messages, roles, strict=True)):
        if role not in ("user", "assistant"):
            raise Refused(400, f'messages: Unexpected role "{role}".')
        for key in message.keys() - {"role", "content"}:
            raise Refused(400, f"messages.{place}.{key}: Extra inputs are not permitted")
    if roles[0] != "user":
        raise Refused(400, 'messages: first message must use the "user" role')
    for before, after in itertools.pairwise(roles):
        if before == after:  # baibot#13; newer models join such turns instead
            raise Refused(
                400,
                'messages: roles must alternate between "user" and "assistant", but found'
                f' multiple "{after}" roles in a row',
            )


def blocks_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def _check_content(place: int, message: dict[str, Any]) -> None:
    where = f"messages.{place}"
    if not blocks_of(message):
        raise Refused(400, f"{where}: all messages must have non-empty content")
    for number, block in enumerate(blocks_of(message)):
        _check_block(f"{where}.content.{number}", block, message["role"])


def _check_prefill(last: dict[str, Any]) -> None:
    if last["role"] == "assistant":
        text = blocks_of(last)[-1].get("text", "")
        if text != text.rstrip():
            raise Refused(
                400, "messages: final assistant content cannot end with trailing whitespace"
            )


def _check_block(where: str, block: dict[str, Any], role: str) -> None:
    kind = block.get("type")
    if kind not in _BLOCK_KEYS:
        raise Refused(400, f"{where}: Input tag '{kind}' found using 'type' is not known")
    if kind in (_USER_ONLY if role == "assistant" else _ASSISTANT_ONLY):
        raise Refused(400, f"{where}: `{kind}` blocks are not allowed in `{role}` messages")
    for key in block.keys() - _BLOCK_KEYS[kind] - {"type", "cache_control"}:
        raise Refused(400, f"{where}.{kind}.{key}: Extra inputs are not permitted")
    if kind == "text" and not block.get("text", "").strip():
        raise Refused(400, "messages: text content blocks must contain non-whitespace text")
    if kind in ("image", "document"):
        _check_source(where, kind, block.get("source"))
    if kind == "thinking":
        _check_thinking(where, block)
    if kind == "redacted_thinking" and not block.get("data"):
        raise Refused(400, f"{where}: Invalid `data` in `redacted_thinking` block")
    if kind == "tool_use" and not (block.get("id") and isinstance(block.get("input"), dict)):
        raise Refused(400, f"{where}.tool_use.input: Input should be a valid dictionary")
    if kind == "tool_use" and not re.fullmatch(_CALL_ID, block["id"]):  # unproved
        raise Refused(400, f"{where}.tool_use.id: String should match pattern '^{_CALL_ID}$'")


def _check_source(where: str, kind: str, source: Any) -> None:
    tag = source.get("type") if isinstance(source, dict) else None
    if tag not in _SOURCE_KEYS:
        raise Refused(400, f"{where}.{kind}.source: Input tag '{tag}' is not known")
    if source.keys() - {"type"} != _SOURCE_KEYS[tag]:
        raise Refused(400, f"{where}.{kind}.source.{tag}: wrong fields {sorted(source)}")


def _check_thinking(where: str, block: dict[str, Any]) -> None:
    if "signature" not in block:
        raise Refused(400, f"{where}.thinking.signature: Field required")
    if block["signature"] != signature(block.get("thinking", "")):
        raise Refused(400, f"{where}: Invalid `signature` in `thinking` block")


def _check_results(messages: list[dict[str, Any]]) -> None:
    """Results follow their calls at once, first in the next turn, each id once."""
    asked: list[str] = []
    for place, message in enumerate(messages):
        blocks = blocks_of(message)
        answered = [b.get("tool_use_id") for b in blocks if b["type"] == "tool_result"]
        for given in answered:
            if given not in asked or answered.count(given) > 1:
                raise Refused(
                    400,
                    f"messages.{place}.content.0: unexpected `tool_use_id` found in `tool_result`"
                    f" blocks: {given}. Each `tool_result` block must have a corresponding"
                    " `tool_use` block in the previous message.",
                )
        in_front = [b["type"] for b in blocks[: len(answered)]]
        missing = [i for i in asked if i not in answered]
        if missing or (asked and in_front != ["tool_result"] * len(answered)):
            _refuse_unanswered(place - 1, missing or asked)
        asked = [b["id"] for b in blocks if b["type"] == "tool_use"]
    if asked:
        _refuse_unanswered(len(messages) - 1, asked)


def _refuse_unanswered(place: int, ids: list[str]) -> None:
    raise Refused(  # claude-code#8210
        400,
        f"messages.{place}: `tool_use` ids were found without `tool_result` blocks immediately"
        f" after: {', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result`"
        " block in the next message.",
    )


def _check_thinking_start(body: dict[str, Any]) -> None:
    """With thinking on, the turn that called tools starts with its thinking (Roo-Code#10351)."""
    if (body.get("thinking") or {}).get("type") != "enabled":
        return
    for place, message in enumerate(body["messages"]):
        kinds = [b["type"] for b in blocks_of(message)]
        last_call = not any(
            m["role"] == "assistant" for m in body["messages"][place + 1 :]
        )  # fmt: skip
        if "tool_use" in kinds and last_call and "thinking" not in kinds[0]:
            raise Refused(
                400,
                f"messages.{place}.content.0.type: Expected `thinking` or `redacted_thinking`, but"
                f" found `{kinds[0]}`. When `thinking` is enabled, a final `assistant` message must"
                " start with a thinking block.",
            )


def check_key(headers: Mapping[str, str], required: str) -> None:
    if "x-api-key" not in headers:
        raise Refused(401, "x-api-key header is required")
    if headers["x-api-key"] != required:
        raise Refused(401, "invalid x-api-key")


def unknown_model(model: str) -> Refused:
    return Refused(404, f"model: {model}")


def too_many() -> Refused:
    return Refused(429, "This request would exceed your organization's rate limit.")


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(refused: Refused, number: int = 0) -> dict[str, Any]:
    kind = refused.code or _TYPES.get(refused.status, "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": refused.message},
        "request_id": f"req_{number}",
    }


def rate_headers(
    *, requests: int, left: int, tokens: int = 100_000, tokens_left: int = 100_000,
    reset: str = "2030-01-01T00:00:00Z",
) -> dict[str, str]:  # fmt: skip
    """The headers of platform.claude.com/docs/en/api/rate-limits."""
    return {
        "anthropic-ratelimit-requests-limit": str(requests),
        "anthropic-ratelimit-requests-remaining": str(left),
        "anthropic-ratelimit-requests-reset": reset,
        "anthropic-ratelimit-tokens-limit": str(tokens),
        "anthropic-ratelimit-tokens-remaining": str(tokens_left),
        "anthropic-ratelimit-tokens-reset": reset,
    }


# What is answered

_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def _stop_reason(a: Answering) -> str | None:
    word = a.reply.finish_word
    return _STOPS.get(word, word) or None


def _usage(a: Answering) -> dict[str, int]:
    n = a.reply.counted(a.prompt_length)
    return {
        "input_tokens": n["prompt"] - n["cached"],  # cached ones are counted beside, not inside
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": n["cached"],
        "output_tokens": n["completion"],
    }


def _frame(a: Answering) -> dict[str, Any]:
    return {
        "id": f"msg_{a.number}",
        "type": "message",
        "role": "assistant",
        "model": a.body.get("model"),
        "stop_reason": None,
        "stop_sequence": None,
    }


def content(a: Answering) -> list[dict[str, Any]]:
    """The blocks of the answer, in the vendor's order."""
    reply = a.reply
    blocks: list[dict[str, Any]] = []
    thought = reply.whole_reasoning
    if thought:
        signed = signature(thought) if reply.signature is None else reply.signature
        blocks.append({"type": "thinking", "thinking": thought, "signature": signed})
    blocks += [{"type": "redacted_thinking", "data": data} for data in reply.redacted]
    if reply.whole_text:
        blocks.append({"type": "text", "text": reply.whole_text})
    for place, call in enumerate(reply.calls):
        given = call.id or f"toolu_{a.number}_{place}"
        blocks.append({"type": "tool_use", "id": given, "name": call.name, "input": call.arguments})
    return blocks


def whole(a: Answering) -> dict[str, Any]:
    """A whole answer."""
    ending = {"stop_reason": _stop_reason(a), "content": content(a)}
    return _frame(a) | ending | ({"usage": _usage(a)} if a.reply.usage is not None else {})


# Streams


def _event(name: str, **data: Any) -> bytes:
    text = json.dumps({"type": name, **data}, ensure_ascii=False)
    return f"event: {name}\ndata: {text}\n\n".encode()


def events(a: Answering) -> Iterator[bytes]:
    """The pieces of a streamed answer, an event each."""
    usage = _usage(a)
    message = {**_frame(a), "content": []}
    if a.reply.usage is not None:
        message["usage"] = usage | {"output_tokens": 1}
    yield _event("message_start", message=message)
    yield _event("ping")
    for index, block in enumerate(content(a)):
        yield from _block_events(a, index, block)
    if a.reply.stream_error is not None:
        yield _stream_error(a)
        return
    if not a.reply.finish_word:
        return
    delta = {"stop_reason": _stop_reason(a), "stop_sequence": None}
    counted = {"usage": {"output_tokens": usage["output_tokens"]}}
    yield _event("message_delta", delta=delta, **(counted if a.reply.usage is not None else {}))
    yield _event("message_stop")


def _stream_error(a: Answering) -> bytes:
    error = a.reply.stream_error
    if isinstance(error, str):
        error = {"error": {"type": a.reply.error_code or "overloaded_error", "message": error}}
    return _event("error", **{k: v for k, v in error.items() if k != "type"})  # type: ignore[union-attr]


def _block_events(a: Answering, index: int, block: dict[str, Any]) -> Iterator[bytes]:
    empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}
    start = {**block, **empty.get(block["type"], {})}
    if block["type"] == "tool_use":
        start["input"] = {}
    yield _event("content_block_start", index=index, content_block=start)
    for delta in _block_deltas(a, block):
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _block_deltas(a: Answering, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        for fragment in a.reply.text_chunks:
            yield {"type": "text_delta", "text": fragment}
    if block["type"] == "thinking":
        for fragment in a.reply.thought_chunks:
            yield {"type": "thinking_delta", "thinking": fragment}
        yield {"type": "signature_delta", "signature": block["signature"]}
    if block["type"] == "tool_use":
        text = block["input"] if isinstance(block["input"], str) else json.dumps(block["input"])
        yield {"type": "input_json_delta", "partial_json": ""}
        for start in range(0, len(text), 5):
            yield {"type": "input_json_delta", "partial_json": text[start : start + 5]}
