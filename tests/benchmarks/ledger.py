"""What the ledger costs: ``python -m tests.benchmarks.ledger [CALLS]``.

CPU time of the whole process (all threads) for each call, above that of the bare scripted client;
memory over many calls; reading the keys of many finished calls. Two yardsticks come first: what a
change of thread and a commit cost here by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import queue
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable
from pathlib import Path

import psutil

from aitoolman import LLMLedgerClient, LLMScriptedClient, Message
from aitoolman._datamodel import LLMProviderRequest
from aitoolman._ledger.reader import Ledger
from aitoolman._transport.client import LLMClient

ANSWER = "An answer of the usual length, some four hundred characters. " * 7
PROMPT = "Which of these four classes does the following ticket belong to? " * 10
CALLS = 2000
ROUNDS = 5


def turns(number: int) -> list[Message]:
    return [Message("system", "You sort tickets."), Message("user", f"{PROMPT} ticket {number}")]


async def ask(client: LLMClient, number: int) -> None:
    request = await client.request(model_name="m", messages=turns(number))
    response = await request.response
    assert response.response_text is not ANSWER or response.finish_reason == "stop"


async def one_by_one(client: LLMClient, numbers: range) -> None:
    for number in numbers:
        await ask(client, number)


async def hundred_at_once(client: LLMClient, numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, 100):
        part = range(start, min(start + 100, numbers.stop))
        await asyncio.gather(*[ask(client, number) for number in part])


async def measured(work: Awaitable[object], calls: int) -> float:
    """CPU milliseconds for each call."""
    gc.collect()
    before = time.process_time()
    await work
    return (time.process_time() - before) / calls * 1000


async def overheads(folder: Path) -> None:
    how = {"one by one": one_by_one, "100 at once": hundred_at_once}
    for name, drive in how.items():
        bare, miss, hit = [], [], []
        for turn in range(ROUNDS):
            numbers = range(CALLS)
            inner = LLMScriptedClient(ANSWER)
            bare.append(await measured(drive(inner, numbers), CALLS))
            path = folder / f"{name[:3]}-{turn}.db"
            async with LLMLedgerClient(LLMScriptedClient(ANSWER), path) as client:
                miss.append(await measured(drive(client, numbers), CALLS))
                hit.append(await measured(drive(client, numbers), CALLS))
        base = statistics.median(bare)
        print(f"{name}: bare call {base:.3f} ms")
        report("  a missed call, above the bare one", statistics.median(miss) - base, 0.3)
        report("  a hit, all of it", statistics.median(hit), 0.2)


async def bulk(folder: Path) -> None:
    inner = LLMScriptedClient(ANSWER)
    async with LLMLedgerClient(inner, folder / "bulk.db") as client:
        await hundred_at_once(client, range(CALLS))
        requests = [LLMProviderRequest("c", None, f"r{n}", "m", turns(n)) for n in range(CALLS)]
        times = []
        for _ in range(ROUNDS):
            times.append(await measured(client.lookup(requests), CALLS))
    report("bulk hits, each", statistics.median(times), 0.03)


async def endurance(folder: Path, calls: int) -> None:
    """Memory, and the keys of all those calls."""
    path, process = folder / "long.db", psutil.Process()
    client = LLMLedgerClient(LLMScriptedClient(lambda request: ANSWER), path)
    async with client:
        inner = client.client
        marks = []
        for start in range(0, calls, calls // 10):
            await hundred_at_once(client, range(start, start + calls // 10))
            inner.requests.clear()  # the double keeps what it was asked
            gc.collect()
            marks.append(process.memory_info().rss / 2**20)
    shown = " ".join(f"{mark:.0f}" for mark in marks)
    print(f"memory over {calls} calls (MiB): {shown}; growth after the first tenth: "
          f"{marks[-1] - marks[0]:.1f}")  # fmt: skip
    start = time.perf_counter()
    found = len(Ledger(path).fingerprints())
    report(f"keys of {found} finished calls, s", time.perf_counter() - start, 2.0)
    print(f"file: {path.stat().st_size / 2**20:.0f} MiB")


def report(what: str, value: float, aim: float) -> None:
    print(f"{what}: {value:.3f} (aim {aim}) {'ok' if value < aim else 'MISSED'}")


async def yardsticks(folder: Path) -> None:
    """What no ledger of this kind can do without, on this machine, in this minute."""
    loop, work = asyncio.get_running_loop(), queue.SimpleQueue[asyncio.Future[None] | None]()

    def answer() -> None:
        while (future := work.get()) is not None:
            loop.call_soon_threadsafe(future.set_result, None)

    async def hand_over() -> None:
        for _ in range(CALLS):
            future = loop.create_future()
            work.put(future)
            await future

    async def commit() -> None:
        for _ in range(CALLS):
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO a (text) VALUES (?)", (ANSWER * 4,))
            db.execute("COMMIT")

    thread = threading.Thread(target=answer)
    thread.start()
    there_and_back = await measured(hand_over(), CALLS)
    work.put(None)
    thread.join()
    with contextlib.closing(sqlite3.connect(folder / "plain.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, text TEXT)")
        committed = await measured(commit(), CALLS)
    print(f"yardsticks: to a thread and back {there_and_back:.3f} ms, "
          f"one row committed to a plain table {committed:.3f} ms")  # fmt: skip


async def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        await yardsticks(Path(folder))
        await overheads(Path(folder))
        await bulk(Path(folder))
        await endurance(Path(folder), calls)


if __name__ == "__main__":
    asyncio.run(main())
