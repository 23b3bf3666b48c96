"""The scripted server itself: what it plays, what it refuses, what it sees."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from .fake_llm import Call, FakeLLM, Gate, Refused, Reply
from .fake_process import FakeLLMProcess
from .vendors import anthropic, openai
from .vendors.shapes import SHAPES

ANTHROPIC = {"anthropic-version": "2023-06-01", "x-api-key": "key"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def ask(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


async def post(
    http: aiohttp.ClientSession, url: str, body: Any, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    async with http.post(url, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def stream(
    http: aiohttp.ClientSession, url: str, body: Any, headers: dict[str, str] | None = None
) -> list[Any]:
    """The JSON of every event of a stream."""
    async with http.post(url, json=body | {"stream": True}, headers=headers) as answer:
        text = (await answer.read()).decode()
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def said(events: list[Any]) -> str:
    pieces = [c["delta"].get("content") for event in events for c in event.get("choices", ())]
    return "".join(piece for piece in pieces if isinstance(piece, str))


async def test_it_echoes_the_last_user_message(fake_llm: FakeLLM, http: Any) -> None:
    """Without a script the answer is the question."""
    _, answer = await post(http, fake_llm.openai_url, ask("hello there"))
    assert answer["choices"][0]["message"]["content"] == "hello there"
    _, answer = await post(http, fake_llm.anthropic_url, ask("x y", max_tokens=9), ANTHROPIC)
    assert answer["content"] == [{"type": "text", "text": "x y"}]


async def test_a_list_of_replies_is_answered_in_order(fake_llm: FakeLLM, http: Any) -> None:
    """Texts, errors and statuses come in the order of the script."""
    fake_llm.script(["one", Reply(status=503, error="busy"), Reply("three", finish="length")])
    answers = [await post(http, fake_llm.openai_url, ask()) for _ in range(3)]
    assert answers[0][1]["choices"][0]["message"]["content"] == "one"
    assert (answers[1][0], answers[1][1]["error"]["message"]) == (503, "busy")
    assert answers[2][1]["choices"][0]["finish_reason"] == "length"


async def test_a_function_may_wait_and_see_the_request(fake_llm: FakeLLM, http: Any) -> None:
    """A script can be an async function of the request."""

    async def answer(seen: Any) -> str:
        await asyncio.sleep(0)
        return str(seen.last_text).upper()

    fake_llm.script(answer)
    _, data = await post(http, fake_llm.openai_url, ask("loud"))
    assert data["choices"][0]["message"]["content"] == "LOUD"


@pytest.mark.parametrize("shape", sorted(SHAPES))
async def test_every_dialect_streams_its_text_and_a_call(
    fake_llm: FakeLLM, http: Any, shape: str
) -> None:
    """Whatever the dialect, text, call and finish reason are there."""
    fake_llm.shape = shape
    fake_llm.script(Reply("a b", reasoning="so", tool_calls=[Call("f", {"x": 1})]))
    events = await stream(http, fake_llm.openai_url, ask())
    assert said(events).endswith("a b")
    choices = [c for e in events for c in e["choices"]]
    calls = [c for choice in choices for c in choice["delta"].get("tool_calls") or ()]
    assert json.loads("".join(c["function"]["arguments"] for c in calls)) == {"x": 1}
    assert choices[-1]["finish_reason"] == SHAPES[shape].tool_finish


async def test_anthropic_streams_thinking_text_and_tools(fake_llm: FakeLLM, http: Any) -> None:
    """The blocks come in the vendor's order, signed, and with its stop reason."""
    fake_llm.script(Reply("t", reasoning="hm", redacted=["zz"], tool_calls=[Call("f", {"x": 1})]))
    events = await stream(http, fake_llm.anthropic_url, ask(max_tokens=5), ANTHROPIC)
    starts = [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"]
    assert starts == ["thinking", "redacted_thinking", "text", "tool_use"]
    deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    assert {"type": "signature_delta", "signature": anthropic.signature("hm")} in deltas
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


async def test_raw_pieces_go_out_as_they_are(fake_llm: FakeLLM, http: Any) -> None:
    """Bytes are not touched, whatever they are."""
    pieces = [b": hi\r\n\r\n", "data: é".encode()[:-1], b"\xa9\n\n"]
    fake_llm.script(Reply(raw_stream=pieces))
    async with http.post(fake_llm.openai_url, json=ask(stream=True)) as answer:
        assert await answer.read() == b"".join(pieces)


@pytest.mark.parametrize("reset", [False, True])
async def test_a_drop_breaks_the_stream(fake_llm: FakeLLM, http: Any, reset: bool) -> None:
    """The client gets the first pieces and then an error, not an end."""
    fake_llm.script(Reply("a b c d", drop_after=3, reset=reset))
    with pytest.raises(aiohttp.ClientError):
        async with http.post(fake_llm.openai_url, json=ask(stream=True)) as answer:
            await answer.read()
    await fake_llm.reaches(lambda s: s.open_requests == 0)
    assert fake_llm.requests[0].pieces == 3
    assert not fake_llm.requests[0].closed_early


async def test_a_whole_answer_can_be_cut_in_the_middle(fake_llm: FakeLLM, http: Any) -> None:
    """Less arrives than the length promised."""
    fake_llm.script(Reply("a b c d", drop_after=0))
    with pytest.raises(aiohttp.ClientPayloadError):
        await post(http, fake_llm.openai_url, ask())


async def test_a_hanging_reply_waits_for_its_release(fake_llm: FakeLLM, http: Any) -> None:
    """Nothing comes until the test says so, then everything does."""
    fake_llm.script(Reply("late", hang=True))
    call = asyncio.create_task(post(http, fake_llm.openai_url, ask()))
    await fake_llm.reaches(lambda s: s.open_requests == 1)
    assert not call.done()
    fake_llm.release()
    assert (await call)[1]["choices"][0]["message"]["content"] == "late"


async def test_a_gate_holds_a_stream_in_the_middle(fake_llm: FakeLLM, http: Any) -> None:
    """The pieces before the gate arrive, the others after it opens."""
    gate = Gate()
    fake_llm.script(Reply("a b c", gate=gate, pause_at=2))
    async with http.post(fake_llm.openai_url, json=ask(stream=True)) as answer:
        first = await answer.content.readuntil(b"\n\n")
        await fake_llm.reaches(lambda s: s.requests[0].pieces == 2)
        gate.open()
        rest = await answer.read()
    assert b"[DONE]" in rest
    assert b"[DONE]" not in first


async def test_a_client_that_leaves_is_noticed(fake_llm: FakeLLM, http: Any) -> None:
    """The record says that nobody waited for the answer."""
    fake_llm.script(Reply(hang=True))
    call = asyncio.create_task(post(http, fake_llm.openai_url, ask()))
    await fake_llm.reaches(lambda s: s.open_requests == 1)
    call.cancel()
    await fake_llm.reaches(lambda s: s.closed_early == 1 and s.open_requests == 0)
    assert fake_llm.requests[0].closed_early


async def test_concurrency_and_connections_are_counted(fake_llm: FakeLLM, http: Any) -> None:
    """Peaks are what really was open at once."""
    gate = Gate()
    fake_llm.script(Reply("x", gate=gate))
    calls = [asyncio.create_task(post(http, fake_llm.openai_url, ask())) for _ in range(20)]
    await fake_llm.reaches(lambda s: s.open_requests == 20)
    gate.open()
    await asyncio.gather(*calls)
    assert fake_llm.max_concurrent == fake_llm.max_connections == 20
    assert fake_llm.open_requests == 0


async def test_more_than_the_hidden_capacity_is_refused(fake_llm: FakeLLM, http: Any) -> None:
    """Beyond the limit it is a 429 with the headers that were set."""
    gate = Gate()
    fake_llm.capacity, fake_llm.capacity_headers = 2, {"retry-after": "7"}
    fake_llm.script(Reply("x", gate=gate))
    calls = [asyncio.create_task(post(http, fake_llm.openai_url, ask())) for _ in range(2)]
    await fake_llm.reaches(lambda s: s.open_requests == 2)
    async with http.post(fake_llm.openai_url, json=ask()) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    gate.open()
    assert [status for status, _ in await asyncio.gather(*calls)] == [200, 200]


async def test_a_wrong_key_is_echoed_in_part_as_openai_does(fake_llm: FakeLLM, http: Any) -> None:
    """The error body holds pieces of the key, so that tests see whether they leak."""
    fake_llm.required_key = "right"
    headers = {"Authorization": "Bearer sk-abcdefgh-secret-1234"}
    status, answer = await post(http, fake_llm.openai_url, ask(), headers)
    assert status == 401
    assert "sk-abcde*" in answer["error"]["message"]
    assert "1234" in answer["error"]["message"]


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "4"}
USER = {"role": "user", "content": "q"}

