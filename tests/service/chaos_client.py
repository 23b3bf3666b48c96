"""A client process for the chaos test: keeps asking, and says how each request ended.

``python -m tests.service.chaos_client ENDPOINTS TOKEN NAME SECONDS`` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

from aitoolman import Message
from aitoolman.zmqclient import LLMZmqClient

PARALLEL = 8


class Sink:
    def __init__(self) -> None:
        self.text = ""
        self.ends = 0

    async def write(self, message: str | None) -> None:
        self.ends += message is None
        self.text += message or ""


async def main(endpoints: str, token: str, name: str, seconds: float) -> None:
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    slowest = 0.0
    end = time.monotonic() + seconds

    async def worker(client: LLMZmqClient, number: int) -> None:
        nonlocal slowest
        count = 0
        while time.monotonic() < end:
            count += 1
            text = f"{name}-{number}-{count}"
            sink, stream = Sink(), count % 2 == 0
            started = time.monotonic()
            request = await client.request(
                "fast", [Message("user", text)], stream=stream, output_channel=sink
            )
            if count % 11 == 0:
                asyncio.get_running_loop().call_later(0.05, request.response.cancel)
            try:
                response = await request.response
            except asyncio.CancelledError:
                ends["cancelled by caller"] += 1
                continue
            slowest = max(slowest, time.monotonic() - started)
            ends[response.finish_reason or "?"] += 1
            if response.finish_reason == "stop":
                if response.response_text != text or sink.text != text:
                    wrong.append(f"{text}: {response.response_text!r}, {sink.text!r}")
            elif not response.error_text:
                wrong.append(f"{text}: no reason")
            if sink.ends != 1:
                wrong.append(f"{text}: {sink.ends} ends")

    async with LLMZmqClient(endpoints, token) as client:
        await asyncio.gather(*(worker(client, number) for number in range(PARALLEL)))
        left = len(client._engine._calls)
    left += len(asyncio.all_tasks()) - 1
    print(json.dumps({"ends": ends, "wrong": wrong, "left": left, "slowest": slowest}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], float(sys.argv[4])))  # type: ignore[arg-type]
