"""The service against its own local client: ``python -m tests.benchmarks.service``.

A server in a process of its own (token, full audit), a vendor in another with prepared answers.
Prints the figures beside their aims; trust the ratios, not the absolutes. On two cores three busy
processes share them, so rates come out low for the service. One call is measured in rounds, the
ways in turn, and the best round of each counts: other work on the machine disturbs the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aitoolman import LLMLocalClient, Message, connect, load_config

from .server import TOKENS

TOKEN = "a-token-for-the-benchmark-alone"
HI = [Message("user", "Which department should read this ticket?")]
AUDITS = ("metadata", "full")
ROWS = 50_000
Way = Callable[[], Awaitable[None]]
ECHO = """
import asyncio, sys, zmq, zmq.asyncio

async def main():
    socket = zmq.asyncio.Context().socket(zmq.ROUTER)
    socket.bind(sys.argv[1])
    print("ready", flush=True)
    while True:
        await socket.send_multipart(await socket.recv_multipart())

asyncio.run(main())
"""


class Sink:
    """Takes text."""

    async def write(self, message: str | None) -> None:
        """Nothing to do."""


def start(*command: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def write_config(folder: Path, port: str, audit: str) -> Path:
    path = folder / f"{audit}.toml"
    path.write_text(
        f"""
[server]
zmq_router_rpc = "ipc://{folder}/{audit}"
zmq_auth_token = "{TOKEN}"
audit = "{audit}"
[ledger]
path = "{folder}/{audit}.db"
[default]
parallel = 1000
adaptive = false
timeout = 30
[api.narrow]
url = "http://127.0.0.1:{port}/v1/chat/completions"
model = "slow"
parallel = 20
[api.plain]
url = "http://127.0.0.1:{port}/v1/chat/completions"
model = "plain"
[api.stream]
url = "http://127.0.0.1:{port}/v1/chat/completions"
model = "tokens"
"""
    )
    return path


async def one(ways: dict[str, Way]) -> dict[str, float]:
    """Microseconds of one call after the other, each way: the best round's median."""
    best = dict.fromkeys(ways, math.inf)
    for way in ways.values():
        await times_of(way, 100)
    for _ in range(20):
        for name, way in ways.items():
            best[name] = min(best[name], statistics.median(await times_of(way, 50)))
    return best


async def times_of(way: Way, count: int) -> list[float]:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await way()
        times.append((time.perf_counter() - started) * 1e6)
    return times


def call(client: Any, model: str = "plain") -> Way:
    async def ask() -> None:
        response = await (await client.request(model, HI)).response
        assert response.finish_reason == "stop", response

    return ask


async def rate(client: Any, concurrency: int) -> float:
    """Calls a second."""
    total = max(3 * concurrency, 2_000)
    left = iter(range(total))

    async def worker() -> None:
        for _ in left:
            response = await (await client.request("plain", HI)).response
            assert response.finish_reason == "stop", response

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return total / (time.perf_counter() - started)


async def stream(client: Any) -> float:
    """Tokens a second of one stream."""
    best = 0.0
    for _ in range(10):
        started = time.perf_counter()
        request = await client.request("stream", HI, stream=True, output_channel=Sink())
        await request.response
        best = max(best, TOKENS / (time.perf_counter() - started))
    return best


@contextlib.asynccontextmanager
async def echo(endpoint: str) -> AsyncIterator[Way]:
    """A bare round trip through pyzmq in asyncio."""
    import zmq
    import zmq.asyncio

    context = zmq.asyncio.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(endpoint)

    async def ask() -> None:
        await socket.send_multipart([b"header", b"x" * 200])
        await socket.recv_multipart()

    yield ask
    context.destroy(linger=0)


async def measure(client: Any) -> dict[str, float]:
    await rate(client, 100)  # warms up
    return {
        "calls/s, 100 in flight": max([await rate(client, 100) for _ in range(3)]),
        "calls/s, 1,000 in flight": max([await rate(client, 1_000) for _ in range(3)]),
        "one stream, tokens/s": await stream(client),
    }


async def fairness(batch: Any, person: Any) -> dict[str, float]:
    """Milliseconds of a person's calls to a vendor that takes 100, 20 at once, in other company."""
    narrow = call(person, "narrow")
    alone = await times_of(narrow, 10)
    rows = [await batch.request("narrow", HI) for _ in range(ROWS)]
    beside = await times_of(narrow, 20)
    await batch.cancel_all()
    await asyncio.gather(*(row.response for row in rows))
    return {
        "alone": statistics.median(alone) / 1e3,
        "median": statistics.median(beside) / 1e3,
        "worst": max(beside) / 1e3,
    }


async def main() -> None:
    processes = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            vendor, port = start("-m", "tests.benchmarks.server")
            processes.append(vendor)
            echoer, _ = start("-c", ECHO, f"ipc://{folder}/echo")
            processes.append(echoer)
            paths = {audit: write_config(folder, port, audit) for audit in AUDITS}
            for path in paths.values():
                processes.append(start("-m", "aitoolman", "server", "-c", str(path))[0])
            settings = dict(load_config(paths["full"]))
            del settings["server"], settings["ledger"]
            async with contextlib.AsyncExitStack() as stack:
                bare = await stack.enter_async_context(echo(f"ipc://{folder}/echo"))
                clients: dict[str, Any] = {
                    audit: connect(f"ipc://{folder}/{audit}", token=TOKEN) for audit in AUDITS
                } | {"local": LLMLocalClient(settings)}
                for client in clients.values():
                    await stack.enter_async_context(client)
                ones = await one({"echo": bare} | {n: call(c) for n, c in clients.items()})
                results = {name: await measure(client) for name, client in clients.items()}
                other = connect(f"ipc://{folder}/full", token=TOKEN)
                await stack.enter_async_context(other)
                waits = await fairness(clients["full"], other)
            report(ones, results, waits)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def report(
    ones: dict[str, float], results: dict[str, dict[str, float]], waits: dict[str, float]
) -> None:
    bare = ones.pop("echo")
    print(f"a pyzmq echo: {bare:.0f} us\n")
    print(f"{'':28}" + "".join(f"{name:>12}" for name in results))
    print(f"{'one call, us':28}" + "".join(f"{ones[name]:12,.0f}" for name in results))
    for figure in results["local"]:
        print(f"{figure:28}" + "".join(f"{r[figure]:12,.0f}" for r in results.values()))
    print()
    for audit in AUDITS:
        added = ones[audit] - ones["local"]
        print(f"audit {audit}: adds {added:.0f} us = {added / bare:.1f} echoes (aim: at most 2)")
        for figure, local in results["local"].items():
            print(f"  {figure}: {results[audit][figure] / local:.2f} of local (aim: at least 0.5)")
    print(
        f"\na person's call of 100 ms, 20 at once: {waits['alone']:.0f} ms alone; beside a batch of"
        f" {ROWS:,} rows {waits['median']:.0f} ms, at worst {waits['worst']:.0f}"
    )


if __name__ == "__main__":
    asyncio.run(main())
