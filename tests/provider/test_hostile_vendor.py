"""A vendor that means harm: answers without end, keys echoed back, headers that make no sense.

The server here writes raw bytes, so that nothing between hides what it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging

import pytest

import aitoolman
from aitoolman import LLMDirectRequest, Message

KEY = "sk-hostile-0123456789abcdefghij"
SECRET_PIECES = {KEY[i : i + 8] for i in range(11, len(KEY) - 7)}
SSE = "Content-Type: text/event-stream\r\n"


def answer(body, head="", status="200 OK"):
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    length = "" if head == SSE else f"Content-Length: {len(data)}\r\n"
    return f"HTTP/1.1 {status}\r\n{length}Connection: close\r\n{head}\r\n".encode() + data


def failure(message, status="400 Bad Request", **headers):
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return answer({"error": {"message": message}}, head, status)


GOOD = answer({"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]})


@contextlib.asynccontextmanager
async def vendor(*steps, every=None, pause=0.0):
    """Each request is answered with the steps: bytes, or a function of the request's body.

    Then `every` is written over and over with a pause, or else the connection closed.
    """
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, RuntimeError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            for step in steps:
                writer.write(step(body) if callable(step) else step)
                await asyncio.sleep(pause)
            while every is not None:
                writer.write(every)
                await writer.drain()
                await asyncio.sleep(pause)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions"
        await asyncio.wait_for(asyncio.gather(*tasks), 5)


async def ask(url, stream=True, text="hi", **keys):
    entry = {"url": url, "model": "x", "api_key": KEY, "max_retries": 0, "timeout": 5} | keys
    async with aitoolman.LLMLocalClient({"api": {"m": entry}}) as client:
        app = aitoolman.LLMApplication(client)
        return await app.call(LLMDirectRequest("m", [Message("user", text)], stream=stream))


# Keys


def error_400(pad):
    return failure(pad + KEY)


def code(pad):
    return answer({"error": {"message": "m", "code": pad.replace(" ", "") + KEY}}, "", "400 Bad")


def page(pad):
    return answer(f"<html><body>{pad}{KEY} {'tail ' * 100}", "Content-Type: text/html\r\n", "502 B")


def no_json(pad):
    return answer(pad + KEY + " tail" * 100)


def redirect(pad):
    return answer("", f"Location: http://elsewhere/{pad.replace(' ', '-')}{KEY}\r\n", "302 Found")


def event(pad):
    return answer(f"data: {pad}{KEY}{' tail' * 100}\n\n", SSE)


def error_event(pad):
    return answer("data: " + json.dumps({"error": {"message": pad + KEY + " tail" * 99}}), SSE)


def headers(pad):
    return answer("", f"X-{KEY}: {pad[:80]}\r\nX-Echo: {KEY}\r\nSet-Cookie: a={KEY}\r\n", "401 No")


@pytest.mark.parametrize(
    "echo", [error_400, code, page, no_json, redirect, event, error_event, headers]
)
async def test_a_key_sent_back_is_shown_nowhere_not_even_cut_in_two(echo, caplog):
    """Wherever an echoed key stands, also where a message is cut short: no eight letters of it."""
    caplog.set_level(logging.DEBUG)
    for length in (0, 80, 90, 98, 105, 115, 175, 185, 190, 198, 265, 275, 283, 290, 298):
        async with vendor(echo("w " * (length // 2))) as url:
            result = await ask(url)
        [response] = result.responses
        shown = f"{result!r}{result.error_text}{response.attempts}{response.notes}{response!r}"
        shown += f"{response.exchange}{caplog.text}"
        assert result.error_text
        assert not [piece for piece in SECRET_PIECES if piece in shown], length
        caplog.clear()


async def test_an_error_writes_nothing_to_the_terminal_but_text():
    """Escape sequences in a vendor's message colour no terminal and ring no bell."""
    async with vendor(failure("a\x1b[31m\x07 b\u202e\x00")) as url:
        result = await ask(url)
    assert result.error_text.isprintable()


