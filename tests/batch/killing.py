"""A batch in a process of its own, and a server in another that counts each row it is asked."""

from __future__ import annotations

import collections
import csv
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from ..fake_process import ROOT, FakeLLMProcess

PARALLEL = 20
WINDOW = PARALLEL + 4 + PARALLEL // 8
"""Rows that may be under way when a process is killed."""


def write_project(folder: Path, fake: FakeLLMProcess, rows: int) -> None:
    """Configuration, prompts and rows."""
    (folder / "llm.toml").write_text(
        f"[default]\nparallel = {PARALLEL}\nmax_retries = 0\n[api.fast]\n"
        f'url = "{fake.openai_url}"\nmodel = "m"\napi_key = "k"\n'
    )
    (folder / "prompts.toml").write_text(
        '[module.ask]\nmodel = "fast"\ntemplate.user = "Q: {{ text }}"\n'
    )
    with (folder / "in.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "body"])
        writer.writerows([n, f"row {n}"] for n in range(rows))


def command(*more: str) -> list[str]:
    """The command of the issue's form, run in the project's folder."""
    words = "batch -c llm.toml -p prompts.toml -m ask --columns text=body in.csv -q"
    return [sys.executable, "-m", "aitoolman", *words.split(), *more]


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*more), cwd=folder, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run_on(process: subprocess.Popen[str], fake: FakeLLMProcess, rows: int) -> None:
    """Wait until the server has seen so many more rows, or the process has ended."""
    goal = fake.stats()["requests_seen"] + rows
    end = time.monotonic() + 60
    while process.poll() is None and fake.stats()["requests_seen"] < goal:
        assert time.monotonic() < end, "the batch makes no progress"
        time.sleep(0.005)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def random_rows(rows: int, kills: int) -> list[int]:
    """How far to go before each kill, all of them within the rows."""
    return [random.randint(1, max(2, rows // (kills + 1))) for _ in range(kills)]


def repeated(fake: FakeLLMProcess, rows: int) -> int:
    """How many requests came on top of one for each row; none is missing."""
    asked = collections.Counter(seen["body"]["messages"][-1]["content"] for seen in fake.requests())
    assert asked.keys() == {f"Q: row {n}" for n in range(rows)}
    return sum(asked.values()) - rows


def assert_whole(path: Path, rows: int) -> None:
    """Every row once, in order, with its own answer."""
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["id"] for row in found] == [str(n) for n in range(rows)]
    assert [row["ask"] for row in found] == [f"Q: row {n}" for n in range(rows)]
    assert {row["status"] for row in found} == {"stop"}
