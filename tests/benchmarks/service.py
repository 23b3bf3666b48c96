"""The service against its own local client: ``python -m tests.benchmarks.service``.

A server in a process of its own (token, full audit), a vendor in another with prepared answers.
Prints the figures beside their aims; trust the ratios, not the absolutes. On two cores three busy
processes share them, so rates come out low for the service.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aitoolman import LLMLocalClient, Message, connect, load_config

from .server import TOKENS

TOKEN = "a-token-for-the-benchmark-alone"
HI = [Message("user", "Which department should read this ticket?")]
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
[api.plain]
url = "http://127.0.0.1:{port}/v1/chat/completions"
model = "plain"
[api.stream]
url = "http://127.0.0.1:{port}/v1/chat/completions"
model = "tokens"
"""
    )
    return path


async def one(client: Any) -> float:
    """Microseconds of one call after the other, the median."""
    times = []
    for _ in range(400):
        started = time.perf_counter()
        await (await client.request("plain", HI)).response
        times.append((time.perf_counter() - started) * 1e6)
    return statistics.median(times[100:])


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


async def echo(endpoint: str) -> float:
    """Microseconds of a bare round trip through pyzmq in asyncio."""
    import zmq
    import zmq.asyncio

    context = zmq.asyncio.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(endpoint)
    times = []
    for _ in range(1_000):
        started = time.perf_counter()
        await socket.send_multipart([b"header", b"x" * 200])
        await socket.recv_multipart()
        times.append((time.perf_counter() - started) * 1e6)
    context.destroy(linger=0)
    return statistics.median(times[100:])


async def measure(client: Any) -> dict[str, float]:
    await rate(client, 100)  # warms up
    return {
        "one call, us": await one(client),
        "calls/s, 100 in flight": max([await rate(client, 100) for _ in range(3)]),
        "calls/s, 1,000 in flight": max([await rate(client, 1_000) for _ in range(3)]),
        "one stream, tokens/s": await stream(client),
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
            bare = await echo(f"ipc://{folder}/echo")
            results = {}
            for audit in ("metadata", "full"):
                path = write_config(folder, port, audit)
                server, _ = start("-m", "aitoolman", "server", "-c", str(path))
                processes.append(server)
                async with connect(f"ipc://{folder}/{audit}", token=TOKEN) as client:
                    results[audit] = await measure(client)
            settings = dict(load_config(path))
            del settings["server"], settings["ledger"]
            async with LLMLocalClient(settings) as client:
                results["local"] = await measure(client)
            report(results, bare)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def report(results: dict[str, dict[str, float]], bare: float) -> None:
    print(f"a pyzmq echo: {bare:.0f} us\n")
    print(f"{'':28}" + "".join(f"{name:>12}" for name in results))
    for figure in results["local"]:
        print(f"{figure:28}" + "".join(f"{r[figure]:12,.0f}" for r in results.values()))
    local = results["local"]
    print()
    for audit in ("metadata", "full"):
        mine = results[audit]
        added = mine["one call, us"] - local["one call, us"]
        print(f"audit {audit}: adds {added:.0f} us = {added / bare:.1f} echoes (aim: at most 2)")
        for figure in list(local)[1:]:
            print(f"  {figure}: {mine[figure] / local[figure]:.2f} of local (aim: at least 0.5)")


if __name__ == "__main__":
    asyncio.run(main())
