"""What a batch costs: ``python -m tests.benchmarks.batch [ROWS]``.

Against the server with prepared answers: the wall time of 2,000 rows that take 100 ms each, beside
the ideal and beside raw aiohttp; own CPU for each row; memory and the time to resume of many rows.
Every figure is of a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aitoolman

from .clients import CLIENTS

ROWS = 50_000
SLOW_ROWS = 2000
LATENCY = 0.1
ROUNDS = 3
PROMPTS = {"module": {"ask": {"template": {"user": "Sort this: {{ text }}"}}}}


def main() -> None:
    """Print the table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        port = int(server.stdout.readline())
        for parallel in (20, 200):
            ideal = SLOW_ROWS / parallel * LATENCY
            wall, bare = measured("slow", port, parallel), measured("bare", port, parallel)
            print(
                f"{SLOW_ROWS:,} rows x {LATENCY * 1000:.0f} ms at {parallel:>3}:"
                f" {wall['wall'] / ideal:.3f} x ideal, raw aiohttp {bare['wall'] / ideal:.3f};"
                f" {wall['cpu'] / SLOW_ROWS * 1000:.2f} ms of CPU a row",
                flush=True,
            )
        with tempfile.TemporaryDirectory() as folder:
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            found = run("tests.batch.scale", url, str(rows), folder)
        print(
            f"{rows:,} rows: run {found['run']:.1f} s, {found['megabytes']:.0f} MB more,"
            f" frame {found['frame']:.2f} s; resumed in {found['resume']:.2f} s"
            f" ({found['resume_cpu']:.2f} s of CPU)"
        )
    finally:
        server.kill()


def run(module: str, *arguments: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def measured(what: str, port: int, parallel: int) -> dict[str, float]:
    """The median of some rounds, by wall time."""
    rounds = [
        run("tests.benchmarks.batch", "measure", what, str(port), str(parallel))
        for _ in range(ROUNDS)
    ]
    middle = statistics.median_low([found["wall"] for found in rounds])
    return next(found for found in rounds if found["wall"] == middle)


async def slow(port: int, parallel: int) -> dict[str, float]:
    """One batch with a ledger of its own; planning and connecting are part of it."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    config = {"api": {"slow": {"url": url, "model": "slow", "parallel": parallel}}}
    async with aitoolman.LLMLocalClient(config) as client:
        module = aitoolman.LLMApplication(client, PROMPTS)["ask"]
        with tempfile.TemporaryDirectory() as folder:
            ledger = Path(folder) / "ledger.db"
            rows = [{"text": f"row {n}"} for n in range(SLOW_ROWS)]
            await module.batch(rows[:1], _model_name="slow", ledger="off", progress=False)
            start, cpu = time.perf_counter(), time.process_time()
            batch = await module.batch(rows, _model_name="slow", ledger=ledger, progress=False)
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    assert batch.summary()["asked"] == SLOW_ROWS
    return {"wall": wall, "cpu": cpu}


async def bare(port: int, parallel: int) -> dict[str, float]:
    """The same calls over raw aiohttp."""
    async with CLIENTS["aiohttp"](port, parallel) as client:
        await client.call("slow")
        left = iter(range(SLOW_ROWS))

        async def worker() -> None:
            for _ in left:
                await client.call("slow")

        start, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(parallel)))
        return {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        work = {"slow": slow, "bare": bare}[sys.argv[2]]
        print(json.dumps(asyncio.run(work(int(sys.argv[3]), int(sys.argv[4])))))
    else:
        main()