OPENAI_REFUSALS = {
    "unknown key": (ask(thinking=True), "Unknown parameter: 'thinking'"),
    "role": (ask() | {"messages": [{"role": "robot", "content": ""}]}, "Invalid value: 'robot'"),
    "no messages": (ask() | {"messages": []}, "too short"),
    "null content": (ask() | {"messages": [{"role": "user", "content": None}]}, "got null"),
    "call without answer": (ask() | {"messages": [USER, CALLED]}, "did not have response"),
    "late answer": (ask() | {"messages": [USER, CALLED, USER, RESULT]}, "did not have response"),
    "answer without call": (ask() | {"messages": [USER, RESULT]}, "must be a response"),
    "answered twice": (ask() | {"messages": [USER, CALLED, RESULT, RESULT]}, "must be a response"),
    "reasoning sent back": (
        ask() | {"messages": [{"role": "assistant", "content": "", "reasoning_content": ""}]},
        "Unknown parameter",
    ),
    "stream options": (ask(stream_options={"include_usage": True}), "only allowed when"),
    "empty tools": (ask(tools=[]), "too short - 'tools'"),
    "tool name": (
        ask(tools=[{"type": "function", "function": {"name": "a b", "parameters": {}}}]),
        "does not match",
    ),
}


@pytest.mark.parametrize("case", OPENAI_REFUSALS)
def test_openai_refuses(case: str) -> None:
    """What OpenAI answers with 400 is refused with its words."""
    body, words = OPENAI_REFUSALS[case]
    with pytest.raises(Refused, match=words):
        openai.check(body, {}, SHAPES["openai"])


