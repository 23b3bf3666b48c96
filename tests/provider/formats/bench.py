"""One exchange between a format strategy and a scripted vendor, in memory.

The vendor is the one of tests/vendors: it checks the request as strictly as the real one, and its
answer goes through the library's own event splitter, cut into small blocks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from aitoolman import LLMProviderRequest, LLMProviderResponse, Message
from aitoolman._provider.formats import LLMFormatStrategy, StreamEvent, make_format
from aitoolman._provider.sse import EventSplitter
from tests.vendors import anthropic, openai
from tests.vendors.openai import Answering
from tests.vendors.reply import Call, Reply
from tests.vendors.shapes import SHAPES

__all__ = [
    "CASES",
    "Case",
    "Exchange",
    "event",
    "exchange",
    "new_response",
    "play",
    "request",
    "strategy",
]


class Case(NamedTuple):
    """A dialect of ours and the vendor that speaks it."""

    dialect: str
    shape: str

    @property
    def kind(self) -> str:
        return "anthropic" if self.shape == "anthropic" else "openai"


CASES = [
    Case("generic", "llamacpp"),
    Case("generic", "think"),
    Case("generic", "vllm-old"),
    Case("openai", "openai"),
    Case("openai", "openai-reasoning"),
    Case("anthropic", "anthropic"),
    Case("deepseek", "deepseek"),
    Case("openrouter", "openrouter"),
    Case("ollama", "ollama"),
    Case("vllm", "vllm"),
    Case("vllm", "vllm-old"),
    Case("llamacpp", "llamacpp"),
    Case("gemini", "gemini"),
    Case("qwen", "qwen"),
    Case("doubao", "doubao"),
    Case("mistral", "mistral"),
    Case("groq", "groq"),
]


TOOLS = {
    "weather": {"description": "Weather of a city", "param": {"city": {"type": "string"}}},
    "add": {
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}
    },
}
TWO_CALLS = (Call("weather", {"city": "Köln"}), Call("add", {"a": 1, "b": [2, {"c": "}"}]}))


class Exchange(NamedTuple):
    """What was sent, what came back, and what the stream said on the way."""

    body: dict[str, Any]
    notes: list[str]
    response: LLMProviderResponse
    events: list[StreamEvent]


def strategy(case: Case, **config: Any) -> LLMFormatStrategy:
    return make_format(case.kind, {"model": "m", "dialect": case.dialect, **config})


def request(
    *messages: Message | str, stream: bool = False, tools: Any = None, **options: Any
) -> LLMProviderRequest:
    """A provider's request; a plain text is a user's message."""
    said = [Message("user", m) if isinstance(m, str) else m for m in messages]
    return LLMProviderRequest("c", None, "r", "m", said, tools or {}, options, stream)


def new_response(*, stream: bool = True) -> LLMProviderResponse:
    return LLMProviderResponse("c", None, "r", "m", stream)


def exchange(
    case: Case,
    asked: LLMProviderRequest,
    reply: Reply,
    *,
    number: int = 1,
    into: LLMProviderResponse | None = None,
    **config: Any,
) -> Exchange:
    """Send `asked` to the vendor, which refuses what it does not like, and read its `reply`."""
    ours = strategy(case, **config)
    body, notes = ours.make_request(asked)
    sent = json.loads(json.dumps(body))
    answering = _checked(case, ours, sent, reply, number)
    response = into or new_response(stream=asked.stream)
    events: list[StreamEvent] = []
    vendor = anthropic if case.kind == "anthropic" else openai
    if asked.stream:
        events = _play(ours, response, b"".join(vendor.events(answering)))
    else:
        ours.parse_batch_response(response, json.loads(json.dumps(vendor.whole(answering))))
    return Exchange(sent, notes, response, events)


def _checked(
    case: Case, ours: LLMFormatStrategy, sent: dict[str, Any], reply: Reply, number: int
) -> Answering:
    headers = {name.lower(): value for name, value in ours.request_headers().items()}
    if case.kind == "anthropic":
        anthropic.check(sent, headers)
        return Answering(reply, sent, number, SHAPES["openai"], 40)
    openai.check(sent, headers, SHAPES[case.shape])
    return Answering(reply, sent, number, SHAPES[case.shape], 40)


def _play(ours: LLMFormatStrategy, response: LLMProviderResponse, data: bytes) -> list[StreamEvent]:
    splitter = EventSplitter()
    blocks = [data[start : start + 50] for start in range(0, len(data), 50)]
    found = [event for block in blocks for event in splitter.feed(block)]
    events = [ours.parse_stream_event(response, event) for event in found]
    ours.finish_stream(response)
    return events


def event(data: Any, name: str = "") -> Any:
    """A server-sent event; anything but text becomes JSON."""
    from httpx_sse import ServerSentEvent

    return ServerSentEvent(event=name, data=data if isinstance(data, str) else json.dumps(data))


def play(
    ours: LLMFormatStrategy, events: Sequence[Any], *, finish: bool = True
) -> tuple[LLMProviderResponse, list[StreamEvent]]:
    """Feed events to a strategy."""
    response = new_response()
    said = [ours.parse_stream_event(response, event(e)) for e in events]
    if finish:
        ours.finish_stream(response)
    return response, said


def full_reply(case: Case) -> Reply:
    """All that a vendor can put into one turn; OpenAI itself never shows its reasoning."""
    thought = "" if case.dialect == "openai" else "a plan"
    return Reply("Let me see", reasoning=thought, tool_calls=TWO_CALLS, redacted=("secret",))


def second_turn(first: LLMProviderResponse, *, stream: bool = False) -> LLMProviderRequest:
    """The follow-up that carries an answer with tool calls back, and their results."""
    assert first.response_message is not None
    results = [
        Message("tool", f"result {n}", tool_call_id=c.id)
        for n, c in enumerate(first.response_tool_calls)
    ]
    return request(
        Message("system", "be brief"),
        "hi",
        first.response_message,
        *results,
        stream=stream,
        tools=TOOLS,
    )
