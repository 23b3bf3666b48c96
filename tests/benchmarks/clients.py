"""The clients of the race, each as two coroutines: one whole call, one stream.

Every client sends the same prompt and hands its caller the answer's text; a stream's text is given
fragment by fragment to `on_text`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

PROMPT = "Which department should read this ticket? I was charged twice this month."


class Client(NamedTuple):
    call: Callable
    """``await call(model) -> text``."""
    stream: Callable
    """``await stream(model, on_text)``."""


def body(model: str, stream: bool = False) -> dict:
    message = {"role": "user", "content": PROMPT}
    return {"model": model, "messages": [message], **({"stream": True} if stream else {})}


@contextlib.asynccontextmanager
async def raw_socket(port: int, concurrency: int) -> AsyncIterator[Client]:
    """The floor: one connection, bytes in and out (whole calls only)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def call(model):
        data = json.dumps(body(model)).encode()
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return await reader.readexactly(length)

    yield Client(call, None)
    writer.close()


@contextlib.asynccontextmanager
async def raw_aiohttp(port: int, concurrency: int) -> AsyncIterator[Client]:
    import aiohttp

    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def call(model):
            async with session.post(url, json=body(model)) as reply:
                data = json.loads(await reply.read())
                return data["choices"][0]["message"]["content"]

        async def stream(model, on_text):
            async with session.post(url, json=body(model, True)) as reply:
                async for line in reply.content:
                    if line.startswith(b"data: ") and line != b"data: [DONE]\n":
                        on_text(json.loads(line[6:])["choices"][0]["delta"].get("content"))

        yield Client(call, stream)


@contextlib.asynccontextmanager
async def httpx_aiohttp(port: int, concurrency: int) -> AsyncIterator[Client]:
    import httpx
    import httpx_sse
    from httpx_aiohttp import HttpxAiohttpClient

    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with HttpxAiohttpClient(limits=limits, timeout=60) as client:

        async def call(model):
            reply = await client.post(url, json=body(model))
            return reply.json()["choices"][0]["message"]["content"]

        async def stream(model, on_text):
            request = httpx_sse.aconnect_sse(client, "POST", url, json=body(model, True))
            async with request as source:
                async for event in source.aiter_sse():
                    if event.data != "[DONE]":
                        on_text(json.loads(event.data)["choices"][0]["delta"].get("content"))

        yield Client(call, stream)


@contextlib.asynccontextmanager
async def openai_sdk(port: int, concurrency: int) -> AsyncIterator[Client]:
    import openai

    client = openai.AsyncOpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1")
    messages = body("")["messages"]

    async def call(model):
        reply = await client.chat.completions.create(model=model, messages=messages)
        return reply.choices[0].message.content

    async def stream(model, on_text):
        reply = await client.chat.completions.create(model=model, messages=messages, stream=True)
        async for chunk in reply:
            on_text(chunk.choices[0].delta.content)

    yield Client(call, stream)
    await client.close()


@contextlib.asynccontextmanager
async def aitoolman(port: int, concurrency: int) -> AsyncIterator[Client]:
    """This library as its documentation uses it: a module, one application per call."""
    import aitoolman

    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    config = {
        "default": {"parallel": concurrency},
        "api": {name: {"url": url, "model": name} for name in ("plain", "slow", "tokens", "paced")},
    }
    prompts = {
        "module_default": {"output_channel": "", "reasoning_channel": ""},
        "module": {
            name: {"model": name, "template": {"user": "{{ticket}}"}}
            for name in ("plain", "slow", "tokens", "paced")
        },
    }
    async with aitoolman.LLMLocalClient(config) as client:
        factory = aitoolman.LLMApplication.factory(client, prompts)

        async def call(model):
            result = await factory()[model](ticket=PROMPT)
            result.raise_for_status()
            return result.data

        async def stream(model, on_text):
            app = factory()
            task = asyncio.ensure_future(
                app[model](ticket=PROMPT, _stream=True, _output_channel="stdout")
            )
            channel = app.channels["stdout"]
            while (fragment := await channel.read()) is not None:
                on_text(fragment)
            (await task).raise_for_status()

        yield Client(call, stream)


CLIENTS = {
    "raw socket": raw_socket,
    "aiohttp": raw_aiohttp,
    "httpx + aiohttp": httpx_aiohttp,
    "openai SDK": openai_sdk,
    "aitoolman": aitoolman,
}
IMPORTS = {
    "raw socket": "import asyncio",
    "aiohttp": "import aiohttp",
    "httpx + aiohttp": "import httpx, httpx_aiohttp",
    "openai SDK": "import openai",
    "aitoolman": "import aitoolman",
}