# Time and size


@pytest.mark.parametrize(
    "piece",
    [b": still here\n\n", b"data: {}\n\n", b'data: {"choices":[]}\n\n', b"data: [PING]\n\n", b"x"],
    ids=["comment", "empty object", "no choices", "ping", "unfinished line"],
)
async def test_signs_of_a_living_proxy_are_no_fragments(piece):
    """Only what the model says puts the timeout off; else a slot could be held for ever."""
    async with vendor(answer("", SSE), every=piece, pause=0.01) as url:
        result = await ask(url, timeout=0.2)
    assert "the server was silent for 0.2 s" in result.error_text


async def test_a_flood_of_nothing_is_silence():
    """Junk that keeps us busy without a pause puts the timeout off no more than junk at leisure."""
    async with vendor(answer("", SSE), every=b"event: x\n\n" * 30_000) as url:
        result = await ask(url, timeout=0.3)
    assert "the server was silent for 0.3 s" in result.error_text


def delta(**fields):
    return b"data: " + json.dumps({"choices": [{"delta": fields}]}).encode() + b"\n\n"


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": " "}}]},
        {"reasoning_content": "hm"},
        {"content": "word"},
    ],
    ids=["tool call", "reasoning", "text"],
)
async def test_a_model_at_work_is_not_cut_off(fields):
    """A long stream lives longer than the timeout as long as pieces of the answer come."""
    end = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    async with vendor(answer("", SSE), *[delta(**fields)] * 8, end, pause=0.05) as url:
        result = await ask(url, timeout=0.25)
    assert not result.status.is_error, result.error_text


async def test_a_stream_nobody_asked_for_has_one_limit_for_all_of_it():
    """Tokens that drip into an answer without streaming don't put its timeout off."""
    async with vendor(answer("", SSE), every=delta(content="drip "), pause=0.01) as url:
        result = await ask(url, stream=False, timeout=0.3)
    assert "no whole answer within 0.3 s" in result.error_text


async def test_words_after_the_end_do_not_keep_the_slot():
    """With the finish reason the answer is whole; what drips afterwards has a bounded time."""
    end = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    async with vendor(answer("", SSE), end, every=delta(content="!"), pause=0.01) as url:
        result = await asyncio.wait_for(ask(url, timeout=0.3), 5)
    assert result.response_text.startswith("a")
    assert result.status.value == "stop"


async def test_a_large_prompt_is_sent_without_a_warning():
    """Ten million letters go out piece by piece, and arrive whole."""
    seen = []

    def note(body):
        seen.append(body)
        return GOOD

    text = "0123456789" * 1_000_000
    async with vendor(note) as url:
        result = await ask(url, text=text)
    assert result.response_text == "fine"
    assert json.loads(seen[0])["messages"][0]["content"] == text


# Headers about time

ODD_TIMES = """-1|0|1e300|1e400|nan|inf|99999999999999999999|1e11|1e12|253402300800|0x10|1_000|PT5S
Wed, 21 Oct 2015 07:28:00 GMT|Wed, 21 Oct 9999 07:28:00 GMT|Wed, 99 Foo 2015|12:00|Mon|soon
9999-12-31T23:59:59-23:59|0001-01-01T00:00:00+23:59|999999999999999999999h|5s5|5, 10|;|\u00b2"""


@pytest.mark.parametrize("value", ODD_TIMES.replace("\n", "|").split("|"))
async def test_no_time_in_a_header_is_too_odd(value):
    """It is a wait, or ends with the vendor's refusal in words; never an error of ours."""
    names = ("Retry-After", "retry-after-ms", "x-ratelimit-reset-requests")
    for name in names:
        refusal = {name: value, "x-ratelimit-remaining-requests": "0"}
        refused = failure("slow down", "429 Too Many Requests", **refusal)
        async with vendor(refused) as url:
            result = await ask(url, max_wait=0.01, max_retries=1, retry_duration=0.001)
        assert result.status.value == "error: request"
        assert "slow down" in result.error_text


