"""A process that asks many questions through one ledger and says what it was told.

``python -m tests.ledger.worker LEDGER URL QUESTIONS SEED``: one line for each answer, written after
it was given: the question, what the answer was, and whether it came from the ledger.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

from aitoolman import LLMClient, connect

from .helpers import ask


async def main(path: str, url: str, questions: int, seed: int) -> None:
    config = {
        "default": {"parallel": 8, "max_retries": 0},
        "api": {"m": {"url": url, "model": "big"}},
        "ledger": {"mode": "read_write", "path": path},
    }
    order = list(range(questions))
    random.Random(seed).shuffle(order)
    async with connect(config) as client:
        slots = asyncio.Semaphore(8)
        await asyncio.gather(*[one(client, slots, number) for number in order])


async def one(client: LLMClient, slots: asyncio.Semaphore, number: int) -> None:
    async with slots:
        answer = await ask(client, f"question {number}")
    line = f"{number}\t{answer.response_text}\t{answer.finish_reason}\t{answer.from_ledger}\n"
    os.write(1, line.encode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
