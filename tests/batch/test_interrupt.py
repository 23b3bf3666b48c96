"""Interrupts and Stop: the part that is there is right, nothing is left running, it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import threading

import pytest

import aitoolman

from ..fake_process import FakeLLMProcess
from ..vendors.reply import Reply
from .killing import assert_whole, environment, run_on, start, write_project

TIMES = [pytest.param(10, id="10"), pytest.param(50, id="50", marks=pytest.mark.long)]
ROWS, PARALLEL = 120, 5
WINDOW = PARALLEL + 4
"""Rows that may be under way."""


def assert_right_part(batch):
    """Every row has its own answer or is open."""
    for n, row in enumerate(batch.frame):
        assert row["text"] == f"row {n}"
        assert (row["status"], row["ask"]) in [("stop", f"Q: row {n}"), ("pending", None)]


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("how", ["cancel", "stop"])
@pytest.mark.parametrize("times", TIMES)
async def test_a_run_ended_at_any_moment_goes_on(make_app, fake_llm, times, how):
    """Cancelled, or stopped by the button; then run to the end, each row asked once or again."""
    for _ in range(times):
        fake_llm.reset()
        fake_llm.script(lambda seen: Reply(delay=0.002))
        async with make_app(parallel=PARALLEL) as app:
            plan = await app["ask"].plan([{"text": f"row {n}"} for n in range(ROWS)], ledger="off")
            running = asyncio.create_task(plan.run(progress=False))
            goal = random.randrange(ROWS)
            if goal:
                await fake_llm.reaches(lambda fake, goal=goal: fake.requests_seen >= goal)
            if how == "stop":
                threading.Thread(target=plan.stop).start()
                assert await running is plan.batch
            else:
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
            await fake_llm.reaches(lambda fake: fake.open_requests == 0, timeout=2)
            assert_right_part(plan.batch)
            batch = await plan.run(progress=False)
        assert batch.complete
        assert [row["ask"] for row in batch.frame] == [f"Q: row {n}" for n in range(ROWS)]
        assert fake_llm.requests_seen <= ROWS + WINDOW


async def test_stop_ends_the_requests_within_half_a_second(make_app, fake_llm):
    """As seen at the server; the partial batch comes back."""
    fake_llm.script(Reply(hang=True))
    async with make_app(parallel=4) as app:
        plan = await app["ask"].plan([f"row {n}" for n in range(50)])
        running = asyncio.create_task(plan.run(progress=False))
        await fake_llm.reaches(lambda fake: fake.open_requests == 4)
        plan.stop()
        await fake_llm.reaches(lambda fake: fake.open_requests == 0, timeout=0.5)
        assert (await running).summary()["pending"] == 50


async def test_a_batch_on_another_loop_is_cancelled_there(fake_llm):
    """A client that lives on the background loop: its requests end before the caller goes on."""
    client = aitoolman.connect(
        {"api": {"fast": {"url": fake_llm.openai_url, "model": "m", "parallel": 4}}}
    )
    app = aitoolman.LLMApplication(
        client, {"module": {"ask": {"model": "fast", "template": {"user": "Q: {{ text }}"}}}}
    )
    fake_llm.script(Reply(hang=True))
    plan = await app["ask"].plan([f"row {n}" for n in range(50)])
    running = asyncio.create_task(plan.run(progress=False))
    await fake_llm.reaches(lambda fake: fake.open_requests == 4)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await fake_llm.reaches(lambda fake: fake.open_requests == 0, timeout=0.5)
    fake_llm.script(Reply("fine"))
    assert (await plan.run(progress=False)).complete
    await client.close()


SCRIPT = """
import aitoolman, asyncio
async def main():
    async with aitoolman.connect("llm.toml") as client:
        app = aitoolman.LLMApplication(client, aitoolman.load_config("prompts.toml"))
        plans.append(await app["ask"].plan([f"row {n}" for n in range(1000)]))
        await plans[0].run()
plans = []
try:
    asyncio.run(main())
except KeyboardInterrupt:
    batch = plans[0].batch
    counts = batch.summary()
    assert 0 < counts["answered"] < 1000 and not batch.complete, counts
    assert counts["pending"] + counts["answered"] == 1000
    assert len(batch.frame) == 1000
    print("partial kept")
"""

SYNC_SCRIPT = """
import aitoolman
app = aitoolman.LLMApplication(aitoolman.connect("llm.toml"), aitoolman.load_config("prompts.toml"))
plan = app.sync["ask"].plan([f"row {n}" for n in range(1000)])
try:
    plan.sync.run()
except KeyboardInterrupt:
    assert 0 < plan.batch.summary()["answered"] < 1000
    print("partial kept")
"""


@pytest.mark.parametrize("script", [SCRIPT, SYNC_SCRIPT], ids=["asyncio", "sync"])
def test_ctrl_c_in_a_script_keeps_what_is_there(tmp_path, script):
    """``plan.batch`` holds it when KeyboardInterrupt is caught."""
    with FakeLLMProcess("--delay", "0.02") as fake:
        write_project(tmp_path, fake, 1)
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script], cwd=tmp_path, env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        run_on(process, fake, 60)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=15)
        assert out.strip() == "partial kept", errors
        fake.wait_for(lambda stats: stats["open_requests"] == 0, timeout=1)


@pytest.mark.parametrize("pause", [0.0, 0.003, 0.03, 0.3], ids=str)
def test_an_impatient_second_ctrl_c_changes_nothing(tmp_path, pause):
    """Exit code 130, the part written, and not a word from the machinery."""
    with FakeLLMProcess("--delay", "0.01") as fake:
        write_project(tmp_path, fake, 400)
        process = start(tmp_path, "-o", "out.csv")
        run_on(process, fake, 60)
        for _ in range(4):
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(pause)
        _, errors = process.communicate(timeout=15)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "aitoolman: interrupted"
    for word in ("Traceback", "never retrieved", "Unclosed", "Exception"):
        assert word not in errors
    assert len((tmp_path / "out.partial.csv").read_text().splitlines()) == 401


def test_ctrl_c_of_the_command_leaves_a_part_and_the_next_one_goes_on(tmp_path):
    """Exit code 130, a file whose name says that it is a part; then the whole."""
    with FakeLLMProcess("--delay", "0.01") as fake:
        write_project(tmp_path, fake, 400)
        process = start(tmp_path, "-o", "out.csv")
        run_on(process, fake, 100)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=15)
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert len((tmp_path / "out.partial.csv").read_text().splitlines()) == 401
        assert not (tmp_path / "out.csv").exists()
        process = start(tmp_path, "-o", "out.csv")
        process.communicate(timeout=15)
        assert process.returncode == 0
    assert_whole(tmp_path / "out.csv", 400)
    assert not (tmp_path / "out.partial.csv").exists()
