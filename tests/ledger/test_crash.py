"""Processes that die: no acknowledged answer is lost, none is there twice, the file is sound."""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from aitoolman._ledger.reader import Ledger
from tests.fake_process import FakeLLMProcess
from tests.vendors.reply import Reply

ROOT = Path(__file__).resolve().parent.parent.parent


class Ack(NamedTuple):
    """An answer that a process had told of before it went on."""

    question: int
    text: str
    status: str
    from_ledger: bool


class Worker:
    """One process, and what it acknowledged."""

    def __init__(self, path: Path, url: str, questions: int, seed: int, out: Path) -> None:
        self.out = out
        with out.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.ledger.worker", path, url, str(questions), str(seed)],
                cwd=ROOT,
                stdout=file,
            )

    def acks(self) -> list[Ack]:
        lines = self.out.read_text().split("\n")[:-1]
        fields = [line.split("\t") for line in lines]
        return [Ack(int(f[0]), f[1], f[2], f[3] == "True") for f in fields]

    def wait_for_ack(self, timeout: float = 15.0) -> None:
        end = time.monotonic() + timeout
        while not self.out.stat().st_size and self.process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.005)


@pytest.fixture
def vendor() -> Iterator[FakeLLMProcess]:
    with FakeLLMProcess() as server:
        server.script(Reply(delay=0.02))
        yield server


def run_and_kill(tmp_path, vendor, *, kills, questions, seed):
    """Four processes at once on one ledger, killed at random moments and started again."""
    dice, path = random.Random(seed), tmp_path / "ledger.db"
    numbers = iter(range(100_000))

    def worker() -> Worker:
        number = next(numbers)
        out = tmp_path / f"acks-{number}"
        return Worker(path, vendor.openai_url, questions, seed + number, out)

    running = [worker() for _ in range(4)]
    every = list(running)
    try:
        for _ in range(kills):
            victim = dice.choice(running)
            victim.wait_for_ack()
            time.sleep(dice.random() * 0.2)
            victim.process.kill()
            victim.process.wait()
            running.remove(victim)
            running.append(worker())
            every.append(running[-1])
        codes = [w.process.wait(120) for w in running]
    finally:
        for w in running:
            w.process.kill()
            w.process.wait()
    assert codes == [0, 0, 0, 0]
    return path, [ack for w in every for ack in w.acks()]


def check(path, acks, vendor, *, kills, questions):
    """What must hold however the processes died."""
    ledger = Ledger(path)
    assert ledger.verify() == []
    assert {a.status for a in acks} == {"stop"}
    with ledger.opened() as db:
        answers = db.execute(
            "SELECT json_extract(CAST(request AS TEXT), '$.messages[0].content'),"
            " json_extract(CAST(response AS TEXT), '$.response_text') FROM answers"
        ).fetchall()
    kept = collections.Counter(question for question, _ in answers)
    assert set(kept.values()) == {1}, "an answer is there twice"
    assert len(kept) == questions
    texts = dict(answers)
    for ack in acks:
        assert texts[f"question {ack.question}"] == ack.text, "an acknowledged answer was lost"
    paid = collections.Counter(
        (r["body"] or {}).get("messages", [{}])[-1].get("content") for r in vendor.requests()
    )
    assert sum(paid.values()) <= questions + 8 * kills
    assert sum(1 for a in acks if not a.from_ledger) <= questions


@pytest.mark.timeout(90)
def test_killed_writers_lose_nothing(tmp_path, vendor):
    """Ten kills of four processes that work on the same questions."""
    path, acks = run_and_kill(tmp_path, vendor, kills=10, questions=400, seed=1)
    check(path, acks, vendor, kills=10, questions=400)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_writers_killed_many_times_lose_nothing(tmp_path, vendor):
    """Two hundred kills."""
    path, acks = run_and_kill(tmp_path, vendor, kills=200, questions=20_000, seed=2)
    check(path, acks, vendor, kills=200, questions=20_000)


def test_a_dead_owner_is_taken_over_at_once(tmp_path, vendor):
    """Killed with a claim, long before its lease ends."""
    path = tmp_path / "ledger.db"
    holding(path, vendor, tmp_path, signal.SIGKILL).wait()
    heir = Worker(path, vendor.openai_url, 1, 0, tmp_path / "heir")
    assert heir.process.wait(10) == 0
    assert [a.text for a in heir.acks()] == ["taken over"]


@pytest.mark.long
@pytest.mark.timeout(60)
def test_a_frozen_owner_is_taken_over_after_its_lease_and_may_come_back(tmp_path, vendor):
    """Stopped with a claim: the heir asks after the lease; the owner's late answer is kept, too."""
    path = tmp_path / "ledger.db"
    owner = holding(path, vendor, tmp_path, signal.SIGSTOP)
    heir = Worker(path, vendor.openai_url, 1, 0, tmp_path / "heir")
    assert heir.process.wait(40) == 0
    assert [a.text for a in heir.acks()] == ["taken over"]
    os.kill(owner.pid, signal.SIGCONT)
    vendor.release()
    assert owner.wait(20) == 0
    assert Ledger(path).verify() == []
    assert [r.status for r in Ledger(path).calls()] == ["stop", "stop"]


def holding(path, vendor, tmp_path, what) -> subprocess.Popen:
    """A process that got `what` while it waited for the only question's answer."""
    vendor.script(Reply("late", hang=True))
    owner = Worker(path, vendor.openai_url, 1, 0, tmp_path / "owner").process
    vendor.wait_for(lambda stats: stats["open_requests"] == 1)
    os.kill(owner.pid, what)
    vendor.script(Reply("taken over"))
    return owner