def test_openai_takes_a_sound_conversation() -> None:
    """A call, its answer and the next turn pass."""
    openai.check(
        ask() | {"messages": [USER, CALLED, RESULT, {"role": "assistant", "content": "4"}, USER]},
        {},
        SHAPES["openai"],
    )


def claude(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 10, "messages": list(messages), **more}


USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
USED = {"role": "assistant", "content": [USE]}
GAVE = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "4"}]}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": anthropic.signature("hm")}

ANTHROPIC_REFUSALS = {
    "unknown key": (claude(USER, stop=["x"]), "stop: Extra inputs"),
    "no max_tokens": ({"model": "m", "messages": [USER]}, "max_tokens: Field required"),
    "system role": (claude({"role": "system", "content": "s"}, USER), "Unexpected role"),
    "first turn": (claude({"role": "assistant", "content": "s"}, USER), "first message must"),
    "alternation": (claude(USER, USER), "roles must alternate"),
    "empty text": (claude({"role": "user", "content": " "}), "non-whitespace"),
    "call without result": (claude(USER, USED), "without `tool_result`"),
    "result of no call": (claude(USER, USED, GAVE, USED, USER), "without `tool_result`"),
    "unknown id": (claude(GAVE), "unexpected `tool_use_id`"),
    "text before results": (
        claude(USER, USED, {**GAVE, "content": [{"type": "text", "text": "x"}, *GAVE["content"]]}),
        "without `tool_result`",
    ),
    "changed thinking": (
        claude(USER, {"role": "assistant", "content": [THOUGHT | {"thinking": "other"}]}, USER),
        "Invalid `signature`",
    ),
    "call without its thinking": (
        claude(
            USER, USED, GAVE,
            max_tokens=4096, thinking={"type": "enabled", "budget_tokens": 2048},
        ),
        "must start with a thinking block",
    ),
    "block field": (
        claude(USER, {"role": "assistant", "content": [{**USE, "index": 0}]}, GAVE),
        "Extra inputs",
    ),
    "trailing space": (claude(USER, {"role": "assistant", "content": "so "}), "trailing white"),
}  # fmt: skip


