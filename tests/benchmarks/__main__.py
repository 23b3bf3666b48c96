"""The race: ``python -m tests.benchmarks [client or figure ...]`` prints one table, all in one run.

Needs the extra ``dev``. Each figure is measured in a process of its own, against one server with
prepared answers on loopback. Trust the ratios, not the absolutes.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time

from .clients import CLIENTS, IMPORTS

FIGURES = {
    "one": "one call, us",
    "rate100": "calls/s, 100 in flight",
    "rate1000": "calls/s, 1,000 in flight",
    "batch": "2,000 x 100 ms at 200: wall / ideal",
    "stream1": "CPU ms / 1,000 tokens, 1 stream",
    "stream100": "the same, 100 streams",
    "first": "to first token, us",
    "memory": "KB per call in flight",
    "import": "import ms",
}


async def one(client, _):
    """Microseconds of one call after the other, the median of five rounds."""
    for _ in range(50):
        await client.call("plain")
    rounds = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(200):
            await client.call("plain")
        rounds.append((time.perf_counter() - started) / 200 * 1e6)
    return statistics.median(rounds)


async def _rate(client, concurrency):
    total = max(3 * concurrency, 1500)
    await _flood(client, "plain", concurrency, concurrency)
    started = time.perf_counter()
    await _flood(client, "plain", concurrency, total)
    return total / (time.perf_counter() - started)


async def _flood(client, model, concurrency, total):
    """`total` calls by `concurrency` workers."""
    left = iter(range(total))

    async def worker():
        for _ in left:
            await client.call(model)

    await asyncio.gather(*(worker() for _ in range(concurrency)))


async def rate100(client, _):
    return await _rate(client, 100)


async def rate1000(client, _):
    return await _rate(client, 1000)


async def batch(client, _):
    await _flood(client, "plain", 200, 200)
    started = time.perf_counter()
    await _flood(client, "slow", 200, 2000)
    return (time.perf_counter() - started) / 1.0


async def _stream_cpu(client, streams, rounds):
    await client.stream("tokens", lambda text: None)
    started = time.process_time()
    for _ in range(rounds):
        await asyncio.gather(*(client.stream("tokens", lambda text: None) for _ in range(streams)))
    return (time.process_time() - started) * 1e3 / (rounds * streams)


async def stream1(client, _):
    return await _stream_cpu(client, 1, 10)


async def stream100(client, _):
    return await _stream_cpu(client, 100, 1)


async def first(client, _):
    """Microseconds from the call to the first fragment, the median of 200 streams."""
    times = []
    for _ in range(200):
        started, seen = time.perf_counter(), []

        def note(text, seen=seen):
            if not seen:
                seen.append(time.perf_counter())

        await client.stream("paced", note)
        times.append((seen[0] - started) * 1e6)
    return statistics.median(times)


async def memory(client, _):
    """Growth of the process's largest size with 1,000 calls in flight."""
    await client.call("plain")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await _flood(client, "slow", 1000, 1000)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000


MEASURES = {
    f.__name__: f for f in (one, rate100, rate1000, batch, stream1, stream100, first, memory)
}
CONCURRENCY = {"rate100": 100, "rate1000": 1000, "batch": 200, "memory": 1000}


def import_time(name: str) -> float:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", IMPORTS[name]], check=True)
        bare = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        times.append((bare - started) - (time.perf_counter() - bare))
    return statistics.median(times) * 1e3


async def measure(name: str, figure: str, port: int) -> float | None:
    async with CLIENTS[name](port, CONCURRENCY.get(figure, 100)) as client:
        needs_stream = figure in ("stream1", "stream100", "first")
        if client.stream is None and (needs_stream or figure in CONCURRENCY):
            return None
        return await MEASURES[figure](client, port)


def in_own_process(name: str, figure: str, port: int) -> float | None:
    if figure == "import":
        return import_time(name)
    command = [sys.executable, "-m", "tests.benchmarks", "--measure", name, figure, str(port)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except subprocess.TimeoutExpired:
        return None
    except subprocess.CalledProcessError as exc:
        print(exc.stderr, file=sys.stderr)
        return None
    return json.loads(done.stdout)


def main(words: list[str]) -> None:
    if unknown := set(words).difference(CLIENTS, FIGURES):
        sys.exit(f"unknown: {', '.join(unknown)}; known: {', '.join([*CLIENTS, *FIGURES])}")
    names = [word for word in words if word in CLIENTS] or list(CLIENTS)
    figures = [word for word in words if word in FIGURES] or list(FIGURES)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.server"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    port = int(server.stdout.readline())
    try:
        print("| figure | " + " | ".join(names) + " |")
        print("|---|" + "---|" * len(names))
        for figure in figures:
            values = [in_own_process(name, figure, port) for name in names]
            cells = ["-" if v is None else f"{v:,.2f}" if v < 10 else f"{v:,.0f}" for v in values]
            print(f"| {FIGURES[figure]} | " + " | ".join(cells) + " |", flush=True)
    finally:
        server.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        _, _, name, figure, port = sys.argv
        print(json.dumps(asyncio.run(measure(name, figure, int(port)))))
    else:
        main(sys.argv[1:])
