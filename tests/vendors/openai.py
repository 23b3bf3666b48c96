"""OpenAI's chat completions and the vendors that speak like it: checks, answers, streams."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .reply import Call, Refused, Reply
from .shapes import Shape

__all__ = ["Answering", "check", "error_body", "events", "rate_headers", "whole"]

ROLES = frozenset("""developer system user assistant tool function""".split())
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")


class Answering(NamedTuple):
    """What an answer is made from."""

    reply: Reply
    body: Mapping[str, Any]
    number: int
    shape: Shape
    prompt_length: int


# What is refused


def check(body: Any, headers: Mapping[str, str], shape: Shape) -> None:
    """Refuse what the vendor refuses."""
    if not isinstance(body, dict):
        raise Refused(400, "We could not parse the JSON body of your request.")
    _check_keys(body, shape)
    if not body.get("model"):
        raise Refused(400, "you must provide a model parameter")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "[] is too short - 'messages'", param="messages")
    _check_options(body, shape)
    _check_tools(body, shape)
    for place, message in enumerate(messages):
        _check_message(place, message, shape)
    _check_tool_answers(messages)


def _unknown(shape: Shape, key: str, where: str = "") -> Refused:
    path = f"{where}.{key}" if where else key
    if shape.unknown_style == "mistral":  # crush#1590
        return Refused(422, f"Extra inputs are not permitted: {path}", code="extra_forbidden")
    if shape.unknown_style == "groq":  # jan#8136
        return Refused(400, f"property '{key}' is unsupported")
    if shape.unknown_style == "gemini":
        return Refused(
            400, f'Invalid JSON payload received. Unknown name "{key}": Cannot find field.'
        )
    return Refused(400, f"Unknown parameter: '{path}'.", code="unknown_parameter", param=path)


def _check_keys(body: dict[str, Any], shape: Shape) -> None:
    for key in body:
        if shape.known_keys is not None and key not in shape.known_keys:
            raise _unknown(shape, key)


def _check_options(body: dict[str, Any], shape: Shape) -> None:
    if "stream_options" in body and not body.get("stream"):
        raise Refused(
            400, "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        )
    wanted = shape.max_tokens_field
    for name in ("max_tokens", "max_completion_tokens"):
        if wanted and name in body and name != wanted:
            raise Refused(
                400,
                f"Unsupported parameter: '{name}' is not supported with this model."
                f" Use '{wanted}' instead.",
                code="unsupported_parameter",
                param=name,
            )
    if shape.thinking_needs_stream and body.get("enable_thinking") and not body.get("stream"):
        raise Refused(400, "parameter.enable_thinking must be set to false for non-streaming calls")


def _check_tools(body: dict[str, Any], shape: Shape) -> None:
    tools = body.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list) or (shape.refuses_empty_tools and not tools):
        raise Refused(400, "[] is too short - 'tools'", param="tools")
    for place, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if tool.get("type") != "function" or not isinstance(function, dict):
            raise Refused(400, f"Missing required parameter: 'tools[{place}].function'.")
        if not _TOOL_NAME.match(str(function.get("name", ""))):
            raise Refused(400, f"Invalid 'tools[{place}].function.name': string does not match.")
        if function.get("parameters", {"type": "object"}).get("type") != "object":
            raise Refused(400, f"Invalid schema for function '{function['name']}'")
        for key in tool.keys() - {"type", "function"}:
            raise _unknown(shape, key, f"tools[{place}]")
        for key in function.keys() - {"name", "description", "parameters", "strict"}:
            raise _unknown(shape, key, f"tools[{place}].function")


def _check_message(place: int, message: Any, shape: Shape) -> None:
    where = f"messages[{place}]"
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ROLES:
        raise Refused(400, f"Invalid value: '{role}'. Supported values are: {sorted(ROLES)}.")
    for key in message:
        if shape.message_keys is not None and key not in shape.message_keys:
            raise _unknown(shape, key, where)
    if role == "assistant":
        _check_reasoning(message, shape)
    content = message.get("content")
    if content is None and not (role == "assistant" and message.get("tool_calls")):
        raise Refused(400, f"Invalid value for 'content': expected a string, got null. ({where})")
    if isinstance(content, list):
        _check_parts(where, content, shape)
    for call in message.get("tool_calls") or ():
        _check_call(where, call, shape)


def _check_reasoning(message: dict[str, Any], shape: Shape) -> None:
    if shape.reasoning_back == "must" and "reasoning_content" not in message:
        raise Refused(
            400, "The `reasoning_content` in the thinking mode must be passed back to the API."
        )
    if shape.reasoning_back == "never" and "reasoning_content" in message:
        raise _unknown(shape, "reasoning_content", "messages")


def _check_parts(where: str, parts: list[Any], shape: Shape) -> None:
    needs = {"text": "text", "image_url": "image_url", "input_audio": "input_audio",
             "file": "file", "video_url": "video_url", "refusal": "refusal"}  # fmt: skip
    if shape.reasoning == "parts":
        needs["thinking"] = "thinking"
    if shape.text_only:
        needs = {"text": "text"}
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in needs or needs[kind] not in part:
            raise Refused(400, f"Invalid value: '{kind}' in {where}.content")
        if kind.endswith("_url") and not isinstance(part[kind].get("url"), str):
            raise Refused(400, f"Missing required parameter: '{where}.content.{kind}.url'.")


def _check_call(where: str, call: dict[str, Any], shape: Shape) -> None:
    function = call.get("function")
    if not isinstance(call.get("id"), str) or call.get("type") != "function":
        raise Refused(400, f"Missing required parameter: '{where}.tool_calls[0].id'.")
    if not re.fullmatch(shape.tool_id, call["id"]):
        raise Refused(400, f"Invalid '{where}.tool_calls[0].id': must match {shape.tool_id}")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        raise Refused(400, f"Invalid type for '{where}.tool_calls[0].function.arguments'")
    signed = call.get("extra_content", {}).get("google", {}).get("thought_signature")
    if shape.signature_field and not signed:  # OpenMAIC#1556
        raise Refused(400, "Function call is missing a thought_signature in functionCall parts.")


def _check_tool_answers(messages: list[dict[str, Any]]) -> None:
    """Each call is answered at once, each answer has its call."""
    open_ids: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            _check_answer(message, open_ids)
            continue
        _check_all_answered(open_ids)
        open_ids = [c["id"] for c in message.get("tool_calls") or ()]
    _check_all_answered(open_ids)


def _check_answer(message: dict[str, Any], open_ids: list[str]) -> None:
    if message.get("tool_call_id") not in open_ids:
        raise Refused(
            400,
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding"
            " message with 'tool_calls'.",
        )
    open_ids.remove(message["tool_call_id"])


def _check_all_answered(open_ids: list[str]) -> None:
    if open_ids:
        raise Refused(
            400,
            "An assistant message with 'tool_calls' must be followed by tool messages responding"
            " to each 'tool_call_id'. The following tool_call_ids did not have response messages: "
            + ", ".join(open_ids),
        )


def check_key(headers: Mapping[str, str], required: str) -> None:
    """Refuse a wrong key the way OpenAI does: with parts of it in the message."""
    given = headers.get("authorization", "").removeprefix("Bearer ")
    if not given:
        raise Refused(401, "You didn't provide an API key. You need to provide your API key in an"
                           " Authorization header using Bearer auth.")  # fmt: skip
    if given != required:
        shown = given[:8] + "*" * max(0, len(given) - 12) + given[-4:]
        raise Refused(
            401,
            f"Incorrect API key provided: {shown}. You can find your API key at"
            " https://platform.openai.com/account/api-keys.",
            code="invalid_api_key",
        )


def unknown_model(model: str) -> Refused:
    text = f"The model `{model}` does not exist or you do not have access to it."
    return Refused(404, text, code="model_not_found")


def too_many() -> Refused:
    text = "Rate limit reached for requests. Please try again later."
    return Refused(429, text, code="rate_limit_exceeded")


_TYPES = {401: "invalid_request_error", 403: "permission_error", 429: "requests"}


def error_body(refused: Refused) -> dict[str, Any]:
    kind = _TYPES.get(
        refused.status, "invalid_request_error" if refused.status < 500 else "server_error"
    )
    return {
        "error": {
            "message": refused.message,
            "type": kind,
            "param": refused.param,
            "code": refused.code,
        }
    }


def rate_headers(
    *, requests: int, left: int, tokens: int = 100_000, tokens_left: int = 100_000,
    reset: str = "1s",
) -> dict[str, str]:  # fmt: skip
    """The headers of platform.openai.com/docs/guides/rate-limits."""
    return {
        "x-ratelimit-limit-requests": str(requests),
        "x-ratelimit-remaining-requests": str(left),
        "x-ratelimit-reset-requests": reset,
        "x-ratelimit-limit-tokens": str(tokens),
        "x-ratelimit-remaining-tokens": str(tokens_left),
        "x-ratelimit-reset-tokens": reset,
    }


# What is answered


def whole(a: Answering) -> dict[str, Any]:
    """A whole answer."""
    return {
        **_frame(a, "chat.completion"),
        "choices": [{
            "index": 0,
            "message": _message(a),
            "logprobs": None,
            "finish_reason": _finish(a) or None,
        }],
        **({"usage": _usage(a)} if a.reply.usage is not None else {}),
    }  # fmt: skip


def _frame(a: Answering, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{a.number}",
        "object": kind,
        "created": int(time.time()),
        "model": a.body.get("model"),
    }


def _finish(a: Answering) -> str:
    word = a.reply.finish_word
    return a.shape.tool_finish if word == "tool_calls" else word


def _message(a: Answering) -> dict[str, Any]:
    reply, shape = a.reply, a.shape
    text: str | None = reply.whole_text
    if shape.reasoning == "<think>" and reply.whole_reasoning:
        text = f"<think>\n{reply.whole_reasoning}\n</think>\n\n{text}"
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reply.tool_calls and not text:
        message["content"] = None
    if shape.nulls:
        message |= {"tool_calls": None, "refusal": None, "function_call": None}
    if shape.reasoning == "parts" and reply.whole_reasoning:
        thinking = {"type": "thinking", "thinking": [_text_part(reply.whole_reasoning)]}
        message["content"] = [thinking, _text_part(text)] if text else [thinking]
    elif shape.reasoning not in ("<think>", "parts") and (reply.whole_reasoning or shape.nulls):
        message[shape.reasoning] = reply.whole_reasoning or None
    if shape.reasoning_details and reply.whole_reasoning:
        message["reasoning_details"] = _details(reply.whole_reasoning)
    if reply.tool_calls:
        message["tool_calls"] = [_call(a, n, c) for n, c in enumerate(reply.calls)]
    return message


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _details(text: str) -> list[dict[str, Any]]:
    return [{"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}]


def _call(a: Answering, place: int, call: Call) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": call_id(a, place, call),
        "type": "function",
        "function": {"name": call.name, "arguments": arguments_text(call)},
    }
    if a.shape.signature_field:
        shown["extra_content"] = {"google": {"thought_signature": f"sig-{a.number}-{place}"}}
    return shown


def call_id(a: Answering, place: int, call: Call) -> str:
    if call.id is not None:
        return call.id
    nine = f"call{a.number:03}{place:02}"
    return nine if re.fullmatch(a.shape.tool_id, nine) else f"call_{a.number}_{place}"


def arguments_text(call: Call) -> str:
    return call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)


def _usage(a: Answering) -> dict[str, Any]:
    n = a.reply.counted(a.prompt_length)
    return {
        "prompt_tokens": n["prompt"],
        "completion_tokens": n["completion"],
        "total_tokens": n["prompt"] + n["completion"],
        "prompt_tokens_details": {"cached_tokens": n["cached"]},
        "completion_tokens_details": {"reasoning_tokens": n["reasoning"]},
    }


# Streams


def sse(data: Any) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def events(a: Answering) -> Iterator[bytes]:
    """The pieces of a streamed answer, an event each."""
    template = _frame(a, "chat.completion.chunk")
    if a.shape.comment:
        yield a.shape.comment
    for delta in _deltas(a):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        chunk = {**template, "choices": [choice]}
        if a.shape.usage == "every_chunk" and a.reply.usage is not None:
            chunk["usage"] = _usage(a)
        yield sse(chunk)
    if a.reply.stream_error is not None:
        yield sse(_stream_error(a.reply))
        return
    yield from _ending(a, template)


def _stream_error(reply: Reply) -> Any:
    if isinstance(reply.stream_error, str):
        return error_body(Refused(500, reply.stream_error, code=reply.error_code))
    return reply.stream_error


def _deltas(a: Answering) -> Iterator[dict[str, Any]]:
    first: dict[str, Any] = {"role": "assistant", "content": ""}
    yield first | ({"tool_calls": None, "refusal": None} if a.shape.nulls else {})
    yield from _reasoning_deltas(a)
    for fragment in a.reply.text_chunks:
        yield {"content": fragment} | ({"tool_calls": None} if a.shape.nulls else {})
    for place, call in enumerate(a.reply.calls):
        for piece in _call_deltas(a, place, call):
            yield {"tool_calls": [piece]}


def _reasoning_deltas(a: Answering) -> Iterator[dict[str, Any]]:
    fragments = a.reply.thought_chunks
    if not fragments:
        return
    if a.shape.reasoning == "<think>":
        for fragment in ("<think>\n", *fragments, "\n</think>\n\n"):
            yield {"content": fragment}
        return
    if a.shape.reasoning == "parts":
        for fragment in fragments:
            yield {"content": [{"type": "thinking", "thinking": [_text_part(fragment)]}]}
        return
    for fragment in fragments:
        delta: dict[str, Any] = {"content": None, a.shape.reasoning: fragment}
        yield delta | (
            {"reasoning_details": _details(fragment)} if a.shape.reasoning_details else {}
        )


def _call_deltas(a: Answering, place: int, call: Call) -> Iterator[dict[str, Any]]:
    shape = a.shape
    whole_call = _call(a, place, call)
    if shape.tool_index is not False:
        whole_call["index"] = place if shape.tool_index else 0
    if shape.tool_ids == "none":
        del whole_call["id"]
    if shape.whole_calls:
        yield whole_call
        return
    text = whole_call["function"]["arguments"]
    yield {**whole_call, "function": {"name": call.name, "arguments": ""}}
    for start in range(0, len(text), 5):
        piece: dict[str, Any] = {"function": {"arguments": text[start : start + 5]}}
        if shape.tool_index is not False:
            piece["index"] = place if shape.tool_index else 0
        if shape.tool_ids == "repeat":
            piece |= {"id": whole_call["id"], "type": "function"}
        yield piece


def _ending(a: Answering, template: dict[str, Any]) -> Iterator[bytes]:
    wants = a.shape.usage_unasked or (a.body.get("stream_options") or {}).get("include_usage")
    usage = _usage(a) if wants and a.reply.usage is not None else None
    if _finish(a):
        choice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": _finish(a)}
        chunk: dict[str, Any] = {**template, "choices": [choice]}
        if usage and a.shape.usage in ("last_chunk", "every_chunk"):
            chunk["usage"] = usage
        if usage and a.shape.usage == "x_groq":
            chunk["x_groq"] = {"id": f"req_{a.number}", "usage": usage}
        yield sse(chunk)
        if usage and a.shape.usage == "own_chunk":
            yield sse({**template, "choices": [], "usage": usage})
        if a.shape.done:
            yield b"data: [DONE]\n\n"