@pytest.mark.parametrize("case", ANTHROPIC_REFUSALS)
def test_anthropic_refuses(case: str) -> None:
    """What Anthropic answers with 400 is refused with its words."""
    body, words = ANTHROPIC_REFUSALS[case]
    with pytest.raises(Refused, match=words):
        anthropic.check(body, ANTHROPIC)


def test_anthropic_takes_a_sound_conversation() -> None:
    """Thinking, a call, its result and the next turn pass."""
    turn = {"role": "assistant", "content": [THOUGHT, {"type": "text", "text": "a"}, USE]}
    thinking = {"type": "enabled", "budget_tokens": 2048}
    anthropic.check(claude(USER, turn, GAVE, max_tokens=4096, thinking=thinking), ANTHROPIC)


def test_anthropic_wants_its_version() -> None:
    """The header is required."""
    with pytest.raises(Refused, match="anthropic-version"):
        anthropic.check(claude(USER), {})


async def test_settings_are_forgotten_between_tests(fake_llm: FakeLLM) -> None:
    """Whatever tests before this one set is gone."""
    assert (fake_llm.capacity, fake_llm.required_key, fake_llm.shape) == (None, None, "openai")
    assert fake_llm.requests == []


async def test_it_runs_as_a_process_of_its_own(http: Any) -> None:
    """Over HTTP it can be scripted, asked and killed."""
    with FakeLLMProcess() as server:
        server.script(Reply("from afar"))
        _, answer = await post(http, server.openai_url, ask("q"))
        assert answer["choices"][0]["message"]["content"] == "from afar"
        assert [r["body"]["model"] for r in server.requests()] == ["m"]
        assert server.stats()["requests_seen"] == 1
    assert server.process.poll() is not None


async def test_chunked_request_bodies_are_read(fake_llm: FakeLLM, http: Any) -> None:
    """A body without a length arrives whole."""

    async def pieces() -> AsyncIterator[bytes]:
        data = json.dumps(ask("in pieces")).encode()
        for start in range(0, len(data), 7):
            yield data[start : start + 7]

    async with http.post(fake_llm.openai_url, data=pieces()) as answer:
        assert (await answer.json())["choices"][0]["message"]["content"] == "in pieces"


async def test_an_endless_stream_ends_with_its_client(fake_llm: FakeLLM, http: Any) -> None:
    """A vendor that never stops talking is played without filling the memory."""
    fake_llm.script(Reply(raw_stream=itertools.repeat(b"data: x\n\n" * 100)))
    async with http.post(fake_llm.openai_url, json=ask(stream=True)) as answer:
        await answer.content.readexactly(100_000)
    await fake_llm.reaches(lambda s: s.closed_early == 1 and s.open_requests == 0)


async def test_an_answer_can_be_no_http_at_all(fake_llm: FakeLLM, http: Any) -> None:
    """What is written by hand goes out without any head of the server's."""
    fake_llm.script(Reply(raw_http=[b"SSH-2.0-", b"OpenSSH\r\n\r\n"]))
    with pytest.raises(aiohttp.ClientError):
        await post(http, fake_llm.openai_url, ask())


async def test_pipelined_requests_are_answered_one_after_the_other(fake_llm: FakeLLM) -> None:
    """Two requests in one packet get two answers, in order."""
    bodies = [json.dumps(ask(text)).encode() for text in ("first", "second")]
    reader, writer = await asyncio.open_connection("127.0.0.1", fake_llm.port)
    for body in bodies:
        head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
    seen = b""
    while b"second" not in seen:
        seen += await reader.read(65536)
    assert seen.index(b"first") < seen.index(b"second")
    writer.close()
    await writer.wait_closed()
