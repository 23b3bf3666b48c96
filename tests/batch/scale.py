"""A big batch in a process of its own, which prints what it took: ``python -m tests.batch.scale``.

    python -m tests.batch.scale URL ROWS FOLDER

runs a batch over ROWS rows, then resumes it in full, and prints one JSON object.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path

import pandas as pd
import psutil

import aitoolman

__all__ = ["measure"]


def resident() -> float:
    """Megabytes of this process."""
    gc.collect()
    return psutil.Process().memory_info().rss / 1e6


async def measure(url: str, rows: int, folder: Path) -> dict[str, float]:
    """Megabytes of growth over the input, seconds of run, resume and plan."""
    frame = pd.DataFrame({"text": [f"Row {n}: {'some words of a text ' * 8}" for n in range(rows)]})
    api = {"url": url, "model": "m", "parallel": 50, "price": {"input": 1.0, "output": 2.0}}
    prompts = {"module": {"ask": {"model": "fast", "template": {"user": "Sort this: {{ text }}"}}}}
    found: dict[str, float] = {}
    async with aitoolman.LLMLocalClient({"api": {"fast": api}}) as client:
        module = aitoolman.LLMApplication(client, prompts)["ask"]
        await module.batch(frame.head(3), ledger="off", progress=False)
        before, start = resident(), time.perf_counter()
        batch = await module.batch(frame, ledger=folder / "ledger.db", progress=False)
        found["run"], start = time.perf_counter() - start, time.perf_counter()
        result = batch.frame
        found["frame"] = time.perf_counter() - start
        found["megabytes"] = resident() - before
        assert len(result) == rows
        assert batch.summary()["answered"] == rows
        del batch, result
        start, cpu = time.perf_counter(), time.process_time()
        again = await module.batch(frame, ledger=folder / "ledger.db", progress=False)
        found["resume"] = time.perf_counter() - start
        found["resume_cpu"] = time.process_time() - cpu
        assert again.summary()["from_ledger"] == rows
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))))