@pytest.mark.parametrize("kind", [SSE, "Content-Type: text/plain\r\n", ""], ids=repr)
async def test_one_json_object_instead_of_a_stream_is_read_for_what_it_is(kind):
    """Gateways answer a request for a stream with one object, an error above all."""
    whole = {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}
    async with vendor(answer(whole, kind)) as url:
        assert (await ask(url)).data == "fine"
    async with vendor(answer({"error": {"message": "no such deployment"}}, kind)) as url:
        assert "no such deployment" in (await ask(url)).error_text


ERRORS = [
    {"error": {"message": "boom"}},
    {"error": "boom"},
    {"errors": [{"message": "boom"}]},
    {"message": "boom", "code": "InternalError", "request_id": "1"},
    {"detail": "boom"},
    {"detail": [{"msg": "boom"}]},
    {"error_code": 17, "error_msg": "boom"},
    {"success": False, "message": "boom"},
    {"code": 1234, "msg": "boom", "data": None},
    {"base_resp": {"status_code": 1002, "status_msg": "boom"}},
    {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "boom"}},
]
ENDS = {
    "openai": [{"choices": [{"delta": {}, "finish_reason": "stop"}]}],
    "anthropic": [
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ],
}


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("error", ERRORS, ids=json.dumps)
async def test_an_error_inside_an_answer_is_no_good_end(error, kind):
    """In every shape, whole or in a stream, also where the stream goes on to a normal end."""
    events = "".join(f"data: {json.dumps(event)}\n\n" for event in [error, *ENDS[kind]])
    for stream, reply in ((False, answer(error)), (True, answer(events, SSE))):
        async with vendor(reply) as url:
            result = await ask(url, stream, type=kind)
        assert result.status.value == "error: request"
        assert "boom" in result.error_text


@pytest.mark.parametrize("item", ["{}", "[]", '""', "1.5"])
async def test_an_answer_of_millions_of_objects_is_refused_before_it_fills_the_memory(item):
    """Few bytes each on the wire, and fifty times as many as objects."""
    body = '{"choices": [' + ",".join([item] * 6_000_000) + "]}"
    async with vendor(answer(body)) as url:
        result = await ask(url, stream=False, timeout=60)
    assert result.status.value == "error: format"
    assert "more than" in result.error_text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ENDS)
async def test_an_end_nobody_knows_is_quoted_without_the_key(kind, stream):
    """The status is unknown, and its text says which word came, shortened and redacted."""
    for word, said in (("novel_end", "'novel_end'"), ("w " * 999, "..."), ("is " + KEY, "'is ***")):
        end = {"type": "message_delta", "delta": {"stop_reason": word}}
        chunk = {"choices": [{"delta": {"content": "a"}, "finish_reason": word}]}
        whole = {"choices": [{"message": {"content": "a"}, "finish_reason": word}]}
        if kind == "anthropic":
            chunk, whole = end, {"type": "message", "content": [], "stop_reason": word}
        events = f"data: {json.dumps(chunk)}\n\ndata: {json.dumps(ENDS['anthropic'][1])}\n\n"
        async with vendor(answer(events, SSE) if stream else answer(whole)) as url:
            result = await ask(url, stream, type=kind)
        assert result.status.value == "unknown"
        assert said in result.error_text
        assert len(result.error_text) < 300
        assert KEY[11:] not in result.error_text


@pytest.mark.parametrize(("status", "said"), [("999 No", "without a message"), ("503 No", "Serv")])
async def test_a_status_without_a_body_is_named_once(status, said):
    """The number stands there once, with what it means where it means something."""
    async with vendor(answer("", "", status)) as url:
        text = (await ask(url)).error_text
    assert text.count(status[:3]) == 1
    assert said in text
